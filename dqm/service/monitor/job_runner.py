"""Doing jobs: the interface for testing windows, and its simplest implementation.

Jobs and results are values; nothing here knows what they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = [
    "JOBS_PER_WORKER",
    "NOT_TESTED",
    "Finished",
    "JobRunner",
    "LocalWorker",
    "OrderedJobs",
    "SubmittedJob",
    "do_job",
]

J = TypeVar("J")
R = TypeVar("R")

NOT_TESTED = "not tested: "
"""Begin of the reason why a job has no result after its worker was lost."""

JOBS_PER_WORKER = 6
"""Jobs that are admitted for each worker: one to do, others to go on with until the caller looks again."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[J, R]):
    """A job that has ended: with its result, or with the reason why there is none.

    Parameters
    ----------
    job : J
        As submitted.
    result : R or None
        What the job gave; None if it failed.
    failure : str
        Reason for the shift crew, such as "the test failed: ..." or "not tested: its worker died with exit
        code -9"; empty if there is a result.
    is_lost : bool
        Whether the worker was lost with it: whatever the job made it do.
    """

    job: J
    result: R | None
    failure: str = ""
    is_lost: bool = False


class JobRunner(Protocol[J, R]):
    """Does jobs, in this process or in others."""

    @property
    def room(self) -> int:
        """Number of jobs that can be submitted now."""

    @property
    def n_cluster_threads(self) -> int:
        """Threads of other machines that do jobs."""

    @property
    def descriptors(self) -> Sequence[int]:
        """File descriptors that become readable when `finished` has something to do."""

    def submit(self, job: J) -> None:
        """Take a job; the caller has asked for room."""

    def finished(self) -> list[Finished[J, R]]:
        """Return the jobs that have ended; those of one key in the order of submission."""

    def close(self) -> None:
        """End all work; jobs that have not ended are dropped."""


@dataclass(slots=True, order=True)
class SubmittedJob(Generic[J, R]):
    """A job that was submitted; the one submitted first is the smallest."""

    number: int
    key: str = field(compare=False)
    job: J = field(compare=False)
    n_attempts: int = field(default=0, compare=False)
    finished: Finished[J, R] | None = field(default=None, compare=False)


class OrderedJobs(Generic[J, R]):
    """Jobs that were submitted and not collected; those of one key are collected in the order of submission.

    Parameters
    ----------
    key : callable
        Gives the key of a job.
    """

    def __init__(self, key: Callable[[J], str]) -> None:
        self._key = key
        self._submitted: dict[str, deque[SubmittedJob[J, R]]] = {}
        self._n_submitted = 0

    def add(self, job: J) -> SubmittedJob[J, R]:
        """Give a job its submitted; `SubmittedJob.finished` is to be set when it has ended."""
        submitted: SubmittedJob[J, R] = SubmittedJob(self._n_submitted, self._key(job), job)
        self._n_submitted += 1
        self._submitted.setdefault(submitted.key, deque()).append(submitted)
        return submitted

    def collect(self) -> list[Finished[J, R]]:
        """Give the jobs that have ended, once."""
        collected = []
        for key, submitted in list(self._submitted.items()):
            while submitted and (finished := submitted[0].finished) is not None:
                submitted.popleft()
                collected.append(finished)
            if not submitted:
                del self._submitted[key]
        return collected


class LocalWorker(Generic[J, R]):
    """Does each job at once, in this process.

    Parameters
    ----------
    evaluate : callable
        Does a job; what it raises becomes the reason why there is no result, and is logged by itself.
    """

    def __init__(self, evaluate: Callable[[J], R]) -> None:
        self._evaluate = evaluate
        self._finished: list[Finished[J, R]] = []

    @property
    def n_cluster_threads(self) -> int:
        """None."""
        return 0

    @property
    def room(self) -> int:
        """One; none until the last result was collected."""
        return 0 if self._finished else 1

    @property
    def descriptors(self) -> Sequence[int]:
        """None: a result is there when `submit` returns."""
        return ()

    def submit(self, job: J) -> None:
        """Do it."""
        result, failure = do_job(self._evaluate, job)
        self._finished.append(Finished(job, result, failure))

    def finished(self) -> list[Finished[J, R]]:
        """Return the last job, once."""
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


def do_job(evaluate: Callable[[J], R], job: J) -> tuple[R | None, str]:
    """Do a job; returns its result, or the reason why there is none."""
    try:
        return evaluate(job), ""
    except Exception as error:  # logged by who knows what the job is
        return None, f"the test failed: {error}"
