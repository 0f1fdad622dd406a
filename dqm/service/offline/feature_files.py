"""Read files of features into arrays, with the checksums that a bundle keeps of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import FileError, InputError
from dqm.events import EventBatch, FloatArray
from dqm.reference import Source as SourceFile
from dqm.reference import refuse_jump
from dqm.service.collector.sources import open_source

__all__ = [
    "RunEvents",
    "checksum",
    "open_histogram",
    "read_counted",
    "read_events",
    "read_features",
    "read_histogram",
    "read_run",
]


def read_features(
    path: Path, features: Sequence[str] | None, chamber: str | None = None, *, keep_nan: bool = False
) -> Iterator[EventBatch]:
    """Read a CSV or Parquet file of features through the collector ``replay``.

    Parameters
    ----------
    path : Path
        File with one row for each event.
    features : sequence of str, optional
        Columns to use, in this order; all except ``time`` and ``chamber`` by default.
    chamber : str, optional
        Only rows with this value in the column ``chamber``.
    keep_nan : bool
        Whether rows with NaN are kept instead of an error.

    Yields
    ------
    EventBatch
        Events of one chamber; a file without the column ``chamber`` has one chamber, with the file's name.

    Raises
    ------
    FileError
        If the file cannot be read or lacks a column.
    """
    name = path.name.split(".")[0]
    options: dict[str, object] = {"inputs": [path], "chamber": name, "keep_nan": keep_nan}
    if features is not None:
        options["features"] = list(features)
    for batch in open_source("replay", options):
        if chamber is None or batch.chamber == chamber:
            yield batch


@dataclass(frozen=True, slots=True, eq=False)
class RunEvents:
    """Events of a run, read from its files.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of all files, in their order.
    names : tuple of str
        Features, one for each column.
    sources : list of SourceFile
        The files with their checksums.
    seconds : float or None
        Time that the events span, s; None if the files have no times.
    """

    x: FloatArray
    names: tuple[str, ...]
    sources: list[SourceFile]
    seconds: float | None


def read_run(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
) -> RunEvents:
    """Read the files of a run that a reference is to be made of.

    Parameters
    ----------
    paths, features, chamber, keep_nan
        As in `read_features`.

    Raises
    ------
    InputError
        If a file cannot be read or has no events, files have different columns, or the time of a file jumps.
    """
    parts: list[FloatArray] = []
    names: tuple[str, ...] | None = None
    sources = []
    seconds: float | None = 0.0
    for path in paths:
        n_events, times = 0, []
        for batch in read_features(path, features, chamber, keep_nan=keep_nan):
            if names is not None and batch.names != names:
                raise InputError(
                    f"has the features {', '.join(batch.names)}, but files before it have {', '.join(names)}",
                    where=str(path),
                    fix="Choose common ones with --features",
                )
            names = batch.names
            parts.append(batch.x)
            n_events += len(batch.x)
            if batch.times is not None:
                times.append(batch.times)
        if n_events == 0:
            raise FileError(f"no events{f' of chamber {chamber}' if chamber else ''}", where=str(path))
        sources.append(SourceFile(name=path.name, sha256=checksum(path), n_events=n_events))
        spanned = _span(np.sort(np.concatenate(times)), path) if times else None
        seconds = None if seconds is None or spanned is None else seconds + spanned
    if names is None:
        raise InputError("no files given")
    return RunEvents(np.concatenate(parts), names, sources, seconds or None)


def read_events(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
) -> tuple[FloatArray, tuple[str, ...], list[SourceFile]]:
    """Read all events of some files; parameters, results and errors are as in `read_run`."""
    run = read_run(paths, features, chamber, keep_nan=keep_nan)
    return run.x, run.names, run.sources


def _span(times: FloatArray, path: Path) -> float:
    refuse_jump(times, str(path))
    return float(times[-1] - times[0])


def read_counted(
    paths: Sequence[Path], features: Sequence[str] | None, counts: str, chamber: str | None = None
) -> tuple[FloatArray, FloatArray, tuple[str, ...], list[SourceFile]]:
    """Read all counted rows of some tables: bins of histograms.

    Parameters
    ----------
    paths, features, chamber
        As in `read_features`.
    counts : str
        Column that says how many events each row stands for.

    Returns
    -------
    x : ndarray, shape (n_rows, d)
        Rows of all files, without the counts.
    contents : ndarray, shape (n_rows,)
        Their counts.
    names : tuple of str
        Features, one for each column.
    sources : list of SourceFile
        The files with their checksums and events.

    Raises
    ------
    InputError
        As `read_events`, and if a file has no such column.
    """
    parts, sources = [], []
    names: tuple[str, ...] = ()
    wanted = None if features is None else (*features, counts)
    for path in paths:
        x, columns, (source,) = read_events([path], wanted, chamber)
        if counts not in columns:
            raise FileError(f"no column {counts!r}", where=str(path), fix=f"There are: {', '.join(columns)}")
        found = tuple(name for name in columns if name != counts)
        if not found:
            raise FileError(f"no column but {counts!r}", where=str(path), fix="A row must say what it counts")
        if names and names != found:
            raise InputError(
                f"has the features {', '.join(found)}, but files before it have {', '.join(names)}",
                where=str(path),
                fix="Choose common ones with --features",
            )
        names = found
        place = columns.index(counts)
        parts.append(np.column_stack([np.delete(x, place, axis=1), x[:, place]]))
        n_events = int(np.maximum(np.nan_to_num(x[:, place]), 0.0).sum())
        sources.append(source.model_copy(update={"n_events": n_events}))
    rows = np.concatenate(parts)
    return rows[:, :-1], rows[:, -1], names, sources


def read_histogram(
    paths: Sequence[Path], histogram: str, features: Sequence[str] | None
) -> tuple[FloatArray, FloatArray, tuple[str, ...], list[SourceFile]]:
    """Read a histogram of some ROOT files through the collector ``histograms``; result as `read_counted`.

    Parameters
    ----------
    paths : sequence of Path
        ROOT files; each has events of its own.
    histogram : str
        Name in the files, with its directories.
    features : sequence of str, optional
        Names of its axes; ``x`` and ``y`` by default.
    """
    batches = [open_histogram(path, histogram, features) for path in paths]
    if len({batch.names for batch in batches}) > 1:
        raise InputError(f"{histogram!r} is a TH1 in one file and a TH2 in another", fix="Give files alike")
    sources = [
        SourceFile(name=path.name, sha256=checksum(path), n_events=batch.n_events)
        for path, batch in zip(paths, batches, strict=True)
    ]
    rows = np.concatenate([batch.x for batch in batches])
    return rows[:, :-1], rows[:, -1], batches[0].names[:-1], sources


def open_histogram(path: Path, histogram: str, features: Sequence[str] | None) -> EventBatch:
    """Read a histogram of a ROOT file, as `read_histogram`; the chamber is the name of the file."""
    choice: dict[str, object] = {"name": histogram}
    if features is not None:
        choice["features"] = list(features)
    name = path.name.split(".")[0]
    options = {"inputs": [path], "histograms": {name: choice}, "follow": False}
    (batch,) = open_source("histograms", options)
    return batch


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
