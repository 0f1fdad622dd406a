"""Which raw words can be hits: the others are left out and counted by reason; the clock is made continuous.

How it works:

1. Words of another HEAD are left out before anything else is read from them, then channels that are not wires
   and values that the convention does not have.
2. A word that equals one of the few words before it was written twice. Wires have a dead time, so two equal
   words cannot both be hits.
3. The orbit counter starts again after 2^32 orbits. The step from one word to the next is taken modulo 2^32
   orbits, and the times that go on never start again.
4. A step back, or forward by more than `MAX_SILENCE_S`, is a jump. If the stream goes on as before when up to
   `MOST_DAMAGED` words on either side are left out, these were damaged. If it does not, and the next words
   agree with each other, the counter was reset: a new clock begins. How long the gap lasted is not known.

The last words of each block wait for the next block, because a jump is judged from both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

import numpy as np

from dqm_collectors.chamber.geometry import (
    BX_PER_ORBIT,
    COUNTS_PER_BX,
    COUNTS_PER_ORBIT,
    N_CHAMBERS,
    NS_PER_COUNT,
    ORBITS,
    WIRES_PER_CHAMBER,
    BoolArray,
    IntArray,
    WireMap,
)
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.reconstruction import DISORDER_NS

__all__ = ["LeftOut", "WireHits", "WordCheck", "WordCounts"]

MAX_SILENCE_S = 3600.0
"""Longest time without words, s; a longer one is a reset of the clock or a damaged word."""

MOST_DAMAGED = 3
"""Most damaged words in a row beside a jump."""

AGREEING = MOST_DAMAGED + 1
"""Words in a row that a new clock needs."""

HELD = 2 * AGREEING
"""Words that wait for the next block: those needed on both sides of a jump."""

LATE_S = 1.0
"""Up to `MOST_DAMAGED` words at the ends of a run, beyond a longer silence, are damaged, s."""

_BACK = -int(DISORDER_NS / NS_PER_COUNT)
_FORWARD = int(MAX_SILENCE_S * 1e9 / NS_PER_COUNT)
_LATE = int(LATE_S * 1e9 / NS_PER_COUNT)
_FEW = range(1, MOST_DAMAGED + 1)
_TURN = ORBITS * COUNTS_PER_ORBIT
"""Counts until the orbit counter starts again."""


class LeftOut(StrEnum):
    """Why a word is left out."""

    OTHER_KIND = "other_kind"
    """HEAD is not that of hits."""
    OTHER_CHANNEL = "other_channel"
    """A channel of the convention that is not a wire: a scintillator or a trigger."""
    FPGA = "fpga"
    """A board that does not belong to a chamber."""
    CHANNEL = "channel"
    """A channel that the convention does not have."""
    ORBIT = "orbit"
    """An orbit that does not fit in 32 bits."""
    BX = "bx"
    """A bunch crossing beyond the end of an orbit."""
    TDC = "tdc"
    """A fine time beyond the end of a bunch crossing."""
    REPEATED = "repeated"
    """Written twice."""
    CLOCK = "clock"
    """The time does not fit the words before and after it."""


HEALTHY = frozenset({LeftOut.OTHER_KIND, LeftOut.OTHER_CHANNEL})
"""Words that a healthy stream has."""


@dataclass(slots=True)
class WordCounts:
    """Counts of words.

    Parameters
    ----------
    words, hits : int
        Words read, hits on wires among them that are used.
    left_out : Counter of LeftOut
        Words that are not used.
    clock_resets : int
        New clocks that began after the first.
    """

    words: int = 0
    hits: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    clock_resets: int = 0

    @property
    def damaged(self) -> int:
        """Words left out that a healthy stream does not have."""
        return sum(n for reason, n in self.left_out.items() if reason not in HEALTHY)

    @property
    def other(self) -> int:
        """Words left out that a healthy stream also has."""
        return sum(self.left_out[reason] for reason in HEALTHY)

    def __add__(self, other: WordCounts) -> WordCounts:
        return WordCounts(
            self.words + other.words,
            self.hits + other.hits,
            self.left_out + other.left_out,
            self.clock_resets + other.clock_resets,
        )

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name, without reasons that did not occur."""
        left_out = {
            f"left_out_{reason}": self.left_out[reason] for reason in LeftOut if self.left_out[reason]
        }
        resets = {"clock_resets": self.clock_resets} if self.clock_resets else {}
        return {"words": self.words, "hits": self.hits, **left_out, **resets}


