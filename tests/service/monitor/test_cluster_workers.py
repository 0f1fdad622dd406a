"""Windows for a Dask cluster: what happens when it fails, with a scripted session and with a real cluster."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue

import pytest
from distributed import Client

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

    def __init__(self) -> None:
        self.given: dict[int, OnEnd] = {}
        self.is_lost = False
        self.is_closed = threading.Event()

    def submit(self, _name: str, item: EvaluationJob, on_end: OnEnd) -> object:
        if self.is_lost:
            raise OSError("the connection was lost")
        self.given[item.window.seq] = on_end
        return item

    def n_threads(self) -> int:
        if self.is_lost:
            raise WorkerError("the scheduler does not answer")
        return 1

    def close(self) -> None:
        self.is_closed.set()


class UnspeakableError(Exception):
    """As a worker may define it."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def job_of(seq: int, stream: str = "chamber-1") -> EvaluationJob:
    return EvaluationJob(window_of(stream=stream, seq=seq), "3f9a", explain_below=0.01)


def report(bundle: str = "3f9a", t: float = 1.0) -> EvaluationReport:
    p = {"p": 0.5, "p_low": 0.4, "p_high": 0.6, "p_method": PMethod.EMPIRICAL, "z": 0.0}
    return EvaluationReport(TestResult(N_WINDOW, float(N_WINDOW), t, **p), bundle, 0.01)  # type: ignore[arg-type]


def report_of_this_machine(_job: EvaluationJob) -> EvaluationReport:
    return report(t=2.0)


@contextmanager
def scripted(clock: Clock | None = None, *sessions: ScriptedSession | Exception) -> Iterator[ClusterWorkers]:
    left = iter(sessions)

    def connect() -> ScriptedSession:
        session = next(left, WorkerError("no scheduler answers"))
        if isinstance(session, Exception):
            raise session
        return session

    local = LocalWorker(report_of_this_machine)
    workers = ClusterWorkers(connect, local, longest_seconds=5.0, monotonic=clock or Clock())  # type: ignore[arg-type]
    try:
        if sessions:
            wait_until(lambda: workers.n_cluster_threads == 1, "a session")
        yield workers
    finally:
        workers.close()


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
        assert workers.room == JOBS_PER_WORKER
        workers.submit(job_of(0))
        workers.submit(job_of(1))
        assert workers.room == JOBS_PER_WORKER - 2
        session.given[1](report())
        assert workers.finished() == []
        session.given[0](report())
        assert places(workers.finished()) == [(0, "there"), (1, "there")]
        assert workers.room == JOBS_PER_WORKER


def test_without_a_cluster_windows_are_evaluated_here() -> None:
    with scripted() as workers:
        assert (workers.n_cluster_threads, workers.room) == (0, 1)
        workers.submit(job_of(0))
        assert places(workers.finished()) == [(0, "here")]


@pytest.mark.parametrize(
    "outcome",
    [
        WorkerError("has dqm 0.1"),
        ValueError("singular"),
        UnspeakableError(),
        "garbage",
        replace(report(), result="nonsense"),  # type: ignore[arg-type]
        report("another"),
        None,
    ],
)
def test_what_fails_there_is_evaluated_here(outcome: object) -> None:
    session = ScriptedSession()
    with scripted(None, session) as workers:
        workers.submit(job_of(0))
        session.given[0](outcome)  # type: ignore[arg-type]
        assert places(workers.finished()) == [(0, "here")]


def test_one_bad_worker_does_not_end_the_work_of_the_others() -> None:
    session, clock = ScriptedSession(), Clock()
    with scripted(clock, session) as workers:
        workers.submit(job_of(0))
        workers.submit(job_of(1))
        clock.now += 1.0
        session.given[0](report())
        session.given[1](WorkerError("has torch 1.0"))
        assert places(workers.finished()) == [(0, "there"), (1, "here")]
        workers.submit(job_of(2))
        assert 2 in session.given


def test_a_cluster_that_does_nothing_is_left_and_tried_again() -> None:
    silent, good, clock = ScriptedSession(), ScriptedSession(), Clock()
    with scripted(clock, silent, good) as workers:
        workers.submit(job_of(0))
        clock.now += 4.0
        workers.submit(job_of(1))
        assert workers.finished() == []
        clock.now += 2.0
        assert places(workers.finished()) == [(0, "here"), (1, "here")]
        assert silent.is_closed.wait(60.0)
        silent.given[0](report())  # too late
        wait_until(lambda: workers.n_cluster_threads == 1, "another session")
        assert workers.finished() == []
        workers.submit(job_of(2))
        assert 2 in good.given


def test_a_connection_that_breaks_loses_nothing() -> None:
    session = ScriptedSession()
    with scripted(None, session) as workers:
        workers.submit(job_of(0))
        session.is_lost = True
        workers.submit(job_of(1))
        finished = workers.finished()
        wait_until(lambda: finished.extend(workers.finished()) or len(finished) == 2, "both")
        assert places(finished) == [(0, "here"), (1, "here")]


def test_whatever_prevents_a_session_another_is_tried() -> None:
    session = ScriptedSession()
    with scripted(None, MemoryError("2.82 EiB"), WorkerError("no scheduler answers"), session) as workers:
        workers.submit(job_of(0))
        assert 0 in session.given


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
        LocalWorker(report_of_this_machine),
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


@pytest.mark.slow
def test_a_worker_of_another_version_says_so(
    dask: DaskCluster, bundle: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "version", lambda _name: "0.1.0")
    task = EvaluateWindows(bundle.path, bundle.identifier, ReadingPolicy())
    ended: SimpleQueue[EvaluationReport | Exception] = SimpleQueue()
    session = ClusterSession(dask.address, {bundle.identifier: task})
    kept = session.submit(bundle.identifier, real_job(0, bundle), ended.put)
    outcome = ended.get(timeout=60.0)
    session.close()
    assert kept is not None
    assert isinstance(outcome, WorkerError)
    assert "not 0.1.0. Install the same where the workers run" in str(outcome)


@pytest.mark.slow
def test_a_result_that_never_comes_does_not_hold_up_the_end(
    dask: DaskCluster, bundle: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    asked, never = threading.Event(), threading.Event()

    def gather(_self: Client, _futures: object) -> None:
        asked.set()
        never.wait()
        raise RuntimeError("the loop was stopped")

    monkeypatch.setattr(Client, "gather", gather)
    task = EvaluateWindows(bundle.path, bundle.identifier, ReadingPolicy())
    session = ClusterSession(dask.address, {bundle.identifier: task})
    kept = session.submit(bundle.identifier, real_job(0, bundle), lambda _outcome: None)
    assert asked.wait(60.0)
    closing = threading.Thread(target=session.close, daemon=True)
    closing.start()
    closing.join(60.0)
    assert not closing.is_alive()
    never.set()
    assert kept is not None


@pytest.mark.slow
def test_the_end_of_a_session_without_work_asks_for_nothing(
    dask: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Client, "gather", lambda _self, futures: asked.append(futures))
    session: ClusterSession[EvaluationJob, EvaluationReport] = ClusterSession(dask.address, {})
    session.close()
    assert not asked
