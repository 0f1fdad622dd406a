"""``dqm demo``, from its start to its summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.demo.simulated import SEGMENTS_PER_MUON
from dqm.service.collector.sources import open_source
from tests.cli import program
from tests.cli.program import run_dqm


@pytest.mark.parametrize("rate_hz", [60.0, 900.0])
def test_healthy_chambers_have_the_number_of_events_that_is_expected(rate_hz: float) -> None:
    options = {"chambers": [0], "seed": 3, "rate_hz": rate_hz, "seconds": 24_000 / rate_hz}
    n_events = sum(len(batch.x) for batch in open_source("simulate", options))
    assert n_events / 24_000 == pytest.approx(SEGMENTS_PER_MUON, rel=0.02)


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
