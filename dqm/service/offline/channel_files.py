"""Read tables of hits by channel, and channel maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dqm.errors import FileError, InputError
from dqm.events import FloatArray
from dqm.nplm.channels import MAP_COLUMNS, check_map
from dqm.reference import CHANNEL, ChannelTable
from dqm.reference import Source as SourceFile
from dqm.service.offline.feature_files import Reading, checksum, list_inputs, read_features

__all__ = ["read_channel_map", "read_channel_tables"]


def read_channel_map(path: Path) -> FloatArray:
    """Read a channel map.

    Parameters
    ----------
    path : Path
        CSV or Parquet with the column ``channel`` and any of ``layer``, ``wire`` and ``card``.

    Returns
    -------
    ndarray, shape (n_channels, 4)
        As of `check_map`; -1 where a column is missing.

    Raises
    ------
    FileError
        If the file cannot be read, has other columns, or is not a channel map.
    """
    batches = list(read_features(path, None))
    if not batches:
        raise FileError("the channel map has no rows", where=str(path), fix="Write one row for each channel")
    names = batches[0].names
    strange = [name for name in names if name not in MAP_COLUMNS]
    if strange or CHANNEL not in names:
        raise FileError(
            f"the channel map has the columns {', '.join(names)}",
            where=str(path),
            fix=f"Give {CHANNEL!r}, and any of: {', '.join(MAP_COLUMNS[1:])}",
        )
    rows = np.concatenate([batch.x for batch in batches])
    columns = [
        rows[:, names.index(name)] if name in names else np.full(len(rows), -1.0) for name in MAP_COLUMNS
    ]
    try:
        return check_map(np.column_stack(columns))
    except InputError as error:
        raise FileError(error.what, where=str(path), fix=error.fix) from error


def read_channel_tables(
    paths: Sequence[Path], counts: str, chamber: str | None = None, *, reading: Reading | None = None
) -> tuple[list[ChannelTable], list[SourceFile]]:
    """Read the hits of every channel in some runs.

    Parameters
    ----------
    paths : sequence of Path
        One file for each run: CSV or Parquet with columns ``time``, ``channel`` and the hits.
    counts : str
        Name of the column of hits.
    chamber : str, optional
        Only rows with this value in the column ``chamber``.
    reading : Reading, optional
        How the files are read.

    Returns
    -------
    tables : list of ChannelTable
        The runs.
    sources : list of SourceFile
        The files with their checksums; their events are the hits.

    Raises
    ------
    FileError
        If a file cannot be read, or has no time.
    """
    tables, sources = [], []
    for path in [file.path for file in list_inputs(paths, reading)]:
        batches = list(read_features(path, (CHANNEL, counts), chamber, reading=reading))
        times = [batch.times for batch in batches if batch.times is not None]
        if not sum(len(batch.x) for batch in batches):
            raise FileError(
                f"no rows{f' of chamber {chamber}' if chamber else ''}",
                where=str(path),
                fix="Give a table with hits, or another chamber with --chamber",
            )
        if len(times) != len(batches):
            raise FileError(
                "no column 'time'", where=str(path), fix="Say when the hits were counted, in seconds"
            )
        x = np.concatenate([batch.x for batch in batches])
        tables.append(ChannelTable(np.concatenate(times), x[:, 0], x[:, 1], str(path)))
        n_hits = int(np.maximum(x[:, 1], 0.0).sum())
        sources.append(SourceFile(name=path.name, sha256=checksum(path), n_events=n_hits))
    return tables, sources
