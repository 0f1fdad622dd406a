"""Raw TDC files: from hits on wires to segments whose time of passage is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dqm.errors import FileError
from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.geometry import N_CHAMBERS, NS_PER_COUNT, Convention, WireMap
from dqm_collectors.chamber.hits import COLUMNS, RawHits
from dqm_collectors.chamber.occupancy import CountingReconstruction
from dqm_collectors.chamber.reconstruction import DISORDER_NS, Reconstruction
from dqm_collectors.chamber.segments import Selection
from dqm_collectors.pace import Clock, Sleep, at_speed
from dqm_collectors.tables import BLOCK_BYTES, read_csv

__all__ = ["TdcCollector", "read_tdc"]

PIPE_BLOCK_BYTES = 1 << 15
"""Bytes read at a time from a pipe: smaller, because words arrive slowly and wait until a block is full."""

MAX_SILENCE_S = 3600.0
"""Longest time without words, s; a longer one means a damaged orbit number."""


class TdcCollector:
    """Segments of the raw words of one run.

    Parameters
    ----------
    options : TdcCollector.Options
        Files, numbering, selection and speed.
    clock, sleep : callable
        Used when `speed` is given.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        inputs: tuple[Path, ...] = Field(
            min_length=1, description="parts of one run in order: CSV, plain or .gz, or a named pipe"
        )
        convention: Annotated[Convention, BeforeValidator(str)] = Field(
            Convention.Y2021, description="numbering of the channels: 2018 or 2021"
        )
        max_residual_mm: float = Field(
            1.0, gt=0, le=10, description="largest residual of a segment, mm, (0, 10]"
        )
        chambers: tuple[Annotated[int, Field(ge=0, lt=N_CHAMBERS)], ...] = Field(
            (0, 1, 2, 3), min_length=1, description="chambers to read, 0 to 3"
        )
        start: float = Field(0.0, description="Unix time of the first hit, seconds")
        speed: float | None = Field(
            None, gt=0, description="1: as recorded, 2: twice as fast; default: as fast as possible"
        )
        batch_seconds: float = Field(1.0, gt=0, le=3600, description="length of a batch, s, (0, 3600]")
        channels: bool = Field(
            False, description="whether the hits of every channel are counted and sent beside the segments"
        )

    def __init__(self, options: Options, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.options = options
        piped = any(path.is_fifo() for path in options.inputs)
        self.origin = Origin.LIVE if piped else Origin.REPLAYED
        self._clock = clock
        self._sleep = sleep

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield one batch for each chamber and stretch of `batch_seconds`.

        Raises
        ------
        FileError
            If a file cannot be read or is not a TDC file; the message names file and row.
        """
        return at_speed(self._batches(), self.options.speed, self._clock, self._sleep)

    def _batches(self) -> Iterator[EventBatch]:
        options = self.options
        reconstruction = (CountingReconstruction if options.channels else Reconstruction)(
            WireMap.of(options.convention),
            Selection(max_residual_mm=options.max_residual_mm),
            chambers=options.chambers,
            start=options.start,
            batch_seconds=options.batch_seconds,
        )
        for path in options.inputs:
            for raw in read_tdc(path, PIPE_BLOCK_BYTES if path.is_fifo() else BLOCK_BYTES):
                yield from reconstruction.feed(raw)
        yield from reconstruction.finish()


def read_tdc(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[RawHits]:
    """Read a TDC file block by block.

    Parameters
    ----------
    path : Path
        CSV with the columns `COLUMNS`, plain or compressed.
    block_bytes : int
        Bytes of text read at a time.

    Yields
    ------
    RawHits
        Words of one block, at least one.

    Raises
    ------
    FileError
        If a cell is not an integer, a column is missing, or the clock jumps.
    """
    types = dict.fromkeys(COLUMNS, pa.int64())
    row = 2
    last: int | None = None
    for batch in read_csv(path, types, COLUMNS, block_bytes):
        if not len(batch):
            continue
        raw = RawHits(*(batch.column(name).to_numpy() for name in COLUMNS))
        last = _check_clock(raw, last, path, row)
        row += len(batch)
        yield raw


def _check_clock(raw: RawHits, last: int | None, path: Path, row: int) -> int:
    """Refuse a jump of the clock; return the time of the last word in counts."""
    counts = raw.counts
    steps = np.diff(counts, prepend=counts[0] if last is None else last) * NS_PER_COUNT
    jumps = np.flatnonzero((steps < -DISORDER_NS) | (steps > MAX_SILENCE_S * 1e9))
    if jumps.size:
        k = int(jumps[0])
        raise FileError(
            f"the clock jumps by {steps[k] * 1e-9:g} s to orbit {raw.orbit[k]}",
            where=f"{path}, row {row + k}, column 'ORBIT_CNT'",
            fix="A collector reads one run, with its parts in order",
        )
    return int(counts[-1])
