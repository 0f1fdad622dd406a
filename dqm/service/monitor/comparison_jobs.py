"""Comparisons that users ask for on the page, made beside the work of the monitor and never at its cost.

Theory of operation
-------------------
A request only looks which windows are kept; it refuses at once what cannot be compared. The comparison
itself waits in a queue. One thread takes the next, starts a process for it and listens to it, so there is one
process at a time, whatever is asked. It computes on one thread with a niceness of 10: where workers want the
core it gets a tenth of what one of them gets, so windows hardly wait for it, and yet it ends. If memory runs
out it is the first to be killed.

A comparison ends by its result, by its time limit, by somebody who cancels it, by the death of its process,
or with the daemon. Its process notices the death of the daemon itself. What was found is remembered by the
windows that were compared: the same windows again give the same numbers, so they are not computed again.
Windows that were kept meanwhile make another comparison.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dqm.errors import DqmError, format_exit
from dqm.service.monitor.worker_pool import end_with_daemon, environment_of_workers
from dqm.service.offline.kept_selection import KeptPlace, KeptSide, select_kept
from dqm.store import GOOD_WINDOWS, WINDOWS, KeptChoice, VerdictStore, list_kept
from dqm.web.comparisons import Comparison, ComparisonDetail, ComparisonOutcome, ComparisonState, KeptRun
from dqm.web.problems import BusyError, NotFoundError

if TYPE_CHECKING:
    from dqm.service.offline.kept_comparison import KeptComparison

__all__ = ["ComparisonJobs"]

log = structlog.get_logger(__name__)

LONGEST_SECONDS = 600.0
"""Time of a comparison, start of its process included."""

MOST_WAITING = 8
"""Most comparisons that wait; further ones are refused."""

MOST_REMEMBERED = 32
"""Comparisons that are over and remembered, the newest."""

LOOK_SECONDS = 0.2
"""How often it is checked whether a running comparison was cancelled."""

NICENESS = 10
"""Niceness of the process that compares; with 19 it would not end within its time if all cores are busy."""

SEED = 1


@dataclass(slots=True)
class _Entry:
    """A comparison, guarded by the lock of `ComparisonJobs`."""

    identifier: str
    sides: tuple[KeptSide, KeptSide]
    n_permutations: int
    user: str
    asked_at: float
    state: ComparisonState = ComparisonState.WAITING
    ended_at: float | None = None
    done: int = 0
    problem: str = ""
    outcome: ComparisonOutcome | None = None

    def show(self) -> Comparison:
        return Comparison(**self._facts())

    def show_all(self) -> ComparisonDetail:
        return ComparisonDetail(**self._facts(), outcome=self.outcome)

    def _facts(self) -> dict[str, object]:
        return {
            "identifier": self.identifier,
            "first": self.sides[0].label,
            "second": self.sides[1].label,
            "permutations": self.n_permutations,
            "state": self.state,
            "user": self.user,
            "asked_at": self.asked_at,
            "ended_at": self.ended_at,
            "done": self.done,
            "p": self.outcome.p if self.outcome else None,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class _Job:
    """What a process is told to do."""

    sides: tuple[KeptSide, KeptSide]
    bundles: dict[str, Path]
    n_permutations: int
    lowers_priority: bool


@dataclass(slots=True)
class _Shared:
    """What threads share."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    entries: dict[str, _Entry] = field(default_factory=dict)
    """In the order in which they were asked for."""
    is_stopping: bool = False


