"""What is wrong with which channels, for the shift crew: in words, in numbers, and as an occupancy map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dqm.errors import format_count, format_names
from dqm.events import (
    MAX_NAMED_CHANNELS,
    ChannelDeparture,
    ChannelSummary,
    Explanation,
    FloatArray,
    RatioMap,
)
from dqm.nplm.channels import (
    CARD,
    DEAD_SHARE,
    LAYER,
    NUMBER,
    WIRE,
    ChannelResult,
    ChannelState,
    GroupResult,
)
from dqm.nplm.samples import Sample
from dqm.reference.number_and_shape import Retest
from dqm.reference.outside import Outside
from dqm.reference.statistic import Outcome
from dqm.reference.stored_bundle import StoredBundle

__all__ = [
    "ChannelExplainer",
    "describe_channels",
    "describe_outside",
    "describe_silent",
    "summarise_channels",
]

IndexArray = NDArray[np.int64]

TOGETHER = 0.75
"""Share of the channels of a layer or card in one state from which the group is named in their place."""

MOST_WORDS = 5
"""Channels and groups that are named in words; the others are counted."""

MOST_SILENT = 20
"""Channels without hits in the reference's run that are named."""

UNREMARKABLE_P = 0.01
"""p of each of the four tests, above which there is nothing to say."""

MAX_SPECTRUM = 1024
"""Largest span of channel numbers that is drawn in one row."""

MAX_CELLS = 2**14
"""Most cells of an occupancy map; a larger detector has none."""

_GROUP_WORDS = {LAYER: "layer", CARD: "card"}
_STATE_WORDS = {ChannelState.DEAD: "dead", ChannelState.LOW: "low", ChannelState.NOISY: "noisy"}
_UNKNOWN = -1


class ChannelExplainer:
    """Explains windows of channels.

    Parameters
    ----------
    bundle : StoredBundle
        Reference, of the statistic ``channels``.
    """

    def __init__(self, bundle: StoredBundle) -> None:
        self._map = bundle.prepared["map"]

    def explain(
        self,
        window: Sample,  # noqa: ARG002 - of the interface
        outcome: Outcome,
        outside: Outside | None = None,  # noqa: ARG002 - of the interface
        *,
        range_decides: bool = False,  # noqa: ARG002 - of the interface
        retest: Retest | None = None,  # noqa: ARG002 - of the interface
    ) -> Explanation | None:
        """Name the channels, cards and layers that depart.

        Parameters
        ----------
        window : Sample
            Not used: the outcome has the hits.
        outcome : ChannelResult
            What the test gave.
        outside, range_decides, retest
            Not used: channels have no range, and the test has parts for the number and the shape.

        Returns
        -------
        Explanation or None
            None if the outcome is not one of channels.
        """
        if not isinstance(outcome, ChannelResult):
            return None
        return Explanation(
            maps=_spectrum(self._map, outcome),
            pairs=(),
            ranking=(),
            occupancy=_occupancy(self._map, outcome),
            text=describe_channels(self._map, outcome),
        )


def summarise_channels(outcome: ChannelResult, bundle: StoredBundle) -> ChannelSummary:
    """Count the channels that depart, and name the worst."""
    channel_map = bundle.prepared["map"]
    state = outcome.state
    n = {one: int((state == one).sum()) for one in ChannelState}
    departing = np.flatnonzero((state != ChannelState.HEALTHY) & (state != ChannelState.MASKED))
    worst = departing[_by_departure(outcome, departing)][:MAX_NAMED_CHANNELS]
    return ChannelSummary(
        n_channels=len(state) - n[ChannelState.MASKED],
        n_dead=n[ChannelState.DEAD],
        n_low=n[ChannelState.LOW],
        n_noisy=n[ChannelState.NOISY],
        n_masked=n[ChannelState.MASKED],
        worst=tuple(
            ChannelDeparture(
                channel=int(channel_map[k, NUMBER]),
                hits=int(outcome.hits[k]),
                expected=float(outcome.fitted[k]),
                layer=_number(channel_map[k, LAYER]),
                wire=_number(channel_map[k, WIRE]),
            )
            for k in worst
        ),
        masked=tuple(int(number) for number in channel_map[state == ChannelState.MASKED, NUMBER]),
    )


