"""The program that `dqm_collectors.root` starts: it writes what a ROOT file has as an Arrow stream.

A damaged file can claim any size, and uproot allocates as much memory as is claimed. In this process the
memory is limited, and a failure does not affect the collector. The standard input has JSON:
``{"describe": true}`` for all trees and their branches, without rows; ``{"tree": name, "branches": [names],
"first": entry}`` for entries of a tree; or ``{"histograms": [names]}``.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import resource
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dqm.errors import FileError
from dqm_collectors.inputs.names import NAME_FEATURES

__all__ = [
    "MOST_BINS",
    "answer",
    "limit_memory",
    "no_numbers",
    "write_description",
    "write_histograms",
    "write_tree",
]

SPARE_BYTES = 2**30
"""Memory that reading may use."""

ROWS_PER_BLOCK = 65_536

MOST_VALUES = 2**22
"""Most values of numbers that are read together if baskets are large."""

MOST_BINS = 100_000
"""Most bins of a histogram, under- and overflow included: a window has at most this number of rows."""

_HISTOGRAM = re.compile(r"TH[123][CSIFDL]|TProfile(?:2D|3D)?|TH2Poly")
_LIST = re.compile(
    r"std::vector<(.+)>|(?:ROOT::)?(?:VecOps::)?RVec<(.+)>|(?:std::)?array<(.+), *\d+>|(.+?)(?:\[\d*\])+"
)
_NUMBER = re.compile(r"(?:std::)?(?:u?int\d+_t|float|double|bool|char|short|int|long|Float16_t|Double32_t)")
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


def write_description(path: Path, sink: IO[bytes]) -> None:
    """Write which trees a file has, and their branches.

    Parameters
    ----------
    path : Path
        The file.
    sink : file
        Receives an Arrow stream without rows, whose schema has the trees as JSON.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with _opened(path) as file:
        trees = [_describe(file[name], name) for name in _tree_names(file)]
    pa.ipc.new_stream(sink, pa.schema([]).with_metadata({"trees": json.dumps(trees)})).close()


def write_tree(path: Path, tree: str, names: Sequence[str], sink: IO[bytes], first: int = 0) -> None:
    """Write branches of a tree, block by block.

    Parameters
    ----------
    path : Path
        The file.
    tree : str
        Name of the tree, with its directories.
    names : sequence of str
        Branches to write.
    sink : file
        Receives the Arrow stream, whose schema has the number of entries.
    first : int
        Entry to begin with.

    Raises
    ------
    FileError
        If the file cannot be read or has no such tree, or if a branch has neither numbers nor texts nor
        lists of them.
    """
    with _opened(path) as file:
        if tree not in _tree_names(file):
            raise FileError(f"the file has no tree {tree!r}", where=str(path))
        found = file[tree]
        branches = _branches(found)
        if missing := [name for name in names if name not in branches]:
            raise FileError(f"the tree {tree!r} has no branch {missing[0]!r}", where=str(path))
        n_entries = int(found.num_entries)
        told = {"n_entries": str(n_entries)}
        step = _step_of([branches[name] for name in names])
        writer = None
        for start in range(first, n_entries, step):
            columns = [_column(branches[name], start, start + step, path, name) for name in names]
            batch = pa.RecordBatch.from_arrays(columns, list(names)).replace_schema_metadata(told)
            writer = writer or pa.ipc.new_stream(sink, batch.schema)
            for row in range(0, len(batch), ROWS_PER_BLOCK):
                writer.write_batch(batch.slice(row, ROWS_PER_BLOCK))
        if writer is None:
            writer = pa.ipc.new_stream(sink, pa.schema([(name, pa.null()) for name in names], told))
        writer.close()


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


