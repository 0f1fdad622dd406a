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

__all__ = ["RunEvents", "checksum", "read_events", "read_features", "read_run"]


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


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
