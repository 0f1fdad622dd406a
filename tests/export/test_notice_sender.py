"""Telling one target: together, not twice, not lost, and without holding up anybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dqm.alarm import Alarm, AlarmState, Cause, Guidance, Priority
from dqm.alarm.notices import NoticeRule, NoticeRules
from dqm.errors import NoticeError, StoreError
from dqm.export import notice_sender
from dqm.export.notice_sender import NoticeSender, NoticeTiming
from dqm.export.notice_text import NoticeMessage, NoticeWriter
from dqm.export.woken_thread import RetryPause
from dqm.store import Database, NoticeStore, sqlite_url
from tests.waiting import wait_until

UTC = ZoneInfo("UTC")
ACTIVE, NORMAL = AlarmState.ACTIVE, AlarmState.NORMAL
RECEIVER_HANGS_SECONDS = 60.0
COLLECT_SECONDS = 60.0
LOOKS_OF_A_MESSAGE = 4
"""Before and after alarms are collected, while the message is written, and the first one after it."""


class Receiver:
    """Takes messages, or not, as the test wants it."""

    def __init__(self) -> None:
        self.messages: list[NoticeMessage] = []
        self.n_tries = 0
        self.trouble = ""
        self.opened = threading.Event()
        self.opened.set()

    def send(self, message: NoticeMessage) -> None:
        self.n_tries += 1
        trouble = self.trouble
        self.opened.wait(RECEIVER_HANGS_SECONDS)
        if trouble:
            raise NoticeError(trouble)
        self.messages.append(message)


class Site:
    """Alarms, a store and a target."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 10_000.0
        self.alarms: dict[str, Alarm] = {}
        self.receiver = Receiver()
        self.senders: list[NoticeSender] = []
        self.looks: list[int] = []
        """How many alarms were raised, each time that a sender looked."""
        self.database = Database(sqlite_url(path))

    def set(self, state: AlarmState, *streams: str) -> None:
        for stream in streams:
            before = self.alarms.get(stream)
            raised_at = self.now if state is ACTIVE else before.raised_at if before else None
            self.alarms[stream] = Alarm(
                stream, Cause.SILENT, Priority.P2, Guidance("a", "b", "c"), state, self.now, raised_at, "none"
            )

    def look(self) -> tuple[Alarm, ...]:
        alarms = tuple(self.alarms.values())
        self.looks.append(sum(alarm.state is ACTIVE for alarm in alarms))
        return alarms

    def start(self, collect: float = 0.0, deadline: float = 20.0) -> NoticeSender:
        sender = NoticeSender(
            "mail",
            self.receiver,
            rules=NoticeRules((NoticeRule(),), UTC, remind_seconds=600.0),
            timing=NoticeTiming(collect, 0.0, deadline),
            writer=NoticeWriter(None, UTC),
            store=NoticeStore(self.database),
            alarms=self.look,
            clock=lambda: self.now,
        )
        sender.start()
        self.senders.append(sender)
        return sender

    def titles(self, n: int) -> list[str]:
        wait_until(lambda: len(self.receiver.messages) >= n, f"{n} messages")
        return [message.title for message in self.receiver.messages]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPause, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(RetryPause, "LONGEST_SECONDS", 0.04)
    monkeypatch.setattr(notice_sender, "_LOOK_SECONDS", 0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "x.sqlite")
    yield made
    made.receiver.opened.set()
    for sender in made.senders:
        sender.stop()
    made.database.close()


def let_look(site: Site, sender: NoticeSender) -> None:
    """Let the thread look so often that a message which must not come would have come."""
    enough = len(site.looks) + LOOKS_OF_A_MESSAGE

    def has_looked() -> bool:
        sender.wake()
        return len(site.looks) > enough

    wait_until(has_looked, "the thread looks")


def quiet(site: Site, sender: NoticeSender) -> None:
    """Let the thread look, without trouble."""
    let_look(site, sender)
    assert sender.status.reason == ""


def test_raised_and_ended_are_told_once_each(site: Site) -> None:
    sender = site.start()
    site.set(ACTIVE, "a")
    sender.wake()
    assert site.titles(1) == ["dqm: P2 silent: a"]
    quiet(site, sender)
    site.set(NORMAL, "a")
    sender.wake()
    assert site.titles(2)[1] == "dqm: ended: silent: a"
    quiet(site, sender)
    assert len(site.receiver.messages) == 2
    assert (sender.status.n_sent, sender.status.n_failed) == (2, 0)


def test_alarms_that_come_together_share_a_message(site: Site) -> None:
    sender = site.start(collect=3.0)
    site.set(NORMAL, *(f"s{n}" for n in range(250)))
    site.set(ACTIVE, *(f"s{n}" for n in range(100)))
    sender.wake()
    wait_until(lambda: any(site.looks), "the first alarms are seen")
    site.set(ACTIVE, *(f"s{n}" for n in range(250)))
    sender.wake()
    assert site.titles(1) == ["dqm: P2 silent: 250 streams of all groups"]
    quiet(site, sender)
    assert len(site.receiver.messages) == 1


