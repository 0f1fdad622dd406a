"""Evaluation of windows by the workers of an existing Dask cluster, and by local workers while it is away.

Theory of operation
-------------------
`ClusterWorkers` is a `JobRunner` with another one inside, the local one. Every job has exactly one result,
however often it is done. *Whatever goes wrong on the cluster, the window is evaluated here*: its worker
raised, has another version, gave something that is not a report, or did not answer in time. A test has failed
only if it fails here as well. A window has the same t in both places to the last bit, so it does not matter
where.

Dask gives the job of a lost worker to another one. The bundles are values that the scheduler keeps: a worker
that joins later gets those it needs, once. As for local workers, `JOBS_PER_WORKER` jobs are given out for
each thread of the cluster. The others wait in the daemon, where they are bounded and streams take turns.

The **watch**, a thread, opens a session, counts the workers of the cluster every second, and closes the
session when it is over. It alone makes calls that wait for the network. The **caller** (the loop of the
daemon) decides where a job is done. A session is over if it breaks (the watch finds that), or if a job failed
or was late and nothing has succeeded since it was submitted (the caller does): one bad worker does not end
the work of the others, and a cluster that does nothing is left after `longest_seconds`. The caller lets go of
a session first; another one is tried after `RETRY_SECONDS`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import structlog

from dqm.errors import DqmError
from dqm.events import EvaluationJob, EvaluationReport
from dqm.service.monitor.job_runner import JOBS_PER_WORKER, Finished, JobRunner, OrderedJobs, SubmittedJob
from dqm.service.monitor.report_check import find_flaw

if TYPE_CHECKING:
    from dqm.reference import ClusterSession

__all__ = ["ClusterWorkers"]

log = structlog.get_logger(__name__)

RETRY_SECONDS = 10.0
"""Pause before a scheduler that is away is tried again."""

MOST_CHARACTERS = 300
"""Of a text that came from the cluster, in a line of the log."""

LOOK_SECONDS = 1.0
"""Time between two looks at the workers of the cluster."""


@dataclass(slots=True, eq=False)
class _Use:
    """The use of one session."""

    session: ClusterSession[EvaluationJob, EvaluationReport]
    n_threads: int = 0
    is_over: bool = False
    why: str = ""
    """Why it is over."""
    last_success: float = float("-inf")
    jobs: dict[int, tuple[SubmittedJob[EvaluationJob, EvaluationReport], float, object]] = field(
        default_factory=dict
    )
    """Jobs that the cluster has, by number: with the time when it got them, and what keeps them there."""


class ClusterWorkers:
    """Gives windows to a Dask cluster. All methods are called from one thread.

    Parameters
    ----------
    connect : callable
        Opens a session in which tasks are named by bundles; raises `DqmError` if no scheduler answers.
    local : JobRunner
        Does what the cluster does not.
    longest_seconds : float
        A job that the cluster has had for longer is done here.
    monotonic : callable
        Clock that never goes back, s.
    """

    def __init__(
        self,
        connect: Callable[[], ClusterSession[EvaluationJob, EvaluationReport]],
        local: JobRunner[EvaluationJob, EvaluationReport],
        *,
        longest_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._local = local
        self._longest_seconds = longest_seconds
        self._monotonic = monotonic
        self._jobs: OrderedJobs[EvaluationJob, EvaluationReport] = OrderedJobs(lambda job: job.window.stream)
        self._at_local: dict[int, SubmittedJob[EvaluationJob, EvaluationReport]] = {}
        """By the identity of the object that is the job."""
        self._use: _Use | None = None
        self._ended: SimpleQueue[tuple[_Use, int, EvaluationReport | Exception]] = SimpleQueue()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = threading.Event()
        self._closing = threading.Lock()
        self._watch = threading.Thread(target=self._keep_connected, name="dqm-cluster", daemon=True)
        self._watch.start()

    @property
    def n_cluster_threads(self) -> int:
        """Threads of the cluster that evaluate windows; 0 while it is away."""
        use = self._use
        return 0 if use is None or use.is_over else use.n_threads

    @property
    def room(self) -> int:
        """Number of jobs that can be submitted now."""
        if self._use is None or not self.n_cluster_threads:
            return self._local.room
        return max(0, JOBS_PER_WORKER * self.n_cluster_threads - len(self._use.jobs))

    @property
    def descriptors(self) -> Sequence[int]:
        """Readable when a job has ended, here or there."""
        return (self._event, *self._local.descriptors)

    def submit(self, job: EvaluationJob) -> None:
        """Give a job to the cluster, or to the local workers while it is away."""
        submitted = self._jobs.add(job)
        use = self._use
        if use is None or not self.n_cluster_threads:
            self._do_here(submitted)
            return
        try:
            on_end = partial(self._note, use, submitted.number)
            kept = use.session.submit(job.bundle, job, on_end)
            use.jobs[submitted.number] = (submitted, self._monotonic(), kept)
        except Exception as error:  # whatever Dask raises when its connection is lost
            use.is_over = True
            use.why = str(error)
            self._do_here(submitted)

    def finished(self) -> list[Finished[EvaluationJob, EvaluationReport]]:
        """Do here what failed there; return the jobs that have ended, in the order of each stream."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        with suppress(Empty):
            while True:
                self._take(*self._ended.get_nowait())
        self._leave_what_is_late()
        for finished in self._local.finished():
            self._at_local.pop(id(finished.job)).finished = finished
        return self._jobs.collect()

    def close(self) -> None:
        """End all work; jobs that have not ended are dropped."""
        self._is_closed.set()
        self._watch.join()
        self._local.close()
        with self._closing:
            os.close(self._event)
            self._event = -1

    def _do_here(self, submitted: SubmittedJob[EvaluationJob, EvaluationReport]) -> None:
        self._at_local[id(submitted.job)] = submitted
        self._local.submit(submitted.job)

    def _note(self, use: _Use, number: int, outcome: EvaluationReport | Exception) -> None:
        """Tell the caller the result of a job; called from other threads."""
        self._ended.put((use, number, outcome))
        self._wake()

    def _wake(self) -> None:
        with self._closing:
            if self._event >= 0:
                os.eventfd_write(self._event, 1)

    def _take(self, use: _Use, number: int, outcome: EvaluationReport | Exception) -> None:
        """Use the report on a job, or do the job here."""
        if number not in use.jobs:
            return  # it was given up
        submitted = use.jobs[number][0]
        if isinstance(outcome, Exception):
            self._give_up(use, number, _describe(outcome))
        elif flaw := find_flaw(submitted.job, outcome):
            self._give_up(use, number, flaw)
        else:
            del use.jobs[number]
            use.last_success = self._monotonic()
            submitted.finished = Finished(submitted.job, outcome)

    def _give_up(self, use: _Use, number: int, why: str) -> None:
        """Do a job here that the cluster has not done; leave the cluster if it does nothing else either."""
        submitted, since, _ = use.jobs.pop(number)
        window = submitted.job.window
        log.warning("not evaluated by the cluster, but here", why=why, stream=window.stream, seq=window.seq)
        if use.last_success < since and not use.is_over:
            use.is_over = True
            use.why = why
        self._do_here(submitted)

    def _leave_what_is_late(self) -> None:
        """Give up jobs that the cluster has had for too long; all of them if the session is over."""
        use = self._use
        now = self._monotonic()
        if use is None:
            return
        late = [n for n, (_, since, _) in use.jobs.items() if now - since > self._longest_seconds]
        for number in late:
            self._give_up(use, number, f"no answer for {self._longest_seconds:g} s")
        if use.is_over:
            log.warning("the cluster is away: windows are evaluated here", why=use.why, windows=len(use.jobs))
            for number in sorted(use.jobs):
                self._do_here(use.jobs.pop(number)[0])
            self._use = None

    def _keep_connected(self) -> None:
        """Open sessions, one after the other, and look whether they are of use; the thread of the watch."""
        why = ""
        while not self._is_closed.is_set():
            try:
                use = _Use(self._connect())
            except Exception as error:  # whatever it is: the cluster may be well another time
                if _describe(error) != why:
                    why = _describe(error)
                    unexpected = None if isinstance(error, DqmError) else error
                    log.warning("no cluster: windows are evaluated here", why=why, exc_info=unexpected)
            else:
                why = ""
                self._look_after(use)
            self._is_closed.wait(RETRY_SECONDS)

    def _look_after(self, use: _Use) -> None:
        """Count the workers until the session is over and the caller has let go of it; then close it."""
        n_before = -1
        self._use = use
        while self._use is use and not self._is_closed.is_set():
            try:
                use.n_threads = use.session.n_threads()
            except Exception as error:
                use.is_over = True
                use.why = use.why or _describe(error)
                self._wake()
            if use.n_threads != n_before:
                n_before = use.n_threads
                log.info("the cluster evaluates windows", threads=n_before)
            self._is_closed.wait(LOOK_SECONDS)
        use.session.close()


def _describe(error: Exception) -> str:
    """Say in a line what was raised, perhaps on another machine."""
    name = type(error).__name__
    try:
        words = " ".join(str(error).split())
    except Exception:  # its class may come from there as well
        words = ""
    text = words if words and isinstance(error, DqmError) else f"{name}: {words}" if words else name
    return text[:MOST_CHARACTERS]
