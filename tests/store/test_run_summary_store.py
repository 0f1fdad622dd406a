"""Summaries of runs say what the verdicts say, whatever happens to the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.alarm import RunStatistics, summarise_run
from dqm.events import ChannelSummary, Explanation, Quality, RateResult, TestResult, Verdict, WindowCut
from dqm.store import BadShares, VerdictStore, sqlite_url
from dqm.store.backup import back_up, restore
from dqm.store.schema import run_summaries
from dqm.store.summary_filling import fill_summaries
from tests.verdicts import alter, make_verdict

from .test_verdict_store import EMPTY, FULL

Key = tuple[str, int]


@pytest.fixture
def store(url: str) -> Iterator[VerdictStore]:
    with VerdictStore(url) as opened:
        yield opened


def some(stream: str, run: int, seqs: range) -> list[Verdict]:
    """Windows of every kind; sums of their numbers are exact."""
    found = []
    for seq in seqs:
        quality = (Quality.GOOD, Quality.BAD, Quality.MEDIUM, Quality.NULL)[seq % 4]
        result = TestResult(
            500, 500.0, t=1.0, p=0.5, z=None if quality is Quality.NULL else 0.25 * (seq % 16),
            channels=ChannelSummary(64, seq % 3, 0, 1),
            rate=RateResult(WindowCut.TIME, 500.0, 0.0, 8.0, 0.5, 0.0),
        )  # fmt: skip
        explained = Explanation((), (), (("t_1", 0.75), ("t_2", 0.25)), text="unlike anything known")
        found.append(
            make_verdict(
                stream=stream, run=run, seq=seq, quality=quality, reason="", bundle="b", seconds=0.0,
                judged_at=1000.0 * run + seq, start=float(seq), end=seq + 1.0, result=result,
                conditions={"hv": 1200.0 + seq}, explanation=explained if seq % 4 in (1, 2) else None,
            )
        )  # fmt: skip
    return found


def all_of(store: VerdictStore) -> dict[Key, RunStatistics]:
    return {
        (one.stream, one.run): one
        for name in store.summaries.streams()
        for one in store.summaries.select(name)
    }


def expected(verdicts: list[Verdict]) -> dict[Key, RunStatistics]:
    runs: dict[Key, list[Verdict]] = {}
    for verdict in verdicts:
        runs.setdefault((verdict.window.stream, verdict.window.run), []).append(verdict)
    return {key: summarise_run(of_run) for key, of_run in runs.items()}


def with_explanations(store: VerdictStore) -> list[Verdict]:
    """Everything that is stored."""
    found = (store.find(v.window.stream, v.window.run, v.window.seq) for v in list(store.select()))
    return [verdict for verdict in found if verdict is not None]


def test_a_summary_is_what_its_verdicts_add_up_to(store: VerdictStore) -> None:
    given = [one for run in (1, 2) for s in ("a", "b") for one in some(s, run, range(20))]
    late = some("a", 1, range(20, 22))
    for verdict in [*given, *late, *given[:5]]:
        store.append(verdict)
    store.append(FULL)
    store.append(alter(EMPTY, stream="b"))
    assert all_of(store) == expected(with_explanations(store))
    assert set(all_of(store)) == {("a", 1), ("a", 2), ("b", 1), ("b", 2), ("chamber-1", FULL.window.run)}
    assert [one.run for one in store.summaries.select("a", last=1)] == [2]
    assert [one.run for one in store.summaries.select("a", runs=(1, 7))] == [1]


def fail(store: VerdictStore, *verdicts: Verdict) -> None:
    """Store verdicts in a transaction that fails."""
    with store.database.transaction():
        for verdict in verdicts:
            store.append(verdict)
        raise RuntimeError


def test_what_a_failed_transaction_added_is_gone(store: VerdictStore) -> None:
    first, second, third = some("a", 1, range(3))
    store.append(first)

    for verdicts in ((second,), (second, third), (some("a", 2, range(1))[0],)):
        with pytest.raises(RuntimeError):
            fail(store, *verdicts)
    for verdict in (third, second, *some("a", 2, range(3))):
        store.append(verdict)
    assert all_of(store) == expected(with_explanations(store))


def test_two_programs_that_write_one_run_disturb_no_summary(url: str) -> None:
    with VerdictStore(url) as one, VerdictStore(url) as other:
        for number, verdict in enumerate(some("a", 1, range(20))):
            (one if number % 3 else other).append(verdict)
        assert all_of(one) == expected(with_explanations(one))


def test_what_failed_in_one_program_does_not_return_after_another_has_written(url: str) -> None:
    a, b, c = some("a", 1, range(3))
    with VerdictStore(url) as one, VerdictStore(url) as other:
        with pytest.raises(RuntimeError):
            fail(one, a)
        other.append(b)
        one.append(c)
        assert all_of(one) == expected([b, c])


def test_a_summary_outlives_its_verdicts_and_counts_no_window_twice(store: VerdictStore) -> None:
    given = some("a", 1, range(12))
    for verdict in given[:9]:
        store.append(verdict)
    assert store.prune(given[6].judged_at, limit=4) == 4
    assert store.prune(given[6].judged_at, limit=4) == 2
    assert all_of(store) == expected(given[:9])
    for verdict in [*given[:5], *given[9:11]]:
        assert store.append(verdict), "a window that is judged again gets its verdict"
    assert all_of(store) == expected(given[:11])
    store.append(given[11])
    store.append(some("a", 2, range(1))[0])
    assert store.prune(1e9, limit=500)
    assert not list(store.select())
    assert all_of(store) == expected([*given, *some("a", 2, range(1))])
    assert store.summaries.prune(1500.0, limit=1) == 1
    assert store.summaries.prune(1500.0, limit=1) == 0
    assert set(all_of(store)) == {("a", 2)}


def test_a_copy_that_is_put_back_goes_on_with_its_own_summaries(tmp_path: Path) -> None:
    path, copy = tmp_path / "verdicts.sqlite", tmp_path / "copy.sqlite"
    given = some("a", 1, range(20))
    with VerdictStore(sqlite_url(path)) as store:
        for verdict in given[:8]:
            store.append(verdict)
        back_up(path, copy)
        for verdict in given[8:12]:
            store.append(verdict)
    aside = restore(copy, path, replace=True)
    assert aside is not None
    with VerdictStore(sqlite_url(path)) as store:
        assert all_of(store) == expected(given[:8])
        for verdict in given[6:]:
            store.append(verdict)
        assert all_of(store) == expected(given)
    aside.rename(path)  # the restore is undone
    with VerdictStore(sqlite_url(path)) as store:
        assert all_of(store) == expected(given[:12])
        store.append(given[12])
        assert all_of(store) == expected(given[:13])


def test_a_store_without_summaries_gets_them_from_its_verdicts(store: VerdictStore) -> None:
    for stream in ("a", "b"):
        for verdict in some(stream, 7, range(30)):
            store.append(verdict)
    before = all_of(store)
    with store.database.transaction() as connection:
        connection.execute(run_summaries.delete())
        fill_summaries(connection)
    assert all_of(store) == before
    assert before["a", 7].features["t_1"] == (15, 11.25)
    store.append(some("a", 7, range(30, 31))[0])
    assert all_of(store) == expected(with_explanations(store))


def test_shares_of_bad_windows_are_counted_in_ranges_of_runs(store: VerdictStore) -> None:
    for run, stream, n in ((3, "a", 4), (3, "b", 8), (5, "a", 8), (90, "b", 2), (2**40, "a", 4)):
        for verdict in some(stream, run, range(n)):
            store.append(verdict)
    assert store.summaries.last_runs(10) == [3, 5, 90, 2**40]
    assert store.summaries.last_runs(2) == [90, 2**40]
    assert store.summaries.last_runs(10, range(4, 91)) == [5, 90]
    assert store.summaries.last_runs(2, (1, 3, 4, 5, 90)) == [5, 90]
    assert store.summaries.last_runs(10, (4, 6)) == []
    found = sorted(
        store.summaries.bad_shares([(3, 5), (90, 2**40)]), key=lambda one: (one.column, one.stream)
    )
    assert found == [
        BadShares("a", 0, 9, 3), BadShares("b", 0, 6, 2), BadShares("a", 1, 3, 1), BadShares("b", 1, 2, 1),
    ]  # fmt: skip
    assert not list(store.summaries.bad_shares([]))


def test_an_empty_store_has_no_summaries(store: VerdictStore) -> None:
    assert store.summaries.streams() == []
    assert store.summaries.last_runs(5) == []
    assert store.summaries.select("a") == []


def test_the_last_qualities_come_newest_first_and_no_further_than_asked(
    store: VerdictStore,
) -> None:
    for verdict in some("a", 1, range(6)):
        store.append(verdict)
    found = list(store.last_qualities(since=1002.0, limit=100))
    assert [time for _, time, _ in found] == [1005.0, 1004.0, 1003.0, 1002.0]
    assert found[0] == ("a", 1005.0, Quality.BAD)
    assert len(list(store.last_qualities(since=0.0, limit=2))) == 2


def test_numbers_at_the_edge_are_summed_as_far_as_they_are_numbers(store: VerdictStore) -> None:
    wild = replace(FULL.result, z=float("-inf"))
    store.append(replace(FULL, result=wild))
    (found,) = store.summaries.select("chamber-1")
    assert (found.n_z, found.sum_z) == (1, -5.0)
