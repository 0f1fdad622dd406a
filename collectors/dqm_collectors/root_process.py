"""The program that `dqm_collectors.root` starts: it writes what a ROOT file has as an Arrow stream.

A damaged file can claim any size, and uproot allocates as much memory as is claimed. In this process the
memory is limited, and a failure does not affect the collector. The standard input has JSON: the names of the
branches of a tree; ``null`` for the names of all branches, without rows; or ``{"histograms": [names]}``.
"""

from __future__ import annotations

import json
import math
import re
import resource
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dqm.errors import FileError

__all__ = ["MOST_BINS", "limit_memory", "no_numbers", "write_histograms", "write_tree"]

SPARE_BYTES = 2**30
"""Memory that reading may use."""

ROWS_PER_BLOCK = 65_536

MOST_BINS = 100_000
"""Most bins of a histogram, under- and overflow included: a window has so many rows at most."""

_HISTOGRAM = re.compile(r"TH[123][CSIFDL]|TProfile(?:2D|3D)?|TH2Poly")
_USABLE = re.compile(r"TH[12][CSIFDL]")
_HISTOGRAMS = pa.schema(
    [("name", pa.string()), ("problem", pa.string())]
    + [(name, pa.list_(pa.float64())) for name in ("edges_x", "edges_y", "contents", "variances")]
)
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions of uproot on damaged files, whose contents it does not check."""


def limit_memory(spare_bytes: int) -> None:
    """Limit the memory of this process to its present use plus `spare_bytes`, without reserved memory."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + spare_bytes,) * 2)


def write_tree(path: Path, names: Sequence[str] | None, sink: IO[bytes]) -> None:
    """Write branches of the first tree in a file, block by block.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str or None
        Branches to write; None: only a schema with the names of all branches, without rows.
    sink : file
        Receives the Arrow stream.

    Raises
    ------
    FileError
        If the file cannot be read or has no tree, or if a branch does not have one number for each entry.
    """
    with _first_tree(path) as tree:
        if names is None:
            pa.ipc.new_stream(sink, _schema(tree.keys(recursive=False))).close()
            return
        writer = None
        for block in tree.iterate(list(names), library="np", step_size=ROWS_PER_BLOCK):
            batch = pa.RecordBatch.from_arrays([_column(block[n], path, n) for n in names], list(names))
            writer = writer or pa.ipc.new_stream(sink, batch.schema)
            writer.write_batch(batch)
        (writer or pa.ipc.new_stream(sink, _schema(names))).close()


def write_histograms(path: Path, names: Sequence[str], sink: IO[bytes]) -> None:
    """Write some histograms of a file, one row for each.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Histograms to write, with their directories: ``chamber/drift``.
    sink : file
        Receives the Arrow stream: name, problem (why it cannot be used, empty if it can), edges of both axes
        (those of y are empty for a TH1), contents and variances with under- and overflow, x outermost. A
        histogram that the file lacks has no row; the schema has the names of all there are, as JSON.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with _opened(path) as file:
        kinds = {name: str(kind) for name, kind in file.classnames(cycle=False).items()}
        known = [name for name, kind in kinds.items() if _HISTOGRAM.fullmatch(kind)]
        rows = [_histogram(file, name, kinds[name]) for name in names if name in kinds]
    schema = _HISTOGRAMS.with_metadata({"known": json.dumps(known)})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def _histogram(file: Any, name: str, kind: str) -> dict[str, Any]:
    if not _USABLE.fullmatch(kind):
        return {"name": name, "problem": f"it is a {kind}, and only a TH1 or TH2 has counts in bins"}
    found = file[name]
    edges = [axis.edges(flow=False) for axis in found.axes]
    n_bins = math.prod(len(edge) + 1 for edge in edges)
    if n_bins > MOST_BINS:
        return {
            "name": name,
            "problem": f"it has {n_bins} bins with under- and overflow, and at most {MOST_BINS} are possible",
        }
    return {
        "name": name,
        "problem": "",
        "edges_x": edges[0],
        "edges_y": edges[1] if len(edges) > 1 else [],
        "contents": found.values(flow=True).ravel(),
        "variances": found.variances(flow=True).ravel(),
    }


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.null()) for name in names])


def _column(values: Any, path: Path, name: str) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise no_numbers(path, name, error) from error


def no_numbers(path: Path, name: str, error: Exception) -> FileError:
    """Make the error for a branch whose entries are not single numbers or texts."""
    return FileError(
        f"the values are not plain numbers: {error}",
        where=f"{path}, branch {name!r}",
        fix="Name the features to use",
    )


@contextmanager
def _first_tree(path: Path) -> Iterator[Any]:
    with _opened(path) as file:
        yield file[_find_tree(file, path)]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import uproot

    try:
        with uproot.open(path) as file:
            yield file
    except FileError:
        raise
    except (*_DAMAGE, uproot.DeserializationError) as error:
        raise FileError(f"not a readable ROOT file: {error}", where=str(path)) from error


def _find_tree(file: Any, path: Path) -> str:
    trees = [str(name) for name, kind in file.classnames().items() if kind in ("TTree", "ROOT::RNTuple")]
    if not trees:
        raise FileError("the file has no tree", where=str(path))
    return trees[0]


def main() -> None:
    """Read the file in the arguments; an error is written as one line of JSON, with exit code 1."""
    import uproot  # noqa: F401 - loaded before memory is limited

    wanted = json.load(sys.stdin)
    limit_memory(SPARE_BYTES)
    try:
        if isinstance(wanted, dict):
            write_histograms(Path(sys.argv[1]), wanted["histograms"], sys.stdout.buffer)
        else:
            write_tree(Path(sys.argv[1]), wanted, sys.stdout.buffer)
    except FileError as error:
        print(json.dumps({"what": error.what, "where": error.where, "fix": error.fix}), file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
