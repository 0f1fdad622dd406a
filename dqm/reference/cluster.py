"""Work done by the workers of an existing Dask cluster.

The task, and perhaps the bundle, is one value that the scheduler keeps while the work lasts. A worker that
joins later, or replaces a lost one, gets it from there. Lost items are handed out again by the scheduler. The
scheduler itself only handles bytes, so it does not need this project.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import count
from operator import methodcaller
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from dqm.errors import BundleError, DqmError, WorkerError
from dqm.reference.processes import Task, keep_busy, use_threads
from dqm.reference.stored_bundle import read_files

__all__ = ["Cluster", "ClusterSession", "open_cluster"]

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_SECONDS = 5.0
"""How long to wait for a scheduler to answer."""

DESERTED_SECONDS = 120.0
"""How long to wait for workers where there are none."""

SOFTWARE = ("dqm", "numpy", "torch")
"""Packages that must have the same version everywhere, so that results agree to the last bit."""


@contextmanager
def open_cluster(address: str, *, ship: bool = False) -> Iterator[Cluster]:
    """Connect to a scheduler.

    Parameters
    ----------
    address : str
        As in ``tcp://host:8786``; ``tls://`` with certificates as Dask's own configuration names them.
    ship : bool
        Send the bundle to the workers, which otherwise open it at the path it has here.

    Yields
    ------
    Cluster

    Raises
    ------
    WorkerError
        If Dask is not installed, or no scheduler answers.
    """
    client = _connect(address, f"--scheduler {address}")
    try:
        yield Cluster(client, address, ship=ship)
    finally:
        with suppress(Exception):  # the other side may be gone
            client.close(timeout=CONNECT_SECONDS)


def _connect(address: str, where: str) -> Any:
    """Make a client of a scheduler; raises `WorkerError`."""
    try:
        from dask import config

        from dqm.reference.dask_client import ClosingClient
    except ImportError as error:
        raise WorkerError("Dask is not installed", fix="Install dqm with its extra 'cluster'") from error
    # a bundle of some hundred megabytes is sent once and on purpose
    config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})
    try:
        return ClosingClient(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:  # Dask takes what another service says for lengths, and raises anything
        is_usual = isinstance(
            error, (OSError, ValueError, TypeError)
        )  # the last: tls:// without certificates
        what = "no scheduler answers" if is_usual else "what answers is no Dask scheduler"
        raise WorkerError(
            f"{what}: {_words(error)}",
            where=where,
            fix="Give the address that 'dask scheduler' prints, as in tcp://host:8786",
        ) from error


def _words(error: Exception) -> str:
    """Say what was raised, to be a part of a sentence."""
    return str(error).rstrip(".") or type(error).__name__


class Cluster:
    """Workers of a Dask cluster, see `Workers`.

    Parameters
    ----------
    client : distributed.Client
        Connection to the scheduler.
    address : str
        For messages.
    ship : bool
        Whether bundles are sent along.
    """

    def __init__(self, client: Any, address: str, *, ship: bool) -> None:
        self._client = client
        self._address = address
        self._ship = ship
        self._deserted_since: float | None = None

    def threads(self) -> dict[str, int]:
        """Give the threads of each worker that is there, by its address."""
        return dict(self._client.nthreads())

    def run(self, task: Task[Item, Result], items: Iterable[Item], /) -> Iterator[tuple[int, Result]]:
        """Give each item's place and result, see `Workers`."""
        from distributed.scheduler import KilledWorker

        files = read_files(task.bundle) if self._ship else {}
        name = f"dqm-{uuid.uuid4().hex}"
        worker_task = self._client.submit(
            pickle.loads, pickle.dumps(WorkerTask(task, files)), key=f"{name}-task"
        )
        numbers = count()

        def submit(item: Item) -> Any:
            work = methodcaller("work", pickle.dumps(item))
            return self._client.submit(work, worker_task, key=(name, next(numbers)))

        try:
            yield from keep_busy(submit, items, self._n_wanted, self._look)
        except KilledWorker as error:
            n_lost = error.allowed_failures + 1
            last = error.last_worker.address
            raise WorkerError(
                f"the same work ended {n_lost} workers, the last of them {last}",
                where=f"--scheduler {self._address}",
                fix="See their logs; perhaps they lack memory",
            ) from error
        except ImportError as error:
            raise WorkerError(
                f"a worker cannot import what it needs: {error}",
                where=f"--scheduler {self._address}",
                fix="Install the same dqm, with its plugins, where the workers run",
            ) from error
        except Exception as error:
            is_lost = isinstance(error, (CancelledError, OSError)) or self._client.status != "running"
            if isinstance(error, DqmError) or not is_lost:
                raise
            raise WorkerError(
                f"the connection was lost: {_words(error)}",
                where=f"--scheduler {self._address}",
                fix="Run it again when the scheduler is back",
            ) from error

    def _n_wanted(self) -> int:
        """Two items for each thread, so that no thread waits for the next one."""
        return 2 * max(1, sum(self.threads().values()))

    def _look(self) -> None:
        """Give up if there are no workers."""
        if self.threads():
            self._deserted_since = None
            return
        now = time.monotonic()
        if self._deserted_since is None:
            self._deserted_since = now
        elif now - self._deserted_since > DESERTED_SECONDS:
            raise WorkerError(
                f"no worker for {DESERTED_SECONDS:.0f} s",
                where=f"--scheduler {self._address}",
                fix=f"Start some: dask worker {self._address}",
            )


