from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm import events
from dqm.errors import StoreError
from dqm.events import (
    Explanation,
    Likeness,
    NuisanceResult,
    Origin,
    PMethod,
    Profiled,
    Quality,
    RatioMap,
    Verdict,
)
from dqm.store import VerdictStore, encode_explanation, sqlite_url
from dqm.store.schema import SCHEMA_VERSION
from tests.verdicts import alter, make_verdict

FULL = make_verdict(
    stream="chamber-1",
    run=2**63 - 1,
    seq=0,
    quality=Quality.BAD,
    reason="p = 0.0003 is below 0.001",
    result=events.TestResult(
        n_data=512,
        n_expected=500.25,
        t=201.5,
        p=3e-4,
        p_low=2e-4,
        p_high=5e-4,
        p_method=PMethod.TAIL,
        z=3.43,
        tau=215.25,
        delta=13.75,
        nuisances={
            "gas": NuisanceResult(0.003, Profiled(0.002, 0.001, -1.5), Profiled(0.0025, 0.0015, -0.5)),
            "rate": NuisanceResult(None, Profiled(0.1, 0.05, None), Profiled(0.05, 0.07, None)),
        },
        remarks=("rate has no measurement: fitted without it",),
        rate=events.RateResult(
            events.WindowCut.TIME, n_expected=487.5, uncertainty=0.02, live_seconds=10.0, p=1e-15, z=-7.9
        ),
        rolling=events.RollingResult(
            10, (3, 1), (4, 2), p=0.2, p_low=0.1, p_high=0.3, p_method=events.PMethod.EMPIRICAL, z=0.84
        ),
        nan=events.NanResult("t_2", share=0.02, expected_share=0.001, n_dropped=10, p=1e-9),
    ),
    bundle="3f9a",
    seconds=0.25,
    judged_at=1.7e9,
    run_type="cosmics",
    origin=Origin.SIMULATED,
    start=1.69e9,
    end=1.69e9 + 10,
    n_lost=3,
    warnings={"gas": "gas is 3.4 sigma below what its measurement says"},
    conditions={"strip_voltage_v": -1200.0, "trigger": "external"},
    is_late=True,
    digest="4f3368936150369a6be035e5050186af",
)
EMPTY = make_verdict(
    stream="chamber-1",
    run=1,
    seq=0,
    quality=Quality.NULL,
    reason="12 events, at least 50 needed",
    result=events.TestResult(n_data=12, n_expected=0.0, reason="too few events"),
    bundle="",
    seconds=0.0,
    judged_at=1.7e9,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "verdicts.sqlite"


@pytest.fixture
def store(url: str) -> Iterator[VerdictStore]:
    with VerdictStore(url) as opened:
        yield opened


@pytest.mark.parametrize("verdict", [FULL, EMPTY])
def test_a_verdict_comes_back_as_it_was(store: VerdictStore, verdict: Verdict) -> None:
    assert store.append(verdict)
    assert store.latest() == [verdict]


def test_an_explanation_is_given_when_the_window_is_looked_up(store: VerdictStore) -> None:
    ratio_map = RatioMap(
        ("t_1", "theta"),
        (np.array([0.0, 1.5, 3.0]), np.array([-30.0, 30.0])),
        *(np.array([[1.0], [value]]) for value in (2.0, 0.25, 7.0, 6.5)),
    )
    explanation = Explanation(
        maps=(replace(ratio_map, features=("t_1",), edges=ratio_map.edges[:1]),),
        pairs=(ratio_map,),
        ranking=(("t_1", 0.75), ("theta", 0.25)),
        likenesses=(Likeness("dead wire", 0.875),),
        text="looks like dead wire, 88 %",
    )
    store.append(alter(FULL, explanation=explanation))
    assert store.latest() == [FULL]
    found = store.find(FULL.window.stream, FULL.window.run, FULL.window.seq)
    assert found is not None
    assert found.explanation is not None
    assert encode_explanation(found.explanation) == encode_explanation(explanation)
    assert found.explanation.pairs[0].data.shape == (2, 1)
    assert store.find(FULL.window.stream, FULL.window.run, FULL.window.seq + 1) is None


def test_maps_are_stored_with_six_digits() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)
    values[:9] = 0.0, -0.0, 1.0, 0.1, 1e-310, 5e-324, 1.7e308, 999_999.5, 1_234_567.0
    zeros = np.zeros(2000)
    ratio_map = RatioMap(("t_1",), (np.arange(2001.0),), zeros, zeros, values, zeros)
    content = encode_explanation(Explanation((ratio_map,), (), (), (), ""))
    assert content["maps"][0]["data"] == [float(f"{value:.6g}") for value in values]


def test_an_identity_is_stored_once(store: VerdictStore) -> None:
    assert store.append(FULL)
    assert not store.append(alter(FULL, quality=Quality.GOOD))
    assert store.latest(limit=10) == [FULL]


def test_windows_beyond_the_largest_number_of_a_run_are_new(store: VerdictStore) -> None:
    stream, run = FULL.window.stream, FULL.window.run
    assert store.first_new(stream, run) == 0
    for number in (3, 8, 5):
        store.append(alter(FULL, seq=number))
    assert store.first_new(stream, run) == 9
    assert store.first_new(stream, run - 1) == store.first_new("another", run) == 0