def _describe(tree: Any, name: str) -> dict[str, Any]:
    columns = []
    for branch_name, branch in _branches(tree).items():
        kind = str(branch.typename)
        value = _LIST.fullmatch(kind)
        base = next(filter(None, value.groups())) if value else kind
        columns.append({
            "name": branch_name,
            "kind": kind,
            "is_number": _NUMBER.fullmatch(base) is not None,
            "is_list": value is not None,
        })  # fmt: skip
    return {"name": name, "n_rows": int(tree.num_entries), "columns": columns}


def _branches(tree: Any) -> dict[str, Any]:
    """Give the branches that have values, by their own name; where two have the same, with those above."""
    paths = [path for path in tree.keys(recursive=True) if not len(getattr(tree[path], "branches", ()))]
    own = [path.rpartition("/")[2] for path in paths]
    return {
        (name if own.count(name) == 1 else path): tree[path] for name, path in zip(own, paths, strict=True)
    }


def _step_of(branches: Sequence[Any]) -> int:
    """Give how many entries are read together: a basket is unpacked as a whole, each time it is needed."""
    sizes = [
        later - earlier
        for branch in branches
        for earlier, later in pairwise(getattr(branch, "entry_offsets", ()))
    ]
    return max(ROWS_PER_BLOCK, min(max(sizes, default=0), MOST_VALUES // max(1, len(branches))))


def _column(branch: Any, start: int, stop: int, path: Path, name: str) -> pa.Array:
    import awkward

    values = branch.array(entry_start=start, entry_stop=stop, library="ak")
    try:
        return awkward.to_arrow(values, extensionarray=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise no_numbers(path, name, error) from error


def no_numbers(path: Path, name: str, error: Exception) -> FileError:
    """Make the error for a branch whose entries are not single numbers or texts."""
    return FileError(
        f"the values are not plain numbers: {error}",
        where=f"{path}, branch {name!r}",
        fix=NAME_FEATURES,
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import uproot

    if path.is_file() and not path.stat().st_size:
        raise FileError(
            "the file is empty", where=str(path), fix="If it is still being written, wait for its end"
        )
    try:
        with uproot.open(path) as file:
            _check_end(file.file, path)
            yield file
    except FileError:
        raise
    except FileNotFoundError as error:  # uproot writes several lines
        raise FileError(os.strerror(errno.ENOENT), where=str(path), fix="Correct the path") from error
    except (*_DAMAGE, uproot.DeserializationError) as error:
        what = " ".join(str(error).split())  # uproot writes several lines
        raise FileError(
            f"not a readable ROOT file: {what}",
            where=str(path),
            fix="If it is still being written, wait for its end, or read it with the collector files",
        ) from error


def _check_end(file: Any, path: Path) -> None:
    """Refuse a file that ends before its header says: branches that come early could still be read."""
    size = path.stat().st_size
    if file.fEND > size:
        raise ValueError(f"it has {size} bytes, and {file.fEND} by its header")


def _tree_names(file: Any) -> list[str]:
    """Give the names of all trees once, however many cycles they have."""
    kinds = file.classnames(cycle=False)
    return [
        str(name) for name, kind in kinds.items() if kind in ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")
    ]


def answer(path: Path, wanted: dict[str, Any], sink: IO[bytes]) -> None:
    """Write what a request asks for; the requests are in the docstring of this module."""
    if "histograms" in wanted:
        write_histograms(path, wanted["histograms"], sink)
    elif "tree" in wanted:
        write_tree(path, wanted["tree"], wanted["branches"], sink, wanted["first"])
    else:
        write_description(path, sink)


def main() -> None:
    """Read the file in the arguments; an error is written as one line of JSON, with exit code 1."""
    import awkward  # noqa: F401 - loaded before memory is limited
    import uproot  # noqa: F401

    wanted = json.load(sys.stdin)
    limit_memory(SPARE_BYTES)
    try:
        answer(Path(sys.argv[1]), wanted, sys.stdout.buffer)
    except FileError as error:
        print(json.dumps({"what": error.what, "where": error.where, "fix": error.fix}), file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
