"""Which kept windows stand for a run, and what is said where none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.errors import InputError
from dqm.events import Quality
from dqm.service.offline.kept_selection import KeptPlace, select_kept
from dqm.store import (
    GOOD_WINDOWS,
    WINDOWS,
    KeptChoice,
    Taken,
    VerdictStore,
    WindowKeeper,
    list_kept,
    sqlite_url,
)
from tests.service.small import window_of
from tests.world import verdict_of

Judge = Callable[[int, int, int, int, int], None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> KeptPlace:
    return KeptPlace(tmp_path, 0.05, 1024.0)


@pytest.fixture
def judge(tmp_path: Path, store: VerdictStore) -> Judge:
    """Judge windows of a run of chamber-1, so many Good and Bad ones, of which some are kept."""
    good, others = (WindowKeeper(tmp_path / folder, 10**9) for folder in (GOOD_WINDOWS, WINDOWS))

    def do(run: int, n_good: int, kept_good: int, n_bad: int, kept_bad: int) -> None:
        for seq in range(n_good + n_bad):
            is_good = seq < n_good
            verdict = verdict_of(seq=seq, p=0.5 if is_good else 1e-9, run=run)
            store.append(verdict)
            window = window_of(run=run, seq=seq)
            if is_good and seq < kept_good:
                good.keep(window, verdict)
            if not is_good and seq - n_good < kept_bad:
                others.keep(window, verdict)

    return do


def qualities(paths: tuple[Path, ...]) -> tuple[int, int]:
    """Count the Good windows and the others."""
    n_good = sum(path.parent.parent.name == GOOD_WINDOWS for path in paths)
    return n_good, len(paths) - n_good


def test_a_fair_sample_has_the_same_share_of_each_quality(
    judge: Judge, store: VerdictStore, place: KeptPlace
) -> None:
    judge(12, 40, 10, 8, 8)
    side = select_kept(KeptChoice("chamber-1", (12,)), place, store)
    assert qualities(side.paths) == (10, 2)
    assert side.told == "10 of 40 windows that were Good and 2 of 8 windows that were Medium or Bad"
    assert side.label == "chamber-1, run 12"
    again = select_kept(KeptChoice("chamber-1", (12,)), place, store)
    assert again == side, "the same windows, in the same order"


def test_all_good_or_all_others_are_taken_if_that_is_asked(
    judge: Judge, store: VerdictStore, place: KeptPlace
) -> None:
    judge(12, 40, 10, 8, 8)
    judge(13, 4, 3, 1, 1)
    found = {
        taken: qualities(select_kept(KeptChoice("chamber-1", (12, 13), taken=taken), place, store).paths)
        for taken in (Taken.GOOD, Taken.ANOMALOUS)
    }
    assert found == {Taken.GOOD: (13, 0), Taken.ANOMALOUS: (0, 9)}


def test_other_windows_kept_later_are_another_comparison(
    judge: Judge, store: VerdictStore, place: KeptPlace
) -> None:
    judge(12, 5, 5, 0, 0)
    before = select_kept(KeptChoice("chamber-1", (12,)), place, store)
    assert select_kept(KeptChoice("chamber-1", (12,)), place, store).digest == before.digest
    judge(12, 9, 9, 0, 0)
    assert select_kept(KeptChoice("chamber-1", (12,)), place, store).digest != before.digest


def test_a_window_is_found_whatever_it_is(judge: Judge, store: VerdictStore, place: KeptPlace) -> None:
    judge(12, 4, 1, 1, 1)
    for seq in (0, 4):
        (path,) = select_kept(KeptChoice("chamber-1", (12,), seq), place, store).paths
        assert path.name == f"12-{seq}.parquet"


@pytest.mark.parametrize(
    ("kept", "choice", "what", "fix"),
    [
        ((40, 0, 8, 8), {}, "none of 40 Good windows is kept", "Raise [keep] good_share (0.05)"),
        ((40, 4, 8, 0), {}, "none of 8 Medium or Bad windows is kept", "windows_megabytes (1024)"),
        ((0, 0, 0, 0), {}, "no window was judged", "'dqm history'"),
        ((4, 4, 0, 0), {"taken": Taken.ANOMALOUS}, "no window was Medium or Bad", "Choose other windows"),
        ((4, 0, 1, 0), {"seq": 0}, "the window is Good, and its events were not kept", "good_share"),
        ((4, 0, 1, 0), {"seq": 4}, "the window is Bad, and its events were deleted", "windows_megabytes"),
        ((4, 0, 1, 0), {"seq": 9}, "no such window was judged", "'dqm history'"),
    ],
)
def test_what_is_not_kept_is_told_with_what_to_do(
    judge: Judge,
    store: VerdictStore,
    place: KeptPlace,
    kept: tuple[int, ...],
    choice: dict,
    what: str,
    fix: str,
) -> None:
    judge(12, *kept)
    with pytest.raises(InputError) as caught:
        select_kept(KeptChoice("chamber-1", (12,), **choice), place, store)
    assert what in caught.value.what
    assert fix in str(caught.value.fix)
    assert "chamber-1, run 12" in str(caught.value.where)


def test_without_a_share_one_is_told_to_set_it(judge: Judge, store: VerdictStore, place: KeptPlace) -> None:
    judge(12, 40, 0, 1, 1)
    with pytest.raises(InputError, match=r"Set \[keep\] good_share, such as 0.05, reload the daemon"):
        select_kept(KeptChoice("chamber-1", (12,)), replace(place, good_share=0.0), store)


def test_windows_that_are_null_are_no_part_of_a_sample(
    judge: Judge, store: VerdictStore, place: KeptPlace
) -> None:
    judge(12, 4, 2, 0, 0)
    for seq in range(10, 20):
        store.append(verdict_of(seq=seq, p=None, run=12))
    assert store.count_qualities("chamber-1", {12}) == {Quality.GOOD: 4, Quality.NULL: 10}
    assert len(select_kept(KeptChoice("chamber-1", (12,)), place, store).paths) == 2


def test_strange_files_are_no_windows(tmp_path: Path) -> None:
    folder = tmp_path / WINDOWS / "chamber-1"
    folder.mkdir(parents=True)
    for name in (
        "7-1.parquet",
        ".7-2.parquet.tmp",
        "notes.txt",
        "x-1.parquet",
        "7-1-2.parquet",
        "\u0663-1.parquet",
    ):
        (folder / name).touch()
    assert list(list_kept(tmp_path / WINDOWS, "chamber-1")) == [(7, 1)]
    assert list_kept(tmp_path / WINDOWS, "chamber-2") == {}


@pytest.mark.parametrize(
    ("runs", "seq", "what"), [((), None, "no run is given"), ((1, 2), 3, "window 3 of 2 runs")]
)
def test_a_choice_names_a_run(runs: tuple[int, ...], seq: int | None, what: str) -> None:
    with pytest.raises(InputError, match=what):
        KeptChoice("chamber-1", runs, seq)


def test_a_choice_is_named_in_short() -> None:
    assert str(KeptChoice("c", (12, 10), taken=Taken.GOOD)) == "c, runs 10, 12, Good windows"
    assert str(KeptChoice("c", tuple(range(10, 20)))) == "c, 10 runs from 10 to 19"
