"""Histograms of ROOT files: read in a process of its own, checked, and the difference of two states."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dqm.errors import FileError, format_count, format_names
from dqm.events import FloatArray
from dqm.events.finite import is_count
from dqm_collectors.root import ask_root

__all__ = ["Histogram", "HistogramFile", "parse_histograms", "read_histograms"]

MOST_LISTED = 20
"""Histograms of a file that a message lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """One state of a histogram.

    Parameters
    ----------
    where : str
        File and name, for messages.
    edges : tuple of ndarray
        Borders of the bins of each axis, ascending.
    contents : ndarray, shape (n_x + 2,) or (n_x + 2, n_y + 2)
        Events in the bins, under- and overflow of each axis included: whole numbers.
    """

    where: str
    edges: tuple[FloatArray, ...]
    contents: FloatArray

    @property
    def n_events(self) -> int:
        """Events in all bins."""
        return int(self.contents.sum())

    def describe_binning(self) -> str:
        """Say what bins it has: ``20 bins of 0 to 400``."""
        axes = [f"{format_count(len(e) - 1, 'bin')} of {e[0]:g} to {e[-1]:g}" for e in self.edges]
        return " x ".join(axes)

    def has_binning_of(self, other: Histogram) -> bool:
        """Tell whether the borders of the bins are the same."""
        return len(self.edges) == len(other.edges) and all(map(np.array_equal, self.edges, other.edges))

    def minus(self, earlier: Histogram) -> Histogram | None:
        """Subtract an earlier state of the same binning; None if a bin has fewer events than it had."""
        difference = self.contents - earlier.contents
        return None if (difference < 0).any() else replace(self, contents=difference)

    def describe_loss(self, earlier: Histogram) -> str:
        """Say which bin has lost most events."""
        place = np.unravel_index(np.argmin(self.contents - earlier.contents), self.contents.shape)
        at = ", ".join(f"{self._centers(axis)[k]:g}" for axis, k in enumerate(place))
        return f"the bin at {at} went from {earlier.contents[place]:.0f} to {self.contents[place]:.0f}"

    def rows(self, *, flow: bool) -> FloatArray:
        """Write bins as rows.

        Parameters
        ----------
        flow : bool
            Whether under- and overflow are rows: bins as wide as their neighbours.

        Returns
        -------
        ndarray, shape (n_bins, n_axes + 1)
            Centres and content of each bin.
        """
        inside = slice(None) if flow else slice(1, -1)
        centers = [self._centers(axis)[inside] for axis in range(len(self.edges))]
        grid = np.stack(np.meshgrid(*centers, indexing="ij"), axis=-1)
        contents = self.contents[(inside,) * len(self.edges)]
        return np.column_stack([grid.reshape(-1, len(self.edges)), contents.ravel()])

    def _centers(self, axis: int) -> FloatArray:
        edges = self.edges[axis]
        outer = np.concatenate([[2.0 * edges[0] - edges[1]], edges, [2.0 * edges[-1] - edges[-2]]])
        centers: FloatArray = 0.5 * (outer[1:] + outer[:-1])
        return centers


@dataclass(frozen=True, slots=True)
class HistogramFile:
    """What a file has of the histograms that were asked for.

    Parameters
    ----------
    found : mapping of str to Histogram
        Those that can be used.
    problems : mapping of str to FileError
        Those that cannot, however often the file is read.
    missing : mapping of str to FileError
        Those that are not there; they may come.
    is_empty : bool
        Whether the file has no histogram at all, as one that is being written.
    """

    found: Mapping[str, Histogram]
    problems: Mapping[str, FileError]
    missing: Mapping[str, FileError]
    is_empty: bool


def read_histograms(path: Path, names: Sequence[str]) -> HistogramFile:
    """Read some histograms of a ROOT file.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Their names with directories, such as ``chamber/drift``.

    Raises
    ------
    FileError
        If the file cannot be read: it is missing, damaged or only half written.
    """
    with ask_root(path, {"histograms": list(names)}) as stream:
        return parse_histograms(stream.read_all(), path, names)


def parse_histograms(rows: pa.Table, path: Path, names: Sequence[str]) -> HistogramFile:
    """Check what `root_process.write_histograms` wrote of a file."""
    known: list[str] = json.loads(rows.schema.metadata[b"known"])
    found = {}
    problems = {}
    missing = {}
    for row in rows.to_pylist():
        where = f"{path}, histogram {row['name']!r}"
        try:
            found[row["name"]] = _check(row, where)
        except FileError as error:
            problems[row["name"]] = error
    for name in names:
        if name not in found and name not in problems:
            missing[name] = _no_histogram(name, path, known)
    return HistogramFile(found, problems, missing, not known)


def _no_histogram(name: str, path: Path, known: Sequence[str]) -> FileError:
    return FileError(
        f"no histogram {name!r}",
        where=str(path),
        fix=f"There are: {format_names(known, MOST_LISTED)}" if known else "There is none",
    )


def _check(row: Mapping[str, Any], where: str) -> Histogram:
    """Make a histogram of what was read; raises `FileError` if its bins are not counts of events."""
    if row["problem"]:
        raise FileError(
            row["problem"], where=where, fix="Publish a projection or a coarser histogram of events"
        )
    edges = tuple(np.asarray(e, dtype=np.float64) for e in (row["edges_x"], row["edges_y"]) if e)
    if any(not np.isfinite(e).all() or len(e) < 2 or (np.diff(e) <= 0).any() for e in edges):
        raise FileError(
            "the borders of its bins do not ascend",
            where=where,
            fix="Look at the axes of the histogram with ROOT",
        )
    shape = tuple(len(e) + 1 for e in edges)
    contents = np.asarray(row["contents"], dtype=np.float64)
    variances = np.asarray(row["variances"], dtype=np.float64)
    if contents.shape != (int(np.prod(shape)),) or variances.shape != contents.shape:
        raise FileError(
            f"it has {len(contents)} contents for {int(np.prod(shape))} bins",
            where=where,
            fix="Copy the file again, and look at the histogram with ROOT",
        )
    histogram = Histogram(where, edges, contents.reshape(shape))
    wrong = ~is_count(contents)
    if wrong.any():
        raise _no_count(histogram, contents, wrong, "which is not a whole number of 0 or more")
    weighted = variances != contents
    if weighted.any():
        kth = int(np.flatnonzero(weighted)[0])
        why = f"but a sum of squared weights (Sumw2) of {variances[kth]:g}"
        raise _no_count(histogram, contents, weighted, why)
    return histogram


def _no_count(
    histogram: Histogram, contents: FloatArray, wrong: np.ndarray[Any, np.dtype[np.bool_]], why: str
) -> FileError:
    kth = int(np.flatnonzero(wrong)[0])
    at = ", ".join(f"{value:g}" for value in histogram.rows(flow=True)[kth, :-1])
    return FileError(
        f"the bin at {at} has the content {contents[kth]:g}, {why}",
        where=histogram.where,
        fix="Fill it without weights: how it varies by chance is known for counts of events only",
    )
