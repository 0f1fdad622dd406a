from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dqm.alarm import Amendment, Scope, Withdrawal
from dqm.errors import StoreError
from dqm.events import Origin, Window, WindowCut
from dqm.export.flags import take_spans
from dqm.store import (
    CertificationStore,
    VerdictStore,
    WindowKeeper,
    is_labelled,
    list_kept_runs,
    read_kept,
    sqlite_url,
)
from tests.verdicts import alter

from .test_verdict_store import FULL

WINDOW = Window(
    stream="chamber-1",
    run=7,
    seq=3,
    run_type="cosmics",
    origin=Origin.SIMULATED,
    cut=WindowCut.COUNT,
    names=("t_1", "theta"),
    x=np.random.default_rng(1).normal(size=(500, 2)),
)


def kept(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.glob("*/*"))


def test_a_window_comes_back_with_its_verdict(tmp_path: Path) -> None:
    keeper = WindowKeeper(tmp_path / "windows", 1_000_000)
    assert keeper.keep(WINDOW, FULL)
    path = keeper.path("chamber-1", 7, 3)
    table = pq.read_table(path)
    assert np.array_equal(np.column_stack([table["t_1"], table["theta"]]), WINDOW.x)
    facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert facts["quality"] == "Bad"
    assert facts["reason"] == FULL.reason
    assert keeper.n_bytes == path.stat().st_size


def test_the_oldest_give_way_to_the_newest(tmp_path: Path) -> None:
    size = 0
    probe = WindowKeeper(tmp_path / "probe", 1_000_000)
    probe.keep(WINDOW, FULL)
    size = probe.n_bytes
    keeper = WindowKeeper(tmp_path / "windows", int(3.5 * size))
    for seq in range(6):
        keeper.keep(replace(WINDOW, seq=seq), FULL)
        assert keeper.n_bytes <= 3.5 * size
    assert kept(tmp_path / "windows") == [f"chamber-1/7-{seq}.parquet" for seq in (3, 4, 5)]


def test_labelled_windows_give_way_last_and_hold_half_of_the_room(tmp_path: Path) -> None:
    probe = WindowKeeper(tmp_path / "probe", 1_000_000)
    probe.keep(WINDOW, FULL)
    size = probe.n_bytes
    labelled = {("chamber-1", 7, seq) for seq in (0, 1, 4)}
    directory = tmp_path / "windows"

    def keep(keeper: WindowKeeper, *numbers: int) -> list[int]:
        for seq in numbers:
            assert keeper.keep(replace(WINDOW, seq=seq), FULL)
            assert keeper.n_bytes <= 4.5 * size
        return sorted(int(name.removesuffix(".parquet").rpartition("-")[2]) for name in kept(directory))

    keeper = WindowKeeper(directory, int(4.5 * size), lambda *window: window in labelled)
    assert keep(keeper, 0, 1, 2, 3) == [0, 1, 2, 3]
    assert keep(keeper, 4) == [0, 1, 3, 4], "the oldest without a label went"
    assert keep(keeper, 5) == [0, 1, 4, 5]
    assert keep(keeper, 6) == [1, 4, 5, 6], "a third labelled one is more than half: the oldest of them went"
    assert keep(keeper, 7, 8) == [1, 4, 7, 8]
    again = WindowKeeper(directory, int(4.5 * size), lambda *window: window in labelled)
    assert keep(again, 9) == [1, 4, 8, 9], "a restart changes nothing"
    labelled.clear()
    fresh = WindowKeeper(directory, int(4.5 * size), lambda *window: window in labelled)
    assert keep(fresh, 10) == [4, 8, 9, 10], "a label was withdrawn"
    fresh.resize(int(1.5 * size))
    assert kept(directory) == ["chamber-1/7-10.parquet"]


