"""The program that `dqm_collectors.root` starts: it writes the tree of a ROOT file as an Arrow stream.

A damaged file can claim any size, and uproot allocates as much memory as is claimed. In this process the
memory is limited, and a failure does not affect the collector. The standard input has the names of the
branches to read as JSON; with ``null`` the names of all branches are written, without rows.
"""

from __future__ import annotations

import json
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

__all__ = ["limit_memory", "no_numbers", "write_tree"]

SPARE_BYTES = 2**30
"""Memory that reading may use."""

ROWS_PER_BLOCK = 65_536
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
    import uproot

    try:
        with uproot.open(path) as file:
            yield file[_find_tree(file, path)]
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

    names = json.load(sys.stdin)
    limit_memory(SPARE_BYTES)
    try:
        write_tree(Path(sys.argv[1]), names, sys.stdout.buffer)
    except FileError as error:
        print(json.dumps({"what": error.what, "where": error.where, "fix": error.fix}), file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
