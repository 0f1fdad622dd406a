"""Replay of recorded features from CSV, gzip CSV, Parquet or ROOT, at a given rate or as fast as possible."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from dqm.errors import FileError
from dqm.events import EventBatch, FileTable, Origin
from dqm_collectors.inputs.batches import BatchMaker
from dqm_collectors.inputs.features import TIME, Block, FeatureReader
from dqm_collectors.inputs.layout import LayoutCheck
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.run_files import RunFile, list_files
from dqm_collectors.inputs.tables import describe_file, open_table
from dqm_collectors.pace import Clock, Pacer, Sleep

__all__ = ["ReplayCollector", "read_features"]

PACED_SECONDS = 1.0
"""Wall time that one batch covers if the replay has a rate or a speed, s."""


class ReplayCollector:
    """Replays recorded features.

    Parameters
    ----------
    options : ReplayCollector.Options
        Files, features and speed.
    clock, sleep : callable
        Used when `rate_hz` or `speed` is given.
    """

    class Options(FileOptions):
        """Keys of the configuration."""

        counts: str | None = Field(
            None, description="column that says how many events a row stands for; default: each row is one"
        )
        rate_hz: float | None = Field(None, gt=0, description="events per second of all chambers, Hz, > 0")
        speed: float | None = Field(
            None, gt=0, description="1: as recorded, 2: twice as fast; requires the column time"
        )

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.rate_hz is not None and self.speed is not None:
                raise ValueError("rate_hz and speed cannot both be given")
            if self.counts is not None and self.features is not None and self.counts not in self.features:
                raise ValueError(f"counts names {self.counts!r}, which is not in features")
            return self

    origin = Origin.REPLAYED

    def __init__(self, options: Options, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.options = options
        self._clock = clock
        self._sleep = sleep

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches, each of one chamber: small ones if there is a rate or a speed, otherwise large ones.

        Raises
        ------
        FileError
            If a file cannot be used; the message names file, row and column.
        """
        pacer = Pacer(self._clock, self._sleep)
        elapsed = 0.0
        layout = LayoutCheck()
        for file in self.files():
            reader = FeatureReader(self.options, open_table(file.path, self.options))
            layout.check(file.path, reader.layout)
            maker = BatchMaker(file, self.options.chamber)
            last: float | None = None
            for block in reader.read():
                for piece in self._pieces(block, file.path):
                    elapsed += self._seconds(piece, last)
                    last = None if piece.times is None else float(piece.times[-1])
                    pacer.wait(elapsed)
                    for batch in maker.batches(piece):
                        yield self._counted(batch, file.path)

    @property
    def gives_runs(self) -> bool:
        """Whether the names of the files say which runs they belong to."""
        return self.options.name_pattern is not None

    def packages(self) -> dict[str, str]:
        """Give the packages that these files and expressions need, and the extra that has each."""
        return self.options.packages()

    def files(self) -> list[RunFile]:
        """List the files in order; raises `FileError` if there are none."""
        return list_files(self.options.inputs, self.options.name_pattern)

    @staticmethod
    def describe(path: Path) -> tuple[FileTable, ...]:
        """List the tables of a file with their columns; raises `FileError` if it cannot be read."""
        return describe_file(path)

    def _counted(self, batch: EventBatch, path: Path) -> EventBatch:
        """Mark rows that stand for several events."""
        counts = self.options.counts
        if counts is None:
            return batch
        if counts not in batch.names:
            raise FileError(
                f"no column {counts!r}", where=str(path), fix=f"There are: {', '.join(batch.names)}"
            )
        return replace(batch, counts=counts)

    def _pieces(self, block: Block, path: Path) -> Iterator[Block]:
        """Cut a block into pieces of about `PACED_SECONDS`, if there is a rate or a speed."""
        rate = self.options.rate_hz
        speed = self.options.speed
        if speed is not None and block.times is None:
            raise FileError(f"no column {TIME!r}", where=str(path), fix="speed requires it; rate_hz does not")
        first = 0
        n = len(block.x)
        while first < n:
            last = n
            if rate is not None:
                last = first + max(1, round(rate * PACED_SECONDS))
            elif speed is not None and block.times is not None:
                over = block.times[first] + speed * PACED_SECONDS
                last = int(np.searchsorted(block.times, over, side="right"))
            yield block.part(first, last)
            first = last

    def _seconds(self, piece: Block, last: float | None) -> float:
        """Wall time of a piece, s; `last` is the time of the event before it."""
        if self.options.rate_hz is not None:
            return len(piece.x) / self.options.rate_hz
        if self.options.speed is not None and piece.times is not None:
            begin = piece.times[0] if last is None else last
            return float(piece.times[-1] - begin) / self.options.speed
        return 0.0


def read_features(
    path: Path, features: Sequence[str] | None = None, chamber: str = "0"
) -> Iterator[EventBatch]:
    """Read a file of features in large batches.

    Parameters
    ----------
    path : Path
        ``.parquet``, ``.root``, or CSV with a header, plain or compressed. The columns ``time`` (Unix
        seconds, not decreasing) and ``chamber`` are not features.
    features : sequence of str, optional
        Columns to use, in this order; all by default.
    chamber : str
        Name of the chamber if the file has no column ``chamber``.

    Yields
    ------
    EventBatch
        One for each chamber and block of rows.

    Raises
    ------
    FileError
        If a column is missing, if a value is missing, not a number or not finite, or if time goes back.
    """
    chosen = None if features is None else tuple(features)
    yield from ReplayCollector(ReplayCollector.Options(inputs=(path,), features=chosen, chamber=chamber))
