"""Work done by the workers of an existing Dask cluster.

The task, and perhaps the bundle, is one value that the scheduler keeps while the work lasts. A worker that
joins later, or replaces a lost one, gets it from there. Lost items are handed out again by the scheduler. The
scheduler itself only handles bytes, so it does not need this project.
"""

from __future__ import annotations

import asyncio
import logging
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

SILENT_SECONDS = 15.0
"""A worker that gave no sign of life for so long is not there; most give one every second, some thousand of
them every few seconds."""

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
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its tracebacks: our errors say it in words
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
        # TypeError: tls:// without certificates
        is_usual = isinstance(error, (OSError, ValueError, TypeError))
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

    The caller says which worker does an item. Were it left to Dask, a worker that stands still would have all
    of them in time, and nobody would know who gave what.

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
    `submit` and `forget` may be called from one thread and the other methods from another.
    """

    def __init__(self, address: str, tasks: Mapping[str, Task[Item, Result]]) -> None:
        self._where = f"[daemon] scheduler = {address}"
        self._client = _connect(address, self._where)
        self._name = f"dqm-{uuid.uuid4().hex}"
        self._numbers = count()
        self._worker_tasks: dict[tuple[str, str], Any] = {}
        """By the name of the task and the address of the worker."""
        self._ended: dict[str, list[tuple[Any, Callable[[Result | Exception], None]]]] = {}
        """Items that have ended and are to be fetched, by worker; only used on the client's loop."""
        self._fetching: dict[str, asyncio.Task[None]] = {}
        try:  # one after the other: together they may be larger than the memory
            there = list(self.workers())
            self._parcels = {name: self._send(name, task, there) for name, task in tasks.items()}
        except Exception as error:
            self.close()
            if isinstance(error, DqmError):
                raise
            raise WorkerError(
                f"the bundles could not be sent: {_words(error)}",
                where=self._where,
                fix="Look whether the scheduler still runs",
            ) from error

    def _send(self, name: str, task: Task[Item, Result], workers: list[str]) -> Any:
        """Give the scheduler a task with its bundle, as bytes: what makes a worker of them stays there."""
        parcel = pickle.dumps(WorkerTask(task, read_files(task.bundle)))
        there = {"workers": workers, "allow_other_workers": True} if workers else {}
        return self._client.submit(bytes, parcel, key=f"{self._name}-{name}", **there)

    def submit(
        self, name: str, worker: str, item: Item, on_end: Callable[[Result | Exception], None]
    ) -> object:
        """Hand out an item.

        Parameters
        ----------
        name : str
            Of the task.
        worker : str
            Address of the worker that shall do it.
        item : Item
            A value that can be pickled.
        on_end : callable
            Called from another thread, once at most, with the result or with what prevented it: an `OSError`
            or `CancelledError` if that was the connection, anything else from the worker.

        Returns
        -------
        object
            The item is forgotten when nobody refers to this any more.
        """
        if (name, worker) not in self._worker_tasks:
            self._worker_tasks[name, worker] = self._submit(worker, pickle.loads, self._parcels[name])
        work = methodcaller("work", pickle.dumps(item))
        future = self._submit(worker, work, self._worker_tasks[name, worker])
        loop = self._client.loop
        future.add_done_callback(lambda ended: loop.add_callback(self._note, worker, ended, on_end))
        return future

    def _submit(self, worker: str, work: Callable[[Any], Any], given: Any) -> Any:
        key = (self._name, next(self._numbers))
        return self._client.submit(work, given, key=key, workers=[worker])

    def forget(self, worker: str) -> None:
        """Let a worker begin anew with all tasks, should it get items again."""
        for key in [key for key in self._worker_tasks if key[1] == worker]:
            del self._worker_tasks[key]

    def workers(self) -> dict[str, int]:
        """Give the threads of each worker that gives signs of life, by its address.

        Raises
        ------
        WorkerError
            If the scheduler does not answer.
        """
        if self._client.status != "running":
            raise WorkerError("the connection to the scheduler was lost", where=self._where)
        try:
            told = self._client.sync(self._client.scheduler.identity, callback_timeout=CONNECT_SECONDS)
        except Exception as error:  # AttributeError: it is being closed
            raise WorkerError(f"the scheduler does not answer: {_words(error)}", where=self._where) from error
        known = {address: one for address, one in told["workers"].items() if one["status"] == "running"}
        newest = max((one["last_seen"] for one in known.values()), default=0.0)
        return {
            address: one["nthreads"]
            for address, one in known.items()
            if newest - one["last_seen"] < SILENT_SECONDS
        }

    def close(self) -> None:
        """Let go of all items; takes `CONNECT_SECONDS` at most."""
        for fetching in list(self._fetching.values()):
            self._client.loop.add_callback(fetching.cancel)
        with suppress(Exception):  # the other side may be gone
            self._client.close(timeout=CONNECT_SECONDS)

    def _note(self, worker: str, future: Any, on_end: Callable[[Result | Exception], None]) -> None:
        """Note that an item has ended, on the client's loop."""
        self._ended.setdefault(worker, []).append((future, on_end))
        if worker not in self._fetching:
            self._fetching[worker] = asyncio.ensure_future(self._fetch(worker))

    async def _fetch(self, worker: str) -> None:
        """Fetch results from a worker, all that there are at once; one that stands still holds up no other.

        Dask's own `gather` waits for all workers together.
        """
        while ended := self._ended.pop(worker, []):
            results = await self._results([future for future, _ in ended])
            for (_, on_end), result in zip(ended, results, strict=True):
                on_end(result)
        del self._fetching[worker]

    async def _results(self, futures: list[Any]) -> list[Any]:
        """Give results, or why there are none."""
        keys = [future.key for future in futures if future.status == "finished"]
        problem: Exception = ConnectionError("the result was lost")
        data: dict[Any, Any] = {}
        try:
            if keys:
                data = (await self._client.scheduler.gather(keys=keys)).get("data", {})
        except Exception as error:  # the connection was lost, or something cannot be unpacked here
            problem = error
        return [data.get(f.key, problem) if f.key in keys else await _why(f) for f in futures]


async def _why(future: Any) -> Exception:
    """Tell why there is no result."""
    if future.status == "error":
        error = await future.exception(asynchronous=True)
        if isinstance(error, Exception):
            return error
    return ConnectionError(f"the work was given up: {future.status}")


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
