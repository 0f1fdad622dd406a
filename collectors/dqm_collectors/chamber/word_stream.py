"""From raw words to batches of segments, with what was left out, for every source of raw words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dqm.errors import NoEventsError, format_count
from dqm.events import Condition, EventBatch
from dqm_collectors.chamber.geometry import N_CHAMBERS, Convention, WireMap
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.occupancy import CountingReconstruction
from dqm_collectors.chamber.position import BlockHistory, Position
from dqm_collectors.chamber.reconstruction import Reconstruction
from dqm_collectors.chamber.segments import Selection
from dqm_collectors.chamber.word_check import WireHits, WordCheck, WordCounts

__all__ = ["WordOptions", "WordStream"]

RECENT_WORDS = 10_000
"""Words over which shares are taken: those of the last blocks that have as many together."""

PATIENCE_WORDS = 10_000
"""After this number of words without a hit a source is given up."""


class WordOptions(BaseModel):
    """Options of every source of raw words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convention: Annotated[Convention, BeforeValidator(str)] = Field(
        Convention.Y2021, description="numbering of the channels: 2018 or 2021"
    )
    max_residual_mm: float = Field(1.0, gt=0, le=10, description="largest residual of a segment, mm, (0, 10]")
    chambers: tuple[Annotated[int, Field(ge=0, lt=N_CHAMBERS)], ...] = Field(
        (0, 1, 2, 3), min_length=1, description="chambers to read, 0 to 3"
    )
    batch_seconds: float = Field(1.0, gt=0, le=3600, description="length of a batch, s, (0, 3600]")
    channels: bool = Field(
        False, description="whether the hits of every channel are counted and sent beside the segments"
    )

    def of_batches(self) -> dict[str, object]:
        """Return the options on which batches depend, by name: they may not change when a run continues."""
        return self.model_dump(mode="json", include={*WordOptions.model_fields, "numbering"})


