"""Comparisons beside the daemon's work: in processes of their own, one at a time, within limits."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqm.service.monitor.comparison_jobs import MOST_WAITING, NICENESS, ComparisonJobs
from dqm.service.offline.kept_selection import KeptPlace
from dqm.store import GOOD_WINDOWS, WINDOWS, KeptChoice, Taken, VerdictStore, WindowKeeper, sqlite_url
from dqm.web.comparisons import Comparison, ComparisonState
from dqm.web.problems import BusyError, NotFoundError
from tests.service.small import faulty_events, healthy_events, window_of
from tests.waiting import wait_until
from tests.world import verdict_of

ONE, TWO = KeptChoice("chamber-1", (12,)), KeptChoice("chamber-1", (13,))
LONG = 10_000
"""Permutations that no test waits for."""

Start = Callable[..., ComparisonJobs]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs 12 (like the reference) and 13 (far from it) of chamber-1, of which all events are kept."""
    jobs: list[ComparisonJobs] = []
    keepers = [WindowKeeper(tmp_path / folder, 10**9) for folder in (GOOD_WINDOWS, WINDOWS)]
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as store:
        for run, keeper in zip((12, 13), keepers, strict=True):
            for seq in range(4):
                verdict = verdict_of(seq=seq, p=0.5 if run == 12 else 1e-9, run=run)
                store.append(verdict)
                draw = healthy_events if run == 12 else faulty_events
                keeper.keep(window_of(draw(300, 10 * run + seq), run=run, seq=seq), verdict)

        def make(**options: object) -> ComparisonJobs:
            place = KeptPlace(tmp_path, 1.0, 1024.0)
            options = {"lowers_priority": False} | options  # tests run beside others
            jobs.append(ComparisonJobs(lambda: place, store, time.time, **options))  # type: ignore[arg-type]
            return jobs[-1]

        yield make
        for one in jobs:
            one.stop()


def processes() -> list[multiprocessing.process.BaseProcess]:
    """Processes that compare."""
    return [child for child in multiprocessing.active_children() if child.name == "dqm-comparison"]


def wait_for(jobs: ComparisonJobs, begun: Comparison, *states: ComparisonState) -> Comparison:
    wait_until(lambda: jobs.find(begun.identifier).state in states, f"it is {' or '.join(states)}")
    return jobs.find(begun.identifier)


@pytest.mark.slow
def test_two_runs_are_compared_with_p_and_maps(start: Start) -> None:
    jobs = start()
    begun = jobs.start(ONE, TWO, 99, "maria")
    assert (begun.state, begun.user, begun.first) == (ComparisonState.WAITING, "maria", "chamber-1, run 12")
    wait_for(jobs, begun, ComparisonState.DONE)
    outcome = jobs.find(begun.identifier).outcome
    assert outcome is not None
    assert outcome.p == pytest.approx(0.01)
    assert (outcome.n_first, outcome.n_second) == (1200, 1200)
    assert outcome.explanation.ranking[0][0] == "b"
    assert [one.features for one in outcome.explanation.maps] == [("a",), ("b",)]
    assert len(outcome.explanation.pairs) == 1
    assert jobs.start(ONE, TWO, 99, "jo").identifier == begun.identifier, "made already"
    assert [one.p for one in jobs.all()] == [outcome.p]
    assert processes() == []


@pytest.mark.slow
def test_one_process_at_a_time_has_a_low_priority_and_can_be_cancelled(start: Start) -> None:
    jobs = start(lowers_priority=True)
    first = jobs.start(ONE, TWO, LONG, "maria")
    second = jobs.start(TWO, ONE, LONG, "maria")
    wait_until(processes, "the first goes on")
    (process,) = processes()
    assert process.pid is not None
    wait_until(
        lambda: (
            os.getpriority(os.PRIO_PROCESS, process.pid or 0) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        ),
        "it steps back",
    )
    wait_until(
        lambda: Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000", "it goes first"
    )
    assert jobs.find(second.identifier).state is ComparisonState.WAITING
    assert jobs.cancel(second.identifier).state is ComparisonState.CANCELLED
    assert jobs.cancel(first.identifier).state is ComparisonState.CANCELLED
    wait_until(lambda: not processes(), "its process is gone")
    assert jobs.start(ONE, TWO, LONG, "maria").state is ComparisonState.WAITING, "asked for again"


def test_too_many_are_refused(start: Start) -> None:
    jobs = start()
    running = jobs.start(ONE, TWO, LONG, "maria")
    wait_for(jobs, running, ComparisonState.RUNNING)
    for n in range(MOST_WAITING):
        jobs.start(ONE, TWO, LONG - 1 - n, "maria")
    with pytest.raises(BusyError, match=f"{MOST_WAITING} comparisons wait already"):
        jobs.start(ONE, TWO, 99, "maria")
    assert jobs.start(ONE, TWO, LONG, "jo").identifier == running.identifier, "the same is none more"


def test_one_that_takes_too_long_is_given_up(start: Start) -> None:
    jobs = start(longest_seconds=0.5)
    found = wait_for(jobs, jobs.start(ONE, TWO, LONG, "maria"), ComparisonState.FAILED)
    assert found.problem.startswith("it took longer than 0.5 s. Compare fewer runs")
    assert processes() == []


@pytest.mark.slow
def test_one_whose_process_dies_says_so_and_the_end_of_the_daemon_ends_the_next(start: Start) -> None:
    jobs = start()
    begun = jobs.start(ONE, TWO, LONG, "maria")
    wait_until(processes, "it goes on")
    processes()[0].kill()
    found = wait_for(jobs, begun, ComparisonState.FAILED)
    assert "its process ended by signal 9 (SIGKILL)" in found.problem
    again = jobs.start(ONE, TWO, LONG, "maria")
    assert again.identifier == begun.identifier
    wait_until(lambda: jobs.find(again.identifier).done > 0, "the next goes on")
    jobs.stop()
    assert processes() == []


def test_kept_runs_are_listed(start: Start) -> None:
    jobs = start()
    told = [(run.run, run.n_good, run.n_anomalous) for run in jobs.kept_runs("chamber-1")]
    assert told == [(13, 0, 4), (12, 4, 0)]
    assert jobs.kept_runs("chamber-2") == []
    assert "100 % of the Good ones" in jobs.describe_keeping()
    with pytest.raises(NotFoundError, match="no comparison 'x'"):
        jobs.find("x")
    only_good = KeptChoice("chamber-1", (12,), taken=Taken.GOOD)
    assert jobs.start(only_good, TWO, LONG, "maria").first == "chamber-1, run 12, Good windows"