def test_verdicts_outlive_the_process_that_wrote_them(url: str) -> None:
    first = VerdictStore(url)
    first.append(FULL)
    with VerdictStore(url, create=False) as second:  # the first was never closed
        assert second.latest() == [FULL]
        assert not second.append(FULL)
    first.close()


def test_every_commit_is_synced_to_disk(path: Path) -> None:
    with VerdictStore(sqlite_url(path)) as store, store.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_conditions_of_select_are_joined_by_and(store: VerdictStore) -> None:
    for seq in range(6):
        quality = Quality.BAD if seq % 2 else Quality.GOOD
        stream = "a" if seq < 4 else "b"
        store.append(alter(FULL, stream=stream, run=seq % 3, seq=seq, quality=quality, judged_at=seq))

    def pick(**conditions: object) -> list[int]:
        return [verdict.window.seq for verdict in store.select(**conditions)]  # type: ignore[arg-type]

    assert pick() == [0, 1, 2, 3, 4, 5]
    assert pick(stream="a") == [0, 1, 2, 3]
    assert pick(stream="a", quality=Quality.BAD) == [1, 3]
    assert pick(run=2) == [2, 5]
    assert pick(since=3.0) == [3, 4, 5]
    assert pick(limit=2) == [4, 5]
    assert pick(stream="a", limit=2) == [2, 3]
    assert [verdict.window.seq for verdict in store.latest("a", 2)] == [3, 2]
    assert store.counts() == {
        ("a", Quality.GOOD): 2,
        ("a", Quality.BAD): 2,
        ("b", Quality.GOOD): 1,
        ("b", Quality.BAD): 1,
    }


def test_the_oldest_verdicts_are_removed_with_all_that_belongs_to_them(store: VerdictStore) -> None:
    explained = alter(FULL, explanation=Explanation((), (), (("t_1", 1.0),)))
    for seq in range(5):
        store.append(alter(explained, seq=seq, judged_at=float(seq)))
    assert store.prune(before=3.0, limit=2) == 2
    assert [v.window.seq for v in store.select()] == [2, 3, 4]
    assert store.prune(before=3.0, limit=2) == 1
    assert store.prune(before=3.0, limit=2) == 0
    assert [v.window.seq for v in store.select()] == [3, 4]
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM explanations").scalar() == 2


def test_reading_half_of_a_selection_leaves_the_store_usable(store: VerdictStore) -> None:
    for seq in range(1200):
        store.append(alter(EMPTY, seq=seq))
    some = store.select()
    assert next(some).window.seq == 0
    assert store.append(FULL)
    assert sum(1 for _ in some) >= 1199


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"definitely not a database file" * 100)
    with pytest.raises(StoreError, match=r"verdicts\.sqlite: file is not a database\. Move the file away"):
        VerdictStore(sqlite_url(path))


def test_a_damaged_file_is_reported(path: Path) -> None:
    with VerdictStore(sqlite_url(path)) as store:
        for seq in range(500):
            store.append(alter(EMPTY, seq=seq))
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
    path.write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"verdicts\.sqlite: .*malformed"),
        VerdictStore(sqlite_url(path)) as store,
    ):
        list(store.select())


@pytest.mark.parametrize("damage", ["overwritten", "removed", "replaced"])
def test_damage_beneath_an_open_store_is_noticed(path: Path, damage: str) -> None:
    with VerdictStore(sqlite_url(path)) as store:
        for seq in range(50):
            store.append(alter(FULL, seq=seq))
        store.probe()
        log = path.with_name(f"{path.name}-wal")
        match damage:
            case "overwritten":
                for file in (path, log):
                    size = file.stat().st_size
                    with file.open("r+b") as opened:
                        opened.seek(4096)
                        opened.write(b"\xa5" * max(0, size - 4096))
            case "removed":
                path.unlink()
            case "replaced":
                path.with_name("new").write_bytes(path.read_bytes())
                path.with_name("new").rename(path)
        words = "database" if damage == "overwritten" else "was removed or replaced while it was in use"
        with pytest.raises(StoreError, match=words):
            store.probe()


def test_a_newer_schema_is_refused(path: Path) -> None:
    VerdictStore(sqlite_url(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE dqm_schema SET version = ?", (SCHEMA_VERSION + 1,))
    connection.commit()
    connection.close()
    newer = f"schema version {SCHEMA_VERSION + 1}, but this program supports version {SCHEMA_VERSION}"
    with pytest.raises(StoreError, match=newer):
        VerdictStore(sqlite_url(path))


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check that the directory exists"):
        VerdictStore(sqlite_url(tmp_path / "nowhere" / "verdicts.sqlite"))


def test_reading_does_not_make_a_file(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        VerdictStore(sqlite_url(path), create=False)
    assert not path.exists()


def test_reading_a_database_of_another_program_says_it_holds_no_verdicts(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreError, match="has no verdicts"):
        VerdictStore(sqlite_url(path), create=False)


def test_a_read_only_database_is_reported(path: Path) -> None:
    VerdictStore(sqlite_url(path)).close()
    address = f"sqlite:///file:{path}?mode=ro&uri=true"
    with VerdictStore(address) as store, pytest.raises(StoreError, match="writable for the daemon's user"):
        store.append(FULL)


@pytest.mark.parametrize("url", ["", "nonsense", "nosuch://x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="not the address of a store"):
        VerdictStore(url)
