"""Which alarms a target is to be told of, from the alarms as they stand and from what it was told.

Nothing is queued: what is due follows from two states, so it is the same after a restart, after a failure
that lasted for hours, and for a target that gets notices at certain hours only.

====================================  ===================================  ======================
the alarm                             the target                           notice
====================================  ===================================  ======================
is raised                             does not know that it is raised      ``raised``
is raised, nobody acknowledges it     was told `remind_seconds` ago        ``reminder``
is not raised any more                was told that it is raised           ``ended``
was raised and has ended              was not told, and would have been    ``missed``
====================================  ===================================  ======================

The last one happens while a target does not answer or the daemon is down. Outside its hours a rule says
nothing; when they begin, it says what stands. What came and went outside its hours it never says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from dqm.alarm.groups import is_within
from dqm.alarm.urgency import needs_response, urgency
from dqm.alarm.values import RAISED, Alarm, Cause, Priority
from dqm.config import NotifyRuleSection, NotifySection
from dqm.errors import ConfigError

__all__ = [
    "LastNotice",
    "Notice",
    "NoticeKind",
    "NoticeRule",
    "NoticeRules",
    "find_notices",
    "note_sent",
    "notice_rules",
]

Key = tuple[str, Cause]
"""An alarm: its stream and cause."""


class NoticeKind(StrEnum):
    """What is said of an alarm, see the table of this module."""

    RAISED = "raised"
    REMINDER = "reminder"
    ENDED = "ended"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Notice:
    """One alarm that a target is to be told of.

    Parameters
    ----------
    kind : NoticeKind
        What is said of it.
    alarm : Alarm
        The alarm as it stands.
    """

    kind: NoticeKind
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class LastNotice:
    """What a target was told of an alarm last.

    Parameters
    ----------
    raised_at : float
        Which raising it was: `Alarm.raised_at`, Unix seconds.
    is_open : bool
        Whether the target knows the alarm as raised.
    time : float
        When it was told, Unix seconds.
    """

    raised_at: float
    is_open: bool
    time: float


@dataclass(frozen=True, slots=True)
class NoticeRule:
    """Alarms of which a target is told; an empty field leaves everything in.

    Parameters
    ----------
    groups : tuple of str
        Paths of groups; their inner groups are meant, too.
    priorities : frozenset of Priority
        Priorities.
    causes : frozenset of Cause
        Causes.
    hours : tuple of (time, time)
        Hours of the day from the first time to before the second, over midnight if that is earlier.
    """

    groups: tuple[str, ...] = ()
    priorities: frozenset[Priority] = frozenset()
    causes: frozenset[Cause] = frozenset()
    hours: tuple[tuple[time, time], ...] = ()

    def concerns(self, alarm: Alarm) -> bool:
        """Tell whether it is about this alarm, at whatever hour."""
        return (
            (not self.groups or any(is_within(alarm.group, path) for path in self.groups))
            and (not self.priorities or alarm.priority in self.priorities)
            and (not self.causes or alarm.cause in self.causes)
        )

    def covers(self, at: time) -> bool:
        """Tell whether this time of the day is one of its hours."""
        return not self.hours or any(_is_between(at, *span) for span in self.hours)


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """What one target is told of.

    Parameters
    ----------
    rules : tuple of NoticeRule
        An alarm that one of them is about is told; a `NoticeRule` without arguments is about all.
    timezone : ZoneInfo
        Of the hours.
    remind_seconds : float or None
        An alarm that nobody acknowledges is told again after this time, s; None: never.
    """

    rules: tuple[NoticeRule, ...]
    timezone: ZoneInfo
    remind_seconds: float | None = None

    def wants(self, alarm: Alarm, moment: float) -> bool:
        """Tell whether the target gets this alarm at this moment, Unix seconds."""
        at = datetime.fromtimestamp(moment, self.timezone).time()
        return any(rule.concerns(alarm) and rule.covers(at) for rule in self.rules)

    def concerns(self, alarm: Alarm) -> bool:
        """Tell whether the target gets this alarm at any hour."""
        return any(rule.concerns(alarm) for rule in self.rules)


def notice_rules(section: NotifySection) -> dict[str, NoticeRules]:
    """Rules of each target as configured.

    Parameters
    ----------
    section : NotifySection
        Checked configuration.

    Returns
    -------
    dict of str to NoticeRules
        By name of the target.

    Raises
    ------
    ConfigError
        If a rule names a cause that there is not.
    """
    rules = [_rule(number, rule) for number, rule in enumerate(section.rules)]
    found = {}
    for target in section.targets:
        own = [made for made, rule in zip(rules, section.rules, strict=True) if target in rule.targets]
        found[target] = NoticeRules(
            rules=tuple(own) or (NoticeRule(),),
            timezone=ZoneInfo(section.timezone),
            remind_seconds=None if section.remind_minutes is None else 60.0 * section.remind_minutes,
        )
    return found


def find_notices(
    alarms: Iterable[Alarm], told: Mapping[Key, LastNotice], *, since: float, rules: NoticeRules, now: float
) -> list[Notice]:
    """Find what a target is to be told now.

    Parameters
    ----------
    alarms : iterable of Alarm
        All alarms as they stand.
    told : mapping
        What it was told of each alarm last, as far as it was told anything.
    since : float
        Since when there is this target, Unix seconds: what had ended before is not told.
    rules : NoticeRules
        What it is told of.
    now : float
        Unix seconds.

    Returns
    -------
    list of Notice
        The most urgent alarm first.
    """
    found = []
    for alarm in sorted(alarms, key=urgency):
        known = told.get((alarm.stream, alarm.cause))
        kind = _kind_of(alarm, known, since, rules, now)
        if kind is not None:
            found.append(Notice(kind, alarm))
    return found


def note_sent(notices: Iterable[Notice], now: float) -> dict[Key, LastNotice]:
    """Give what a target knows after it was told; what it knew of other alarms stays."""
    return {
        (notice.alarm.stream, notice.alarm.cause): LastNotice(
            raised_at=notice.alarm.raised_at or notice.alarm.since,
            is_open=notice.kind in (NoticeKind.RAISED, NoticeKind.REMINDER),
            time=now,
        )
        for notice in notices
    }


def _kind_of(
    alarm: Alarm, known: LastNotice | None, since: float, rules: NoticeRules, now: float
) -> NoticeKind | None:
    if known is not None and known.is_open and not rules.concerns(alarm):
        is_wanted = True  # the rules have changed: a target that was told must be told the end
    else:
        is_wanted = rules.wants(alarm, now)
    if not is_wanted:
        return None
    if alarm.state in RAISED:
        return _kind_of_raised(alarm, known, rules, now)
    if known is not None and known.is_open:
        return NoticeKind.ENDED
    raised_at = alarm.raised_at
    is_new = raised_at is not None and raised_at >= since and (known is None or known.raised_at != raised_at)
    if is_new and raised_at is not None and rules.wants(alarm, raised_at):
        return NoticeKind.MISSED
    return None


def _kind_of_raised(
    alarm: Alarm, known: LastNotice | None, rules: NoticeRules, now: float
) -> NoticeKind | None:
    if not rules.concerns(alarm):
        return None
    if known is None or not known.is_open or known.raised_at != alarm.raised_at:
        return NoticeKind.RAISED
    wait = rules.remind_seconds
    if wait is not None and needs_response(alarm) and not 0.0 <= now - known.time < wait:
        return NoticeKind.REMINDER
    return None


def _rule(number: int, section: NotifyRuleSection) -> NoticeRule:
    unknown = [cause for cause in section.causes if cause not in set(Cause)]
    if unknown:
        raise ConfigError(
            f"no cause {unknown[0]!r}",
            where=f"notify.rules[{number}].causes",
            fix=f"There are {', '.join(Cause)}",
        )
    spans = [tuple(time.fromisoformat(part) for part in hours.split("-")) for hours in section.hours]
    return NoticeRule(
        groups=section.groups,
        priorities=frozenset(map(Priority, section.priorities)),
        causes=frozenset(map(Cause, section.causes)),
        hours=tuple((begin, end) for begin, end in spans),
    )


def _is_between(at: time, begin: time, end: time) -> bool:
    """Tell whether a time lies in a span of the day, which may go over midnight."""
    if begin < end:
        return begin <= at < end
    return at >= begin or at < end