def describe_outside(outcome: ChannelResult) -> tuple[str, ...]:
    """Say that there are hits in channels that are not in the map."""
    if not outcome.n_outside:
        return ()
    return (f"{format_count(outcome.n_outside, 'hit')} in channels that the reference does not have",)


def describe_silent(bundle: StoredBundle) -> str:
    """Name the channels that were dead in the reference's run already, so that no window calls them dead.

    Parameters
    ----------
    bundle : StoredBundle
        Reference, of the statistic ``channels``.

    Returns
    -------
    str
        Channels with at most a tenth of the hits of the median channel; empty if there are none.
    """
    total = bundle.prepared["total"]
    silent = np.flatnonzero(total <= DEAD_SHARE * np.median(total))
    return format_names([_name_channel(row) for row in bundle.prepared["map"][silent]], MOST_SILENT)


def _by_departure(outcome: ChannelResult, places: IndexArray) -> IndexArray:
    """Order channels by p, then by their distance: many p are too small to be told apart."""
    hits, fitted = outcome.hits[places], outcome.fitted[places]
    distance = np.abs(hits - fitted) / np.sqrt(fitted)
    return np.lexsort((-distance, outcome.p[places]))


def _number(value: float) -> int | None:
    return None if value == _UNKNOWN else int(value)


def describe_channels(channel_map: FloatArray, outcome: ChannelResult) -> str:
    """Name groups whose channels go together, then single channels, the most extreme first."""
    parts: list[str] = []
    left = np.ones(len(channel_map), dtype=bool)
    for column in (LAYER, CARD):
        for number, places, state in _together(channel_map, outcome, column, left):
            left[places] = False
            parts.append(_describe_group(column, number, state, outcome, places))
    parts += [_describe_sum(group) for group in outcome.groups]
    single = np.flatnonzero(
        left & (outcome.state > ChannelState.HEALTHY) & (outcome.state < ChannelState.MASKED)
    )
    parts += [
        _describe_channel(channel_map[k], outcome, int(k)) for k in single[_by_departure(outcome, single)]
    ]
    if not parts:
        return _describe_families(outcome)
    return format_names(parts, MOST_WORDS, separator="; ")


def _together(
    channel_map: FloatArray, outcome: ChannelResult, column: int, left: NDArray[np.bool_]
) -> Iterable[tuple[int, IndexArray, ChannelState]]:
    """Find groups of which most channels are in one state."""
    numbers = channel_map[:, column]
    for state in _STATE_WORDS:
        is_so = left & (outcome.state == state)
        for number in np.unique(numbers[is_so]):
            places = np.flatnonzero((numbers == number) & (outcome.state != ChannelState.MASKED))
            n_so = int(is_so[places].sum())
            if number != _UNKNOWN and n_so >= max(2, math.ceil(TOGETHER * len(places))):
                yield int(number), places[is_so[places]], state


def _describe_group(
    column: int, number: int, state: ChannelState, outcome: ChannelResult, places: IndexArray
) -> str:
    hits, expected = float(outcome.hits[places].sum()), float(outcome.fitted[places].sum())
    what = (
        f"{_GROUP_WORDS[column]} {number} is {_STATE_WORDS[state]} ({format_count(len(places), 'channel')})"
    )
    return f"{what}: {_describe_hits(hits, expected, state)}"


def _describe_sum(group: GroupResult) -> str:
    side = "low" if group.hits < group.expected else "high"
    hits = format_count(round(group.hits), "hit")
    name = f"{_GROUP_WORDS[group.column]} {group.number}"
    return f"{name} is {side}: {hits} where {group.expected:.0f} are expected"