class ClusterSession(Generic[Item, Result]):
    """A connection for items that come one by one, for as long as it holds; bundles are sent along.

    Parameters
    ----------
    address : str
        As for `open_cluster`.
    tasks : mapping of str to Task
        What can be done, by name. Each is sent to the scheduler now, and to a worker once.

    Raises
    ------
    BundleError
        If the bundle of a task cannot be read.
    WorkerError
        If Dask is not installed, or no scheduler answers.

    Notes
    -----
    `submit` may be called from one thread and the other methods from another.
    """

    def __init__(self, address: str, tasks: Mapping[str, Task[Item, Result]]) -> None:
        self._client = _connect(address, f"[daemon] scheduler = {address}")
        self._name = f"dqm-{uuid.uuid4().hex}"
        self._numbers = count()
        try:  # one after the other: together they may be larger than the memory
            self._worker_tasks = {name: self._send(name, task) for name, task in tasks.items()}
        except Exception as error:
            with suppress(Exception):  # the other side may be gone
                self._client.close(timeout=CONNECT_SECONDS)
            if isinstance(error, DqmError):
                raise
            raise WorkerError(
                f"the bundles could not be sent: {_words(error)}",
                where=f"[daemon] scheduler = {address}",
                fix="Look whether the scheduler still runs",
            ) from error
        self._ended: SimpleQueue[tuple[Any, Callable[[Result | Exception], None]] | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="dqm-cluster-reader", daemon=True)
        self._reader.start()

    def _send(self, name: str, task: Task[Item, Result]) -> Any:
        """Give the scheduler a task with its bundle."""
        worker_task = pickle.dumps(WorkerTask(task, read_files(task.bundle)))
        return self._client.submit(pickle.loads, worker_task, key=f"{self._name}-{name}")

    def submit(self, name: str, item: Item, on_end: Callable[[Result | Exception], None]) -> object:
        """Hand out an item.

        Parameters
        ----------
        name : str
            Of the task.
        item : Item
            A value that can be pickled.
        on_end : callable
            Called from another thread, once at most, with the result or with what prevented it.

        Returns
        -------
        object
            The item is forgotten when nobody refers to this any more.
        """
        work = methodcaller("work", pickle.dumps(item))
        future = self._client.submit(work, self._worker_tasks[name], key=(self._name, next(self._numbers)))
        future.add_done_callback(lambda ended: self._ended.put((ended, on_end)))
        return future

    def n_threads(self) -> int:
        """Count the threads of all workers; raises `WorkerError` if the scheduler does not answer."""
        if self._client.status != "running":
            raise WorkerError(
                "the connection to the scheduler was lost",
                fix="Look whether the scheduler still runs, and run the command again",
            )
        try:
            ask = self._client.scheduler.ncores
            return sum(self._client.sync(ask, workers=None, callback_timeout=CONNECT_SECONDS).values())
        except (OSError, AttributeError, TimeoutError) as error:  # AttributeError: it is being closed
            raise WorkerError(
                f"the scheduler does not answer: {error or type(error).__name__}",
                fix="Look whether it runs, and run the command again",
            ) from error

    def close(self) -> None:
        """Let go of all items; takes twice `CONNECT_SECONDS` at most."""
        self._ended.put(None)
        with suppress(Exception):  # the other side may be gone
            self._client.close(timeout=CONNECT_SECONDS)
        # Dask's calls wait for ever if they begin while its loop is being stopped.
        self._reader.join(CONNECT_SECONDS)

    def _read(self) -> None:
        """Fetch the results of items that have ended, all that there are at once."""
        is_open = True
        while is_open:
            ended = [self._ended.get()]
            with suppress(Empty):
                while True:
                    ended.append(self._ended.get_nowait())
            is_open = None not in ended
            fetched = list(filter(None, ended))
            done = [one for one in fetched if one[0].status == "finished"]
            failed = [one for one in fetched if one not in done]
            try:  # not for nothing: the client may be closing
                results = self._client.gather([future for future, _ in done]) if done else []
            except Exception as error:  # a worker was lost with its results, or the connection
                results = [error for _ in done]
            for (_, on_end), result in zip(done, results, strict=True):
                on_end(result)
            for future, on_end in failed:
                on_end(_why(future))


