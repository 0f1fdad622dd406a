"""Events of selected windows as Parquet files, with a limit on their total size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dqm.config import check_writers, make_private_directory
from dqm.errors import StoreError
from dqm.events import FloatArray, Verdict, Window
from dqm.store.kept_choice import place_of

__all__ = [
    "GOOD_WINDOWS",
    "WINDOWS",
    "KeptWindow",
    "WindowKeeper",
    "list_kept_runs",
    "read_kept",
    "read_kept_window",
]

WINDOWS = "windows"
"""Directory within the data directory: windows that depart from their reference."""

GOOD_WINDOWS = "good-windows"
"""Directory within the data directory: Good windows."""

LABELLED_SHARE = 0.5
"""Largest share of the room that labelled windows hold against newer ones: there is always room for new."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptWindow:
    """Events of a window that was kept.

    Parameters
    ----------
    path : Path
        Its file.
    run, seq : int
        Its identity within the stream.
    names : tuple of str
        Features.
    x : ndarray, shape (n_events, d)
        Events.
    origin, bundle : str
        Origin of the events, and the bundle that judged them.
    counts : str
        Name of the column that says how many events each row stands for; empty if each row is one, and of
        files of versions before 0.3.
    """

    path: Path
    run: int
    seq: int
    names: tuple[str, ...]
    x: FloatArray
    origin: str
    bundle: str
    counts: str = ""


def read_kept(directory: Path, stream: str, runs: Container[int]) -> list[KeptWindow]:
    """Read the Good windows of a stream that were kept, in the order of runs and windows.

    Parameters
    ----------
    directory : Path
        Directory of a `WindowKeeper`.
    stream : str
        The stream.
    runs : container of int
        Its runs.

    Raises
    ------
    StoreError
        If the directory or a file in it cannot be read, or is none of a kept window.
    """
    folder = directory / stream
    try:
        paths = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
        found = [_read(path) for path in paths if int(path.stem.partition("-")[0]) in runs]
    except OSError as error:
        raise StoreError(
            f"kept windows cannot be read: {error.strerror}",
            where=str(folder),
            fix="Let the user of this command read the directory",
        ) from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise StoreError(
            f"a file is not a kept window: {error}",
            where=str(folder),
            fix="Remove what does not belong there",
        ) from error
    return sorted(found, key=lambda window: (window.run, window.seq))


def list_kept_runs(directory: Path, stream: str) -> tuple[int, ...]:
    """List the runs of which Good windows of a stream were kept, in order.

    Parameters
    ----------
    directory, stream
        As in `read_kept`.
    """
    folder = directory / stream
    names = [path.stem.partition("-")[0] for path in folder.glob("*.parquet")] if folder.is_dir() else []
    return tuple(sorted({int(name) for name in names if name.isdecimal()}))


def read_kept_window(path: Path) -> KeptWindow:
    """Read a window that was kept; raises `StoreError` if it does not exist, is damaged or something else."""
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise StoreError(
            "the window gave way to newer ones", where=str(path), fix="Choose another, or raise [keep]"
        ) from error
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise StoreError(f"is not a kept window: {error}", where=str(path), fix="Remove the file") from error


def _read(path: Path) -> KeptWindow:
    with path.open("rb") as file:  # the daemon may remove it meanwhile: an open file stays
        table = pq.read_table(file)
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    x = np.column_stack([column.to_numpy() for column in table.columns])
    return KeptWindow(
        path,
        int(facts["run"]),
        int(facts["seq"]),
        tuple(table.column_names),
        x.astype(np.float64),
        facts["origin"],
        facts["bundle"],
        facts.get("counts", ""),
    )


