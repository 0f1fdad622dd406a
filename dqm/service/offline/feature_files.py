"""Read files of features into arrays, with the checksums that a bundle keeps of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dqm.errors import FileError, InputError
from dqm.events import EventBatch, FloatArray
from dqm.reference import Source as SourceFile
from dqm.service.collector.sources import open_source

__all__ = ["checksum", "read_events", "read_features"]


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


def read_events(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
) -> tuple[FloatArray, tuple[str, ...], list[SourceFile]]:
    """Read all events of some files.

    Parameters
    ----------
    paths, features, chamber, keep_nan
        As in `read_features`.

    Returns
    -------
    x : ndarray, shape (n_events, d)
        Events of all files.
    names : tuple of str
        Features, one for each column.
    sources : list of SourceFile
        The files with their checksums.

    Raises
    ------
    InputError
        If a file cannot be read or has no events, or if files have different columns.
    """
    parts: list[FloatArray] = []
    names: tuple[str, ...] | None = None
    sources = []
    for path in paths:
        n_events = 0
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
        if n_events == 0:
            raise FileError(f"no events{f' of chamber {chamber}' if chamber else ''}", where=str(path))
        sources.append(SourceFile(name=path.name, sha256=checksum(path), n_events=n_events))
    if names is None:
        raise InputError("no files given")
    return np.concatenate(parts), names, sources


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