def _why(future: Any) -> Exception:
    """Tell why there is no result."""
    with suppress(Exception):
        error = future.exception(timeout=CONNECT_SECONDS)
        if isinstance(error, Exception):
            return error
    return WorkerError(f"the work was given up: {future.status}", fix="Run the command again")


_State = tuple[Task[Any, Any], dict[str, bytes], Path, dict[str, str]]


class WorkerTask:
    """What a worker needs, and what it makes from it; dropped when the scheduler forgets the parcel.

    Parameters
    ----------
    task : Task
        What to do.
    files : dict of str to bytes
        The bundle by file names; none if it is to be found at its path.
    """

    def __init__(self, task: Task[Any, Any], files: dict[str, bytes]) -> None:
        self._task = task
        self._files = files
        self._path = task.bundle.absolute()
        self._software = {name: version(name) for name in SOFTWARE}
        self._unpack()

    def __getstate__(self) -> _State:
        return self._task, self._files, self._path, self._software

    def __setstate__(self, state: _State) -> None:
        self._task, self._files, self._path, self._software = state
        self._unpack()

    def _unpack(self) -> None:
        self._own = threading.local()  # a worker's threads share nothing that was not made for it
        self._lock = threading.Lock()
        self._place: Path | None = None

    def work(self, item: bytes) -> object:
        """Do the work on the calling thread; errors name the worker."""
        use_threads(1)  # here, and not in the daemon, which uses a cluster and computes nothing
        try:
            if not hasattr(self._own, "work"):
                self._check_software()
                self._own.work = self._task.prepare(self._bundle())
            return self._own.work(pickle.loads(item))  # noqa: S301 - our own, by Dask, which pickles as well
        except BundleError as error:
            fix = "Keep the bundle where all workers see it at the same path, or send it with --ship"
            raise WorkerError(str(error), where=_this_worker(), fix=fix) from error
        except OSError as error:  # not to be taken for a lost connection
            raise WorkerError(str(error), where=_this_worker()) from error

    def _check_software(self) -> None:
        for name, expected in self._software.items():
            if version(name) != expected:
                raise WorkerError(
                    f"has {name} {version(name)}, not {expected}",
                    where=_this_worker(),
                    fix="Install the same where the workers run",
                )

    def _bundle(self) -> Path:
        """Give the path of the bundle on this host; unpack it if it was sent."""
        if not self._files:
            return self._path
        with self._lock:
            if self._place is None:
                scratch = tempfile.mkdtemp(prefix="dqm-")
                weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
                self._place = Path(scratch) / self._path.name
                self._place.mkdir()
                for name, content in self._files.items():
                    (self._place / name).write_bytes(content)
        return self._place


def _this_worker() -> str:
    from distributed import get_worker

    return f"worker {get_worker().address}"