class WordStream:
    """Checks raw words and finds their segments.

    Parameters
    ----------
    options : WordOptions
        Convention, selection and batches.
    start : float
        Unix time of the first hit, s.
    position : Position, optional
        Where the stream goes on after a restart.

    Attributes
    ----------
    total : WordCounts
        Counts since the start.
    """

    def __init__(self, options: WordOptions, start: float, position: Position | None = None) -> None:
        self._convention = options.convention
        self._options = options.of_batches()
        self._batch_seconds = options.batch_seconds
        self._reconstruction = _reconstruction(options, start, position)
        self._near = position.near if position else None
        self._check = WordCheck(WireMap.of(options.convention), self._near)
        self._history = BlockHistory(position)
        self._is_tracked = False
        kinds = (False, True) if options.channels else (False,)  # whether a batch has counted rows
        first = position.start + position.stretch * options.batch_seconds if position else start
        self._reached = dict.fromkeys(kinds, first)  # start of the last batch of each kind, Unix seconds
        self._n_resets = 0
        self._n_skipped_resets = position.n_resets if position else 0
        self._recent: deque[WordCounts] = deque()
        self._conditions: dict[str, Condition] = {}
        self.total = WordCounts()

    def feed(self, raw: RawHits, where: str, offset: int | None = None) -> Iterator[EventBatch]:
        """Add the next words; yield the batches that they complete.

        Parameters
        ----------
        raw : RawHits
            Words as they were read.
        where : str
            Their source, for messages.
        offset : int, optional
            Where they can be read again; batches then have a position.

        Yields
        ------
        EventBatch
            Segments; the conditions say what was left out of the last words.

        Raises
        ------
        NoEventsError
            If none of the first `PATIENCE_WORDS` words is a hit.
        """
        if offset is not None:
            self._is_tracked = True
            self._history.add_block(offset, self._near, self._n_resets)
        parts = list(self._check.feed(raw))
        self._count()
        if self.total.words >= PATIENCE_WORDS:
            self.check_hits(where)
        yield from self._reconstruct(parts)

    def finish(self, where: str) -> Iterator[EventBatch]:
        """Yield the remaining batches.

        Raises
        ------
        NoEventsError
            If no word was a hit.
        """
        parts = list(self._check.finish())
        self._count()
        self.check_hits(where)
        yield from self._reconstruct(parts)
        yield from self._describe(self._reconstruction.finish())

    def check_hits(self, where: str) -> None:
        """Refuse words of which none is a hit, and name the convention that would fit."""
        total = self.total
        if total.hits or not total.words or self._check.has_held:
            return
        heads = self._check.heads
        seen = ", ".join(f"{head} ({n})" for head, n in heads.most_common(4) if n)
        other = next(
            (c for c in Convention if c is not self._convention and heads[WireMap.of(c).hit_head]), None
        )
        reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in total.left_out.most_common())
        raise NoEventsError(
            f"none of {format_count(total.words, 'word')} is a hit on a wire in the convention "
            f"{self._convention}: {reasons}; HEAD is {seen}",
            where=where,
            fix=f'convention = "{other}" would fit: it counts such words as hits'
            if other
            else "Check that the file has words of the TDC, and that it is read in the right format",
        )

    def _reconstruct(self, parts: list[WireHits]) -> Iterator[EventBatch]:
        for part in parts:
            if part.is_new_clock:
                if self._n_resets >= self._n_skipped_resets:
                    yield from self._describe(self._reconstruction.restart())
                self._n_resets += 1
            self._near = int(part.counts[-1])
            if self._n_resets < self._n_skipped_resets:
                continue  # words of an older clock, which were read again
            if self._is_tracked:
                self._history.add_hits(len(part.counts), int(part.counts.max()), self._n_resets)
                if self._reconstruction.first_count is None:
                    self._history.add_boundary(int(part.counts.min()), is_new_clock=True)
            yield from self._describe(self._reconstruction.add(part.counts, part.wire))
            boundary = self._reconstruction.boundary
            if self._is_tracked and boundary is not None:
                self._history.add_boundary(boundary)
            if self._is_tracked:
                self._forget()

    def _describe(self, batches: Iterable[EventBatch]) -> Iterator[EventBatch]:
        """Add the conditions and, if words can be read again, the position."""
        for batch in batches:
            position = self._position(batch) if self._is_tracked else ""
            yield replace(batch, conditions=self._conditions, position=position)

    def _position(self, batch: EventBatch) -> str:
        first_count = self._reconstruction.first_count
        if batch.start is None or first_count is None:
            return ""
        self._reached[bool(batch.counts)] = batch.start
        found = self._history.find(
            self._earliest,
            start=self._reconstruction.start,
            first_count=first_count,
            batch_seconds=self._batch_seconds,
        )
        return replace(found, options=self._options).write()

    def _forget(self) -> None:
        """Forget what later batches do not need."""
        first_count = self._reconstruction.first_count
        if first_count is not None:
            self._history.forget(self._earliest, start=self._reconstruction.start, first_count=first_count)

    @property
    def _earliest(self) -> float:
        """Start of the next batch, or of one before it: the two kinds may differ."""
        return max(min(self._reached.values()), self._reconstruction.start)

    def _count(self) -> None:
        new = self._check.take_counts()
        self.total += new
        self._recent.append(new)
        while (
            len(self._recent) > 1
            and sum(c.words for c in self._recent) - self._recent[0].words >= RECENT_WORDS
        ):
            self._recent.popleft()
        recent = sum(self._recent, start=WordCounts())
        shares = {
            "left_out_share": recent.damaged / max(1, recent.words),
            "other_words_share": recent.other / max(1, recent.words),
            "clock_resets": self.total.clock_resets,
        }
        self._conditions = {name: float(n) for name, n in (recent.as_dict() | shares).items()}


def _reconstruction(options: WordOptions, start: float, position: Position | None) -> Reconstruction:
    wires = WireMap.of(options.convention)
    selection = Selection(max_residual_mm=options.max_residual_mm)
    return (CountingReconstruction if options.channels else Reconstruction)(
        wires,
        selection,
        chambers=options.chambers,
        start=position.start if position else start,
        batch_seconds=options.batch_seconds,
        first_count=position.first_count if position else None,
        stretch=position.stretch if position else 0,
    )