class WindowKeeper:
    """Keeps windows, one file each; the oldest files are removed when the total size is too large.

    Labelled windows are removed last: their turn comes when they alone take more than half of the room.

    Files are ``STREAM/RUN-SEQ.parquet`` with one column for each feature, for `dqm compare` and any other
    reader of Parquet. The metadata of the schema identify the window and its verdict.

    Parameters
    ----------
    directory : Path
        Directory for these files only; created if it does not exist.
    max_bytes : int
        Largest total size of the files, bytes; 0: keep nothing.
    is_labelled : callable, optional
        Tells of a stream, a run and a window whether somebody has labelled it; it is asked when the file is
        to be removed, and may raise `StoreError`. Default: none is.

    Raises
    ------
    ConfigError
        If others may write to the directory.
    StoreError
        Here and by `keep`, if the directory cannot be read or written.
    """

    def __init__(
        self, directory: Path, max_bytes: int, is_labelled: Callable[[str, int, int], bool] | None = None
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._is_labelled = is_labelled
        try:
            make_private_directory(directory)
            for stream in directory.iterdir():
                check_writers(stream)
            for leftover in directory.glob("*/.*.tmp"):
                leftover.unlink()
            found = [(path, path.stat()) for path in directory.glob("*/*.parquet")]
        except OSError as error:
            raise self._error(error) from error
        found.sort(key=lambda each: each[1].st_mtime_ns)
        self._files = deque((path, facts.st_size) for path, facts in found)
        self._n_bytes = sum(size for _, size in self._files)
        self._labelled: deque[tuple[Path, int]] = deque()
        """Files whose turn had come, and that were found to be labelled; the oldest first."""

    @property
    def n_bytes(self) -> int:
        """Total size of the files, bytes."""
        return self._n_bytes

    def resize(self, max_bytes: int) -> None:
        """Change the largest total size; raises `StoreError` if a file cannot be removed."""
        self._max_bytes = max_bytes
        try:
            self._make_room(0)
        except OSError as error:
            raise self._error(error) from error

    def path(self, stream: str, run: int, seq: int) -> Path:
        """Path of the file of a window, whether or not it exists."""
        return self._directory / stream / f"{run}-{seq}.parquet"

    def keep(self, window: Window, verdict: Verdict) -> bool:
        """Write the events of a window to a file.

        Parameters
        ----------
        window : Window
            Window with the events.
        verdict : Verdict
            Verdict, for the metadata.

        Returns
        -------
        bool
            False if the file is larger than the limit; it is then not kept.
        """
        path = self.path(window.stream, window.run, window.seq)
        facts = {
            "stream": window.stream,
            "run": str(window.run),
            "seq": str(window.seq),
            "origin": window.origin.value,
            "quality": verdict.quality.value,
            "reason": verdict.reason,
            "bundle": verdict.bundle,
            "counts": window.counts,
        }
        columns = {name: window.x[:, k] for k, name in enumerate(window.names)}
        table = pa.table(columns).replace_schema_metadata(facts)
        scratch = path.with_name(f".{path.name}.tmp")
        try:
            written = pa.BufferOutputStream()
            # without dictionaries: measured values hardly repeat, and the file is smaller and written sooner
            pq.write_table(table, written, compression="zstd", use_dictionary=False)
            content = written.getvalue()
            size = content.size
            if size > self._max_bytes:
                return False
            path.parent.mkdir(0o700, exist_ok=True)
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            self._make_room(size)
            scratch.replace(path)
        except (OSError, StoreError) as error:
            with suppress(OSError):  # this may fail for the same reason
                scratch.unlink()
            raise (error if isinstance(error, StoreError) else self._error(error)) from error
        self._files.append((path, size))
        self._n_bytes += size
        return True

    def _make_room(self, size: int) -> None:
        """Remove files, the oldest first; of those that are labelled not before they take too much."""
        while self._files and self._n_bytes + size > self._max_bytes:
            if self._is_of_label(self._files[0][0]):
                self._labelled.append(self._files.popleft())
                while sum(n for _, n in self._labelled) > LABELLED_SHARE * self._max_bytes:
                    self._remove_oldest(self._labelled)
            else:
                self._remove_oldest(self._files)
        while self._labelled and self._n_bytes + size > self._max_bytes:
            self._remove_oldest(self._labelled)

    def _remove_oldest(self, files: deque[tuple[Path, int]]) -> None:
        oldest, freed = files.popleft()
        oldest.unlink(missing_ok=True)
        self._n_bytes -= freed

    def _is_of_label(self, path: Path) -> bool:
        place = place_of(path.name)
        return (
            self._is_labelled is not None
            and place is not None
            and path.exists()  # it may have been removed by hand
            and self._is_labelled(path.parent.name, *place)
        )

    def _error(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot keep windows: {error.strerror}",
            where=str(self._directory),
            fix="Make the directory writable for the daemon's user and free space on its disk",
        )