def _describe_channel(row: FloatArray, outcome: ChannelResult, place: int) -> str:
    state = ChannelState(int(outcome.state[place]))
    hits = _describe_hits(float(outcome.hits[place]), float(outcome.fitted[place]), state)
    return (
        f"{_name_channel(row)} is {_STATE_WORDS[state]}{', ' if state is ChannelState.NOISY else ': '}{hits}"
    )


def _name_channel(row: FloatArray) -> str:
    """Name a channel, a row of the map, by its wire; by its number if the map has no place of it."""
    layer, wire = _number(row[LAYER]), _number(row[WIRE])
    return f"channel {row[NUMBER]:.0f}" if layer is None or wire is None else f"wire {wire} of layer {layer}"


def _describe_hits(hits: float, expected: float, state: ChannelState) -> str:
    if state is ChannelState.NOISY:
        return f"{hits / expected:.{0 if hits >= 10 * expected else 1}f} times its rate"
    verb = "is" if round(expected) == 1 else "are"
    return f"{format_count(round(hits), 'hit')} where {expected:.0f} {verb} expected"


def _describe_families(outcome: ChannelResult) -> str:
    """Say what departs if it is neither a channel nor a group."""
    if min(outcome.families.values()) > UNREMARKABLE_P:
        return ""
    worst = min(outcome.families, key=lambda name: outcome.families[name])
    ratio = float(outcome.hits.sum() / outcome.nominal.sum())
    if worst == "illumination":
        return f"rate or illumination of all channels changed: {100.0 * ratio:.0f} % of the expected hits"
    return "no single channel departs: many channels differ a little"


def _spectrum(channel_map: FloatArray, outcome: ChannelResult) -> tuple[RatioMap, ...]:
    """Hits of every channel in the order of their numbers; none for a detector of many channels."""
    numbers = channel_map[:, NUMBER]
    n = int(numbers[-1] - numbers[0]) + 1
    if n > MAX_SPECTRUM:
        return ()
    edges = numbers[0] + np.arange(n + 1, dtype=np.float64) - 0.5
    return (_as_map(("channel",), (edges,), outcome, (numbers - numbers[0]).astype(np.int64), (n,)),)


def _occupancy(channel_map: FloatArray, outcome: ChannelResult) -> RatioMap | None:
    """Hits of every wire of every layer; none if the map does not give the places."""
    layer, wire = channel_map[:, LAYER], channel_map[:, WIRE]
    if (layer == _UNKNOWN).any() or (wire == _UNKNOWN).any():
        return None
    axes = [np.arange(column.min(), column.max() + 1) for column in (wire, layer)]
    shape = tuple(len(axis) for axis in axes)
    if math.prod(shape) > MAX_CELLS:
        return None
    cells = np.ravel_multi_index(
        [(column - axis[0]).astype(np.int64) for column, axis in zip((wire, layer), axes, strict=True)], shape
    )
    edges = tuple(np.append(axis - 0.5, axis[-1] + 0.5) for axis in axes)
    return _as_map(("wire", "layer"), edges, outcome, cells, shape)


def _as_map(
    names: Sequence[str],
    edges: tuple[FloatArray, ...],
    outcome: ChannelResult,
    cells: IndexArray,
    shape: tuple[int, ...],
) -> RatioMap:
    """Place the numbers of each channel; what is learned is the window itself, channel by channel."""

    def place(values: FloatArray) -> FloatArray:
        return np.bincount(cells, values, math.prod(shape)).astype(np.float64).reshape(shape)

    used = outcome.state != ChannelState.MASKED
    return RatioMap(
        features=tuple(names),
        edges=edges,
        reference=place(outcome.fitted * used),
        reference_error=np.sqrt(place(outcome.fitted * used)),
        data=place(outcome.hits * used),
        fitted=place(outcome.hits * used),
    )