@dataclass(frozen=True, slots=True)
class WireHits:
    """Hits on wires whose clock is continuous.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_hits,)
        Time in TDC counts; it does not start again.
    wire : ndarray of int64, shape (n_hits,)
        Number of the wire, as from `WireMap.numbers`.
    is_new_clock : bool
        Whether a new clock begins with these hits.
    """

    counts: IntArray
    wire: IntArray
    is_new_clock: bool


class WordCheck:
    """Leaves out what cannot be a hit. The module's text explains how.

    Parameters
    ----------
    wires : WireMap
        Convention of the words.
    near : int, optional
        Time in TDC counts near which the stream begins: the times continue from there. By default they begin
        with the orbit of the first word.

    Attributes
    ----------
    counts : WordCounts
        Counts since the start, or since the last call of `take_counts`.
    heads : Counter of int
        Words by HEAD, to recognise another convention.
    """

    def __init__(self, wires: WireMap, near: int | None = None) -> None:
        self._wires = wires
        self._near = near
        self._held: IntArray = np.empty((2, 0), dtype=np.int64)  # rows: counts, wire
        self._is_started = False
        self._is_new_clock = False
        self.counts = WordCounts()
        self.heads: Counter[int] = Counter()

    @property
    def has_held(self) -> bool:
        """Whether words wait for more words."""
        return bool(self._held.size)

    def take_counts(self) -> WordCounts:
        """Return the counts since the last call."""
        counts, self.counts = self.counts, WordCounts()
        return counts

    def feed(self, raw: RawHits) -> Iterator[WireHits]:
        """Add the next words; yield the hits that are sure now.

        Parameters
        ----------
        raw : RawHits
            Words as they were read; orbits start again after 2^32.

        Yields
        ------
        WireHits
            At least one hit.
        """
        self.counts.words += len(raw.head)
        new = self._select(raw)
        if not new.size:
            return
        n_held = self._held.shape[1]
        if n_held:
            new[0] += _TURN * round(int(self._held[0, -1] - new[0, 0]) / _TURN)
        elif self._near is not None:
            new[0] = self._near + _reduced(new[0] - self._near)
        hits = self._drop_repeated(np.concatenate([self._held, new], axis=1), n_held)
        yield from self._judge(hits, is_last=False)

    def finish(self) -> Iterator[WireHits]:
        """Yield the hits that waited for more words."""
        yield from self._judge(self._held, is_last=True)

    def _select(self, raw: RawHits) -> IntArray:
        """Leave out words of other kinds and values out of range; rows: counts, wire."""
        wires = self._wires
        fits = raw.head == wires.hit_head
        n_hits = int(np.count_nonzero(fits))
        self.heads[wires.hit_head] += n_hits
        if n_hits < len(fits):
            self.counts.left_out[LeftOut.OTHER_KIND] += len(fits) - n_hits
            kinds, n = np.unique(raw.head[~fits], return_counts=True)
            self.heads.update(dict(zip(kinds.tolist(), n.tolist(), strict=True)))
        channel = raw.channel - wires.first_channel
        for reason, values, n_values in (
            (LeftOut.FPGA, raw.fpga, N_CHAMBERS // 2),
            (LeftOut.CHANNEL, channel, wires.n_channels),
            (LeftOut.ORBIT, raw.orbit, ORBITS),
            (LeftOut.BX, raw.bx, BX_PER_ORBIT),
            (LeftOut.TDC, raw.tdc, COUNTS_PER_BX),
            (LeftOut.OTHER_CHANNEL, channel, 2 * WIRES_PER_CHAMBER),
        ):
            fitting = values.view(np.uint64) < n_values  # negative values are large ones
            if not fitting.all():
                n_before = int(np.count_nonzero(fits))
                fits &= fitting
                if n_left_out := n_before - int(np.count_nonzero(fits)):
                    self.counts.left_out[reason] += n_left_out
        hits = np.stack([raw.counts, wires.numbers(raw.fpga, raw.channel)])
        return hits if fits.all() else hits[:, fits]

    def _drop_repeated(self, hits: IntArray, n_held: int) -> IntArray:
        """Leave out new hits that equal one of the few before them."""
        counts = hits[0]
        repeated = np.zeros(len(counts), dtype=np.bool_)
        for lag in range(1, min(AGREEING, len(counts) - 1) + 1):
            same = np.flatnonzero(counts[lag:] == counts[:-lag]) + lag
            repeated[same] |= hits[1, same] == hits[1, same - lag]
        repeated[:n_held] = False
        n_repeated = int(np.count_nonzero(repeated))
        if not n_repeated:
            return hits
        self.counts.left_out[LeftOut.REPEATED] += n_repeated
        return hits[:, ~repeated]

    def _judge(self, hits: IntArray, *, is_last: bool) -> Iterator[WireHits]:
        """Judge the jumps of the clock; yield the hits that are sure and hold the others."""
        n = hits.shape[1]
        keep = np.ones(n, dtype=np.bool_)
        starts: list[int] = []
        step = _reduced(np.diff(hits[0]))
        jumps = np.flatnonzero((step < _BACK) | (step > _FORWARD)) + 1
        if jumps.size:
            is_first = not self._is_started
            starts = _settle(hits[0], jumps, keep, n if is_last else n - MOST_DAMAGED, is_first=is_first)
        if not self._is_started:
            keep[: _strays(step)] = False
        if is_last:
            keep[n - _strays(step[::-1]) :] = False
        self.counts.left_out[LeftOut.CLOCK] += n - int(np.count_nonzero(keep))
        for begin, end in pairwise([0, *starts, n]):
            self._is_new_clock |= begin in starts
            self.counts.clock_resets += begin in starts
            part = _continuous(hits[:, begin:end], keep[begin:end])
            is_sure = end < n or is_last
            n_sure = end if is_sure else max(begin, n - HELD)
            n_sure = int(np.count_nonzero(keep[begin:n_sure]))
            self._held = part[:, n_sure:]
            if n_sure:
                self.counts.hits += n_sure
                counts, wire = part[:, :n_sure]
                yield WireHits(counts, wire, self._is_new_clock)
                self._is_new_clock = False
                self._is_started = True


def _reduced(step: IntArray) -> IntArray:
    """Take steps in counts modulo a turn of the orbit counter, nearest to 0."""
    if not step.size or (abs(int(step.min())) <= _TURN // 2 and int(step.max()) <= _TURN // 2):
        return step
    return np.asarray(step - _TURN * np.rint(step / _TURN).astype(np.int64))


def _continuous(hits: IntArray, keep: BoolArray) -> IntArray:
    """Keep hits of one clock, with times that do not start again; rows: counts, wire."""
    if not keep.all():
        hits = hits[:, keep]
    step = np.diff(hits[0])
    reduced = _reduced(step)
    if reduced is step:
        return hits
    return np.stack([hits[0, 0] + np.concatenate([[0], np.cumsum(reduced)]), hits[1]])


def _settle(counts: IntArray, jumps: IntArray, keep: BoolArray, sure: int, *, is_first: bool) -> list[int]:
    """Settle the jumps before word `sure`: mark damaged words in `keep`, return where new clocks begin.

    `jumps` are the words whose step from the word before is a jump. `is_first` says that the first word is
    the first of the source: up to `MOST_DAMAGED` words before the first jump may be damaged.
    """
    n = len(counts)
    starts: list[int] = []
    p = int(jumps[0])
    last = p - 1  # last word kept before p
    floor = 0  # from it to `last` no word was left out
    while p < sure:
        ahead = next((k for k in _FEW if p + k < n and _follows(counts, last, p + k)), n)
        behind = next((k for k in _FEW if last - k >= floor and _follows(counts, last - k, p)), n)
        if ahead < n and ahead <= behind:
            keep[p : p + ahead] = False
            p += ahead
        elif behind < n:
            keep[last - behind + 1 : last + 1] = False
        elif _agree(counts, p):
            if is_first and floor == 0 and last < MOST_DAMAGED:
                keep[:p] = False
            else:
                starts.append(p)
        else:
            keep[p] = False
            p += 1
            if p < n and not _follows(counts, last, p):
                continue
        floor = p
        k = int(np.searchsorted(jumps, p, side="right"))
        if k == len(jumps):
            break
        p = int(jumps[k])
        last = p - 1
    return starts


def _strays(step: IntArray) -> int:
    """Count the first words that are far before the others, which are close together: they are damaged."""
    is_close = step <= _LATE
    return next(
        (k for k in _FEW if not is_close[k - 1 : k].all() and is_close[k : k + AGREEING].sum() == AGREEING), 0
    )


def _follows(counts: IntArray, before: int, after: int) -> bool:
    """Whether a word may follow another one in time."""
    step = int(counts[after]) - int(counts[before])
    return _BACK <= (step + _TURN // 2) % _TURN - _TURN // 2 <= _FORWARD


def _agree(counts: IntArray, first: int) -> bool:
    """Whether a word and those after it are of one clock."""
    return first + AGREEING <= len(counts) and all(
        _follows(counts, k, k + 1) for k in range(first, first + AGREEING - 1)
    )
