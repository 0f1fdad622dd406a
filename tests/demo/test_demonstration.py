"""``dqm demo``, from its start to its summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.cli.demo_screen import prepare_directories
from dqm.demo.demonstration import MARK, Demonstration
from dqm.demo.scenario import Scenario
from dqm.demo.simulated import SEGMENTS_PER_MUON
from dqm.errors import ConfigError
from dqm.service.collector.sources import open_source
from tests.cli import program
from tests.cli.program import run_dqm


@pytest.mark.parametrize("rate_hz", [60.0, 900.0])
def test_healthy_chambers_have_the_number_of_events_that_is_expected(rate_hz: float) -> None:
    options = {"chambers": [0], "seed": 3, "rate_hz": rate_hz, "seconds": 24_000 / rate_hz}
    n_events = sum(len(batch.x) for batch in open_source("simulate", options))
    assert n_events / 24_000 == pytest.approx(SEGMENTS_PER_MUON, rel=0.02)


EMPTY = Scenario(bundles={}, collectors={}, faults=(), seconds=1.0, windows_per_hour=60.0, min_events=10)


@pytest.mark.parametrize("name", ["daemon.toml", "verdicts.sqlite", "users.toml", "windows/3/1-1.parquet"])
def test_a_directory_that_no_demonstration_made_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "west" / name
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text("of a real installation")
    with pytest.raises(ConfigError, match=r"west: has files that no .*\. Choose a new directory"):
        Demonstration(EMPTY, tmp_path / "west")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(ConfigError, match="has files that no"):
        prepare_directories(tmp_path / "west")  # before the references, which take minutes
    assert path.read_text() == "of a real installation"
    assert [one for one in (tmp_path / "west").rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize("is_there", [True, False])
def test_files_of_an_earlier_demonstration_are_replaced(tmp_path: Path, is_there: bool) -> None:
    state = tmp_path / "state"
    if is_there:
        state.mkdir(0o700)
    Demonstration(EMPTY, state)
    assert (state / MARK).is_file()
    (state / "verdicts.sqlite").write_text("of the one before")
    first = Demonstration(EMPTY, state).password
    assert not (state / "verdicts.sqlite").exists()
    assert Demonstration(EMPTY, state).password != first


def test_what_an_older_version_left_in_the_state_directory_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = tmp_path / "dqm" / "demo" / "daemon.toml"
    old.parent.mkdir(parents=True, mode=0o700)
    old.touch()
    state, _ = prepare_directories(None)
    Demonstration(EMPTY, state)
    assert old.read_text()


@pytest.mark.long
def test_the_demonstration_sees_its_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
    }
    monkeypatch.setattr(program, "ENVIRONMENT", program.ENVIRONMENT | homes)
    monkeypatch.setattr(program, "WAIT_SECONDS", 400.0)
    told = run_dqm("demo", "--duration", 60, cwd=tmp_path)
    words = " ".join(told.stdout.split())
    for line in (
        "chamber-1: no alarm (healthy)",
        "chamber-2: alarm differs",
        "(injected: cathode strips at 75 %)",
        "chamber-2.channels: alarm differs (injected: wire 5 of layer 2 dead)",
        "last window: wire 5 of layer 2: 0 hits where ",
        "chamber-3: no alarm (healthy)",
        "chamber-4: alarm differs",
        "(injected: front-end thresholds at 50 %)",
        "chamber-5: alarm differs, rate",
        "(injected: dead)",
        "ALARM chamber-5, rate: ",
        "chamber-5 window 33: Bad, 0 events where 500 are expected",
        " as it should be",
    ):
        assert line in words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "state"]
    assert list(tmp_path.glob("cache/dqm/demo/*.dqmref/manifest.json"))
    assert (tmp_path / "state" / "dqm" / "demo" / "verdicts.sqlite").exists()
