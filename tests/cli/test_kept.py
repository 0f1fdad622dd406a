"""References of what the daemon kept of Good windows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.events import Quality
from dqm.store import GOOD_WINDOWS, VerdictStore, WindowKeeper, store_url
from dqm.stream import Sender
from tests.service.small import N_WINDOW, faulty_events, healthy_events, window_of
from tests.store.postgres import PostgresServer
from tests.waiting import wait_until
from tests.world import verdict_of

from .conftest import Told
from .test_online import daemon_of, write_daemon

Dqm = Callable[..., Told]
FROM = ("reference", "build", "--from", "daemon.toml", "--stream", "chamber-1")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest, tmp_path: Path, bundle: Path) -> Iterator[Path]:
    """Configuration of a daemon with a store of either kind."""
    path = write_daemon(tmp_path, bundle)
    (tmp_path / "data").mkdir()
    if request.param == "sqlite":
        yield path
        return
    with PostgresServer() as server:
        path.write_text(
            path.read_text().replace("[daemon]\n", f'[daemon]\nstore = "{server.make_database()}"\n')
        )
        yield path


def keep(config: Path, runs: dict[int, int], shift: float = 0.0, names: tuple[str, ...] = ("a", "b")) -> None:
    """Let every second Good window of some runs be kept, and all be judged."""
    from dqm.config import load_daemon

    daemon = load_daemon(config).daemon
    keeper = WindowKeeper(daemon.data_dir / GOOD_WINDOWS, 10**8)
    with VerdictStore(store_url(daemon)) as store:
        for run, n in runs.items():
            for seq in range(2 * n):
                verdict = verdict_of(seq=seq)
                conditions = {"hv_v": 1200.0 + seq, "trigger": "cosmic"}
                verdict = replace(verdict, window=replace(verdict.window, run=run, conditions=conditions))
                store.append(verdict)
                if seq % 2:
                    x = healthy_events(N_WINDOW, 1000 * run + seq) + shift
                    keeper.keep(window_of(x, run=run, seq=seq, names=names), verdict)


def test_a_reference_is_made_of_the_kept_windows_of_some_runs(dqm: Dqm, config: Path) -> None:
    keep(config, {9: 3, 10: 12, 12: 13})
    told = dqm(*FROM, "--runs", "10-12", "-o", "new", "--window", 60, "--events", 500)
    assert told.code == 0
    assert "chamber-1: took 25 kept windows of 50 Good ones (run 10: 12, run 12: 13), 1500 events" in told.out
    manifest = json.loads(dqm("reference", "show", "new", "--json").out)
    assert [(s["name"], s["n_events"]) for s in manifest["sources"]] == [
        ("chamber-1, run 10", 720), ("chamber-1, run 12", 780),
    ]  # fmt: skip
    assert manifest["features"] == ["a", "b"]
    assert manifest["conditions"] == {"hv_v": [1201.0, 1225.0]}, "of the windows that were taken"
    assert "hv_v 1201 to 1225" in dqm("reference", "show", "new").out
    nothing = dqm(*FROM, "--runs", "1", "-o", "none", "--window", 60)
    assert nothing.code == 2
    assert "no Good window of these runs was kept of stream chamber-1" in nothing.err
    assert "Windows are kept of the runs 9, 10, 12: take these with --runs" in nothing.err
    keep(config, {11: 2}, names=("a", "c"))
    mixed = dqm(*FROM, "--runs", "10-12", "-o", "mixed", "--window", 60)
    assert mixed.code == 2
    assert "run 11 window 1 has the features a, c, but run 10 window 1 has a, b" in mixed.err
    assert not Path("mixed").exists()


@pytest.mark.slow
def test_a_reference_like_another_is_compared_with_it(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    config = write_daemon(tmp_path, bundle)
    keep(config, {10: 30})
    keep(config, {20: 30}, shift=0.7)
    same = dqm(*FROM, "--runs", "10", "-o", "same", "--like", bundle)
    assert same.code == 0
    assert f"green: against {bundle}" in same.out
    old, new = (json.loads(dqm("reference", "show", path, "--json").out) for path in (bundle, "same"))
    assert new["settings"] == old["settings"]
    assert [new[key] for key in ("statistic", "n_expected", "cut")] == [
        old[key] for key in ("statistic", "n_expected", "cut")
    ]
    assert new["reference"]["shape"] == old["reference"]["shape"]
    assert "depart" not in same.out, "green: no feature is blamed"
    other = dqm(*FROM, "--runs", "20", "-o", "other", "--like", bundle, "--plot", "maps.png")
    assert other.code == 1
    assert "red: the new reference differs from" in other.err
    assert "the new events depart mostly in" in other.out
    assert (tmp_path / "other" / "manifest.json").exists(), "it may be meant so"
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_with_other_events_is_said_of_them(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    config = write_daemon(tmp_path, bundle)
    keep(config, {10: 1, 12: 1})
    (tmp_path / "few.csv").write_text("a,b\n" + "1.5,2.5\n" * 20)
    few = dqm("reference", "build", "few.csv", "-o", "new", "--like", bundle)
    assert (few.code, "few.csv: 20 events are fewer than a window of 60" in few.err) == (2, True), few.err
    none = dqm(*FROM, "--runs", "99", "-o", "new", "--window", 60)
    assert none.code == 2
    assert "Windows are kept of the runs 10, 12: take these with --runs" in none.err
    assert "good_share" not in none.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "daemon.toml", "-o", "x", "--window", 60), "--from needs --stream and --runs"),
        (("-o", "x", "--window", 60), "no events are given"),
        (
            ("a.csv", "--from", "daemon.toml", "--stream", "s", "--runs", "1", "-o", "x"),
            "--from cannot be given with files",
        ),
        (("a.csv", "--runs", "1", "-o", "x"), "--stream and --runs need --from"),
        (("a.csv", "-o", "x"), "it is not said how many events a window has"),
        (("a.csv", "-o", "x", "--like", "b", "--width", 2), "--width cannot be given with --like"),
        (("a.csv", "-o", "x", "--window", 60, "--plot", "m.png"), "--plot needs --like"),
        (
            (*FROM[2:], "--runs", 1, "-o", "x", "--window", 60, "--chamber", "c"),
            "--chamber cannot be given with --from",
        ),
        (
            ("--from", "daemon.toml", "--stream", "chamber-1", "--runs", "3-1", "-o", "x", "--window", 60),
            "not a range",
        ),
        (
            ("--from", "daemon.toml", "--stream", "chamber-1", "--runs", "x", "-o", "x", "--window", 60),
            "neither a number nor a range",
        ),
        (
            ("--from", "daemon.toml", "--stream", "nobody", "--runs", "1", "-o", "x", "--window", 60),
            "no stream",
        ),
    ],
)
def test_options_that_contradict_each_other_are_told(
    dqm: Dqm, bundle: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    write_daemon(tmp_path, bundle)
    told = dqm("reference", "build", *options)
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_daemon_keeps_good_windows_and_a_reference_is_made_of_them(
    dqm: Dqm, bundle: Path, tmp_path: Path
) -> None:
    config = write_daemon(tmp_path, bundle)
    config.write_text(config.read_text() + "[keep]\ngood_share = 1.0\n")
    n = 25
    with daemon_of(config) as daemon, Sender(f"ipc://{tmp_path}/windows.ipc") as sender:
        for seq in range(n):
            sender.send(window_of(healthy_events(N_WINDOW, 50 + seq), seq=seq))
        sender.send(window_of(faulty_events(N_WINDOW, 3), seq=n))
        wait_until(lambda: sender.pump() or sender.n_kept == 0, "all windows are acknowledged")
        wait_until(lambda: daemon.n_judged() == n + 1, "and judged")
        page = daemon.get("/api/v1/streams/chamber-1/windows/7/0").json()
        n_good = sum(
            window["quality"] == Quality.GOOD
            for window in daemon.get("/api/v1/streams/chamber-1/windows").json()["windows"]
        )
    assert page["kept"]["url"], "the page offers its events"
    kept = list((tmp_path / "data" / GOOD_WINDOWS / "chamber-1").glob("*.parquet"))
    assert len(kept) == n_good > 15
    assert len(list((tmp_path / "data" / "windows").glob("*/*.parquet"))) == n + 1 - n_good
    told = dqm(*FROM, "--runs", "7", "-o", "new", "--window", 60, "--events", 400)
    assert told.code == 0
    assert f"took {n_good} kept windows of {n_good} Good ones" in told.out
