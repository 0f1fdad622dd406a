"""Worker processes, real ones, that work, fail, die and hang."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import DqmError
from dqm.service.monitor import worker_pool
from dqm.service.monitor.job_runner import JOBS_PER_WORKER, Finished, LocalWorker
from dqm.service.monitor.worker_pool import WorkerPool
from tests.service.monitor.scripted import (
    Answer,
    Job,
    Unloadable,
    die_at_once,
    do,
    prepare,
    prepare_for_ever,
    prepare_nothing,
    prepare_once,
)
from tests.waiting import wait_until

Pool = WorkerPool[Job, Answer]
LARGE = 5_000_000  # bytes, much more than a pipe takes at once


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def open_pool(
    n_workers: int = 1,
    prepare: Callable[[], Callable[[Job], Answer]] = prepare,
    longest_seconds: float = 30.0,
    longest_start_seconds: float = 120.0,
    clock: Callable[[], float] | None = None,
) -> Iterator[Pool]:
    pool = Pool(
        prepare,
        n_workers=n_workers,
        n_threads=1,
        longest_seconds=longest_seconds,
        longest_start_seconds=longest_start_seconds,
        key=attrgetter("stream"),
        monotonic=clock or Clock(),
    )
    try:
        yield pool
    finally:
        pool.close()


OTHERS: set[BaseProcess] = set()


@pytest.fixture
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "RESTART_SECONDS", 0.0)


def collect(pool: Pool, n: int) -> list[Finished[Job, Answer]]:
    collected: list[Finished[Job, Answer]] = []

    def enough() -> bool:
        collected.extend(pool.finished())
        return len(collected) >= n

    wait_until(enough, f"{n} jobs")
    return collected


@pytest.fixture(autouse=True)
def _others() -> Iterator[None]:
    """Leave processes out that other tests of the same run have."""
    OTHERS.update(multiprocessing.active_children())
    yield
    OTHERS.clear()


def children() -> list[BaseProcess]:
    """Processes that the test itself has started."""
    return [process for process in multiprocessing.active_children() if process not in OTHERS]


def pids_of_workers() -> list[int]:
    return [process.pid for process in children() if process.pid is not None]


def pid_of_worker() -> int:
    (pid,) = pids_of_workers()
    return pid


def wait_until_replaced(pool: Pool, pid: int) -> None:
    def is_replaced() -> bool:
        pool.finished()
        return pool.n_ready == 1 and pid_of_worker() != pid

    wait_until(is_replaced, "another worker")


def is_answered(finished: Finished[Job, Answer]) -> bool:
    return finished.failure == "" and finished.result is not None


def test_workers_share_the_jobs_and_each_stream_keeps_its_order() -> None:
    with open_pool(2) as pool:
        assert pool.room == 2 * JOBS_PER_WORKER
        pool.submit(Job("a", 0, seconds=0.3))
        pool.submit(Job("a", 1))
        pool.submit(Job("b", 0))
        assert pool.room <= 2 * JOBS_PER_WORKER - 1
        collected = collect(pool, 3)
        assert pool.room == 2 * JOBS_PER_WORKER
    assert [f.job.seq for f in collected if f.job.stream == "a"] == [0, 1]
    answers = [f.result for f in collected if f.result is not None]
    assert len({answer.pid for answer in answers}) == 2
    assert [answer.n_threads for answer in answers] == ["1"] * 3


def test_a_stream_with_slow_jobs_leaves_a_worker_to_others(tmp_path: Path) -> None:
    older, younger = tmp_path / "older", tmp_path / "younger"
    with open_pool(2) as pool:
        pool.submit(Job("slow", 0, seconds=60.0))  # killed with its pool
        pool.submit(Job("b", 0, seconds=0.5))
        pool.submit(Job("slow", 1, begun=str(older)))
        pool.submit(Job("c", 0, seconds=0.2, begun=str(younger)))  # the times of files are coarse
        wait_until(older.exists, "the older job")
    assert younger.stat().st_mtime_ns < older.stat().st_mtime_ns


def test_a_job_larger_than_any_pipe_does_not_hold_up_the_caller() -> None:
    with open_pool() as pool:
        pid = pid_of_worker()
        os.kill(pid, signal.SIGSTOP)
        pool.submit(Job(load=bytes(LARGE), answer_bytes=LARGE))
        assert pool.finished() == []
        os.kill(pid, signal.SIGCONT)
        (finished,) = collect(pool, 1)
    assert finished.result is not None
    assert (len(finished.result.load), finished.result.pid) == (LARGE, pid)


def test_an_error_of_a_job_is_its_failure_and_the_worker_goes_on() -> None:
    with open_pool() as pool:
        pool.submit(Job(fail="no luck"))
        pool.submit(Job(seq=1))
        failed, fine = collect(pool, 2)
    assert (failed.result, failed.failure) == (None, "the test failed: no luck")
    assert is_answered(fine)


@pytest.mark.usefixtures("without_pause")
def test_a_job_that_cannot_be_sent_fails_and_the_next_is_done() -> None:
    with open_pool() as pool:
        pool.submit(Job(load=threading.Lock()))
        pool.submit(Job(seq=1))
        failed, fine = collect(pool, 2)
    assert failed.failure.startswith("not tested: cannot pickle")
    assert is_answered(fine)


@pytest.mark.usefixtures("without_pause")
def test_a_job_that_no_worker_can_receive_is_given_up() -> None:
    with open_pool() as pool:
        pool.submit(Job(load=Unloadable()))
        pool.submit(Job(seq=1))
        failed, fine = collect(pool, 2)
    assert failed.failure == "not tested: its worker died with exit code 1"
    assert is_answered(fine)


def test_a_job_whose_worker_is_killed_is_done_by_the_next_in_its_turn(tmp_path: Path) -> None:
    with open_pool() as pool:
        pool.submit(Job(die=f"{tmp_path}/mark"))
        pool.submit(Job(seq=1))
        collected = collect(pool, 2)
        assert pool.n_ready == 1
    assert [f.job.seq for f in collected] == [0, 1]
    assert all(map(is_answered, collected))


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_done() -> None:
    with open_pool(2) as pool:
        pool.submit(Job("a", die="always"))
        pool.submit(Job("b"))
        by_stream = {f.job.stream: f for f in collect(pool, 2)}
    assert by_stream["a"].failure == "not tested: its worker died by signal 9 (SIGKILL)"
    assert is_answered(by_stream["b"])


@pytest.mark.usefixtures("without_pause")
def test_a_job_that_waited_when_workers_died_has_all_its_attempts(tmp_path: Path) -> None:
    with open_pool() as pool:
        pool.submit(Job(die="always"))
        pool.submit(Job(seq=1, die=f"{tmp_path}/mark"))
        fatal, patient = collect(pool, 2)
    assert fatal.failure == "not tested: its worker died by signal 9 (SIGKILL)"
    assert is_answered(patient)


@pytest.mark.usefixtures("without_pause")
def test_a_job_that_hangs_is_given_up_and_its_worker_replaced(tmp_path: Path) -> None:
    clock, begun = Clock(), tmp_path / "begun"
    with open_pool(longest_seconds=60.0, clock=clock) as pool:
        hanging = pid_of_worker()
        pool.submit(Job(seconds=1000.0, begun=str(begun)))
        pool.submit(Job(seq=1, die=f"{tmp_path}/mark"))  # it has not begun, so that it may die once
        wait_until(begun.exists, "the job has begun")
        clock.now += 60.0
        assert pool.finished() == []
        assert pid_of_worker() == hanging
        clock.now += 1.0
        hung, patient = collect(pool, 2)
        assert pid_of_worker() != hanging
    assert (hung.result, hung.failure) == (None, "not tested: its test took longer than 60 s")
    assert is_answered(patient)


def test_a_worker_that_dies_idle_wakes_the_caller_and_is_replaced() -> None:
    with open_pool() as pool:
        pid = pid_of_worker()
        os.kill(pid, signal.SIGKILL)
        assert select.select(pool.descriptors, [], [], 60.0)[0]
        wait_until_replaced(pool, pid)
        pool.submit(Job())
        assert is_answered(*collect(pool, 1))


def test_nothing_is_readable_while_nothing_has_happened() -> None:
    with open_pool() as pool:
        pool.finished()
        assert not select.select(pool.descriptors, [], [], 0.0)[0]
        pool.submit(Job())
        assert select.select(pool.descriptors, [], [], 60.0)[0]
        assert is_answered(*pool.finished())
        assert not select.select(pool.descriptors, [], [], 0.0)[0]


def test_workers_that_keep_dying_are_not_restarted_all_the_time(tmp_path: Path) -> None:
    clock = Clock()
    with open_pool(
        prepare=functools.partial(prepare_once, tmp_path / "mark", die_at_once), clock=clock
    ) as pool:
        pool.submit(Job(die="always"))
        for _ in range(3):
            wait_until(lambda: not pool.finished() and not pool._workers, "the end of the worker")
            assert pool.finished() == []
            assert not children()
            assert pool.room == 0
            clock.now += worker_pool.RESTART_SECONDS
            pool.finished()
            assert children()


def test_a_replacement_that_hangs_at_its_start_is_replaced(tmp_path: Path) -> None:
    clock = Clock()
    with open_pool(
        prepare=functools.partial(prepare_once, tmp_path / "mark", prepare_for_ever), clock=clock
    ) as pool:
        os.kill(pid_of_worker(), signal.SIGKILL)
        wait_until(lambda: not pool.finished() and pool.n_ready == 0, "the end of the worker")
        hanging = pid_of_worker()
        (tmp_path / "mark").unlink()
        clock.now += 121.0
        wait_until_replaced(pool, hanging)


def test_a_worker_that_cannot_be_replaced_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def fail() -> None:
        raise OSError(24, "Too many open files")

    with open_pool(clock=clock) as pool:
        pid = pid_of_worker()
        with monkeypatch.context() as patch:
            patch.setattr(multiprocessing, "Pipe", fail)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not pool.finished() and pool.n_ready == 0, "the end of the worker")
        assert not children()
        clock.now += worker_pool.RESTART_SECONDS
        wait_until_replaced(pool, pid)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (prepare_nothing, r"lost\.dqmref: no reference bundle"),
        (die_at_once, "a worker ended at its start with exit code 7"),
        (prepare_for_ever, r"a worker did not start within 0\.5 s"),
    ],
)
def test_a_worker_that_cannot_start_is_an_error_of_the_constructor(
    prepare: Callable[[], Callable[[Job], Answer]], message: str
) -> None:
    longest = 0.5 if prepare is prepare_for_ever else 120.0
    with (
        pytest.raises(DqmError, match=message),
        open_pool(2, prepare, longest_start_seconds=longest),
    ):
        pass
    assert not children()


def test_workers_ignore_the_signals_of_the_daemon() -> None:
    with open_pool() as pool:
        pid = pid_of_worker()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        pool.submit(Job())
        (finished,) = collect(pool, 1)
    assert finished.result is not None
    assert finished.result.pid == pid


def test_no_worker_outlives_its_pool(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with open_pool(2) as pool:
        pool.submit(Job(seconds=1000.0, begun=str(begun)))
        wait_until(begun.exists, "the job has begun")
        assert len(children()) == 2
    assert not children()


def kill_one_while_it_receives_or_answers(pool: Pool, rng: np.random.Generator) -> None:
    for seq in range(4):
        pool.submit(Job(seq=seq, load=bytes(LARGE), answer_bytes=LARGE))
    victim = pids_of_workers()[rng.integers(2)]
    threading.Timer(rng.uniform(0.0, 0.05), os.kill, (victim, signal.SIGKILL)).start()
    collected = collect(pool, 4)
    assert [f.job.seq for f in collected] == [0, 1, 2, 3]
    assert all(map(is_answered, collected))
    wait_until(lambda: not pool.finished() and victim not in pids_of_workers(), "its end")
    assert not Path(f"/proc/{victim}").exists(), "it is a zombie"
    wait_until(lambda: not pool.finished() and pool.n_ready == 2, "two workers")


@pytest.mark.usefixtures("without_pause")
@pytest.mark.slow
def test_a_worker_may_be_killed_at_any_time() -> None:
    rng = np.random.default_rng(1)
    with open_pool(2) as pool:
        gc.collect()  # pools of other tests
        n_descriptors = count_descriptors()
        for _ in range(5):
            kill_one_while_it_receives_or_answers(pool, rng)
        assert count_descriptors() <= n_descriptors


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def hold_worker(told: Path, job: Job) -> None:
    """Life of a daemon that will be killed: tells the number of its worker, submits a job, and waits."""
    with open_pool() as pool:
        scratch = told.with_suffix(".new")
        scratch.write_text(str(pid_of_worker()))
        scratch.rename(told)
        pool.submit(job)
        threading.Event().wait()


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_workers_end_when_the_daemon_is_killed(seconds: float, tmp_path: Path) -> None:
    told, begun = tmp_path / "worker", tmp_path / "begun"
    daemon = multiprocessing.get_context("spawn").Process(
        target=hold_worker, args=(told, Job(seconds=seconds, begun=str(begun)))
    )
    daemon.start()
    wait_until(begun.exists, "a job has begun")
    daemon.kill()
    daemon.join()
    wait_until(lambda: not is_running(int(told.read_text())), "the end of the worker")


def test_a_program_that_forgets_its_pool_ends_all_the_same() -> None:
    program = (
        "from dqm.service.monitor.worker_pool import WorkerPool\n"
        "from tests.service.monitor.scripted import prepare\n"
        "pool = WorkerPool(prepare, n_workers=1, n_threads=1, longest_seconds=60.0, key=str)\n"
        "raise SystemExit(7)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 7


def test_without_workers_a_job_is_done_at_once() -> None:
    worker = LocalWorker(do)
    assert (worker.room, worker.descriptors, worker.finished()) == (1, (), [])
    worker.submit(Job(fail="no luck"))
    assert worker.room == 0
    (finished,) = worker.finished()
    assert (finished.result, finished.failure) == (None, "the test failed: no luck")
    assert (worker.room, worker.finished()) == (1, [])
    worker.close()
