"""Evaluation of windows by the workers of an existing Dask cluster, and by local workers.

Theory of operation
-------------------
`ClusterWorkers` is a `JobRunner` with another one inside, the local one. Every job has exactly one result,
however often it is done: the first. A window has the same t in all places to the last bit, so it does not
matter where. *Whatever goes wrong on the cluster, the window is evaluated here*: its worker raised, is gone,
has another version, gave something that is not a report, or did not answer in time. A test has failed only if
it fails here as well.

Each job is for one worker of the cluster, the one with the fewest for its threads. As for local workers,
`JOBS_PER_WORKER` jobs are given out for each thread; a worker that has done nothing yet gets one. When no
place is free there, jobs are done here; the others wait in the daemon, where they are bounded and streams
take turns.

* A job is **late** if it has taken far longer than jobs usually take. It is done here as well, if there is
  room. If its worker has given nothing since it got the job, it gets no other one meanwhile: it stands still.
* A worker is **left out** for `LEFT_OUT_SECONDS` if it has failed: what it gave cannot be a report, it cannot
  do the work, it raised and the same job succeeds here, or a job took `longest_seconds` and nothing else came
  from it. What it has is done here. It is ours alone that leave it: it may serve others.

The **watch**, a thread, opens a session, looks for the workers of the cluster every second, and closes the
session when it is over. It alone makes calls that wait for the network, and goes on whatever they raise. The
**caller** (the loop of the daemon) decides where a job is done. A session is over if it breaks (the watch
finds that), or if all its workers are left out (the caller does). The caller lets go of a session first;
another one is tried after `RETRY_SECONDS`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import structlog

from dqm.errors import DqmError, WorkerError
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

CLOSE_SECONDS = 10.0
"""Longest wait for the end of a session."""

LEFT_OUT_SECONDS = 60.0
"""How long a worker that has failed gets nothing; then it is tried with one job."""

LATE_SECONDS, LATE_FACTOR = 1.0, 10.0
"""A job is late after this time, or after so many times the usual one if that is longer."""

_NEWEST_SHARE = 0.1
"""Weight of the last job in the usual time."""

_Submitted = SubmittedJob[EvaluationJob, EvaluationReport]


@dataclass(slots=True, eq=False)
class _JobThere:
    """A job that a worker of the cluster has."""

    submitted: _Submitted
    worker: str
    since: float
    kept: object
    """What keeps it there."""


@dataclass(slots=True, eq=False)
class _JobHere:
    """A job that the local workers have."""

    submitted: _Submitted
    blame: Callable[[], None] | None = None
    """Leaves out the worker that has failed with it; called if it succeeds here."""


@dataclass(slots=True, eq=False)
class _Use:
    """The use of one session."""

    session: ClusterSession[EvaluationJob, EvaluationReport]
    threads: dict[str, int] = field(default_factory=dict)
    """Of each worker; as the watch has seen it last, never changed in place."""
    is_over: bool = False
    why: str = ""
    """Why it is over."""
    last_success: dict[str, float] = field(default_factory=dict)
    """Of each worker, s."""
    still: set[str] = field(default_factory=set)
    """Workers that are late and have given nothing since."""
    jobs: dict[int, _JobThere] = field(default_factory=dict)
    """By number."""
    n_jobs: Counter[str] = field(default_factory=Counter)
    """By worker."""


class _Places(NamedTuple):
    """The free places of a worker of the cluster; the smallest is to be filled first."""

    jobs_per_thread: float
    worker: str
    n_free: int


class ClusterWorkers:
    """Gives windows to a Dask cluster. All methods are called from one thread.

    Parameters
    ----------
    connect : callable
        Opens a session in which tasks are named by bundles; raises `DqmError` if no scheduler answers.
    local : JobRunner
        Does what the cluster does not.
    longest_seconds : float
        A job that the cluster has had for longer is given up there.
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
        self._jobs_here: dict[int, _JobHere] = {}
        """By the identity of the object that is the job."""
        self._left_out: dict[str, float] = {}
        """Workers that have failed, by address: until when, s. Also of sessions before."""
        self._usual_seconds = 0.0
        """From the submission of a job to its result."""
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
        if use is None or use.is_over:
            return 0
        return sum(n for worker, n in use.threads.items() if worker not in self._left_out)

    @property
    def room(self) -> int:
        """Number of jobs that can be submitted now."""
        return sum(places.n_free for places in self._find_places()) + self._local.room

    @property
    def descriptors(self) -> Sequence[int]:
        """Readable when a job has ended, here or there."""
        return (self._event, *self._local.descriptors)

    def submit(self, job: EvaluationJob) -> None:
        """Give a job to the cluster, or to the local workers if no place is free there."""
        submitted = self._jobs.add(job)
        use, places = self._use, self._find_places()
        if use is None or not places:
            self._do_here(submitted)
            return
        worker = min(places).worker
        try:
            on_end = partial(self._note, use, submitted.number)
            kept = use.session.submit(job.bundle, worker, job, on_end)
            use.jobs[submitted.number] = _JobThere(submitted, worker, self._monotonic(), kept)
            use.n_jobs[worker] += 1
        except Exception as error:  # whatever Dask raises when its connection is lost
            use.is_over = True
            use.why = _describe(error)
            self._do_here(submitted)

    def finished(self) -> list[Finished[EvaluationJob, EvaluationReport]]:
        """Do here what failed there; return the jobs that have ended, in the order of each stream."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        with suppress(Empty):
            while True:
                self._take(*self._ended.get_nowait())
        self._look_at_jobs()
        for finished in self._local.finished():
            here = self._jobs_here.pop(id(finished.job))
            if here.submitted.finished is None:
                here.submitted.finished = finished
            if here.blame is not None and finished.result is not None:
                here.blame()
        return self._jobs.collect()

    def close(self) -> None:
        """End all work; jobs that have not ended are dropped."""
        self._is_closed.set()
        self._watch.join(CLOSE_SECONDS)  # what does not answer may hold it longer; it ends by itself
        self._local.close()
        with self._closing:
            os.close(self._event)
            self._event = -1

    def _find_places(self) -> list[_Places]:
        """Give the workers of the cluster that can take a job now."""
        use = self._use
        if use is None or use.is_over:
            return []
        found = []
        for worker, n_threads in use.threads.items():
            n_most = JOBS_PER_WORKER * n_threads if worker in use.last_success else 1
            n_jobs = use.n_jobs[worker]
            if n_jobs < n_most and worker not in self._left_out and worker not in use.still:
                found.append(_Places(n_jobs / n_threads, worker, n_most - n_jobs))
        return found

    def _do_here(self, submitted: _Submitted, blame: Callable[[], None] | None = None) -> None:
        """Do a job here, unless that is under way or done; blame who has failed with it if it succeeds."""
        if submitted.finished is not None:
            if blame is not None and submitted.finished.result is not None:
                blame()
            return
        here = self._jobs_here.get(id(submitted.job))
        if here is not None:
            here.blame = blame
            return
        self._jobs_here[id(submitted.job)] = _JobHere(submitted, blame)
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
        job = use.jobs.get(number)
        if job is None:
            return  # it was given up
        if isinstance(outcome, (OSError, CancelledError)):  # the connection: nobody's fault
            self._give_up(use, number, _describe(outcome))
        elif isinstance(outcome, WorkerError):
            self._leave_out(use, job.worker, _describe(outcome))
        elif isinstance(outcome, Exception):
            why = _describe(outcome)
            self._give_up(use, number, why, partial(self._leave_out, use, job.worker, why))
        elif flaw := find_flaw(job.submitted.job, outcome):
            self._leave_out(use, job.worker, flaw)
        else:
            self._forget(use, number)
            now = self._monotonic()
            use.last_success[job.worker] = now
            took = min(now - job.since, self._late_seconds)
            self._usual_seconds += _NEWEST_SHARE * (took - self._usual_seconds)
            if job.submitted.finished is None:
                job.submitted.finished = Finished(job.submitted.job, outcome)

    @property
    def _late_seconds(self) -> float:
        return max(LATE_SECONDS, LATE_FACTOR * self._usual_seconds)

    def _forget(self, use: _Use, number: int) -> _JobThere:
        """Forget a job of the cluster; its place is free."""
        job = use.jobs.pop(number)
        use.n_jobs[job.worker] -= 1
        return job

    def _give_up(self, use: _Use, number: int, why: str, blame: Callable[[], None] | None = None) -> None:
        """Do a job here that the cluster has not done."""
        job = self._forget(use, number)
        window = job.submitted.job.window
        log.warning(
            "not evaluated by the cluster, but here",
            why=why,
            worker=job.worker,
            stream=window.stream,
            seq=window.seq,
        )
        self._do_here(job.submitted, blame)

    def _leave_out(self, use: _Use, worker: str, why: str) -> None:
        """Give a worker nothing for some time, and do here what it has; with the last one a session ends."""
        numbers = [number for number, job in use.jobs.items() if job.worker == worker]
        if worker not in self._left_out:
            log.warning(
                "a worker of the cluster is left out: its windows are evaluated elsewhere",
                why=why,
                worker=worker,
                windows=len(numbers),
                seconds=LEFT_OUT_SECONDS,
            )
        self._left_out[worker] = self._monotonic() + LEFT_OUT_SECONDS
        use.last_success.pop(worker, None)
        use.session.forget(worker)
        for number in numbers:
            self._do_here(self._forget(use, number).submitted)
        if use.threads and not use.is_over and use.threads.keys() <= self._left_out.keys():
            use.is_over = True
            use.why = f"all its workers have failed; the last of them: {why}"

    def _look_at_jobs(self) -> None:
        """Look who is late or gone; do all jobs here if the session is over."""
        now = self._monotonic()
        self._left_out = {worker: until for worker, until in self._left_out.items() if until > now}
        use = self._use
        if use is None:
            return
        use.still.clear()
        for number, job in list(use.jobs.items()):
            if number not in use.jobs:
                continue  # its worker was left out meanwhile
            if job.worker not in use.threads:
                self._give_up(use, number, "its worker is gone")
            elif now - job.since > self._late_seconds:
                self._look_at_late(use, number, now)
        if use.is_over:
            log.warning("the cluster is away: windows are evaluated here", why=use.why, windows=len(use.jobs))
            for number in sorted(use.jobs):
                self._do_here(self._forget(use, number).submitted)
            self._use = None

    def _look_at_late(self, use: _Use, number: int, now: float) -> None:
        """Do a late job here as well; give it up after the longest time."""
        job = use.jobs[number]
        is_still = use.last_success.get(job.worker, job.since) <= job.since
        if now - job.since > self._longest_seconds:
            why = f"no answer for {self._longest_seconds:g} s"
            if is_still:
                self._leave_out(use, job.worker, why)
            else:
                self._give_up(use, number, why)
            return
        if is_still:
            use.still.add(job.worker)
        submitted = job.submitted
        if submitted.finished is None and id(submitted.job) not in self._jobs_here and self._local.room > 0:
            window = submitted.job.window
            log.info(
                "late at the cluster, and evaluated here as well",
                seconds=round(now - job.since, 2),
                worker=job.worker,
                stream=window.stream,
                seq=window.seq,
            )
            self._do_here(submitted)

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
                    log.warning(
                        "no cluster: windows are evaluated here; trying again",
                        why=why,
                        seconds=RETRY_SECONDS,
                        exc_info=unexpected,
                    )
            else:
                why = ""
                self._look_after(use)
            self._is_closed.wait(RETRY_SECONDS)

    def _look_after(self, use: _Use) -> None:
        """Look for the workers until the session is over and the caller has let go of it; then close it."""
        n_before = -1
        self._use = use
        while self._use is use and not self._is_closed.is_set():
            try:
                use.threads = use.session.workers()
            except Exception as error:
                use.is_over = True
                use.why = use.why or _describe(error)
                self._wake()
            n_threads = sum(use.threads.values())
            if n_threads != n_before:
                n_before = n_threads
                log.info("the cluster evaluates windows", workers=len(use.threads), threads=n_threads)
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
