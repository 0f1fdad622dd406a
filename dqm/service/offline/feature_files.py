"""Read files of features into arrays, with the checksums that a bundle keeps of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from dqm.errors import FileError, InputError, format_count, format_names
from dqm.events import EventBatch, FloatArray
from dqm.events.finite import is_count
from dqm.reference import Source as SourceFile
from dqm.reference import describe_pause, refuse_jump
from dqm.service.collector.sources import describe_selection, open_source
from dqm.service.offline.file_contents import describe_file

__all__ = [
    "READING_KEYS",
    "InputFile",
    "Reading",
    "RunEvents",
    "checksum",
    "feature_names",
    "has_columns",
    "list_inputs",
    "open_histogram",
    "read_counted",
    "read_events",
    "read_features",
    "read_histogram",
    "read_run",
]

Reading = Mapping[str, object]
"""How files are read: options of the collector ``replay`` by name, of `READING_KEYS`."""

READING_KEYS = (
    "columns", "comment", "decimal", "derive", "encoding", "features", "name_pattern", "rows", "select",
    "separator", "thousands", "transform", "tree",
)  # fmt: skip
"""Options of a collector of files that say how these are read."""


class InputFile(Protocol):
    """A file and what its name says."""

    path: Path
    run: int | None
    run_type: str


class _FileSource(Protocol):
    def files(self) -> Sequence[InputFile]: ...


def list_inputs(paths: Sequence[Path], reading: Reading | None = None) -> list[InputFile]:
    """List the files that patterns and directories stand for, in order.

    Parameters
    ----------
    paths : sequence of Path
        Files, patterns with ``*``, ``?`` or ``[...]``, and directories.
    reading : Reading, optional
        With ``name_pattern``, names of files say which runs they belong to.

    Raises
    ------
    InputError
        If there is no file, or names contradict each other.
    """
    if not paths:
        raise InputError("no files given", fix="Give a file, a pattern or a directory")
    source = open_source("replay", {**(reading or {}), "inputs": list(paths)}, "--read" if reading else None)
    return list(cast(_FileSource, source).files())


def read_features(
    path: Path,
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
    reading: Reading | None = None,
) -> Iterator[EventBatch]:
    """Read a file of features through the collector ``replay``: CSV, Parquet or ROOT.

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
    reading : Reading, optional
        How the file is read.

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
    options = {**(reading or {}), "inputs": [path], "chamber": name, "keep_nan": keep_nan}
    options.pop("name_pattern", None)
    if features is not None:
        options["features"] = list(features)
    for batch in open_source("replay", options, "--read" if reading else None):
        if chamber is None or batch.chamber == chamber:
            yield batch


@dataclass(frozen=True, slots=True, eq=False)
class RunEvents:
    """Events of a run, read from its files.

    Parameters
    ----------
    x : ndarray, shape (n_rows, d)
        Events of all files, in their order; or bins of histograms.
    names : tuple of str
        Features, one for each column.
    sources : list of SourceFile
        The files with their checksums.
    seconds : float or None
        Time that the events span, s; None if the files have no times.
    counts : ndarray, shape (n_rows,), or None
        Events that each row stands for; None if each is one.
    column : str or None
        Name of the counts.
    conditions : mapping of str to (float, float)
        Smallest and largest value of conditions of the detector, by name, as far as they are known.
    notes : tuple of str
        What a user should know of the files, a sentence each.
    """

    x: FloatArray
    names: tuple[str, ...]
    sources: list[SourceFile]
    seconds: float | None = None
    counts: FloatArray | None = None
    column: str | None = None
    conditions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.x) if self.counts is None else int(self.counts.sum())


def read_run(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
    reading: Reading | None = None,
) -> RunEvents:
    """Read the files of a run from which a reference is made.

    Parameters
    ----------
    paths : sequence of Path
        Files, patterns and directories, as in `list_inputs`.
    features, chamber, keep_nan, reading
        As in `read_features`.

    Raises
    ------
    InputError
        If a file cannot be read or has no events, files have different columns, or the time of a file jumps.
    """
    parts: list[FloatArray] = []
    names: tuple[str, ...] | None = None
    sources = []
    notes: dict[str, None] = {}
    seconds: float | None = 0.0
    for path in [file.path for file in list_inputs(paths, reading)]:
        n_events = 0
        times = []
        for batch in read_features(path, features, chamber, keep_nan=keep_nan, reading=reading):
            _refuse_others(batch.names, names, path)
            names = batch.names
            parts.append(batch.x)
            n_events += len(batch.x)
            if batch.times is not None:
                times.append(batch.times)
        if n_events == 0:
            selected = describe_selection((reading or {}).get("select"))
            raise FileError(
                f"no events{f' of chamber {chamber}' if chamber else ''}{selected}",
                where=str(path),
                fix="Give a file with a row for each event, and a chamber that it has",
            )
        sources.append(SourceFile(name=path.name, sha256=checksum(path), n_events=n_events))
        spanned = None
        if times:
            of_file = np.sort(np.concatenate(times))
            refuse_jump(of_file, str(path))
            spanned = float(of_file[-1] - of_file[0])
            if pause := describe_pause(of_file):
                notes[f"{path}: {pause}"] = None
        notes |= dict.fromkeys(_describe_names(path, names or ()))
        seconds = None if seconds is None or spanned is None else seconds + spanned
    return RunEvents(np.concatenate(parts), names or (), sources, seconds or None, notes=tuple(notes))


