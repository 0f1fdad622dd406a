"""From simulated raw hits to a verdict, by the command line alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.waiting import wait_until

from .conftest import Told
from .program import WAIT_SECONDS, json_lines, run_dqm, start_dqm
from .test_online import daemon_of

pytestmark = pytest.mark.slow

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
        f'[daemon]\nlisten = ["ipc://{tmp_path}/windows.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 0\n'
        "[quality]\nbad_p = 0.001\nmedium_p = 0.01\n"
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
        summary = dqm("collect", "hasty.toml").out
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


GAS = 0.045
"""Change of the drift velocity that slow control explains in one chamber and does not see in the other."""


@pytest.mark.long
def test_gas_that_slow_control_explains_is_no_fault(dqm: Dqm, tmp_path: Path) -> None:
    for file, n, velocity in [("0", 20_000, 0.0535), ("+", 12_000, 0.056), ("-", 12_000, 0.051)]:
        seed = ("--set", f"seed={20 + int(1e4 * velocity)}", "--set", "chambers=[0]")
        knob = ("--set", f"conditions={{drift_velocity_mm_per_ns = {velocity}}}")
        assert dqm("extract", "simulate", "-o", f"{file}.parquet", "--events", n, *seed, *knob).code == 0
    build = {**BUILD, "--events": 4000, "--window": 500, "--width": 2.5, "--loss": "likelihood"}
    shifts = (
        "--at",
        "0.0457=+.parquet",
        "--at",
        "-0.0479=-.parquet",
        "--method",
        "kernel",
    )  # ln of the ratios
    for command in (
        ("build", "0.parquet", "-o", "ref", *chain.from_iterable(build.items())),
        ("nuisance", "ref", "drift_velocity", "--sigma", 0.008, *shifts),
        ("calibrate", "ref", "--toys", 150, "--processes", 1),
    ):
        told = dqm("reference", *command)
        assert told.code == 0, told.err
    (tmp_path / "daemon.toml").write_text(
        f'[daemon]\nlisten = ["ipc://{tmp_path}/windows.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 1\n'
        '[[streams]]\nname = "explained"\nbundle = "ref"\n[[streams]]\nname = "hidden"\nbundle = "ref"\n'
    )
    collector = (
        f'[collector]\nname = "simulate"\nconnect = "ipc://{tmp_path}/windows.ipc"\n'
        "[window]\nevents = 500\n[options]\nchambers = [0]\nseconds = 120.0\nrate_hz = 60.0\nseed = 31\n"
        "conditions = {drift_velocity_mm_per_ns = 0.0535}\n"
        '[options.measurements.drift_velocity]\nknob = "drift_velocity_mm_per_ns"\nsigma = 0.008\n'
    )
    changes = {
        "explained": f"[[options.variations]]\namplitude = {GAS}\nperiod_seconds = 80.0\n",
        "hidden": f"[[options.faults]]\nchamber = 0\nvalue = {0.0535 * (1 + GAS)}\nstart = 0.0\n",
    }
    with daemon_of(tmp_path / "daemon.toml") as daemon:
        for stream, change in changes.items():
            knob = 'knob = "drift_velocity_mm_per_ns"\n'
            config = f'{collector}{change}{knob}[streams]\n0 = "{stream}"\n'
            (tmp_path / f"{stream}.toml").write_text(config)
            run_dqm("collect", f"{stream}.toml", cwd=tmp_path)
        last = {stream: daemon.get(f"/api/v1/streams/{stream}").json()["last"] for stream in changes}
        assert "drift_velocity" in last["hidden"]["warnings"]
        assert "drift_velocity" in last["explained"]["nuisances"]
        assert daemon.end() == 0
    verdicts = json_lines(dqm("history", "daemon.toml", "--json").out)
    explained, hidden = ([v for v in verdicts if v["stream"] == stream] for stream in changes)
    assert len(explained) >= 8
    fits = [v["nuisances"]["drift_velocity"] for v in explained]
    assert max(fit["reference"]["value"] for fit in fits) > 0.025
    assert min(fit["reference"]["value"] for fit in fits) < -0.025
    assert {v["quality"] for v in explained} <= {"Good", "Medium"}
    assert [v["quality"] for v in explained].count("Medium") <= 1
    assert sum(bool(v["warnings"]) for v in explained) <= 1
    words = [v["warnings"].get("drift_velocity", "") for v in hidden]
    assert sum("sigma above what its measurement says" in text for text in words) >= len(hidden) - 2
    assert [v["quality"] for v in hidden].count("Good") >= len(hidden) - 2
