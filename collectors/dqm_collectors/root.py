"""Reading ROOT files, with uproot (extra ``root``), in a process of its own with bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from dqm.errors import FileError
from dqm_collectors import root_process

__all__ = ["read_root", "root_columns"]


def root_columns(path: Path) -> tuple[str, ...]:
    """Return the branches of the file's first tree.

    Raises
    ------
    FileError
        If uproot is not installed, or the file cannot be read, takes too much memory or holds no tree.
    """
    with _stream(path, None) as stream:
        return tuple(stream.read_all().column_names)


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
        As `root_columns`, or if a branch has another shape or type.
    """
    schema = pa.schema(list(types.items()))
    with _stream(path, list(types)) as stream:
        for batch in stream:
            columns = [_cast(batch.column(name), kind, path, name) for name, kind in types.items()]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType, path: Path, name: str) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise root_process.no_numbers(path, name, error) from error


@contextmanager
def _stream(path: Path, names: Sequence[str] | None) -> Iterator[pa.RecordBatchReader]:
    """Start the program that reads; what it has to say in the end is raised here."""
    if find_spec("uproot") is None:
        raise FileError(
            "reading ROOT files needs uproot", where=str(path), fix="Install it: pip install 'dqm[root]'"
        )
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", root_process.__name__, path.absolute()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told,
        )  # fmt: skip
        question, answer = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            with question:
                question.write(json.dumps(names).encode())
            with answer, pa.ipc.open_stream(answer) as stream:
                yield stream
            _check(process, told, path)
        except (pa.ArrowException, OSError) as error:
            _check(process, told, path)
            raise FileError(f"not a readable ROOT file: {error}", where=str(path)) from error
        finally:
            process.kill()
            process.wait()


def _check(process: subprocess.Popen[bytes], told: IO[bytes], path: Path) -> None:
    """Wait for the program, and raise what kept it from reading the file."""
    if process.wait() == 0:
        return
    told.seek(0)
    *_, line = told.read().decode(errors="replace").splitlines() or [""]
    try:
        error = json.loads(line)
        found = FileError(error["what"], where=error["where"], fix=error["fix"])
    except (ValueError, TypeError, KeyError):
        what = f"not a readable ROOT file: reading it ended with code {process.returncode}: {line}"
        found = FileError(what, where=str(path))
    raise found from None
