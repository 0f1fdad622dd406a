"""From raw words to batches of segments, with what was left out, for every source of raw words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from dqm.errors import NoEventsError, format_count
from dqm.events import Condition, EventBatch
from dqm_collectors.chamber.geometry import Convention, WireMap
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.reconstruction import Reconstruction
from dqm_collectors.chamber.word_check import WireHits, WordCheck, WordCounts

__all__ = ["WordStream"]

RECENT_WORDS = 10_000
"""Words over which shares are taken: those of the last blocks that have as many together."""

PATIENCE_WORDS = 10_000
"""Words without any hit after which a source is given up."""


class WordStream:
    """Checks raw words and finds their segments.

    Parameters
    ----------
    convention : Convention
        Numbering of the channels.
    reconstruction : Reconstruction
        Finds the segments.
    near : int, optional
        As in `WordCheck`.

    Attributes
    ----------
    total : WordCounts
        Counts since the start.
    """

    def __init__(
        self, convention: Convention, reconstruction: Reconstruction, near: int | None = None
    ) -> None:
        self._convention = convention
        self._reconstruction = reconstruction
        self._check = WordCheck(WireMap.of(convention), near)
        self._recent: deque[WordCounts] = deque()
        self._conditions: dict[str, Condition] = {}
        self.total = WordCounts()

    def feed(self, raw: RawHits, where: str) -> Iterator[EventBatch]:
        """Add the next words; yield the batches that they complete.

        Parameters
        ----------
        raw : RawHits
            Words as they were read.
        where : str
            Their source, for messages.

        Yields
        ------
        EventBatch
            Segments; the conditions say what was left out of the last words.

        Raises
        ------
        NoEventsError
            If none of the first `PATIENCE_WORDS` words is a hit.
        """
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
        for batch in self._reconstruction.finish():
            yield replace(batch, conditions=self._conditions)

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
                for batch in self._reconstruction.restart():
                    yield replace(batch, conditions=self._conditions)
            for batch in self._reconstruction.add(part.counts, part.fpga, part.channel):
                yield replace(batch, conditions=self._conditions)

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