def read_events(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    chamber: str | None = None,
    *,
    keep_nan: bool = False,
    reading: Reading | None = None,
) -> tuple[FloatArray, tuple[str, ...], list[SourceFile]]:
    """Read all events of some files; parameters, results and errors are as in `read_run`."""
    run = read_run(paths, features, chamber, keep_nan=keep_nan, reading=reading)
    return run.x, run.names, run.sources


def _refuse_others(names: tuple[str, ...], before: tuple[str, ...] | None, path: Path) -> None:
    """Refuse features that differ from those of the files before."""
    if before is not None and names != before:
        raise InputError(
            f"has the features {', '.join(names)}, but files before it have {', '.join(before)}",
            where=str(path),
            fix="Choose common ones with --features",
        )


def feature_names(path: Path) -> dict[str, str]:
    """Give the names that columns of a file have as features, where it is another name."""
    try:
        tables = describe_file(path)
    except FileError:  # it needs options to be read
        return {}
    return {one.name: one.feature for table in tables for one in table.columns if one.name != one.feature}


def has_columns(paths: Sequence[Path]) -> bool:
    """Tell whether the columns of all files can be listed; parameters are as in `list_inputs`."""
    try:
        return all(describe_file(file.path) for file in list_inputs(paths))
    except FileError:
        return False


def _describe_names(path: Path, names: Sequence[str]) -> list[str]:
    """Say which columns that are used have another name as features."""
    changed = [f"{column!r} is {name}" for column, name in feature_names(path).items() if name in names]
    return [f"columns have these names as features: {format_names(changed)}"] if changed else []


def read_counted(
    paths: Sequence[Path],
    features: Sequence[str] | None,
    counts: str,
    chamber: str | None = None,
    *,
    reading: Reading | None = None,
) -> RunEvents:
    """Read all counted rows of some tables: bins of histograms.

    Parameters
    ----------
    paths, features, chamber, reading
        As in `read_run`.
    counts : str
        Column that says how many events each row stands for.

    Raises
    ------
    InputError
        If a file cannot be read, has no rows or no such column, or if files have different columns.
    """
    parts, sources = [], []
    names: tuple[str, ...] | None = None
    wanted = None if features is None else (*features, counts)
    for path in [file.path for file in list_inputs(paths, reading)]:
        batches = list(read_features(path, wanted, chamber, reading=reading))
        if not sum(len(batch.x) for batch in batches):
            selected = describe_selection((reading or {}).get("select"))
            raise FileError(
                f"no rows{f' of chamber {chamber}' if chamber else ''}{selected}",
                where=str(path),
                fix="Give a table with events, or another chamber with --chamber",
            )
        x = np.concatenate([batch.x for batch in batches])
        columns = batches[0].names
        if counts not in columns:
            raise FileError(f"no column {counts!r}", where=str(path), fix=f"There are: {', '.join(columns)}")
        found = tuple(name for name in columns if name != counts)
        if not found:
            raise FileError(f"no column but {counts!r}", where=str(path), fix="A row must say what it counts")
        _refuse_others(found, names, path)
        names = found
        place = columns.index(counts)
        parts.append(np.column_stack([np.delete(x, place, axis=1), x[:, place]]))
        wrong = np.flatnonzero(~is_count(x[:, place]))
        if len(wrong):
            raise FileError(
                f"column {counts!r} counts {x[wrong[0], place]:g} events in row {wrong[0] + 1}",
                where=str(path),
                fix="Counts are whole numbers of 0 or more: give a histogram without weights, or another "
                "column with --counts",
            )
        n_events = int(np.maximum(np.nan_to_num(x[:, place]), 0.0).sum())
        if not n_events:
            raise FileError(
                f"column {counts!r} counts no event: its {format_count(len(x), 'row')} have 0 or less",
                where=str(path),
                fix="Give a table with counts above 0, or the column that has them with --counts",
            )
        sources.append(SourceFile(name=path.name, sha256=checksum(path), n_events=n_events))
    rows = np.concatenate(parts)
    return RunEvents(rows[:, :-1], names or (), sources, counts=rows[:, -1], column=counts)


def read_histogram(paths: Sequence[Path], histogram: str, features: Sequence[str] | None) -> RunEvents:
    """Read a histogram of some ROOT files through the collector ``histograms``, as its windows will have it.

    Parameters
    ----------
    paths : sequence of Path
        ROOT files; each has events of its own.
    histogram : str
        Name in the files, with its directories.
    features : sequence of str, optional
        Names of its axes; ``x`` and ``y`` by default.
    """
    if not paths:
        raise InputError("no files given", fix="Give a file, a pattern or a directory")
    batches = [open_histogram(path, histogram, features) for path in paths]
    if len({batch.names for batch in batches}) > 1:
        raise InputError(f"{histogram!r} is a TH1 in one file and a TH2 in another", fix="Give files alike")
    sources = [
        SourceFile(name=path.name, sha256=checksum(path), n_events=batch.n_events)
        for path, batch in zip(paths, batches, strict=True)
    ]
    rows = np.concatenate([batch.x for batch in batches])
    column = batches[0].counts
    return RunEvents(rows[:, :-1], batches[0].names[:-1], sources, counts=rows[:, -1], column=column)


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
