"""From simulated raw hits to a verdict, by the command line alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.service.small import wait_until

from . import program
from .conftest import Told
from .program import WAIT_SECONDS, json_lines, run_dqm, start_dqm
from .test_online import daemon_of

Dqm = Callable[..., Told]

BUILD = {
    "--features": "t_1,t_2,t_3,t_4,theta", "--events": 600, "--window": 150, "--penalty": 1e-6,
    "--centers": 150,
}  # fmt: skip
HITS = ("--events", 4000, "--set", "chambers=[0]", "--set", "seed=11")


def test_a_fault_of_a_simulated_chamber_is_seen(dqm: Dqm, tmp_path: Path) -> None:
    for command in (
        ("extract", "simulate", "-o", "healthy.parquet", *HITS),
        ("reference", "build", "healthy.parquet", "-o", "ref", *chain.from_iterable(BUILD.items())),
        ("reference", "calibrate", "ref", "--toys", 150, "--processes", 1),
    ):
        told = dqm(*command)
        assert told.code == 0, told.err
    (tmp_path / "daemon.toml").write_text(
        f'[daemon]\nlisten = ["ipc://{tmp_path}/windows.ipc"]\nhttp = "127.0.0.1:0"\nthreads = 1\n'
        '[[streams]]\nname = "chamber-0"\nbundle = "ref"\n[[streams]]\nname = "chamber-1"\nbundle = "ref"\n'
    )
    (tmp_path / "collector.toml").write_text(
        f'[collector]\nname = "simulate"\nrun = 1\nconnect = "ipc://{tmp_path}/windows.ipc"\n'
        '[window]\nevents = 150\n[streams]\n0 = "chamber-0"\n1 = "chamber-1"\n'
        "[options]\nchambers = [0, 1]\nseed = 12\nspeed = 20.0\nrate_hz = 60.0\n"
        '[[options.faults]]\nchamber = 1\nknob = "strip_voltage_v"\nvalue = -300.0\nstart = 30.0\n'
    )
    bad = 'dqm_windows_total{quality="Bad",stream="chamber-1"} 3.0'
    with daemon_of(tmp_path / "daemon.toml") as daemon:
        collecting = start_dqm("collect", "collector.toml", cwd=tmp_path, log=tmp_path / "collector.log")
        try:
            wait_until(lambda: bad in daemon.get("/metrics").text, "three bad windows of chamber-1")
            collecting.terminate()
            assert collecting.wait(WAIT_SECONDS) == 0
        finally:
            collecting.kill()
        hasty = (tmp_path / "collector.toml").read_text().replace("speed = 20.0", "seconds = 100.0")
        (tmp_path / "hasty.toml").write_text(hasty.replace("run = 1", "run = 2"))
        summary = run_dqm("collect", "hasty.toml", cwd=tmp_path).stdout
        assert daemon.end() == 0
    everything = json_lines(dqm("history", "daemon.toml", "--json", "--limit", 1000).out)
    n_hasty = sum(v["run"] == 2 for v in everything)
    assert n_hasty > 30
    assert f"{n_hasty} windows, {n_hasty} sent, 0 lost" in summary
    verdicts = [v for v in everything if v["run"] == 1]
    seen = {stream: [v for v in verdicts if v["stream"] == stream] for stream in ("chamber-0", "chamber-1")}
    assert all(len(of_one) >= 8 for of_one in seen.values())
    assert {v["origin"] for v in verdicts} == {"simulated"}
    assert not [v for v in seen["chamber-0"] if v["quality"] == "Bad"]
    before = [v["quality"] for v in seen["chamber-1"] if v["end"] <= 30.0]
    after = [v["quality"] for v in seen["chamber-1"] if v["start"] >= 30.0]
    assert "Bad" not in before
    assert after.count("Bad") >= 3


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
        "chamber-1: no fault seen (healthy)",
        "chamber-2: fault seen (injected: cathode strips at 75 %)",
        "chamber-3: no fault seen (healthy)",
        "chamber-4: fault seen (injected: front-end thresholds at 50 %)",
        "as it should be",
    ):
        assert line in told.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "state"]
    assert list(tmp_path.glob("cache/dqm/demo/*.dqmref/manifest.json"))
    assert (tmp_path / "state" / "dqm" / "demo" / "verdicts.sqlite").exists()
