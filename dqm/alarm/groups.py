"""Groups of alarms: what many streams of a group have in common is one line to read and to acknowledge.

Alarms are put together if they have the same cause and stand alike: all raised and not acknowledged, all
acknowledged, all shelved, and so on. A line is that of the outermost group of which more than half of the
streams have the alarm, or else of the group that a stream is in. A stream without group has a line of its
own, unless more than half of all streams have the alarm. So a line has all such alarms within its group,
and no alarm is in two lines.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dqm.alarm.urgency import needs_response, urgency
from dqm.alarm.values import RAISED, Alarm, AlarmState, Cause, Priority

__all__ = ["AlarmGroup", "gather", "group_alarms", "is_within"]


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """Alarms of one cause that stand alike, in streams of one group.

    Parameters
    ----------
    path : str
        The group; empty for all streams, and for a stream without group.
    cause : Cause
        What they are raised for.
    alarms : tuple of Alarm
        At least one, the most urgent first.
    """

    path: str
    cause: Cause
    alarms: tuple[Alarm, ...]

    @property
    def priority(self) -> Priority:
        """How soon to respond: that of the most urgent alarm."""
        return min(alarm.priority for alarm in self.alarms)

    @property
    def needs_response(self) -> bool:
        """Whether somebody must respond."""
        return needs_response(self.alarms[0])

    @property
    def name(self) -> str:
        """Its only stream, else its group; empty for all streams."""
        return self.path if len(self.alarms) > 1 else self.alarms[0].stream


def group_alarms(alarms: Iterable[Alarm]) -> tuple[AlarmGroup, ...]:
    """Put alarms together.

    Parameters
    ----------
    alarms : iterable of Alarm
        All alarms of all streams; those that are Normal say how many streams a group has.

    Returns
    -------
    tuple of AlarmGroup
        Alarms that are not Normal, the most urgent first.
    """
    everything = list(alarms)
    alike: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in everything:
        if alarm.state is not AlarmState.NORMAL:
            alike[_standing(alarm)].append(alarm)
    lines = [line for members in alike.values() for line in gather(members, everything)]
    return tuple(sorted(lines, key=lambda line: urgency(line.alarms[0])))


def gather(members: Iterable[Alarm], everything: Iterable[Alarm]) -> tuple[AlarmGroup, ...]:
    """Put some alarms together, those of one cause in a group, however they stand.

    Parameters
    ----------
    members : iterable of Alarm
        Alarms to put together.
    everything : iterable of Alarm
        All alarms of all streams: they say how many streams a group has.

    Returns
    -------
    tuple of AlarmGroup
        The most urgent first.
    """
    groups = {alarm.stream: alarm.group for alarm in everything}
    n_streams = Counter(path for group in groups.values() for path in _paths(group))
    of_cause: dict[Cause, list[Alarm]] = defaultdict(list)
    for alarm in members:
        of_cause[alarm.cause].append(alarm)
    lines = [line for alarms in of_cause.values() for line in _lines(alarms, n_streams)]
    return tuple(sorted(lines, key=lambda line: urgency(line.alarms[0])))


def is_within(group: str, path: str) -> bool:
    """Return whether a group is that of `path` or lies within it; the empty path has all."""
    return path in _paths(group)


def _standing(alarm: Alarm) -> str:
    if alarm.state in RAISED:
        return "raised" if needs_response(alarm) else "acknowledged"
    return alarm.state.value


def _lines(members: Sequence[Alarm], n_streams: Mapping[str, int]) -> Iterator[AlarmGroup]:
    n_members = Counter(path for alarm in members for path in _paths(alarm.group))
    most = {path for path, n in n_members.items() if n > 1 and 2 * n > n_streams[path]}
    roots = most | {alarm.group for alarm in members if alarm.group}
    lines: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in members:
        root = next((path for path in _paths(alarm.group) if path in roots), None)
        lines[f"stream {alarm.stream}" if root is None else root].append(alarm)
    for line in lines.values():
        path = line[0].group if len(line) == 1 else _common_path(line)
        yield AlarmGroup(path, line[0].cause, tuple(sorted(line, key=urgency)))


def _paths(group: str) -> list[str]:
    """Give the paths around a group, from the outermost, which is empty, to its own."""
    parts = group.split("/") if group else []
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _common_path(alarms: Iterable[Alarm]) -> str:
    common: list[str] | None = None
    for alarm in alarms:
        paths = _paths(alarm.group)
        common = paths if common is None else [path for path in common if path in paths]
    return (common or [""])[-1]
