"""Two files of events to be compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dqm.service.offline.feature_files import (
    Reading,
    RunEvents,
    read_counted,
    read_histogram,
    read_run,
)
from dqm.service.offline.sample_pair import SamplePair, pair_samples

__all__ = ["read_two"]


def read_two(
    paths: tuple[Path, Path],
    features: Sequence[str] | None = None,
    chambers: tuple[str | None, str | None] = (None, None),
    *,
    counts: str | None = None,
    histogram: str | None = None,
    reading: Reading | None = None,
) -> SamplePair:
    """Read two files that can be compared.

    Parameters
    ----------
    paths : tuple of Path
        A and B: files of features; or ROOT files, if `histogram` names one in them. One file with two
        chambers may be both.
    features : sequence of str, optional
        Columns to use; all that both files have by default.
    chambers : tuple of str or None
        Only this chamber of each file.
    counts : str, optional
        Column that says how many events each row stands for.
    histogram : str, optional
        Name of a histogram in ROOT files.
    reading : Reading, optional
        How the files are read.

    Raises
    ------
    InputError
        If a file cannot be read, or as `pair_samples`.
    """
    first, second = (
        _read(path, features, chamber, counts=counts, histogram=histogram, reading=reading)
        for path, chamber in zip(paths, chambers, strict=True)
    )
    return pair_samples((first, second), _labels(paths, chambers))


def _labels(paths: tuple[Path, Path], chambers: tuple[str | None, str | None]) -> tuple[str, str]:
    first, second = (
        f"{path}, chamber {chamber}" if chamber else str(path)
        for path, chamber in zip(paths, chambers, strict=True)
    )
    return first, second


def _read(
    path: Path,
    features: Sequence[str] | None,
    chamber: str | None,
    *,
    counts: str | None,
    histogram: str | None,
    reading: Reading | None,
) -> RunEvents:
    if histogram is not None:
        return read_histogram([path], histogram, features)
    if counts is not None:
        return read_counted([path], features, counts, chamber, reading=reading)
    return read_run([path], features, chamber, reading=reading)