class ComparisonJobs:
    """Makes comparisons of kept events, one after the other; see `dqm.web.comparisons.Comparisons`.

    Parameters
    ----------
    place : callable
        Where windows are kept, and by which bundles they were judged, at present.
    store : VerdictStore
        Says how many windows there were.
    clock : callable
        Unix time, s.
    longest_seconds : float
        A comparison that takes longer is given up.
    lowers_priority : bool
        Whether it leaves the core to others that want it, but for a tenth.
    """

    def __init__(
        self,
        place: Callable[[], KeptPlace],
        store: VerdictStore,
        clock: Callable[[], float],
        longest_seconds: float = LONGEST_SECONDS,
        *,
        lowers_priority: bool = True,
    ) -> None:
        self._place = place
        self._store = store
        self._clock = clock
        self._longest_seconds = longest_seconds
        self._lowers_priority = lowers_priority
        self._shared = _Shared()
        self._thread: threading.Thread | None = None

    def start(self, first: KeptChoice, second: KeptChoice, n_permutations: int, user: str) -> Comparison:
        """Begin a comparison, or give the same one if it was made already."""
        place = self._place()
        sides = select_kept(first, place, self._store), select_kept(second, place, self._store)
        words = "\n".join([*(side.digest for side in sides), str(n_permutations)])
        identifier = hashlib.sha256(words.encode()).hexdigest()[:12]
        shared = self._shared
        with shared.changed:
            known = shared.entries.get(identifier)
            if known is not None and known.state not in {ComparisonState.FAILED, ComparisonState.CANCELLED}:
                return known.show()
            n_waiting = sum(one.state is ComparisonState.WAITING for one in shared.entries.values())
            if n_waiting >= MOST_WAITING:
                raise BusyError(f"{n_waiting} comparisons wait already", 30.0)
            shared.entries.pop(identifier, None)
            entry = _Entry(identifier, sides, n_permutations, user, self._clock())
            shared.entries[identifier] = entry
            self._forget()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="comparisons", daemon=True)
                self._thread.start()
            shared.changed.notify_all()
            shown = entry.show()
        log.info("comparison asked for", first=sides[0].label, second=sides[1].label, user=user)
        return shown

    def find(self, identifier: str) -> ComparisonDetail:
        """Give a comparison; raises `NotFoundError`."""
        with self._shared.changed:
            return self._find(identifier).show_all()

    def all(self) -> list[Comparison]:
        """Give those that are remembered, the newest first."""
        with self._shared.changed:
            return [entry.show() for entry in self._shared.entries.values()][::-1]

    def cancel(self, identifier: str) -> Comparison:
        """End a comparison; one that is over stays as it is. Raises `NotFoundError`."""
        with self._shared.changed:
            entry = self._find(identifier)
            if not entry.state.is_over:
                self._end(entry, ComparisonState.CANCELLED)
                self._shared.changed.notify_all()
            return entry.show()

    def kept_runs(self, stream: str) -> list[KeptRun]:
        """Give the runs of a stream of which events are kept, the newest first."""
        data_dir = self._place().data_dir
        good, anomalous = (
            Counter(run for run, _ in list_kept(data_dir / folder, stream))
            for folder in (GOOD_WINDOWS, WINDOWS)
        )
        return [
            KeptRun(run=run, n_good=good[run], n_anomalous=anomalous[run])
            for run in sorted({*good, *anomalous}, reverse=True)
        ]

    def describe_keeping(self) -> str:
        """Say what this daemon keeps, and how to keep more."""
        place = self._place()
        share = (
            f"{100 * place.good_share:.3g} % of the Good ones"
            if place.good_share
            else "no Good ones: set [keep] good_share, such as 0.05, and reload the daemon"
        )
        return (
            "Only events of kept windows can be compared. This daemon keeps those of Medium and Bad windows, "
            f"up to {place.windows_megabytes:g} MB ([keep] windows_megabytes), and {share}."
        )

    def stop(self) -> None:
        """End what runs, and take no more."""
        with self._shared.changed:
            self._shared.is_stopping = True
            self._shared.changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _find(self, identifier: str) -> _Entry:
        entry = self._shared.entries.get(identifier)
        if entry is None:
            raise NotFoundError(
                f"no comparison {identifier!r:.40}",
                fix=f"The last {MOST_REMEMBERED} are remembered until the daemon ends; see /compare",
            )
        return entry

    def _forget(self) -> None:
        over = [one.identifier for one in self._shared.entries.values() if one.state.is_over]
        for identifier in over[: len(over) - MOST_REMEMBERED]:
            del self._shared.entries[identifier]

    def _end(self, entry: _Entry, state: ComparisonState, problem: str = "") -> None:
        entry.state = state
        entry.problem = problem
        entry.ended_at = self._clock()

    def _work(self) -> None:
        """Make one comparison after the other, until the daemon stops."""
        shared = self._shared
        while True:
            with shared.changed:
                shared.changed.wait_for(lambda: shared.is_stopping or self._next() is not None)
                entry = self._next()
                if shared.is_stopping or entry is None:
                    return
                entry.state = ComparisonState.RUNNING
            begin = time.monotonic()
            try:
                result: KeptComparison | Exception = self._run(entry)
            except Exception as error:  # such as a process that cannot be started
                log.exception("comparison failed")
                result = error
            with shared.changed:
                if entry.state is ComparisonState.RUNNING:
                    self._note(entry, result)
            log.info(
                "comparison over",
                state=str(entry.state),
                first=entry.sides[0].label,
                second=entry.sides[1].label,
                seconds=round(time.monotonic() - begin, 1),
                problem=entry.problem,
            )

    def _next(self) -> _Entry | None:
        waiting = (one for one in self._shared.entries.values() if one.state is ComparisonState.WAITING)
        return next(waiting, None)

    def _note(self, entry: _Entry, result: KeptComparison | Exception) -> None:
        """Write down how a comparison has ended; the lock is held."""
        if isinstance(result, DqmError):
            self._end(entry, ComparisonState.FAILED, str(result))
        elif isinstance(result, Exception):
            self._end(entry, ComparisonState.FAILED, f"it could not be made: {result}. See the daemon's log")
        else:
            entry.outcome = _show_outcome(result)
            entry.done = entry.n_permutations
            self._end(entry, ComparisonState.DONE)

    def _run(self, entry: _Entry) -> KeptComparison | Exception:
        """Let a process make the comparison; gives what it found, or why there is nothing."""
        deadline = time.monotonic() + self._longest_seconds
        job = _Job(entry.sides, dict(self._place().bundles), entry.n_permutations, self._lowers_priority)
        ours, theirs = multiprocessing.Pipe(duplex=False)
        with ours:
            with theirs, environment_of_workers(1):
                process = multiprocessing.get_context("spawn").Process(
                    target=_compare, args=(theirs, job), name="dqm-comparison", daemon=True
                )
                process.start()
            try:
                while self._is_wanted(entry):
                    if time.monotonic() > deadline:
                        return DqmError(
                            f"it took longer than {self._longest_seconds:g} s",
                            fix="Compare fewer runs, or with fewer permutations; "
                            "'dqm compare --two --from' has no limit",
                        )
                    if not ours.poll(LOOK_SECONDS):
                        continue
                    message = ours.recv()
                    if not isinstance(message, int):
                        return message  # type: ignore[no-any-return] # as `_compare` sends it
                    with self._shared.changed:
                        entry.done = message
            except (EOFError, OSError):
                process.join()
                return DqmError(
                    f"its process ended {format_exit(process.exitcode)}, perhaps for lack of memory",
                    fix="Compare fewer windows",
                )
            finally:
                process.kill()
                process.join()
        return DqmError("the daemon stops")

    def _is_wanted(self, entry: _Entry) -> bool:
        with self._shared.changed:
            return entry.state is ComparisonState.RUNNING and not self._shared.is_stopping


