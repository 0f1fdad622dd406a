"""Processes that test windows: each on cores of its own, replaced when it dies or hangs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import structlog

from dqm.errors import DqmError

__all__ = ["Finished", "LocalWorker", "WorkerPool", "Workers"]

log = structlog.get_logger(__name__)

AHEAD = 2
"""Windows a worker has at once: one to test, one to go on with while the verdict of the first is stored."""

START_SECONDS = 120.0
ATTEMPTS = 2
"""A window whose worker died is tested once more: most deaths are not its doing."""

READY = "ready"
"""First word of a worker that can test."""

_RETRY_SECONDS = 10.0
_POLL_SECONDS = 0.02
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Finished(Generic[J, R]):
    """A job that has ended."""

    job: J
    result: R | None
    failure: str = ""


class Workers(Protocol[J, R]):
    """Do jobs."""

    @property
    def room(self) -> int:
        """Jobs."""

    @property
    def descriptors(self) -> Sequence[int]:
        """Fds."""

    def submit(self, job: J) -> None:
        """Take."""

    def finished(self) -> list[Finished[J, R]]:
        """Give."""

    def close(self) -> None:
        """End."""


def _attempt(evaluate: Callable[[Any], Any], job: Any) -> Finished[Any, Any]:
    try:
        return Finished(job, evaluate(job))
    except Exception as error:
        log.exception("test failed")
        return Finished(job, None, f"the test failed: {error}")


class LocalWorker(Generic[J, R]):
    """In this process."""

    def __init__(self, evaluate: Callable[[J], R]) -> None:
        self._evaluate = evaluate
        self._done: list[Finished[J, R]] = []
        self.descriptors: Sequence[int] = ()

    @property
    def room(self) -> int:
        """One."""
        return 0 if self._done else 1

    def submit(self, job: J) -> None:
        """Do."""
        self._done.append(_attempt(self._evaluate, job))

    def finished(self) -> list[Finished[J, R]]:
        """Give."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Nothing."""


@dataclass(slots=True, eq=False)
class _Job:
    window: Any
    attempts: int = 0
    verdict: Any = None


class _Mailbox:
    """Queue between threads that can be waited for together with sockets."""

    def __init__(self) -> None:
        self._words: SimpleQueue[tuple[_Worker, object]] = SimpleQueue()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)

    def fileno(self) -> int:
        return self._bell.fileno()

    def put(self, worker: _Worker, word: object) -> None:
        self._words.put((worker, word))
        try:
            self._ringer.send(b"!")
        except OSError:
            return  # it rings already, or nobody listens any more

    def empty(self) -> Iterator[tuple[_Worker, object]]:
        try:
            while self._bell.recv(4096):
                pass
        except BlockingIOError:
            pass
        try:
            while True:
                yield self._words.get_nowait()
        except Empty:
            return

    def close(self) -> None:
        self._ringer.close()
        self._bell.close()


