"""Reading ROOT files, with uproot (extra ``root``)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from dqm.errors import FileError

__all__ = ["read_root", "root_columns"]

ROWS_PER_BLOCK = 65_536
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, NameError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What uproot raises on damaged files: it follows whatever they say until something does not fit."""


def root_columns(path: Path) -> tuple[str, ...]:
    """Return the branches of the file's first tree.

    Raises
    ------
    FileError
        If uproot is not installed, or the file cannot be read or holds no tree.
    """
    with _first_tree(path) as tree:
        return tuple(tree.keys(recursive=False))


def read_root(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Read some branches of the file's first tree, block by block.

    Parameters
    ----------
    path : Path
        The file.
    types : mapping of str to pyarrow.DataType
        Branches wanted, with one value an entry, and what to turn them into.

    Yields
    ------
    pyarrow.RecordBatch

    Raises
    ------
    FileError
        If the file cannot be read, or a branch has another shape or type.
    """
    schema = pa.schema(list(types.items()))
    with _first_tree(path) as tree:
        for block in tree.iterate(list(types), library="np", step_size=ROWS_PER_BLOCK):
            columns = []
            for name, kind in types.items():
                try:
                    columns.append(pa.array(block[name]).cast(kind))
                except (pa.ArrowException, TypeError, ValueError) as error:
                    raise FileError(
                        f"holds no plain numbers: {error}",
                        where=f"{path}, branch {name!r}",
                        fix="Name the features to use",
                    ) from error
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _first_tree(path: Path) -> Iterator[Any]:
    try:
        import uproot
    except ImportError as error:
        raise FileError(
            "reading ROOT files needs uproot", where=str(path), fix="Install it: pip install 'dqm[root]'"
        ) from error
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
        raise FileError("holds no tree", where=str(path))
    return trees[0]