def _show_outcome(result: KeptComparison) -> ComparisonOutcome:
    found = result.found
    return ComparisonOutcome(
        p=found.p,
        z=found.z,
        is_told=found.is_told,
        t_first=found.t_first,
        t_second=found.t_second,
        n_first=found.n_first,
        n_second=found.n_second,
        told=result.told,
        features=result.names,
        left_out=result.left_out,
        kernels=found.settings_in_words,
        p_of_kernels=found.p_of_settings,
        place=found.place,
        explanation=found.explanation,
        references=result.references,
    )


def _compare(connection: Connection, job: _Job) -> None:
    """Life of the process: it sends the permutations done, then what it found or why it found nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_daemon, name="end-with-daemon", daemon=True).start()
    if job.lowers_priority:
        _lower_priority()
    from dqm.reference import Processes  # numerics: not in the daemon itself
    from dqm.service.offline.kept_comparison import compare_kept

    try:
        found = compare_kept(
            job.sides,
            job.bundles,
            n_permutations=job.n_permutations,
            seed=SEED,
            workers=Processes(1),
            progress=connection.send,
        )
    except DqmError as error:
        connection.send(DqmError(error.what, where=error.where, fix=error.fix))
    except Exception:
        log.exception("a comparison fails")
        raise
    else:
        connection.send(found)


def _lower_priority() -> None:
    """Leave the core to the workers, and be the first to go when memory runs out."""
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
