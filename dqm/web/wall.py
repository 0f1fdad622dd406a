"""All streams at a glance for a big screen: the present state of each, and the last hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby

from pydantic import Field

from dqm.alarm import Activity, Alarm, Node, PresentState, StreamSign, attention, find_sign, find_suppressed
from dqm.events import Quality
from dqm.events.summary import View
from dqm.web.timeline import Timeline, column_seconds

__all__ = ["Wall", "WallGroup", "WallStream", "make_wall", "strip_paths"]

MOST_FIRST = 8
"""Most streams that are shown large."""

_CODES: dict[Quality | None, str] = {
    None: "-", Quality.NULL: "N", Quality.GOOD: "G", Quality.MEDIUM: "M", Quality.BAD: "B",
}  # fmt: skip
_CLASSES = {"G": "good", "N": "null", "M": "medium", "B": "bad"}


class WallStream(View):
    """One stream on the big screen."""

    name: str
    sign: StreamSign = Field(description="what matters most about it")
    quality: Quality
    since: float = Field(description="when this quality began, Unix seconds")
    text: str = Field(description="what its alarm says, or why it is not Good; empty if it is")
    strip: str = Field(
        description="worst quality of each column of time, the newest last: G, M, B, N (Null), or - for none"
    )


class WallGroup(View):
    """Streams of one group, in the order of the configuration."""

    path: str
    quality: Quality
    idle: bool
    streams: tuple[WallStream, ...]


class Wall(View):
    """All streams at a glance."""

    time: float = Field(description="Unix seconds")
    notice: str = Field(description="what everybody must know about the daemon itself; mostly empty")
    hours: int = Field(description="what the columns cover")
    column_seconds: int = Field(description="what one column covers, s; the last one has the present")
    known_since: float | None = Field(
        description="before this time not every window is known here; null if nothing is missing"
    )
    signs: dict[StreamSign, int] = Field(description="streams of each sign")
    first: tuple[WallStream, ...] = Field(
        description="streams that somebody should look at, the worst first; 8 at most"
    )
    n_more: int = Field(description="further such streams")
    groups: tuple[WallGroup, ...]


def make_wall(
    present: Mapping[str, PresentState],
    alarms: Mapping[str, Alarm],
    activities: Mapping[str, Activity],
    tree: Node,
    timeline: Timeline,
    *,
    now: float,
    hours: int,
    notice: str,
) -> Wall:
    """Put all streams together.

    Parameters
    ----------
    present : mapping of str to PresentState
        State of every stream beside its alarms.
    alarms : mapping of str to Alarm
        Most urgent alarm of each stream that has one.
    activities : mapping of str to Activity
        Whether windows of each stream are expected, and come.
    tree : Node
        Root of the groups.
    timeline : Timeline
        Their past.
    now : float
        Unix seconds.
    hours : int
        What the columns cover.
    notice : str
        As of `Wall`.
    """
    suppressed = set(find_suppressed(tree))
    streams: dict[str, WallStream] = {}
    for name, state in present.items():
        alarm = alarms.get(name)
        activity = activities.get(name, Activity.RUNNING)
        sign = find_sign(state.quality, alarm, activity, is_suppressed=name in suppressed)
        streams[name] = WallStream(
            name=name,
            sign=sign,
            quality=state.quality,
            since=state.since,
            text=alarm.text if alarm is not None and sign is StreamSign.ALARM else state.reason,
            strip="".join(_CODES[one] for one in timeline.columns(name, now, hours)),
        )
    keys = {name: attention(one.sign, one.since) for name, one in streams.items()}
    looked_at = sorted((key, name) for name, key in keys.items() if key is not None)
    counts = Counter(one.sign for one in streams.values())
    known = timeline.known_since
    return Wall(
        time=now,
        notice=notice,
        hours=hours,
        column_seconds=column_seconds(hours),
        known_since=known if known is not None and known > now - 3600.0 * hours else None,
        signs={sign: counts[sign] for sign in StreamSign},
        first=tuple(streams[name] for _, name in looked_at[:MOST_FIRST]),
        n_more=max(0, len(looked_at) - MOST_FIRST),
        groups=tuple(_groups(tree, streams)),
    )


def _groups(node: Node, streams: Mapping[str, WallStream]) -> Iterator[WallGroup]:
    members = tuple(streams[leaf.stream] for leaf in node.streams if leaf.stream in streams)
    if members:
        yield WallGroup(path=node.path, quality=node.quality, idle=node.idle, streams=members)
    for child in node.children:
        yield from _groups(child, streams)


def strip_paths(strip: str) -> list[tuple[str, str]]:
    """Draw a strip: for each quality in it the class of its colour and the path of its shapes.

    A column is a unit wide and high. Good is a thin line, Null a dash, Medium a triangle, Bad a block.

    Parameters
    ----------
    strip : str
        As of `WallStream`.
    """
    paths: dict[str, list[str]] = {}
    place = 0
    for code, run in groupby(strip):
        n = len(list(run))
        if code != "-":
            paths.setdefault(code, []).append(_shape(code, place, n))
        place += n
    return [(_CLASSES[code], "".join(parts)) for code, parts in paths.items()]


def _shape(code: str, place: int, n: int) -> str:
    if code == "G":
        return f"M{place} .4h{n}v.2h-{n}z"
    if code == "B":
        return f"M{place} 0h{n}v1h-{n}z"
    one = "M{} 1h1l-.5-1z" if code == "M" else "M{}.2 .3h.6v.4h-.6z"
    return "".join(one.format(place + k) for k in range(n))
