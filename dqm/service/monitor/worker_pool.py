"""Worker processes of the monitor: they do jobs one at a time and are replaced when they die or hang.

Theory of operation
-------------------
A pool knows jobs and results only as values that can be pickled. Three kinds of actors take part:

* the **caller** (the loop of the daemon; always the same thread) submits jobs, collects results, and decides
  everything about the life of a worker: start, time limit, end, replacement;
* a **worker process** receives a job, does it, sends the result, and waits for the next job;
* a **conversation thread** in the daemon, one for each process, takes the next waiting job, sends it and
  waits for the result. Only this thread uses the connection, and only it can be held up by a full pipe.

A job goes through these states, which are guarded by one lock::

    waiting --a thread takes it--> at a worker --its result is received--> finished --collected--> gone
       ^                               |
       |--its worker died, 1st time----|--its worker died, 2nd time, or its time is up--> finished (failed)

All workers share one queue of waiting jobs. A thread takes its next job as soon as it has the result of the
last one, so that a worker does not idle while the daemon stores that result; for this `WorkerPool.room`
admits `JOBS_PER_WORKER` jobs for each worker. It takes the oldest job whose key no worker is busy with, so
that one key, a stream with slow jobs, does not hold all workers while others wait; if there is none, the
oldest. A job that waits belongs to no worker: the death of a worker
concerns the one job that it was at, and no other.

What may fail between the steps, and why they are done in this order:

1. *A worker dies idle.* Its sentinel, one of `WorkerPool.descriptors`, wakes the caller, who replaces it. A
   thread looks at the sentinel before it takes a job, and leaves the job if its process has died.
2. *A worker dies while it receives a job, does it, or sends the result.* The thread reads the end of the
   stream and ends. A result that was received completely counts, a part of one does not. An attempt is
   counted when the thread takes the job, not when the process confirms it: a job whose mere arrival kills
   workers (it is too large, for example) must not be tried for ever.
3. *The time is up.* The caller finds that the job is late and forbids the thread to take another, both under
   the lock; then it kills the process. So it is the late job that is given up, never the next one. A result
   that arrives in between is used.
4. *A worker is removed*: forbid another job, kill, wait for the process, wait for the thread, in this order.
   Nobody else knows the job that is left over now; it goes back to its old place in the queue, or it fails.
5. *A worker does not start.* The constructor raises; a replacement is tried again after `RESTART_SECONDS`.
   The same pause keeps workers that die at once from being restarted all the time.
6. *The daemon dies.* A thread in each worker waits for this and ends the process, also in a job.
7. *The daemon ends without closing the pool*, by an error: the pool is closed at the exit of Python.
   Otherwise `multiprocessing` would wait for ever for workers that ignore SIGTERM, and nobody would restart
   the daemon.

SIGKILL ends a worker at any time without harm: each has a connection of its own, no lock is shared between
processes, and a worker keeps nothing that it would have to save.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

import structlog

from dqm.errors import DqmError, format_exit
from dqm.service.monitor.job_runner import (
    JOBS_PER_WORKER,
    NOT_TESTED,
    Finished,
    OrderedJobs,
    SubmittedJob,
    do_job,
)

__all__ = ["WorkerPool", "end_with_daemon", "environment_of_workers"]

log = structlog.get_logger(__name__)

J = TypeVar("J")
R = TypeVar("R")

ATTEMPTS = 2
"""A job whose worker died is tried once more: most deaths are not its fault."""

RESTART_SECONDS = 10.0
"""Shortest time between two restarts."""

END_SECONDS = 1.0
"""Time for a process to end by itself before it is killed."""

_LAST_WORDS = b'{"event": "a worker ends: it has no memory left", "level": "error"}\n'

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_environment_lock = threading.Lock()


class WorkerPool(Generic[J, R]):
    """Does jobs in several processes. All methods are called from one thread.

    Parameters
    ----------
    prepare : callable
        Called once in each worker, returns the function that does a job; must be importable there.
    n_workers : int
        Number of processes.
    n_threads : int
        CPU threads of each.
    longest_seconds : float
        A job that takes longer is given up and its worker is replaced.
    longest_start_seconds : float
        A worker that takes longer until it is ready has failed.
    key : callable
        Results of jobs with the same key are returned in the order of submission.
    monotonic : callable
        Clock that never goes back, s.

    Raises
    ------
    DqmError
        If a worker does not start: the error of `prepare`, if it raised one.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[J], R]],
        *,
        n_workers: int,
        n_threads: int,
        longest_seconds: float,
        longest_start_seconds: float = 120.0,
        key: Callable[[J], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare = prepare
        self._n_workers = n_workers
        self._n_threads = n_threads
        self._longest_seconds = longest_seconds
        self._longest_start_seconds = longest_start_seconds
        self._monotonic = monotonic
        self._queue: _JobQueue[J, R] = _JobQueue(monotonic)
        self._jobs: OrderedJobs[J, R] = OrderedJobs(key)
        self._restart_at = 0.0
        self._workers: list[_Worker[J, R]] = []
        atexit.register(self.close)  # workers ignore SIGTERM, and the end of Python would wait for them
        try:
            for _ in range(n_workers):
                self._workers.append(self._start())
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def n_cluster_threads(self) -> int:
        """None: all are processes of this machine."""
        return 0

    @property
    def n_ready(self) -> int:
        """Number of workers that can do a job."""
        return sum(worker.is_ready for worker in self._workers)

    @property
    def room(self) -> int:
        """Number of jobs that can be submitted now."""
        with self._queue.changed:
            n_unfinished = len(self._queue.waiting) + sum(w.submitted is not None for w in self._workers)
            return max(0, JOBS_PER_WORKER * self.n_ready - n_unfinished)

    @property
    def descriptors(self) -> Sequence[int]:
        """Readable when a job has ended or a worker has died; they change when workers are replaced."""
        return (self._queue.event, *(worker.process.sentinel for worker in self._workers))

    def submit(self, job: J) -> None:
        """Let the next free worker do a job."""
        self._queue.put(self._jobs.add(job))

    def finished(self) -> list[Finished[J, R]]:
        """Replace workers where necessary; return the jobs that have ended, in the order of each key."""
        self._queue.clear_event()
        self._remove_late_and_lost()
        self._restart()
        return self._jobs.collect()

    def close(self) -> None:
        """End the workers within about a second; jobs that have not ended are dropped."""
        atexit.unregister(self.close)
        with self._queue.changed:
            for worker in self._workers:
                worker.forbid_next()
        for worker in self._workers:
            worker.end(END_SECONDS if worker.is_idle else 0.0)
        self._workers.clear()
        self._queue.close()

    def _start(self) -> _Worker[J, R]:
        """Start a process and the thread that talks to it."""
        try:
            ours, theirs = multiprocessing.Pipe()
            with theirs, environment_of_workers(self._n_threads):
                process = multiprocessing.get_context("spawn").Process(
                    target=_work, args=(theirs, self._prepare), name="dqm-worker", daemon=True
                )
                process.start()
        except OSError as error:
            raise DqmError(
                f"a worker cannot be started: {error}",
                fix="Free memory or processes of this machine, or set fewer [daemon] workers",
            ) from error
        return _Worker(process, ours, self._queue, self._monotonic())

    def _wait_until_ready(self) -> None:
        """Wait for the first workers; raise what prevents one from starting."""
        with self._queue.changed:
            self._queue.changed.wait_for(
                lambda: any(w.is_over for w in self._workers) or self.n_ready == self._n_workers,
                timeout=self._longest_start_seconds,
            )
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error
            if worker.is_over:
                worker.end(END_SECONDS)
                raise DqmError(
                    f"a worker ended at its start {format_exit(worker.process.exitcode)}",
                    fix="The log above says why; with fewer [daemon] workers less memory is needed",
                )
        if self.n_ready < self._n_workers:
            raise DqmError(
                f"a worker did not start within {self._longest_start_seconds:g} s",
                fix="Look at the load of the machine, or set fewer [daemon] workers",
            )

    def _remove_late_and_lost(self) -> None:
        now = self._monotonic()
        for worker in list(self._workers):
            limit = self._longest_seconds if worker.is_ready else self._longest_start_seconds
            if worker.stop_if_late(now, limit):
                what = "its test took" if worker.is_ready else "its worker took at its start"
                worker.end()
                self._remove(worker, f"{what} longer than {limit:g} s", attempts=1)
            elif worker.is_over or not worker.process.is_alive():
                worker.end(END_SECONDS)
                why = worker.error or f"its worker died {format_exit(worker.process.exitcode)}"
                self._remove(worker, str(why), ATTEMPTS)

    def _remove(self, worker: _Worker[J, R], why: str, attempts: int) -> None:
        """Forget a worker that has ended; its job is tried again until all its attempts are used."""
        submitted = worker.submitted
        log.error("worker lost", why=why, jobs=int(submitted is not None))
        self._workers.remove(worker)
        if submitted is None:
            return
        self._queue.leave(submitted)
        if submitted.n_attempts < attempts:
            self._queue.put(submitted)
        else:
            submitted.finished = Finished(submitted.job, None, NOT_TESTED + why, is_lost=True)

    def _restart(self) -> None:
        """Start workers in place of those removed."""
        now = self._monotonic()
        if len(self._workers) == self._n_workers or now < self._restart_at:
            return
        self._restart_at = now + RESTART_SECONDS
        try:
            while len(self._workers) < self._n_workers:
                self._workers.append(self._start())
        except DqmError as error:
            log.warning("worker not replaced; trying again", why=str(error), seconds=RESTART_SECONDS)


class _JobQueue(Generic[J, R]):
    """What caller and threads share: the waiting jobs, a lock, and an event that wakes the caller."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self.waiting: list[SubmittedJob[J, R]] = []
        """In the order of submission, so that a job that is tried again comes before all later ones."""
        self.at_workers: Counter[str] = Counter()
        """Jobs at workers, by key."""
        self.changed = threading.Condition()
        """Guards `waiting` and the state of all workers."""
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when a job has ended or a conversation is over."""

    def put(self, submitted: SubmittedJob[J, R]) -> None:
        with self.changed:
            insort(self.waiting, submitted)
            self.changed.notify()  # one is enough: should it leave the job, its `end` wakes the others

    def take(self) -> SubmittedJob[J, R]:
        """Give the job that is next; the lock is held, and a job is waiting."""
        submitted = next((one for one in self.waiting if not self.at_workers[one.key]), self.waiting[0])
        self.waiting.remove(submitted)
        self.at_workers[submitted.key] += 1
        return submitted

    def leave(self, submitted: SubmittedJob[J, R]) -> None:
        """Note that a job is at no worker any more."""
        with self.changed:
            self.at_workers[submitted.key] -= 1
            self.at_workers += Counter()  # forgets keys of which there are none

    def wake_caller(self) -> None:
        os.eventfd_write(self.event, 1)

    def clear_event(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.event)

    def close(self) -> None:
        os.close(self.event)


class _Worker(Generic[J, R]):
    """A process, and the thread of ours that talks to it."""

    def __init__(
        self, process: BaseProcess, connection: Connection, queue: _JobQueue[J, R], now: float
    ) -> None:
        self.process = process
        self.submitted: SubmittedJob[J, R] | None = None
        """Job that it is at."""
        self.is_ready = False
        self.is_over = False
        """Whether the conversation has ended."""
        self.error: Exception | None = None
        """Why it has ended, if this is known."""
        self._since = now
        self._may_take = True
        self._connection = connection
        self._queue = queue
        self._thread = threading.Thread(target=self._talk, name="dqm-worker", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.submitted is None

    def stop_if_late(self, now: float, limit_seconds: float) -> bool:
        """Forbid another job if this one, or the start, takes longer than the limit."""
        with self._queue.changed:
            is_late = not self.is_idle and not self.is_over and now - self._since > limit_seconds
            if is_late:
                self.forbid_next()
        return is_late

    def forbid_next(self) -> None:
        """Let the thread end after the present job; the lock is held."""
        self._may_take = False
        self._queue.changed.notify_all()

    def end(self, grace_seconds: float = 0.0) -> None:
        """Wait for the process, then kill it; afterwards nothing of this worker changes any more."""
        with self._queue.changed:
            self.forbid_next()
        if grace_seconds:
            self.process.join(grace_seconds)
        self.process.kill()
        self.process.join()
        self._thread.join()

    def _talk(self) -> None:
        try:
            self._receive_readiness()
            while (submitted := self._take()) is not None:
                self._connection.send(submitted.job)
                result, failure = self._connection.recv()
                self._finish(Finished(submitted.job, result, failure))
        except (EOFError, OSError):
            pass  # the process has died
        except Exception as error:  # a value that cannot be pickled, for example
            log.exception("communication with a worker failed")
            self.error = error
        finally:
            self._connection.close()  # an idle process ends by this
            with self._queue.changed:
                self.is_over = True
                self._queue.changed.notify_all()
            self._queue.wake_caller()

    def _receive_readiness(self) -> None:
        error = self._connection.recv()
        with self._queue.changed:
            self.error = error
            self.is_ready = error is None
            self._may_take &= self.is_ready
            self._queue.changed.notify_all()

    def _take(self) -> SubmittedJob[J, R] | None:
        """Wait for the next job; None when there shall be no more."""
        with self._queue.changed:
            self._queue.changed.wait_for(lambda: self._queue.waiting or not self._may_take)
            if not self._may_take or wait([self.process.sentinel], timeout=0):
                return None
            self.submitted = self._queue.take()
            self.submitted.n_attempts += 1
            self._since = self._queue.monotonic()
            return self.submitted

    def _finish(self, finished: Finished[J, R]) -> None:
        with self._queue.changed:
            if self.submitted is not None:
                self.submitted.finished = finished
                self._queue.leave(self.submitted)
            self.submitted = None
        self._queue.wake_caller()


@contextmanager
def environment_of_workers(n_threads: int) -> Iterator[None]:
    """Let libraries that count cores when they are loaded see their share; block SIGHUP, which is inherited.

    The lock is for pools that are started in different threads: a reload prepares one beside the present one.
    """
    with _environment_lock:
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


def _work(connection: Connection, prepare: Callable[[], Callable[[J], R]]) -> None:
    """Life of a worker: it ends when the connection is closed, not by signals meant for the daemon."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=end_with_daemon, name="end-with-daemon", daemon=True).start()
    try:
        _serve(connection, prepare)
    except Exception:
        try:
            log.exception("a worker ends")
        except MemoryError:  # a log record needs memory
            os.write(sys.stderr.fileno(), _LAST_WORDS)
        finally:
            os._exit(1)  # at once: without memory the interpreter's own end may take seconds


def _serve(connection: Connection, prepare: Callable[[], Callable[[J], R]]) -> None:
    """Say whether jobs can be done, then do them until the connection is closed."""
    try:
        evaluate = prepare()
    except DqmError as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(do_job(evaluate, job))


def end_with_daemon() -> None:
    """Wait until the daemon is gone, however it ended; then end this process, whatever it is doing."""
    daemon = multiprocessing.parent_process()
    if daemon is not None:
        daemon.join()
        os._exit(1)