def test_where_labels_cannot_be_read_nothing_is_removed_or_left_half(tmp_path: Path) -> None:
    def fail(*_window: object) -> bool:
        raise StoreError("the store does not answer")

    keeper = WindowKeeper(tmp_path, 1_000_000, fail)
    assert keeper.keep(WINDOW, FULL)
    with pytest.raises(StoreError, match="does not answer"):
        keeper.resize(keeper.n_bytes - 1)
    with pytest.raises(StoreError, match="does not answer"):
        keeper.resize(keeper.n_bytes + 1) or keeper.keep(replace(WINDOW, seq=4), FULL)
    assert kept(tmp_path) == ["chamber-1/7-3.parquet"]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(7), {1, 2, 3}),
        (Scope(7, "chamber-1", first=2, last=2), {2}),
        (Scope(7, "chamber-2"), set()),
        (Scope(8), set()),
        (Scope(7, start=1000.0, end=1015.0), {1}),
    ],
)
def test_a_window_is_labelled_by_number_run_or_time(tmp_path: Path, scope: Scope, expected: set[int]) -> None:
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as store:
        for seq in (1, 2, 3):
            store.append(
                alter(FULL, stream="chamber-1", run=7, seq=seq, start=990.0 + 10 * seq, end=1000.0 + 10 * seq)
            )
        journal = CertificationStore(store.database)
        label = journal.add(Amendment(0, 5.0, "eva", "seen", scope, None, "HV trip", {}))
        assert {seq for seq in (1, 2, 3) if is_labelled(store, "chamber-1", 7, seq)} == expected
        journal.add(Withdrawal(0, 6.0, "eva", "no", label))
        assert not any(is_labelled(store, "chamber-1", 7, seq) for seq in (1, 2, 3))


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(1000.0, 1010.0, {2}), (1000.0, 1006.0, {2}), (1005.0, 1016.0, {2, 3})]
)
def test_a_window_without_times_is_labelled_from_the_verdict_before_it_to_its_own(
    tmp_path: Path, start: float, end: float, expected: set[int]
) -> None:
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as store:
        for seq in (1, 2, 3):
            made = alter(FULL, stream="chamber-1", run=7, seq=seq, start=None, end=None)
            store.append(replace(made, judged_at=990.0 + 10 * seq, seconds=1.0))
            store.append(alter(made, stream="chamber-2"))  # another stream does not count
        said = Amendment(0, 5.0, "eva", "seen", Scope(7, start=start, end=end), None, "HV trip", {})
        CertificationStore(store.database).add(said)
        assert {seq for seq in (1, 2, 3) if is_labelled(store, "chamber-1", 7, seq)} == expected
        spans = take_spans(store.outline(7, "chamber-1"), by_judgement=True)
        assert spans == [store.find_span(span.verdict) for span in spans], "flags go by the same"


def test_the_cap_holds_across_restarts(tmp_path: Path) -> None:
    first = WindowKeeper(tmp_path, 1_000_000)
    for seq in range(4):
        first.keep(replace(WINDOW, seq=seq), FULL)
        os.utime(first.path("chamber-1", 7, seq), (seq, seq))
    again = WindowKeeper(tmp_path, first.n_bytes)
    assert again.n_bytes == first.n_bytes
    again.keep(replace(WINDOW, seq=4), FULL)
    assert "chamber-1/7-0.parquet" not in kept(tmp_path)
    assert "chamber-1/7-4.parquet" in kept(tmp_path)


def test_a_window_larger_than_the_cap_is_not_kept_and_displaces_none(tmp_path: Path) -> None:
    keeper = WindowKeeper(tmp_path, 20_000)
    keeper.keep(WINDOW, FULL)
    before = kept(tmp_path)
    large = replace(WINDOW, seq=9, x=np.random.default_rng(1).normal(size=(5000, 2)))
    assert not keeper.keep(large, FULL)
    assert kept(tmp_path) == before


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    (tmp_path / "chamber-1").mkdir()
    (tmp_path / "chamber-1" / ".7-3.parquet.tmp").write_bytes(b"half")
    WindowKeeper(tmp_path, 1000)
    assert kept(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot keep windows: Not a directory"):
        WindowKeeper(tmp_path / "file" / "windows", 1000)


def test_kept_windows_are_read_in_the_order_of_runs_and_windows(tmp_path: Path) -> None:
    keeper = WindowKeeper(tmp_path, 1_000_000)
    for run, seq in [(12, 0), (10, 11), (10, 2), (9, 0), (13, 0)]:
        keeper.keep(replace(WINDOW, run=run, seq=seq), FULL)
    keeper.keep(replace(WINDOW, stream="chamber-10", run=10), FULL)
    found = read_kept(tmp_path, "chamber-1", range(10, 13))
    assert [(one.run, one.seq) for one in found] == [(10, 2), (10, 11), (12, 0)]
    assert found[0].names == WINDOW.names
    assert np.array_equal(found[0].x, WINDOW.x)
    assert (found[0].origin, found[0].bundle) == ("simulated", FULL.bundle)
    assert read_kept(tmp_path / "none", "chamber-1", range(20)) == []
    runs = list_kept_runs(tmp_path, "chamber-1")
    assert set(runs) >= {window.run for window in found}
    assert list(runs) == sorted(set(runs))
    assert list_kept_runs(tmp_path / "none", "chamber-1") == ()


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing"])
def test_a_file_that_is_no_kept_window_is_told(tmp_path: Path, content: bytes) -> None:
    keeper = WindowKeeper(tmp_path, 1_000_000)
    keeper.keep(WINDOW, FULL)
    keeper.path("chamber-1", 7, 9).write_bytes(content)
    with pytest.raises(StoreError, match="is not a kept window"):
        read_kept(tmp_path, "chamber-1", [7])
    assert len(read_kept(tmp_path, "chamber-1", [8])) == 0
    keeper.path("chamber-1", 7, 9).rename(tmp_path / "chamber-1" / "notes.parquet")
    with pytest.raises(StoreError, match="is not a kept window"):
        read_kept(tmp_path, "chamber-1", [7])
