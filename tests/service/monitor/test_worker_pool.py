"""Worker processes, real ones, doing well and badly."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dqm.events import Verdict
from dqm.service.monitor.worker_pool import AHEAD, WindowTest, WorkerPool
from tests.service.monitor.scripted import die_at_once, prepare, prepare_nothing, verdict_on
from tests.service.small import wait_until, window_of


@contextmanager
def pool(
    n_workers: int = 1, longest: float = 30.0, what: Callable[[], Mapping[str, WindowTest]] = prepare
) -> Iterator[WorkerPool]:
    opened = WorkerPool(what, n_workers, 1, longest, verdict_on)
    try:
        yield opened
    finally:
        opened.close()


def collect(workers: WorkerPool, n: int) -> list[Verdict]:
    told: list[Verdict] = []

    def enough() -> bool:
        told.extend(workers.finished())
        return len(told) >= n

    wait_until(enough, f"{n} verdicts")
    return told


def test_workers_share_the_windows_and_each_stream_keeps_its_order() -> None:
    slow = {"seconds": 0.3}
    with pool(2) as workers:
        assert workers.room == 2 * AHEAD
        workers.submit(window_of(stream="a", seq=0, conditions=slow))
        workers.submit(window_of(stream="a", seq=1))
        workers.submit(window_of(stream="b", seq=0))
        assert workers.room == 2 * AHEAD - 3
        told = collect(workers, 3)
    assert [v.window.seq for v in told if v.window.stream == "a"] == [0, 1]
    assert len({v.reason for v in told}) == 2
    assert all(v.reason.endswith("with 1 threads") for v in told)


def test_a_window_larger_than_any_pipe_does_not_hold_up_the_daemon() -> None:
    large = np.zeros((200_000, 2))
    with pool() as workers:
        begin = time.monotonic()
        workers.submit(window_of(stream="a", conditions={"seconds": 0.5}))
        workers.submit(window_of(large, stream="a", seq=1))
        assert time.monotonic() - begin < 0.3
        assert [v.result.n_data for v in collect(workers, 2)] == [60, 200_000]


def test_an_error_of_the_test_is_told_and_the_worker_goes_on() -> None:
    with pool() as workers:
        workers.submit(window_of(stream="a", conditions={"fail": "no luck"}))
        workers.submit(window_of(stream="a", seq=1))
        failed, fine = collect(workers, 2)
    assert failed.reason == "the test failed: no luck"
    assert fine.reason.startswith("tested by")


def test_a_window_whose_worker_is_killed_is_tested_by_the_next(tmp_path: Path) -> None:
    with pool() as workers:
        workers.submit(window_of(stream="a", conditions={"die": "once", "mark": f"{tmp_path}/mark"}))
        workers.submit(window_of(stream="a", seq=1))
        told = collect(workers, 2)
        assert workers.n_ready == 1
    assert [v.window.seq for v in told] == [0, 1]
    assert all(v.reason.startswith("tested by") for v in told)


def test_a_window_that_kills_every_worker_is_given_up_and_the_others_are_tested() -> None:
    with pool(2) as workers:
        workers.submit(window_of(stream="a", conditions={"die": "always"}))
        workers.submit(window_of(stream="b"))
        told = {v.window.stream: v.reason for v in collect(workers, 2)}
    assert told["a"] == "not tested: its worker died with exit code -9"
    assert told["b"].startswith("tested by")


def test_a_test_that_hangs_is_given_up_and_its_worker_replaced() -> None:
    with pool(longest=0.5) as workers:
        workers.submit(window_of(stream="a", conditions={"seconds": 1000.0}))
        workers.submit(window_of(stream="a", seq=1))
        told = collect(workers, 2)
    assert [v.reason[:40] for v in told] == ["not tested: its test took longer than 0.", told[1].reason[:40]]
    assert told[1].reason.startswith("tested by")


@pytest.mark.parametrize(
    ("what", "message"),
    [(prepare_nothing, r"lost\.dqmref: no reference bundle"), (die_at_once, "exit code 7")],
)
def test_a_worker_that_cannot_start_stops_the_daemon(
    what: Callable[[], Mapping[str, WindowTest]], message: str
) -> None:
    with pytest.raises(Exception, match=message), pool(what=what):
        pass


def test_no_worker_outlives_its_pool() -> None:
    with pool(2) as workers:
        processes = [worker.process for worker in workers._workers]
        workers.submit(window_of(stream="a", conditions={"seconds": 1000.0}))
    assert not any(process.is_alive() for process in processes)


def hold_workers(ready: Path) -> None:
    with pool() as workers:
        scratch = ready.with_suffix(".new")
        scratch.write_text(str(workers._workers[0].process.pid))
        scratch.rename(ready)
        time.sleep(1000.0)


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_workers_end_when_the_daemon_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    holder = multiprocessing.get_context("spawn").Process(target=hold_workers, args=(ready,))
    holder.start()
    wait_until(ready.exists, "a worker")
    holder.kill()
    holder.join()
    wait_until(lambda: not is_running(int(ready.read_text())), "the end of the worker")