class _Worker:
    """A process, and a thread of ours that talks to it, so that the daemon never waits for a full pipe.

    What it says goes to the mailbox: "ready" or what keeps it from working, then a verdict for each window in
    their order; None when it has gone.
    """

    def __init__(self, process: BaseProcess, pipe: Connection, mailbox: _Mailbox, now: float) -> None:
        self.process = process
        self.jobs: deque[_Job] = deque()
        self.since = now
        """When it began with the first of its jobs, or with its start."""
        self.is_ready = False
        self._pipe = pipe
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._mailbox = mailbox
        self._thread = threading.Thread(target=self._talk, name="dqm-worker", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        return AHEAD - len(self.jobs) if self.is_ready else 0

    def take(self, job: _Job, now: float) -> None:
        if not self.jobs:
            self.since = now
        self.jobs.append(job)
        self._inbox.put(job.window)

    def end(self, grace_seconds: float = 0.0) -> None:
        """Let it end by itself, then kill it."""
        self._inbox.put(None)
        self.process.join(grace_seconds)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self._thread.join()

    def _talk(self) -> None:
        try:
            self._mailbox.put(self, self._pipe.recv())
            while (window := self._inbox.get()) is not None:
                self._pipe.send(window)
                self._mailbox.put(self, self._pipe.recv())
        except (EOFError, OSError):
            self._mailbox.put(self, None)
        finally:
            self._pipe.close()  # a process that is idle ends by this


class WorkerPool(Generic[J, R]):
    """Tests windows in several processes.

    Parameters
    ----------
    prepare : callable
        Gives the tests by stream, called once in each worker; must be importable there.
    n_workers, n_threads : int
        Processes, and CPU threads of each.
    longest_seconds : float
        A test that takes longer is taken to hang: its worker is killed and the window is given up.
    give_up : callable
        Makes the ``Null`` verdict of a window from the reason.
    monotonic : callable
        Seconds that never go back.

    Raises
    ------
    DqmError
        If a worker does not start; the text is its own.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[J], R]],
        *,
        n_workers: int,
        n_threads: int,
        longest_seconds: float,
        key: Callable[[J], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare, self._wanted, self._n_threads = prepare, n_workers, n_threads
        self._longest = longest_seconds
        self._key = key
        self._monotonic = monotonic
        self._mailbox = _Mailbox()
        self._order: dict[str, deque[_Job]] = {}
        self._returned: deque[_Job] = deque()
        self._retry_at = 0.0
        self._workers = [self._start() for _ in range(n_workers)]
        try:
            self._await_start()
        except DqmError:
            self.close()
            raise

    @property
    def n_ready(self) -> int:
        """Workers that can test."""
        return sum(worker.is_ready for worker in self._workers)

    @property
    def room(self) -> int:
        """Windows that workers can take now."""
        return sum(worker.room for worker in self._workers) - len(self._returned)

    @property
    def descriptors(self) -> Sequence[int]:
        """One, readable when a worker has said something."""
        return (self._mailbox.fileno(),)

    def submit(self, window: Any) -> None:
        """Give a window to the worker with the least to do."""
        job = _Job(window)
        self._order.setdefault(self._key(window), deque()).append(job)
        self._hand_over(job)

    def finished(self) -> list[Any]:
        """Give the verdicts that are ready, those of a stream in the order of its windows."""
        for worker, word in self._mailbox.empty():
            if worker in self._workers:
                self._hear(worker, word)
        self._replace()
        while self._returned and any(worker.room for worker in self._workers):
            self._hand_over(self._returned.popleft())
        return list(self._release())

    def close(self) -> None:
        """End the workers; what they have not finished is given up without a verdict."""
        for worker in self._workers:
            worker.end(grace_seconds=0.0 if worker.jobs else 1.0)
        self._workers.clear()
        self._mailbox.close()

    def _start(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, self._prepare), name="dqm-worker", daemon=True
        )
        with _for_workers(self._n_threads):
            process.start()
        theirs.close()
        return _Worker(process, ours, self._mailbox, self._monotonic())

    def _await_start(self) -> None:
        """Wait until all are ready; raise what keeps one from working."""
        deadline = time.monotonic() + START_SECONDS
        while self.n_ready < self._wanted:
            for worker, word in self._mailbox.empty():
                if isinstance(word, DqmError):
                    raise word
                if word is None:
                    worker.process.join()
                    raise DqmError(f"a worker ended at its start with exit code {worker.process.exitcode}")
                worker.is_ready = True
            if time.monotonic() > deadline:
                raise DqmError(f"a worker did not start within {START_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _hand_over(self, job: _Job) -> None:
        job.attempts += 1
        max(self._workers, key=lambda worker: worker.room).take(job, self._monotonic())

    def _hear(self, worker: _Worker, word: object) -> None:
        if isinstance(word, Finished):
            worker.jobs.popleft().verdict = word
            worker.since = self._monotonic()
        elif word == READY:
            worker.is_ready = True
        elif isinstance(word, DqmError):
            self._bury(worker, str(word), ATTEMPTS)
        else:
            worker.process.join()
            self._bury(worker, f"its worker died with exit code {worker.process.exitcode}", ATTEMPTS)

    def _replace(self) -> None:
        """End workers that hang and start others for those lost; if they keep dying, not all the time."""
        now = self._monotonic()
        for worker in list(self._workers):
            limit = self._longest if worker.is_ready else START_SECONDS
            if (worker.jobs or not worker.is_ready) and now - worker.since > limit:
                self._bury(worker, f"its test took longer than {limit:g} s", attempts=1)
        if len(self._workers) < self._wanted and now >= self._retry_at:
            self._retry_at = now + _RETRY_SECONDS
            self._workers += [self._start() for _ in range(self._wanted - len(self._workers))]

    def _bury(self, worker: _Worker, why: str, attempts: int) -> None:
        """Remove a worker; the window it was at is tried so many times, the next one was not begun."""
        log.error("worker lost", why=why, windows=len(worker.jobs))
        self._workers.remove(worker)
        worker.end()
        for job in worker.jobs:
            was_begun = job is worker.jobs[0]
            if was_begun and job.attempts >= attempts:
                job.verdict = Finished(job.window, None, f"not tested: {why}")
            else:
                job.attempts -= not was_begun
                self._returned.append(job)

    def _release(self) -> Iterator[Any]:
        for stream, jobs in list(self._order.items()):
            while jobs and (verdict := jobs[0].verdict) is not None:
                jobs.popleft()
                yield verdict
            if not jobs:
                del self._order[stream]


@contextmanager
def _for_workers(n_threads: int) -> Iterator[None]:
    """Let libraries that count cores when they are loaded see their share; hangups are not for workers."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(n_threads)))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(pipe: Connection, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """Life of a worker: it ends when the daemon closes the pipe or dies, not by signals meant for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        tests = prepare()
    except DqmError as error:
        pipe.send(error)
        return
    pipe.send(READY)
    while True:
        try:
            window = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_attempt(tests, window))
