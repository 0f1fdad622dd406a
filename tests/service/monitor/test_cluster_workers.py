"""Windows for a Dask cluster: what happens when it fails, with a scripted session and with a real cluster."""

from __future__ import annotations

import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from dqm.errors import WorkerError
from dqm.events import EvaluationJob, EvaluationReport, PMethod, TestResult
from dqm.reference import ClusterSession, ReadingPolicy, StoredBundle, cluster
from dqm.service.evaluation import EvaluateWindows
from dqm.service.monitor import cluster_workers
from dqm.service.monitor.cluster_workers import ClusterWorkers
from dqm.service.monitor.job_runner import JOBS_PER_WORKER, Finished, LocalWorker
from tests.cli.dask_cluster import DaskCluster
from tests.service.small import N_WINDOW, faulty_events, healthy_events, small_bundle, window_of
from tests.waiting import wait_until

OnEnd = Callable[[EvaluationReport | Exception], None]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class ScriptedSession:
    """A session whose results the test decides on."""

    def __init__(self, **threads: int) -> None:
        self.threads = threads or {"first": 1}
        self.given: dict[int, OnEnd] = {}
        self.at: dict[int, str] = {}
        """Worker of each window."""
        self.forgotten: list[str] = []
        self.is_lost = False
        self.is_closed = threading.Event()

    def submit(self, _name: str, worker: str, item: EvaluationJob, on_end: OnEnd) -> object:
        if self.is_lost:
            raise OSError("the connection was lost")
        self.given[item.window.seq] = on_end
        self.at[item.window.seq] = worker
        return item

    def forget(self, worker: str) -> None:
        self.forgotten.append(worker)

    def workers(self) -> dict[str, int]:
        if self.is_lost:
            raise WorkerError("the scheduler does not answer")
        return dict(self.threads)

    def close(self) -> None:
        self.is_closed.set()


class PatientWorker(LocalWorker[EvaluationJob, EvaluationReport]):
    """Local workers whose results come when the test wants."""

    def __init__(self) -> None:
        super().__init__(report_of_this_machine)
        self.waiting: list[EvaluationJob] = []

    @property
    def room(self) -> int:
        return max(0, 2 - len(self.waiting))

    def submit(self, job: EvaluationJob) -> None:
        self.waiting.append(job)

    def work(self) -> None:
        for job in self.waiting:
            super().submit(job)
        self.waiting = []


