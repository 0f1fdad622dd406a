"""Two files of events to be compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import InputError
from dqm.nplm.samples import Sample
from dqm.reference import refuse_pair
from dqm.service.offline.feature_files import (
    Reading,
    RunEvents,
    read_counted,
    read_histogram,
    read_run,
)

__all__ = ["TwoFiles", "read_two"]


@dataclass(frozen=True, slots=True, eq=False)
class TwoFiles:
    """Events of two files, with their common features.

    Parameters
    ----------
    first, second : Sample
        The events.
    names : tuple of str
        Common features, in the order of the first file.
    left_out : tuple of str
        Features of one file only.
    labels : tuple of str
        The files, with their chambers.
    """

    first: Sample
    second: Sample
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, str]


def read_two(
    paths: tuple[Path, Path],
    features: Sequence[str] | None = None,
    chambers: tuple[str | None, str | None] = (None, None),
    *,
    counts: str | None = None,
    histogram: str | None = None,
    reading: Reading | None = None,
) -> TwoFiles:
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
        If a file cannot be read, or as `refuse_pair`.
    """
    runs = [
        _read(path, features, chamber, counts=counts, histogram=histogram, reading=reading)
        for path, chamber in zip(paths, chambers, strict=True)
    ]
    first, second = runs
    labels = _labels(paths, chambers)
    common = tuple(name for name in first.names if name in second.names)
    if not common:
        raise InputError(
            f"no common feature: {', '.join(first.names)} and {', '.join(second.names)}",
            where=" and ".join(labels),
            fix="Give files of the same features",
        )
    samples = [_sample(run, common, label) for run, label in zip(runs, labels, strict=True)]
    refuse_pair(samples[0], samples[1], common, labels)
    left_out = tuple(dict.fromkeys(name for run in runs for name in run.names if name not in common))
    return TwoFiles(samples[0], samples[1], common, left_out, labels)


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


def _sample(run: RunEvents, names: Sequence[str], label: str) -> Sample:
    columns = [run.names.index(name) for name in names]
    sample = Sample.check(run.x[:, columns], run.counts, label)
    if sample.counts is not None and (sample.counts != np.round(sample.counts)).any():
        raise InputError(
            "has counts that are no whole numbers", where=label, fix="Permutations need single events"
        )
    return sample.filled
