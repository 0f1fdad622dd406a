"""Blocks of rows become batches, one of each chamber."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dqm.events import EventBatch
from dqm_collectors.inputs.features import Block
from dqm_collectors.inputs.run_files import RunFile

__all__ = ["BatchMaker"]


class BatchMaker:
    """Splits the blocks of a file by chamber; with a clock, each chamber seen so far has a batch of each.

    Parameters
    ----------
    file : RunFile
        The file, with its run.
    chamber : str
        Name of the chamber if the file has no column ``chamber``.
    seen : iterable of str
        Chambers that were seen before.
    end : float, optional
        End of the block before, Unix seconds.

    Attributes
    ----------
    seen : set of str
        Chambers seen so far.
    end : float or None
        End of the last block, Unix seconds; None without a clock.
    """

    def __init__(
        self, file: RunFile, chamber: str, seen: Iterable[str] = (), end: float | None = None
    ) -> None:
        self._file = file
        self._chamber = chamber
        self.seen = set(seen)
        self.end = end

    def batches(self, block: Block) -> Iterator[EventBatch]:
        """Yield the batches of a block that has rows."""
        chambers = np.full(len(block.x), self._chamber) if block.chambers is None else block.chambers
        self.seen.update(map(str, np.unique(chambers)))
        start = end = times = None
        if block.times is not None:
            start = float(block.times[0]) if self.end is None else self.end
            times = np.maximum(block.times, start)  # a clock with coarse steps gives the last time again
            end = self.end = float(np.nextafter(times[-1], np.inf))
        for chamber in sorted(self.seen):
            mine = chambers == chamber
            if times is not None or mine.any():
                yield EventBatch(
                    chamber,
                    block.names,
                    block.x[mine],
                    None if times is None else times[mine],
                    start,
                    end,
                    run=self._file.run,
                    run_type=self._file.run_type,
                )
