"""Read ROOT files with uproot (extra ``root``) in a separate process with limited memory."""

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

__all__ = ["ask_root", "read_root", "root_columns"]


def root_columns(path: Path) -> tuple[str, ...]:
    """Return the branches of the first tree in a file.

    Raises
    ------
    FileError
        If uproot is not installed; if the file cannot be read, needs too much memory or has no tree.
    """
    with ask_root(path, None) as stream:
        return tuple(stream.read_all().column_names)


def read_root(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Read some branches of the first tree in a file, block by block.

    Parameters
    ----------
    path : Path
        The file.
    types : mapping of str to pyarrow.DataType
        Branches to read, which must have one value for each entry, and their types in the result.

    Yields
    ------
    pyarrow.RecordBatch

    Raises
    ------
    FileError
        As `root_columns`; also if a branch has another shape or type.
    """
    schema = pa.schema(list(types.items()))
    with ask_root(path, list(types)) as stream:
        for batch in stream:
            columns = [_cast(batch.column(name), kind, path, name) for name, kind in types.items()]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType, path: Path, name: str) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise root_process.no_numbers(path, name, error) from error


@contextmanager
def ask_root(
    path: Path, wanted: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> Iterator[pa.RecordBatchReader]:
    """Start the program that reads the file, see `root_process`; its error is raised here."""
    if find_spec("uproot") is None:
        raise FileError(
            "reading ROOT files needs uproot", where=str(path), fix="Install it: pip install '.[root]'"
        )
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", root_process.__name__, path.absolute()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        request = cast("IO[bytes]", process.stdin)
        answer = cast("IO[bytes]", process.stdout)
        try:
            with request:
                request.write(json.dumps(wanted).encode())
            with answer, pa.ipc.open_stream(answer) as stream:
                yield stream
            _check(process, errors, path)
        except (pa.ArrowException, OSError) as error:
            _check(process, errors, path)
            raise FileError(f"not a readable ROOT file: {error}", where=str(path)) from error
        finally:
            process.kill()
            process.wait()


def _check(process: subprocess.Popen[bytes], errors: IO[bytes], path: Path) -> None:
    """Wait for the program, and raise its error."""
    if process.wait() == 0:
        return
    errors.seek(0)
    *_, line = errors.read().decode(errors="replace").splitlines() or [""]
    try:
        error = json.loads(line)
        found = FileError(error["what"], where=error["where"], fix=error["fix"])
    except (ValueError, TypeError, KeyError):
        what = f"not a readable ROOT file: reading it ended with code {process.returncode}: {line}"
        found = FileError(what, where=str(path))
    raise found from None
