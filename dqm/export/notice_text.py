"""Messages about alarms: what, where, since when, what to do, and where to look.

Text from outside is data: control characters are escaped, and what a chat would take for a mention of
somebody is broken up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from dqm.alarm import RAISED, Alarm, AlarmGroup, AlarmState, Notice, NoticeKind, needs_response
from dqm.alarm.groups import gather
from dqm.errors import escape_text, format_count, format_names
from dqm.export.words import write_age

__all__ = ["NoticeMessage", "NoticeWriter"]

_MOST_NAMES = 12
_MOST_BLOCKS = 8
_LONGEST_TITLE = 120
_LONGEST_TEXT = 500
_MENTIONS = {"@": "(at)", "<!": "< !", "<#": "< #"}
_HEADS = {
    NoticeKind.RAISED: "ALARM",
    NoticeKind.REMINDER: "NOT ACKNOWLEDGED",
    NoticeKind.MISSED: "CAME AND WENT",
    NoticeKind.ENDED: "ENDED",
}
"""First words of a block; also the order of the blocks."""


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """What is sent.

    Parameters
    ----------
    title : str
        One line.
    body : str
        Several lines.
    """

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class NoticeWriter:
    """Writes messages.

    Parameters
    ----------
    page : str or None
        Address of the page, without slash at its end; None: no links.
    timezone : ZoneInfo
        Time zone of the times.
    """

    page: str | None
    timezone: ZoneInfo

    def write(self, notices: Sequence[Notice], everything: Iterable[Alarm], now: float) -> NoticeMessage:
        """Write one message about all that is to be told, streams of a group together.

        Parameters
        ----------
        notices : sequence of Notice
            At least one.
        everything : iterable of Alarm
            All alarms; they say how many streams a group has.
        now : float
            Unix seconds.

        Returns
        -------
        NoticeMessage
            The most urgent alarm first; streams beyond the limit are counted.
        """
        alarms = list(everything)
        lines = [
            (kind, line)
            for kind in _HEADS
            for line in gather([n.alarm for n in notices if n.kind is kind], alarms)
        ]
        blocks = [self._block(kind, line, now) for kind, line in lines[:_MOST_BLOCKS]]
        more = len(lines) - _MOST_BLOCKS
        if more > 0:
            place = f": {self.page}/alarms" if self.page else ""
            blocks.append(f"... and {more} more, see the page{place}")
        title = f"dqm: {_headline(*lines[0])}" + (f" and {len(lines) - 1} more" if len(lines) > 1 else "")
        return NoticeMessage(title[:_LONGEST_TITLE], "\n\n".join(blocks))

    def test(self, target: str, sender: str, now: float) -> NoticeMessage:
        """Write a message that tests a target."""
        body = (
            f"This tests the target {target}, sent by {_plain(sender)} at {self._moment(now)}. "
            "Nothing is wrong."
        )
        return NoticeMessage("dqm: test message", body + (f"\n{self.page}" if self.page else ""))

    def _block(self, kind: NoticeKind, line: AlarmGroup, now: float) -> str:
        alarm = line.alarms[0]
        parts = [f"{_HEADS[kind]} {_headline(kind, line)}"]
        if len(line.alarms) > 1:
            parts.append(f"Streams: {_names(line.alarms)}")
        if kind in (NoticeKind.RAISED, NoticeKind.REMINDER):
            which = f" ({alarm.stream})" if len(line.alarms) > 1 else ""
            since = min(each.raised_at or each.since for each in line.alarms)
            parts += [
                f"Seen{which}: {_plain(alarm.text)}",
                f"Since: {self._moment(since)}, for {write_age(now - since)}",
                f"Means: {_plain(alarm.guidance.condition)}",
                f"Do: {_plain(alarm.guidance.action)}",
                f"Call: {_plain(alarm.guidance.contact)}",
                *_seen_by(alarm),
            ]
        else:
            parts.append(self._end(kind, alarm))
        if self.page:
            one = len(line.alarms) == 1
            parts.append(f"{self.page}/alarms" + (f"/{alarm.stream}/{alarm.cause}" if one else ""))
        return "\n".join(parts)

    def _end(self, kind: NoticeKind, alarm: Alarm) -> str:
        ends = {
            AlarmState.SHELVED: f"shelved by {_plain(alarm.shelf.user)}" if alarm.shelf else "shelved",
            AlarmState.MASKED: "masked",
            AlarmState.DISABLED: "switched off",
        }
        how = ends.get(alarm.state, "the condition has gone")
        late = "; this could not be told before" if kind is NoticeKind.MISSED else ""
        raised_at = alarm.raised_at or alarm.since
        return f"From {self._moment(raised_at)} to {self._moment(alarm.since)}: {how}{late}"

    def _moment(self, seconds: float) -> str:
        return datetime.fromtimestamp(seconds, self.timezone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _headline(kind: NoticeKind, line: AlarmGroup) -> str:
    """Say what and where; P1 to P4 only for raised alarms."""
    alarm = line.alarms[0]
    urgent = f"{line.priority} " if alarm.state in RAISED else ""
    ended = "ended: " if kind in (NoticeKind.ENDED, NoticeKind.MISSED) else ""
    if len(line.alarms) > 1:
        place = f"{format_count(len(line.alarms), 'stream')} of {line.path or 'all groups'}"
    else:
        place = alarm.stream + (f" ({alarm.group})" if alarm.group else "")
    return f"{ended}{urgent}{alarm.cause}: {place}"


def _names(alarms: Sequence[Alarm]) -> str:
    return format_names(sorted(alarm.stream for alarm in alarms), _MOST_NAMES)


def _seen_by(alarm: Alarm) -> list[str]:
    if needs_response(alarm) or alarm.acknowledged is None:
        return []
    return [f"Acknowledged by {_plain(alarm.acknowledged.user)}"]


def _plain(text: str) -> str:
    """Write text from outside so that neither a terminal nor a chat obeys it."""
    text = escape_text(text)
    for mark, plain in _MENTIONS.items():
        text = text.replace(mark, plain)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
