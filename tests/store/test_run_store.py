"""Borders of runs in a store of either kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dqm.events import RunRecord
from dqm.store import RunStore, VerdictStore


@pytest.fixture
def store(url: str) -> Iterator[VerdictStore]:
    with VerdictStore(url) as opened:
        yield opened


def record(run: int, position: int, stream: str = "a", **fields: object) -> RunRecord:
    return RunRecord(stream, run, "physics", position, noted_at=float(position), **fields)  # type: ignore[arg-type]


def test_the_last_runs_of_each_stream_come_back_in_the_order_in_which_they_began(store: VerdictStore) -> None:
    runs = RunStore(store.database)
    runs.keep([record(9, 1), record(7, 2), record(8, 3), record(7, 1, "b")])
    assert {(r.stream, r.run) for r in runs.recent(1)} == {("a", 8), ("b", 7)}
    assert [r.run for r in runs.recent(2) if r.stream == "a"] == [7, 8]
    assert {stream: r.position for stream, r in runs.of_run(7).items()} == {"a": 2, "b": 1}


def test_an_end_keeps_the_begin_that_is_known(store: VerdictStore) -> None:
    runs = RunStore(store.database)
    runs.keep([record(7, 1, began_at=5.0)])
    runs.keep([record(7, 1, ended_at=9.0, why="operator")])
    (found,) = runs.recent(9)
    assert (found.began_at, found.ended_at, found.why) == (5.0, 9.0, "operator")


def test_old_runs_are_removed_with_old_verdicts_but_the_present_ones_stay(store: VerdictStore) -> None:
    runs = RunStore(store.database)
    runs.keep([record(7, 1), record(8, 2), record(7, 1, "b", ended_at=2.0)])
    store.prune(1e9, 100)
    assert [(r.stream, r.run) for r in runs.recent(9)] == [("b", 7), ("a", 8)]


def test_one_run_of_one_stream_is_found(store: VerdictStore) -> None:
    runs = RunStore(store.database)
    known = record(7, 1, began_at=5.0, resumed_at=8.0)
    runs.keep([known, record(7, 1, "b")])
    assert (runs.find("a", 7), runs.find("a", 8), runs.find("c", 7)) == (known, None, None)