class UnspeakableError(Exception):
    """As a worker may define it."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class BusyWorker(LocalWorker[EvaluationJob, EvaluationReport]):
    """Local workers that have no room."""

    room = 0


def job_of(seq: int, stream: str = "chamber-1") -> EvaluationJob:
    return EvaluationJob(window_of(stream=stream, seq=seq), "3f9a", explain_below=0.01)


def report(bundle: str = "3f9a", t: float = 1.0) -> EvaluationReport:
    p = {"p": 0.5, "p_low": 0.4, "p_high": 0.6, "p_method": PMethod.EMPIRICAL, "z": 0.0}
    return EvaluationReport(TestResult(N_WINDOW, float(N_WINDOW), t, **p), bundle, 0.01)  # type: ignore[arg-type]


def report_of_this_machine(_job: EvaluationJob) -> EvaluationReport:
    return report(t=2.0)


@contextmanager
def scripted(
    clock: Clock | None = None,
    *sessions: ScriptedSession | Exception,
    local: LocalWorker[EvaluationJob, EvaluationReport] | None = None,
    is_proven: bool = True,
) -> Iterator[ClusterWorkers]:
    left = iter(sessions)

    def connect() -> ScriptedSession:
        session = next(left, WorkerError("no scheduler answers"))
        if isinstance(session, Exception):
            raise session
        return session

    workers = ClusterWorkers(
        connect,  # type: ignore[arg-type]
        local or LocalWorker(report_of_this_machine),
        longest_seconds=5.0,
        monotonic=clock or Clock(),
    )
    try:
        if sessions:
            wait_until(lambda: workers.n_cluster_threads >= 1, "a session")
        if is_proven:
            for session in sessions[:1]:
                if isinstance(session, ScriptedSession):
                    prove(workers, session)
        yield workers
    finally:
        workers.close()


def prove(workers: ClusterWorkers, session: ScriptedSession) -> None:
    """Let each worker do a window, so that it gets several."""
    numbers = [1000 + n for n in range(len(session.threads))]
    for seq in numbers:
        workers.submit(job_of(seq))
    for seq in numbers:
        session.given[seq](report())
    assert len(workers.finished()) == len(numbers)


def places(finished: list[Finished[EvaluationJob, EvaluationReport]]) -> list[tuple[int, str]]:
    """Number of each window, and where it was evaluated."""
    return [
        (each.job.window.seq, "here" if each.result is not None and each.result.result.t == 2.0 else "there")
        for each in finished
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_workers, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(cluster_workers, "LOOK_SECONDS", 0.02)


def test_windows_are_evaluated_there_and_given_back_in_the_order_of_their_stream() -> None:
    session = ScriptedSession()
    with scripted(None, session) as workers:
        assert workers.room == JOBS_PER_WORKER + 1
        workers.submit(job_of(0))
        workers.submit(job_of(1))
        assert workers.room == JOBS_PER_WORKER + 1 - 2
        session.given[1](report())
        assert workers.finished() == []
        session.given[0](report())
        assert places(workers.finished()) == [(0, "there"), (1, "there")]
        assert workers.room == JOBS_PER_WORKER + 1


def test_without_a_cluster_windows_are_evaluated_here() -> None:
    with scripted() as workers:
        assert (workers.n_cluster_threads, workers.room) == (0, 1)
        workers.submit(job_of(0))
        assert places(workers.finished()) == [(0, "here")]


def test_a_worker_gets_one_window_until_it_has_done_one_and_the_rest_is_done_here() -> None:
    session = ScriptedSession(first=1, second=2)
    with scripted(None, session, is_proven=False) as workers:
        assert workers.room == 1 + 1 + 1
        for seq in range(3):
            workers.submit(job_of(seq))
        assert session.at == {0: "first", 1: "second"}
        for seq in range(2):
            session.given[seq](report())
        assert places(workers.finished()) == [(0, "there"), (1, "there"), (2, "here")]
        assert workers.room == 3 * JOBS_PER_WORKER + 1


def test_windows_go_to_the_worker_with_the_fewest_for_its_threads_and_then_here() -> None:
    session = ScriptedSession(first=1, second=2)
    with scripted(None, session) as workers:
        for seq in range(3 * JOBS_PER_WORKER + 1):
            workers.submit(job_of(seq))
        given = [session.at[seq] for seq in range(3 * JOBS_PER_WORKER)]
        assert Counter(given) == {"first": JOBS_PER_WORKER, "second": 2 * JOBS_PER_WORKER}
        assert Counter(given[:3]) == {"first": 1, "second": 2}
        assert 3 * JOBS_PER_WORKER not in session.given
        assert workers.room == 0


BAD = [
    WorkerError("has dqm 0.1"),
    ValueError("singular"),
    UnspeakableError(),
    "garbage",
    replace(report(), result="nonsense"),  # type: ignore[arg-type]
    report("another"),
    None,
]
NOBODYS_FAULT = [OSError("the connection was lost"), CancelledError()]


@pytest.mark.parametrize("outcome", [*BAD, *NOBODYS_FAULT])
def test_what_fails_there_is_evaluated_here(outcome: object) -> None:
    session = ScriptedSession()
    with scripted(None, session) as workers:
        workers.submit(job_of(0))
        session.given[0](outcome)  # type: ignore[arg-type]
        assert places(workers.finished()) == [(0, "here")]


@pytest.mark.parametrize(
    ("outcome", "is_left_out"), [*((each, True) for each in BAD), *((each, False) for each in NOBODYS_FAULT)]
)
def test_a_worker_that_fails_is_left_out_for_a_while_and_the_others_go_on(
    outcome: object, is_left_out: bool
) -> None:
    session, clock = ScriptedSession(first=1, second=1), Clock()
    with scripted(clock, session) as workers:
        for seq in range(4):
            workers.submit(job_of(seq))
        bad = session.at[0]
        session.given[0](outcome)  # type: ignore[arg-type]
        finished = workers.finished()
        for seq in range(1, 4):
            session.given[seq](report())
        finished += workers.finished()
        done_here = {seq for seq, where in places(finished) if where == "here"}
        assert done_here == ({seq for seq in range(4) if session.at[seq] == bad} if is_left_out else {0})
        assert (workers.n_cluster_threads == 1, session.forgotten == [bad]) == (is_left_out, is_left_out)
        for seq in range(4, 4 + JOBS_PER_WORKER):
            workers.submit(job_of(seq))
        assert (bad in [session.at[seq] for seq in range(4, 4 + JOBS_PER_WORKER)]) is not is_left_out
        for seq in range(4, 4 + JOBS_PER_WORKER):
            session.given[seq](report())
        assert len(workers.finished()) == JOBS_PER_WORKER
        clock.now += cluster_workers.LEFT_OUT_SECONDS + 1.0
        workers.finished()
        assert workers.n_cluster_threads == 2
        workers.submit(job_of(20))
        workers.submit(job_of(21))
        assert {session.at[20], session.at[21]} == {"first", "second"}
        assert workers.room - 1 == (JOBS_PER_WORKER - 1 if is_left_out else 2 * JOBS_PER_WORKER - 2)


def test_a_test_that_fails_here_as_well_is_not_the_fault_of_a_worker() -> None:
    def fail(_job: EvaluationJob) -> EvaluationReport:
        raise ValueError("singular")

    session = ScriptedSession()
    with scripted(None, session, local=LocalWorker(fail)) as workers:
        workers.submit(job_of(0))
        session.given[0](ValueError("singular"))
        (finished,) = workers.finished()
        assert finished.failure == "the test failed: singular"
        assert workers.n_cluster_threads == 1


def test_when_all_workers_have_failed_the_session_ends_and_they_are_tried_again_in_another() -> None:
    bad, good, clock = ScriptedSession(first=1, second=1), ScriptedSession(first=1, second=1), Clock()
    with scripted(clock, bad, good) as workers:
        workers.submit(job_of(0))
        workers.submit(job_of(1))
        for seq in range(2):
            bad.given[seq](WorkerError("has torch 1.0"))
        assert places(workers.finished()) == [(0, "here"), (1, "here")]
        assert bad.is_closed.wait(60.0)
        assert (workers.n_cluster_threads, workers.room) == (0, 1)
        clock.now += cluster_workers.LEFT_OUT_SECONDS + 1.0
        workers.finished()
        wait_until(lambda: workers.n_cluster_threads == 2, "another session")
        bad.given[0](report())  # too late
        assert workers.finished() == []
        workers.submit(job_of(2))
        assert 2 in good.given


def test_a_late_window_is_evaluated_here_as_well_and_the_first_result_counts() -> None:
    session, clock, local = ScriptedSession(first=1, second=1), Clock(), PatientWorker()
    with scripted(clock, session, local=local) as workers:
        for seq in range(2):
            workers.submit(job_of(seq, stream=f"chamber-{seq}"))
        clock.now += 1.1
        workers.finished()
        workers.finished()
        assert [job.window.seq for job in local.waiting] == [0, 1]  # once each
        session.given[1](report())
        assert places(workers.finished()) == [(1, "there")]
        local.work()
        assert places(workers.finished()) == [(0, "here")]
        session.given[0](report())
        assert workers.finished() == []


def test_a_worker_that_stands_still_gets_no_more_until_it_goes_on() -> None:
    session, clock = ScriptedSession(first=1, second=1), Clock()
    with scripted(clock, session) as workers:
        workers.submit(job_of(0))
        still = session.at[0]
        clock.now += 1.1
        assert places(workers.finished()) == [(0, "here")]
        for seq in range(1, 3):
            workers.submit(job_of(seq))
            assert session.at[seq] != still
            session.given[seq](report())
            assert places(workers.finished()) == [(seq, "there")]
        assert workers.room == JOBS_PER_WORKER + 1
        session.given[0](report())
        assert workers.finished() == []
        assert workers.room == 2 * JOBS_PER_WORKER + 1


def test_a_long_test_does_not_keep_the_other_threads_of_its_worker_from_work() -> None:
    session, clock = ScriptedSession(first=4), Clock()
    with scripted(clock, session) as workers:
        workers.submit(job_of(0, stream="slow"))
        clock.now += 0.5
        workers.submit(job_of(1))
        session.given[1](report())
        clock.now += 1.0
        assert places(workers.finished()) == [(0, "here"), (1, "there")]
        assert workers.room == 4 * JOBS_PER_WORKER - 1 + 1
        clock.now += 5.0
        workers.finished()
        assert workers.n_cluster_threads == 4
        assert workers.room == 4 * JOBS_PER_WORKER + 1


def test_what_is_late_follows_the_usual_time() -> None:
    session, clock, local = ScriptedSession(), Clock(), PatientWorker()
    with scripted(clock, session, local=local) as workers:
        for seq in range(40):
            workers.submit(job_of(seq))
            clock.now += 0.5
            session.given[seq](report())
            workers.finished()
        workers.submit(job_of(40))
        clock.now += 3.0
        workers.finished()
        assert not local.waiting
        clock.now += 2.0
        workers.finished()
        assert [job.window.seq for job in local.waiting] == [40]


def test_a_worker_that_gives_nothing_for_the_longest_time_is_left_out() -> None:
    session, clock = ScriptedSession(first=1, second=1), Clock()
    with scripted(clock, session) as workers:
        workers.submit(job_of(0))
        clock.now += 5.1
        assert places(workers.finished()) == [(0, "here")]
        assert (workers.n_cluster_threads, session.forgotten) == (1, [session.at[0]])
        session.given[0](report())  # too late
        assert workers.finished() == []


def test_what_a_worker_had_that_is_gone_is_evaluated_here() -> None:
    session = ScriptedSession(first=1, second=1)
    with scripted(None, session) as workers:
        workers.submit(job_of(0))
        workers.submit(job_of(1))
        gone = session.at[0]
        del session.threads[gone]
        session.given[1](report())
        finished: list[Finished[EvaluationJob, EvaluationReport]] = []
        wait_until(lambda: finished.extend(workers.finished()) or len(finished) == 2, "both")
        assert places(finished) == [(0, "here"), (1, "there")]
        session.threads[gone] = 1
        wait_until(lambda: workers.n_cluster_threads == 2, "its return")


def test_a_connection_that_breaks_loses_nothing() -> None:
    session = ScriptedSession()
    with scripted(None, session) as workers:
        workers.submit(job_of(0))
        session.is_lost = True
        workers.submit(job_of(1))
        finished = workers.finished()
        wait_until(lambda: finished.extend(workers.finished()) or len(finished) == 2, "both")
        assert places(finished) == [(0, "here"), (1, "here")]
        assert workers.n_cluster_threads == 0


def test_whatever_prevents_a_session_another_is_tried() -> None:
    session = ScriptedSession()
    with scripted(None, MemoryError("2.82 EiB"), WorkerError("no scheduler answers"), session) as workers:
        workers.submit(job_of(0))
        assert 0 in session.given
        assert workers.n_cluster_threads == 1


def test_an_attempt_that_takes_long_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_workers, "CLOSE_SECONDS", 0.1)
    session, answers = ScriptedSession(), Event()

    def connect() -> ScriptedSession:
        answers.wait(60.0)
        return session

    local = LocalWorker(report_of_this_machine)
    workers = ClusterWorkers(connect, local, longest_seconds=5.0, monotonic=Clock())  # type: ignore[arg-type]
    workers.close()
    answers.set()
    assert session.is_closed.wait(60.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    return small_bundle(tmp_path_factory.mktemp("cluster") / "small.dqmref")


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as dask:
        dask.add_worker(n_threads=2)
        yield dask


def real_job(seq: int, bundle: StoredBundle) -> EvaluationJob:
    x = (faulty_events if seq % 3 == 0 else healthy_events)(N_WINDOW, seq)
    return EvaluationJob(window_of(x, seq=seq), bundle.identifier, explain_below=0.01)


@pytest.mark.slow
def test_a_real_cluster_gives_the_same_bits(dask: DaskCluster, bundle: StoredBundle) -> None:
    task = EvaluateWindows(bundle.path, bundle.identifier, ReadingPolicy())
    here = task.prepare(bundle.path)
    jobs = [real_job(seq, bundle) for seq in range(12)]
    workers = ClusterWorkers(
        lambda: ClusterSession(dask.address, {bundle.identifier: task}),
        BusyWorker(report_of_this_machine),
        longest_seconds=60.0,
        monotonic=Clock(),
    )
    try:
        wait_until(lambda: workers.n_cluster_threads == 2, "the cluster", 60.0)
        waiting, reports = list(jobs), []
        while len(reports) < len(jobs):
            while waiting and workers.room:
                workers.submit(waiting.pop(0))
            assert select.select(workers.descriptors, [], [], 60.0)[0]
            reports += [each.result for each in workers.finished() if each.result]
    finally:
        workers.close()
    expected = [here(job) for job in jobs]
    assert [each.result for each in reports] == [each.result for each in expected]
    assert [bool(each.explanation) for each in reports] == [bool(each.explanation) for each in expected]


class Held:
    """What a session was given, and what came of it."""

    def __init__(self, dask: DaskCluster, bundle: StoredBundle) -> None:
        task = EvaluateWindows(bundle.path, bundle.identifier, ReadingPolicy())
        self.bundle = bundle
        self.session = ClusterSession(dask.address, {bundle.identifier: task})
        self.ended: SimpleQueue[EvaluationReport | Exception] = SimpleQueue()
        self.kept: list[object] = []

    def submit(self, seq: int, worker: str) -> None:
        job = real_job(seq, self.bundle)
        self.kept.append(self.session.submit(self.bundle.identifier, worker, job, self.ended.put))


@pytest.mark.slow
def test_a_worker_of_another_version_says_so(
    dask: DaskCluster, bundle: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "version", lambda _name: "0.1.0")
    held = Held(dask, bundle)
    (worker,) = held.session.workers()
    held.submit(0, worker)
    outcome = held.ended.get(timeout=60.0)
    held.session.close()
    assert isinstance(outcome, WorkerError)
    assert f"worker {worker}: has dqm" in str(outcome)
    assert "not 0.1.0. Install the same where the workers run" in str(outcome)


@pytest.mark.slow
def test_a_result_at_a_worker_that_stands_still_holds_up_neither_others_nor_the_end(
    bundle: StoredBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 3.0)
    with DaskCluster(tmp_path) as dask:
        dask.add_worker(n_threads=1)
        held = Held(dask, bundle)
        wait_until(lambda: len(held.session.workers()) == 1, "a worker")
        (still,) = held.session.workers()
        dask.add_worker(n_threads=1)
        wait_until(lambda: len(held.session.workers()) == 2, "two workers")
        (other,) = held.session.workers().keys() - {still}
        for seq, worker in enumerate((still, other)):
            held.submit(seq, worker)
            assert isinstance(held.ended.get(timeout=60.0), EvaluationReport)
        noted = Event()
        note = held.session._note
        monkeypatch.setattr(held.session, "_note", lambda *args: (noted.wait(60.0), note(*args)))
        held.submit(2, still)
        wait_until(lambda: held.kept[-1].status == "finished", "the result")  # type: ignore[attr-defined]
        dask.workers[0].send_signal(signal.SIGSTOP)
        noted.set()
        for seq in range(3, 9):
            held.submit(seq, other)
        for _ in range(6):
            assert isinstance(held.ended.get(timeout=60.0), EvaluationReport)
        wait_until(lambda: held.session.workers().keys() == {other}, "one worker without signs of life")
        closing = threading.Thread(target=held.session.close, daemon=True)
        closing.start()
        closing.join(60.0)
        assert not closing.is_alive()
