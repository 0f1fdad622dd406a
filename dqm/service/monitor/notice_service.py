"""All targets that get alarms, each with a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zoneinfo import ZoneInfo

from dqm.alarm import Alarm, notice_rules
from dqm.config import NotifySection, read_target_url
from dqm.errors import ConfigError
from dqm.export.notice_sender import NoticeSender, NoticeStatus, NoticeTiming
from dqm.export.notice_text import NoticeWriter
from dqm.store import NoticeStore

__all__ = ["NoticeService", "check_notify", "make_writer"]


class NoticeService:
    """Tells people of alarms, as ``[notify]`` says.

    Parameters
    ----------
    section : NotifySection or None
        Targets and rules; None: nobody is told.
    store : NoticeStore
        Keeps what each target was told.
    alarms : callable
        All alarms as they stand; may be called from any thread.
    clock : callable
        Unix time, s.

    Raises
    ------
    ConfigError
        If an address cannot be read or used, or a rule names a cause that there is not.
    StoreError
        If the store cannot be read.
    """

    def __init__(
        self,
        section: NotifySection | None,
        store: NoticeStore,
        alarms: Callable[[], Iterable[Alarm]],
        clock: Callable[[], float],
    ) -> None:
        self._senders: list[NoticeSender] = []
        if section is None:
            return
        from dqm.export.notice_target import NoticeTarget  # loads apprise

        rules = notice_rules(section)
        writer = make_writer(section)
        timing = NoticeTiming(section.collect_seconds, section.pause_seconds, section.deadline_seconds)
        self._senders = [
            NoticeSender(
                name,
                NoticeTarget(name, read_target_url(name, target)),
                rules=rules[name],
                timing=timing,
                writer=writer,
                store=store,
                alarms=alarms,
                clock=clock,
            )
            for name, target in section.targets.items()
        ]

    def start(self) -> None:
        """Start the threads."""
        for sender in self._senders:
            sender.start()

    def wake(self) -> None:
        """Say that an alarm has changed; returns at once."""
        for sender in self._senders:
            sender.wake()

    def statuses(self) -> tuple[NoticeStatus, ...]:
        """State of each target."""
        return tuple(sender.status for sender in self._senders)

    def stop(self) -> None:
        """End the threads."""
        for sender in self._senders:
            sender.stop()


def make_writer(section: NotifySection) -> NoticeWriter:
    """Make what writes the messages."""
    return NoticeWriter(section.page, ZoneInfo(section.timezone))


def check_notify(section: NotifySection) -> list[ConfigError]:
    """Find every mistake that shows only when addresses are read; nothing is sent.

    Parameters
    ----------
    section : NotifySection
        Checked by itself.

    Returns
    -------
    list of ConfigError
        None of them shows an address.
    """
    from dqm.export.notice_target import NoticeTarget  # loads apprise

    problems = []
    checks: list[Callable[[], object]] = [lambda: notice_rules(section)]
    checks += [
        lambda name=name, target=target: NoticeTarget(name, read_target_url(name, target))  # type: ignore[misc]
        for name, target in section.targets.items()
    ]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(error)
    return problems
