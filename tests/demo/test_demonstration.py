"""``dqm demo``, from its start to its summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import program
from tests.cli.program import run_dqm


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
    for line in (
        "chamber-1: no alarm (healthy)",
        "chamber-2: alarm (injected: cathode strips at 75 %)",
        "chamber-3: no alarm (healthy)",
        "chamber-4: alarm (injected: front-end thresholds at 50 %)",
        "as it should be",
    ):
        assert line in told.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "state"]
    assert list(tmp_path.glob("cache/dqm/demo/*.dqmref/manifest.json"))
    assert (tmp_path / "state" / "dqm" / "demo" / "verdicts.sqlite").exists()
