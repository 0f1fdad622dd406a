"""Replay of recorded features from CSV, gzip CSV, Parquet or ROOT, at a given rate or as fast as possible."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dqm.errors import FileError
from dqm.events import EventBatch, FloatArray, Origin
from dqm_collectors.pace import Clock, Pacer, Sleep
from dqm_collectors.root import read_root, root_columns
from dqm_collectors.tables import read_csv, read_header, translate_errors

__all__ = ["ReplayCollector", "read_features"]

TIME = "time"
CHAMBER = "chamber"
ROWS_PER_BLOCK = 65_536
LONGEST_NAME = 64
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

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        inputs: tuple[Path, ...] = Field(
            min_length=1, description="files in order: .parquet, .root, or CSV, plain or .gz"
        )
        features: tuple[str, ...] | None = Field(
            None, min_length=1, description="columns to use, in this order; default: all but time and chamber"
        )
        keep_nan: bool = Field(
            False,
            description="whether rows with NaN are kept; false: they are errors; see largest_nan_share",
        )
        chamber: str = Field("0", description="name of the chamber if the file has no column chamber")
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
        for path in self.options.inputs:
            stretches = _Stretches(self.options.chamber)
            last: float | None = None
            for block in _read_blocks(path, self.options.features, keep_nan=self.options.keep_nan):
                for piece in self._pieces(block, path):
                    elapsed += self._seconds(piece, last)
                    last = None if piece.times is None else float(piece.times[-1])
                    pacer.wait(elapsed)
                    for batch in stretches.of(piece):
                        yield self._counted(batch, path)

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

    def _pieces(self, block: _Block, path: Path) -> Iterator[_Block]:
        """Cut a block into pieces of about `PACED_SECONDS`, if there is a rate or a speed."""
        rate, speed = self.options.rate_hz, self.options.speed
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
            yield block.rows(first, last)
            first = last

    def _seconds(self, piece: _Block, last: float | None) -> float:
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
    stretches = _Stretches(chamber)
    for block in _read_blocks(path, features):
        yield from stretches.of(block)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a file: features (n, d), times (n,) or None, chambers (n,) or None."""

    names: tuple[str, ...]
    x: FloatArray
    times: FloatArray | None
    chambers: np.ndarray[tuple[int], np.dtype[np.str_]] | None

    def rows(self, first: int, last: int) -> _Block:
        times = None if self.times is None else self.times[first:last]
        chambers = None if self.chambers is None else self.chambers[first:last]
        return _Block(self.names, self.x[first:last], times, chambers)


class _Stretches:
    """Splits blocks by chamber; with a clock, every chamber seen so far has a batch for each stretch."""

    def __init__(self, chamber: str) -> None:
        self._chamber = chamber
        self._seen: set[str] = set()
        self._end: float | None = None

    def of(self, block: _Block) -> Iterator[EventBatch]:
        chambers = np.full(len(block.x), self._chamber) if block.chambers is None else block.chambers
        self._seen.update(map(str, np.unique(chambers)))
        start = end = None
        if block.times is not None:
            start = float(block.times[0]) if self._end is None else self._end
            end = float(np.nextafter(block.times[-1], np.inf))
            self._end = end
        for chamber in sorted(self._seen):
            mine = chambers == chamber
            times = None if block.times is None else block.times[mine]
            if times is not None or mine.any():
                yield EventBatch(chamber, block.names, block.x[mine], times, start, end)


def _read_blocks(path: Path, features: Sequence[str] | None, *, keep_nan: bool = False) -> Iterator[_Block]:
    """Yield checked, non-empty blocks of a file."""
    columns_of, read, first_row = _FORMATS.get(path.suffix, _CSV)
    columns = columns_of(path)
    names = tuple(features) if features is not None else tuple(c for c in columns if c not in (TIME, CHAMBER))
    if missing := [name for name in names if name not in columns]:
        raise FileError(f"no column {missing[0]!r}", where=str(path), fix=f"There are: {', '.join(columns)}")
    if not names:
        raise FileError("no features", where=str(path), fix=f"There are: {', '.join(columns)}")
    types = dict.fromkeys(names, pa.float64())
    types |= {TIME: pa.float64()} if TIME in columns else {}
    types |= {CHAMBER: pa.string()} if CHAMBER in columns else {}
    row = first_row
    last = -np.inf
    for batch in read(path, types):
        if not len(batch):
            continue
        numbers = {
            name: _numbers(batch.column(name), f"{path}, row", row, name, keep_nan=keep_nan and name != TIME)
            for name in types
            if name != CHAMBER
        }
        times = numbers.get(TIME)
        if times is not None:
            back = np.flatnonzero(np.diff(times, prepend=last) < 0)
            if back.size:
                raise FileError(
                    "time goes back",
                    where=f"{path}, row {row + back[0]}, column {TIME!r}",
                    fix="Sort the rows by time; chambers may alternate",
                )
            last = times[-1]
        chambers = _names(batch.column(CHAMBER), path, row) if CHAMBER in columns else None
        yield _Block(names, np.column_stack([numbers[name] for name in names]), times, chambers)
        row += len(batch)


def _names(column: pa.Array, path: Path, row: int) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """Return a column of chambers. Names are limited: in numpy, each takes the memory of the longest."""
    names = column.to_pylist()
    long = next((i for i, name in enumerate(names) if name is not None and len(name) > LONGEST_NAME), None)
    if long is not None:
        raise FileError(
            f"a name of more than {LONGEST_NAME} characters",
            where=f"{path}, row {row + long}, column {CHAMBER!r}",
        )
    return np.array(names, dtype=np.str_)


def _numbers(column: pa.Array, where: str, row: int, name: str, *, keep_nan: bool) -> FloatArray:
    """Return a column as numbers, finite or also NaN."""
    values: FloatArray = column.to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(np.isinf(values) if keep_nan else ~np.isfinite(values))
    if bad.size:
        raise FileError(
            f"{values[bad[0]]} is not a number",
            where=f"{where} {row + bad[0]}, column {name!r}",
            fix=_FIX_INFINITE if np.isinf(values[bad[0]]) else _FIX_NAN,
        )
    return values


def _parquet_columns(path: Path) -> tuple[str, ...]:
    with translate_errors(path):
        return tuple(pq.read_schema(path).names)


def _parquet_batches(path: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Yield the requested columns in the requested types."""
    schema = pa.schema(list(types.items()))
    with translate_errors(path):
        file = pq.ParquetFile(path)
        for name in types:
            kind = file.schema_arrow.field(name).type
            if name != CHAMBER and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise FileError(
                    f"holds {kind}, not numbers",
                    where=f"{path}, column {name!r}",
                    fix="Name the features to use",
                )
        for batch in file.iter_batches(ROWS_PER_BLOCK, columns=list(types)):
            yield pa.RecordBatch.from_arrays(
                [batch.column(n).cast(t) for n, t in types.items()], schema=schema
            )


def _csv_batches(path: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    return read_csv(path, types, read_header(path))


_FIX_NAN = (
    "Leave such rows out: 'dqm reference build --drop-nan' does it; the collector takes them with keep_nan"
)
_FIX_INFINITE = "Leave such rows out, or the column by naming those to use"

_CSV = (read_header, _csv_batches, 2)
_FORMATS = {".parquet": (_parquet_columns, _parquet_batches, 1), ".root": (root_columns, read_root, 1)}
"""By file ending: function for the columns, function for the rows, number of the first row in messages."""