def test_a_restart_tells_nobody_twice_and_loses_nothing(site: Site) -> None:
    first = site.start()
    site.set(ACTIVE, "a", "b")
    first.wake()
    site.titles(1)
    wait_until(lambda: first.status.n_sent == 1, "stored")
    first.stop()
    second = site.start()
    quiet(site, second)
    assert len(site.receiver.messages) == 1
    second.stop()
    site.set(NORMAL, "a")
    site.set(ACTIVE, "c")
    site.set(NORMAL, "c")  # while no daemon runs
    third = site.start()
    (_, title) = site.titles(2)
    assert "ended: silent: a" in title + site.receiver.messages[1].body
    assert "CAME AND WENT" in site.receiver.messages[1].body
    quiet(site, third)
    assert len(site.receiver.messages) == 2


def test_a_message_that_is_not_taken_is_tried_again_and_is_up_to_date_then(site: Site) -> None:
    site.receiver.trouble = "it answered with HTTP status 503"
    sender = site.start()
    site.set(ACTIVE, "a")
    sender.wake()
    wait_until(lambda: sender.status.n_failed >= 2, "two tries")
    site.now += 60.0
    wait_until(lambda: sender.status.n_failed >= 4, "more tries")
    assert sender.status.failing_since == 10_000.0
    assert sender.status.reason == "it answered with HTTP status 503"
    site.set(ACTIVE, "b")
    site.receiver.trouble = ""
    assert site.titles(1) == ["dqm: P2 silent: 2 streams of all groups"]
    wait_until(lambda: sender.status.failing_since is None, "the trouble is over")
    assert (sender.status.n_sent, sender.status.reason) == (1, "")


def test_a_receiver_that_hangs_holds_up_nobody_and_a_late_success_counts(site: Site) -> None:
    site.receiver.opened.clear()
    sender = site.start(deadline=0.1)
    site.set(ACTIVE, "a")
    begin = time.monotonic()
    sender.wake()
    assert time.monotonic() - begin < RECEIVER_HANGS_SECONDS / 2
    wait_until(lambda: sender.status.n_failed == 1, "the deadline")
    assert sender.status.reason == "no answer within 0.1 s"
    let_look(site, sender)  # a second try beside the first must not come
    assert site.receiver.n_tries == 1
    site.receiver.opened.set()
    wait_until(lambda: sender.status.n_sent == 1, "the late success")
    quiet(site, sender)
    assert (site.receiver.n_tries, len(site.receiver.messages)) == (1, 1)


def test_a_daemon_that_stops_does_not_wait_for_a_receiver(site: Site) -> None:
    site.receiver.trouble = "x"
    sender = site.start(collect=COLLECT_SECONDS)
    site.set(ACTIVE, "a")
    sender.wake()
    begin = time.monotonic()
    sender.stop()
    assert time.monotonic() - begin < COLLECT_SECONDS / 2
    assert site.receiver.n_tries == 0


def test_what_was_told_is_stored_as_soon_as_the_store_answers_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, fails = NoticeStore.keep, threading.Event()
    fails.set()

    def keep_or_fail(store: NoticeStore, *arguments: object) -> None:
        if fails.is_set():
            raise StoreError("the disk is full")
        keep(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NoticeStore, "keep", keep_or_fail)
    sender = site.start()
    site.set(ACTIVE, "a")
    sender.wake()
    site.titles(1)
    quiet(site, sender)
    assert len(site.receiver.messages) == 1  # not again and again while it is not stored
    assert NoticeStore(site.database).sent("mail") == {}
    fails.clear()
    wait_until(lambda: ("a", Cause.SILENT) in NoticeStore(site.database).sent("mail"), "stored")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_an_error_of_ours_is_shown(site: Site) -> None:
    broken: Callable[[], tuple[Alarm, ...]] = lambda: 1 / 0  # type: ignore[assignment, return-value] # noqa: E731
    sender = site.start()
    sender._alarms = broken
    sender.wake()
    wait_until(lambda: sender.status.failing_since is not None, "shown")
    assert "restart the daemon" in sender.status.reason


def test_reminders_come_until_somebody_acknowledges(site: Site) -> None:
    sender = site.start()
    site.set(ACTIVE, "a")
    sender.wake()
    wait_until(lambda: sender.status.n_sent == 1, "noted when it was told")
    site.now += 601.0
    assert len(site.titles(2)) == 2
    assert site.receiver.messages[1].body.startswith("NOT ACKNOWLEDGED")
    quiet(site, sender)
    assert len(site.receiver.messages) == 2
