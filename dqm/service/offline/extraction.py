"""Write the events of any source to a file of features; this needs only a collector host's packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dqm.config import refuse_input, replacing
from dqm.errors import ConfigError, FileError, InputError, NoEventsError
from dqm.events import EventBatch
from dqm.service.collector.sources import EventSource, checked_batches, describe_selection, paths_of

__all__ = ["extract"]

ROWS_AT_ONCE = 65_536
SUFFIX = ".parquet"


def extract(
    source: EventSource,
    path: Path,
    *,
    n_events: int | None = None,
    chamber: str | None = None,
    where: str = "",
    progress: Callable[[int], None] = lambda _n: None,
) -> int:
    """Write the events of a source to a Parquet file with columns ``chamber``, ``time`` and the features.

    If the source has a clock the rows are in the order of time, so that the file can be replayed. Rows that
    belong to the whole time of their batch have its start.

    Parameters
    ----------
    source : EventSource
        Any collector.
    path : Path
        File to write, ``.parquet``; it appears only when it is complete.
    n_events : int, optional
        Stop after this number of events.
    chamber : str, optional
        Only this chamber.
    where : str
        Inputs of the source, for the message.
    progress : callable
        Called with the number of events written so far.

    Returns
    -------
    int
        Number of events written.

    Raises
    ------
    ConfigError
        If the file has another ending, or is one that the source reads.
    InputError
        If the source fails.
    NoEventsError
        If the source has no events.
    FileError
        If the file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(
            f"the features become a Parquet file, and the ending is {path.suffix!r}",
            where=str(path),
            fix=f"Choose a name with the ending {SUFFIX}",
        )
    refuse_input(path, paths_of(source))
    written = 0
    try:
        with replacing(path) as scratch:
            tables = _tables(source, n_events, chamber)
            first = next(tables, None)
            if first is None:
                of = "" if chamber is None else f" of chamber {chamber}"
                selected = describe_selection(getattr(getattr(source, "options", None), "select", None))
                raise NoEventsError(f"the source has no events{of}{selected}", where=where)
            with pq.ParquetWriter(scratch, first.schema) as writer:
                for table in chain([first], tables):
                    writer.write_table(table)
                    written += table.num_rows
                    progress(written)
    except OSError as error:
        raise FileError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            fix="Choose another place, or free space on the disk",
        ) from error
    return written


def _tables(source: EventSource, n_events: int | None, chamber: str | None) -> Iterator[pa.Table]:
    """Collect batches in tables of a size that suits Parquet; chambers are merged in the order of time."""
    parts: list[pa.Table] = []
    schema: pa.Schema | None = None
    waiting = taken = 0
    covered: float | None = None
    for batch in checked_batches(source):
        if chamber is not None and batch.chamber != chamber:
            continue
        # a table may end only where the times of all chambers end, so that later tables have later rows
        if waiting >= ROWS_AT_ONCE and (covered is None or batch.start is None or batch.start >= covered):
            yield _merge(parts)
            parts = []
            waiting = 0
        if batch.end is not None:
            covered = batch.end if covered is None else max(covered, batch.end)
        keep = len(batch.x) if n_events is None else min(len(batch.x), n_events - taken)
        if keep:
            parts.append(_table(batch, keep))
            schema = _check_schema(parts[-1], schema)
            waiting += keep
            taken += keep
        if n_events is not None and taken >= n_events:
            break
    if parts:
        yield _merge(parts)


def _merge(parts: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts)
    return table.sort_by("time") if "time" in table.column_names else table


def _table(batch: EventBatch, n: int) -> pa.Table:
    columns = {"chamber": pa.array([batch.chamber] * n)}
    if batch.times is not None:
        columns["time"] = pa.array(batch.times[:n])
    elif batch.start is not None:  # all rows belong to its whole time
        columns["time"] = pa.array([batch.start] * n)
    columns |= {name: pa.array(batch.x[:n, k]) for k, name in enumerate(batch.names)}
    return pa.table(columns)


def _check_schema(table: pa.Table, before: pa.Schema | None) -> pa.Schema:
    if before is not None and table.schema != before:
        raise InputError(
            f"the columns changed from {', '.join(before.names)} to {', '.join(table.schema.names)}",
            fix="Extract such inputs one by one, or choose common features",
        )
    return table.schema
