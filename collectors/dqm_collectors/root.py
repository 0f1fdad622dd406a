"""Read ROOT files with uproot (extra ``root``) in a separate process with limited memory."""

from __future__ import annotations

import json
import os
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
from dqm.events import FileColumn, FileTable
from dqm_collectors import root_process
from dqm_collectors.inputs.faults import WrittenAnewError
from dqm_collectors.inputs.names import feature_of

__all__ = ["ask_root", "describe_root", "read_root"]

RESERVING_NOTHING = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's own allocator, mimalloc, reserves 1 GiB at its first use, which counts against the memory that the
program may use: it may then have a few bytes left, and a healthy file cannot be read."""


def describe_root(path: Path) -> tuple[FileTable, ...]:
    """List the trees of a file with their branches; of several cycles the newest.

    Raises
    ------
    FileError
        If uproot is not installed; if the file cannot be read or needs too much memory.
    """
    with ask_root(path, {"describe": True}) as stream:
        trees = json.loads(stream.read_all().schema.metadata[b"trees"])
    return tuple(
        FileTable(
            tree["name"],
            tree["n_rows"],
            tuple(FileColumn(feature=feature_of(column["name"]), **column) for column in tree["columns"]),
        )
        for tree in trees
    )


def read_root(path: Path, names: Sequence[str], *, tree: str, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Read some branches of a tree, block by block.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Branches to read.
    tree : str
        Name of the tree, with its directories.
    first : int
        Entry to begin with.

    Yields
    ------
    pyarrow.RecordBatch
        Numbers, texts or lists of them.

    Raises
    ------
    FileError
        As `describe_root`; also if a branch has another shape.
    WrittenAnewError
        If the tree has fewer entries than `first`.
    """
    with ask_root(path, {"tree": tree, "branches": list(names), "first": first}) as stream:
        n_entries = int(stream.schema.metadata[b"n_entries"])
        if n_entries < first:
            raise WrittenAnewError(f"{n_entries} entries", str(first), where=str(path))
        yield from stream


@contextmanager
def ask_root(path: Path, wanted: Mapping[str, object]) -> Iterator[pa.RecordBatchReader]:
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
            env=os.environ | RESERVING_NOTHING,
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
            raise FileError(
                f"not a readable ROOT file: {error}",
                where=str(path),
                fix="Copy the file again, and look at it with ROOT",
            ) from error
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
