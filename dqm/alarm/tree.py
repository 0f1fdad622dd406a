"""The roll-up: how good the worst of a group is, and which of its alarms is the most urgent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dqm.alarm.quality import BEST_TO_WORST, worst
from dqm.alarm.urgency import most_urgent_state
from dqm.alarm.values import AlarmState
from dqm.events import Quality

__all__ = ["Leaf", "Node", "find_suppressed", "roll_up"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A stream in the tree.

    Parameters
    ----------
    stream, group : str
        Its name and the path of its group.
    quality : Quality
        Of its last window; Null while it is silent.
    state : AlarmState
        The most urgent of its alarms.
    idle : bool
        Whether its run has ended.
    suppressed : bool
        Whether its alarms are, as of `is_suppressed`.
    """

    stream: str
    group: str
    quality: Quality
    state: AlarmState
    idle: bool = False
    suppressed: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A group of streams.

    Parameters
    ----------
    name, path : str
        Last part of its path, and the path; both empty for the root.
    quality : Quality
        By its policy the worst or the best of groups and streams in it, leaving out those that are suppressed
        or idle as a whole; Null if nothing is left.
    state : AlarmState
        The most urgent of all alarms in it.
    children : tuple of Node
        Groups directly in it, in the order of the configuration.
    streams : tuple of Leaf
        Streams directly in it.
    idle : bool
        Whether the runs of all streams in it have ended.
    """

    name: str
    path: str
    quality: Quality
    state: AlarmState
    children: tuple[Node, ...]
    streams: tuple[Leaf, ...]
    idle: bool = False


def roll_up(leaves: Iterable[Leaf], policies: Mapping[str, str]) -> Node:
    """Build the tree.

    Parameters
    ----------
    leaves : iterable of Leaf
        All streams, in the order of the configuration.
    policies : mapping of str to str
        By path: ``any``, as bad as the worst member, or ``all``, as bad as the best.

    Returns
    -------
    Node
        The root.
    """
    return _node("", "", list(leaves), policies)


def _node(name: str, path: str, leaves: list[Leaf], policies: Mapping[str, str]) -> Node:
    here = []
    below = dict[str, list[Leaf]]()
    for leaf in leaves:
        if leaf.group == path:
            here.append(leaf)
        else:
            rest = leaf.group.removeprefix(f"{path}/") if path else leaf.group
            below.setdefault(rest.partition("/")[0], []).append(leaf)
    children = [
        (_node(part, f"{path}/{part}" if path else part, inside, policies), inside)
        for part, inside in below.items()
    ]
    seen = [child.quality for child, inside in children if any(map(_is_seen, inside))]
    seen += [leaf.quality for leaf in here if _is_seen(leaf)]
    best_counts = policies.get(path) == "all"
    quality = min(seen, key=BEST_TO_WORST.index, default=Quality.NULL) if best_counts else worst(seen)
    state = most_urgent_state(leaf.state for leaf in leaves)
    is_idle = bool(leaves) and all(leaf.idle for leaf in leaves)
    return Node(name, path, quality, state, tuple(child for child, _ in children), tuple(here), is_idle)


def _is_seen(leaf: Leaf) -> bool:
    return not (leaf.idle or leaf.suppressed)


def find_suppressed(node: Node) -> Iterator[str]:
    """Give the streams in a group whose alarms are suppressed."""
    yield from (leaf.stream for leaf in node.streams if leaf.suppressed)
    for child in node.children:
        yield from find_suppressed(child)
