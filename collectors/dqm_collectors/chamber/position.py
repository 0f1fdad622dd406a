"""Where to read a stream of raw words again, so that it yields the same batches from a certain one on.

A batch is the same when it is made of the same groups of hits. So the words are read again from before a time
without hits (a boundary) at or before the batch. Segments found before the batch are then dropped.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, fields

from dqm.errors import InputError
from dqm_collectors.chamber.geometry import NS_PER_COUNT
from dqm_collectors.chamber.word_check import AGREEING, HELD

__all__ = ["BlockHistory", "Position"]

_COUNTS_PER_SECOND = 1e9 / NS_PER_COUNT
_CONTEXT = HELD + AGREEING
"""Hits that are read besides: those that wait in `WordCheck`, and those it compares the next ones with."""


@dataclass(frozen=True, slots=True)
class Position:
    """State from which a stream continues.

    Parameters
    ----------
    offset : int
        Offset of the first message to read.
    near : int or None
        Time in TDC counts near which its words are; None: not known.
    n_resets : int
        Resets of the clock among the words before the first batch.
    start : float
        Unix time of the first hit of the clock, s.
    first_count, boundary : int
        TDC counts of this hit and of the boundary.
    stretch : int
        Number of the first batch since `start`.
    options : dict or None
        Options on which the batches depend, by name; None: not known, as in commits of earlier versions.
    """

    offset: int
    near: int | None
    n_resets: int
    start: float
    first_count: int
    boundary: int
    stretch: int
    options: dict[str, object] | None = None

    def write(self) -> str:
        """Give it as text."""
        return json.dumps([getattr(self, field.name) for field in fields(self)])

    @classmethod
    def read(cls, text: str) -> Position:
        """Read what `write` gives.

        Raises
        ------
        InputError
            If the text is something else.
        """
        try:
            return cls(*json.loads(text))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{text[:100]!r} is not a position in a stream of words",
                fix="Begin again with another group and another run",
            ) from error


@dataclass(slots=True)
class _Block:
    """Words read together."""

    offset: int
    near: int | None
    n_resets: int
    n_hits: int  # yielded before this block
    clock: int = 0
    last: int = -1  # largest time of the hits yielded up to its end, in its last clock


class BlockHistory:
    """The blocks that may have to be read again.

    Parameters
    ----------
    position : Position, optional
        Where the stream continued.
    """

    def __init__(self, position: Position | None = None) -> None:
        self._blocks: deque[_Block] = deque()
        self._boundaries: deque[int] = deque([position.boundary] if position else [])
        self._n_hits = 0
        self._clock = position.n_resets if position else 0
        self._last = -1

    def add_block(self, offset: int, near: int | None, n_resets: int) -> None:
        """Add the block that is read next, with the resets that were read before it."""
        self._blocks.append(_Block(offset, near, n_resets, self._n_hits))

    def add_hits(self, n: int, last: int, clock: int) -> None:
        """Add hits that were yielded: how many, the time of the last one, resets before them."""
        self._n_hits += n
        self._last = max(self._last, last) if clock == self._clock else last
        self._clock = clock
        block = self._blocks[-1]
        block.clock = clock
        block.last = self._last

    def add_boundary(self, boundary: int, *, is_new_clock: bool = False) -> None:
        """Add a boundary; those of another clock are forgotten."""
        if is_new_clock:
            self._boundaries.clear()
        self._boundaries.append(boundary)

    def find(self, batch_start: float, *, start: float, first_count: int, batch_seconds: float) -> Position:
        """Return from where a batch can be read again."""
        n_boundaries, n_blocks = self._find(_edge(batch_start, start, first_count))
        boundary = self._boundaries[n_boundaries]
        block = self._blocks[n_blocks]
        return Position(
            offset=block.offset,
            near=block.near,
            n_resets=self._clock - block.n_resets,
            start=start,
            first_count=first_count,
            boundary=boundary,
            stretch=round((batch_start - start) / batch_seconds),
        )

    def forget(self, batch_start: float, *, start: float, first_count: int) -> None:
        """Forget what is needed only for batches before this one."""
        n_boundaries, n_blocks = self._find(_edge(batch_start, start, first_count))
        for _ in range(n_boundaries):
            self._boundaries.popleft()
        for _ in range(n_blocks):
            self._blocks.popleft()

    def _find(self, edge: int) -> tuple[int, int]:
        """Count the boundaries, and the blocks, before those that a time in TDC counts needs."""
        n_boundaries = max(0, sum(boundary <= edge for boundary in self._boundaries) - 1)
        boundary = self._boundaries[n_boundaries]
        is_there = (b for b in self._blocks if b.clock == self._clock and b.last >= boundary)
        n_hits = next(is_there, self._blocks[-1]).n_hits - _CONTEXT
        return n_boundaries, max(0, sum(block.n_hits <= n_hits for block in self._blocks) - 1)


def _edge(batch_start: float, start: float, first_count: int) -> int:
    """Give the time of a batch in TDC counts, early by what rounding may do."""
    return first_count + int((batch_start - start) * _COUNTS_PER_SECOND) - 2
