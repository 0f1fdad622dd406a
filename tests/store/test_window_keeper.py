from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dqm.errors import StoreError
from dqm.events import Origin, Window, WindowCut
from dqm.store import WindowKeeper, read_kept

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


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing"])
def test_a_file_that_is_no_kept_window_is_told(tmp_path: Path, content: bytes) -> None:
    keeper = WindowKeeper(tmp_path, 1_000_000)
    keeper.keep(WINDOW, FULL)
    keeper.path("chamber-1", 7, 9).write_bytes(content)
    with pytest.raises(StoreError, match="no kept window"):
        read_kept(tmp_path, "chamber-1", [7])
    assert len(read_kept(tmp_path, "chamber-1", [8])) == 0
    keeper.path("chamber-1", 7, 9).rename(tmp_path / "chamber-1" / "notes.parquet")
    with pytest.raises(StoreError, match="no kept window"):
        read_kept(tmp_path, "chamber-1", [7])
