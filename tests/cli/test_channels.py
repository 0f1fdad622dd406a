"""From a simulated detector to the name of a dead wire, by the command line and a running daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dqm.config import Role
from dqm.web import add_user
from tests.conftest import Once
from tests.waiting import wait_until

from .conftest import Told
from .program import call_dqm, json_lines
from .test_online import Running, daemon_of

Dqm = Callable[..., Told]
MAP = Path(__file__).parents[2] / "configs" / "channels-chamber.csv"
SIMULATE = ("--set", "channels=true", "--set", "chambers=[0]")
DEAD_CARD = list(range(16, 32))


@pytest.fixture(scope="module")
def made(once: Once) -> Path:
    """``healthy.parquet`` and ``channels.dqmref``, windows of 5 s."""

    def write(folder: Path) -> None:
        folder.mkdir()
        file, bundle = folder / "healthy.parquet", folder / "channels.dqmref"
        extract = ("extract", "simulate", "-o", file, *SIMULATE, "--set", "seconds=300")
        assert call_dqm(*extract, "--chamber", "0.channels") == 0
        assert call_dqm("reference", "channels", file, "-o", bundle, "--seconds", 5, "--map", MAP) == 0
        assert call_dqm("reference", "calibrate", bundle, "--toys", 200, "--processes", 1) == 0

    return once("channels", write)


def test_the_bundle_says_what_it_is(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    bundle = made / "channels.dqmref"
    facts = json.loads(dqm("reference", "show", bundle, "--json").out)
    assert (facts["statistic"], facts["counts"], facts["features"]) == ("channels", "hits", ["channel"])
    assert facts["rate_hz"] == pytest.approx(900, rel=0.05)
    text = dqm("reference", "show", bundle).out
    assert "hits of 64 channels in 60 windows" in text
    told = dqm("report", bundle, "-o", tmp_path / "bundle.html")
    assert told.code == 0, told.err
    assert "channel" in (tmp_path / "bundle.html").read_text()


def test_compare_names_dead_and_noisy_channels_of_files(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    bundle, file = made / "channels.dqmref", tmp_path / "faulty.parquet"
    faults = "conditions={dead_wires = [17], noisy_wires = {40 = 500.0}}"
    extract = ("extract", "simulate", "-o", file, *SIMULATE, "--set", "seconds=20", "--set", "seed=5")
    assert dqm(*extract, "--set", faults, "--chamber", "0.channels").code == 0
    told = dqm("compare", bundle, made / "healthy.parquet", file)
    assert told.code == 0, told.err
    assert "healthy.parquet, 60 windows together: 0 dead, 0 low and 0 noisy of 64 channels" in told.out
    assert "faulty.parquet, 4 windows together: 1 dead, 0 low and 1 noisy of 64 channels" in told.out
    assert re.search(r"wire 5 of layer 2 is dead: 0 hits where \d+ are expected", told.out)
    assert re.search(r"^40 +\d +\d+ +3 +noisy +\d+ ", told.out, re.MULTILINE)
    lines = json_lines(dqm("compare", bundle, file, "--json").out)
    windows, (occupancy,) = lines[:4], lines[4:]
    assert [(w["seq"], w["quality"], w["channels"]["n_dead"]) for w in windows] == [
        (k, "Bad", 1) for k in range(4)
    ]
    assert [windows[1]["start"] - windows[0]["start"], windows[0]["n_data"] > 4000] == [5.0, True]
    rows = {row["channel"]: row for row in occupancy["occupancy"]}
    assert len(rows) == 64
    assert (rows[17]["state"], rows[17]["hits"], rows[17]["ratio"]) == ("dead", 0, 0.0)
    assert rows[40]["state"] == "noisy"
    assert rows[40]["ratio"] > 10
    assert (occupancy["file"], occupancy["n_windows"], occupancy["n_noisy"]) == ("faulty.parquet", 4, 1)


def test_compare_leaves_out_channels_that_are_known_to_be_bad(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    bundle, file = made / "channels.dqmref", tmp_path / "faulty.parquet"
    faults = "conditions={dead_wires = [17], noisy_wires = {40 = 2000.0}}"
    extract = ("extract", "simulate", "-o", file, *SIMULATE, "--set", "seconds=20", "--set", "seed=5")
    assert dqm(*extract, "--set", faults, "--chamber", "0.channels").code == 0
    told = dqm("compare", bundle, file, "--bad-channels", "17, 40-41")
    assert told.code == 0, told.err
    assert "4 windows together: 0 dead, 0 low and 0 noisy of 61 channels; 3 masked: 17, 40-41" in told.out
    assert "wire 5 of layer 2" not in told.out
    *windows, occupancy = json_lines(dqm("compare", bundle, file, "--bad-channels", "17,40,41", "--json").out)
    assert [(w["quality"], w["channels"]["masked"]) for w in windows] == [("Good", [17, 40, 41])] * 4
    assert all(w["n_data"] < 5000 for w in windows), "their hits are not counted"
    assert (occupancy["n_channels"], occupancy["n_masked"], occupancy["text"]) == (61, 3, "")
    assert {row["channel"] for row in occupancy["occupancy"] if row["state"] == "masked"} == {17, 40, 41}


def test_channels_that_are_dead_in_the_run_of_the_reference_are_told(
    dqm: Dqm, made: Path, tmp_path: Path
) -> None:
    file = tmp_path / "dead.parquet"
    extract = ("extract", "simulate", "-o", file, *SIMULATE, "--set", "seconds=50")
    assert dqm(*extract, "--set", "conditions={dead_wires = [17, 40]}", "--chamber", "0.channels").code == 0
    build = ("reference", "channels", file, "--seconds", 5)
    told = dqm(*build, "-o", "dead.dqmref", "--map", MAP).out
    assert "no window will call them dead: wire 5 of layer 2, wire 11 of layer 4. Next" in told
    assert "call them dead: channel 17, channel 40. Next" in dqm(*build, "-o", "bare.dqmref").out
    assert "call them dead" not in dqm(*build[:2], made / "healthy.parquet", *build[3:], "-o", "x.dqmref").out


def test_compare_refuses_what_is_no_table_of_hits_by_channel(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    bundle, file = made / "channels.dqmref", made / "healthy.parquet"
    (tmp_path / "short.csv").write_text(
        "time,channel,hits\n" + "".join(f"{t},{c},1\n" for t in (0, 1) for c in range(64))
    )
    (tmp_path / "strange.csv").write_text("time,channel,hits\n0,0,1\n1,64,1\n")
    (tmp_path / "events.csv").write_text("time,t_1\n0,1\n1,2\n")
    for arguments, message in (
        ((file, "--window", 64), "--window: windows of channels are as long as those of the reference"),
        ((file, "--histogram", "x"), "--histogram: windows of channels"),
        (("short.csv",), "short.csv: no window of 5 s without a gap"),
        (("strange.csv",), "strange.csv: channel 64 is not in the channel map"),
        (("events.csv",), "events.csv"),
        ((file, "--bad-channels", "64"), "--bad-channels: channel 64 is not in the bundle channels.dqmref"),
        ((file, "--bad-channels", "4-"), "'4-' is neither a number nor a range"),
        ((file, "--bad-channels", "0-63"), "all channels are masked"),
    ):
        told = dqm("compare", bundle, *arguments)
        assert told.code == 2, told.out
        assert message in told.err


def test_what_takes_events_refuses_it(dqm: Dqm, made: Path) -> None:
    bundle = made / "channels.dqmref"
    told = dqm("reference", "nuisance", bundle, "gas", "--sigma", 0.1, "--rate")
    assert "takes no nuisance parameter" in told.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channel,layer,wire\n1,1,1\n1,1,2\n", "channel 1 is in the channel map twice"),
        ("channel,layer,wire\n1,1,1\n2,1,1\n", "wire 1 of layer 1 has 2 channels"),
        ("channel,board\n1,1\n", "the channel map has the columns channel, board"),
        ("layer,wire\n1,1\n", "the channel map has the columns layer, wire"),
        ("channel\n1\n2\n", "channel 0 is not in the channel map"),
        (MAP.read_text() + "64,1,17,5\n", "channel 64 of the channel map has no rows"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(
    dqm: Dqm, made: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "map.csv").write_text(text)
    file = made / "healthy.parquet"
    told = dqm("reference", "channels", file, "-o", "x.dqmref", "--seconds", 5, "--map", "map.csv")
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "x.dqmref").exists()


def write_site(folder: Path, bundle: Path, rate: float, *, bad: list[int]) -> tuple[Path, Path]:
    daemon, collector = folder / "daemon.toml", folder / "collector.toml"
    daemon.write_text(
        f'[daemon]\nlisten = ["ipc://{folder}/windows.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 1\n'
        f'[[streams]]\nname = "chamber-1.channels"\nbundle = "{bundle}"\nbad_channels = {bad}\n'
        f'[[streams]]\nname = "chamber-1"\nbundle = "{bundle}"\nstale_seconds = 9999\n'
    )
    collector.write_text(
        f'[collector]\nname = "simulate"\nrun = 5\nconnect = "ipc://{folder}/windows.ipc"\n'
        f"[window]\nevents = 500\n[channels]\nseconds = 5.0\nexpected_rate_hz = {rate}\n"
        f'[streams]\n0 = "chamber-1"\n'
        f"[options]\nchannels = true\nchambers = [0]\nseconds = 35\nseed = 8\n"
        f'[[options.faults]]\nchamber = 0\nknob = "dead_wires"\nvalue = [17]\nstart = 10\nstop = 20\n'
        f'[[options.faults]]\nchamber = 0\nknob = "dead_wires"\nvalue = {DEAD_CARD}\nstart = 20\nstop = 30\n'
        f'[[options.faults]]\nchamber = 0\nknob = "noisy_wires"\nvalue = {{40 = 2000.0}}\nstart = 0\n'
    )
    return daemon, collector


@pytest.mark.slow
def test_a_running_daemon_names_a_dead_wire_and_a_dead_card_and_leaves_out_what_is_known(
    dqm: Dqm, made: Path, tmp_path: Path
) -> None:
    bundle = made / "channels.dqmref"
    shown = json.loads(dqm("reference", "show", bundle, "--json").out)
    daemon_config, collector = write_site(tmp_path, bundle, shown["rate_hz"], bad=[40])
    with daemon_of(daemon_config) as daemon:
        assert dqm("collect", collector).code == 0
        wait_until(lambda: daemon.n_judged() >= 9, "all windows judged")
        window = daemon.get("/api/v1/streams/chamber-1.channels/windows/5/2").json()
        page = daemon.get("/windows/chamber-1.channels/5/4").text
    assert re.fullmatch(
        r"wire 5 of layer 2 is dead: 0 hits where \d\d are expected", window["explanation"]["text"]
    )
    assert "Card 2 is dead (16 channels): 0 hits where" in page
    assert "Map of layers and wires: hits of the window" in page
    verdicts = json_lines(dqm("history", daemon_config, "--json").out)
    mine = sorted((v for v in verdicts if v["stream"] == "chamber-1.channels"), key=lambda v: v["seq"])
    assert [v["channels"]["n_dead"] for v in mine] == [0, 0, 1, 1, 16, 16, 0]
    assert all((v["channels"]["n_noisy"], v["channels"]["n_masked"]) == (0, 1) for v in mine)
    assert all("1 channel is dead" in v["reason"] for v in mine[2:4])
    assert [v["quality"] for v in mine] == ["Good"] * 2 + ["Bad"] * 4 + ["Good"], "its hits do not count"


@pytest.mark.long
def test_a_channel_masked_in_a_running_daemon_counts_for_nothing_until_it_is_unmasked(
    dqm: Dqm, made: Path, tmp_path: Path
) -> None:
    """Workers are not started again; the mask outlives the daemon."""
    bundle = made / "channels.dqmref"
    shown = json.loads(dqm("reference", "show", bundle, "--json").out)
    config, collector = write_site(tmp_path, bundle, shown["rate_hz"], bad=[])
    with config.open("a") as file:
        file.write('[web]\nusers = "users.toml"\n')
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    add_user(tmp_path / "users.toml", "ada", "correct horse", role=Role.EXPERT)
    login = ("--user", "ada", "--password-file", tmp_path / "password")
    noisy = collector.read_text().replace("seconds = 35", "seconds = 10").replace("{40 ", "{7 ")

    def collect(daemon: Running, run: int) -> list[dict[str, Any]]:
        collector.write_text(noisy.replace("run = 5", f"run = {run}"))
        assert dqm("collect", collector).code == 0
        path = f"/api/v1/streams/chamber-1.channels/windows?run={run}"
        windows: list[dict[str, Any]] = daemon.get(path).json()["windows"]
        assert len(windows) == 2
        return windows

    with daemon_of(config) as daemon:
        assert [v["quality"] for v in collect(daemon, 1)] == ["Bad", "Bad"]
        mask = ("alarms", "mask", daemon.url, "chamber-1.channels", "-r", "noisy", *login)
        told = dqm(*mask, "--channels", "3, 7", "--hours", 1).out
        judged = collect(daemon, 2)
    with daemon_of(config) as daemon:
        judged += collect(daemon, 3)
        identifier = told.split()[1].rstrip(":")
        assert dqm("alarms", "unmask", daemon.url, identifier, "-c", "repaired", *login).code == 0
        assert [v["quality"] for v in collect(daemon, 4)] == ["Bad", "Bad"]
        page = daemon.get("/windows/chamber-1.channels/3/1").text
    assert [v["quality"] for v in judged] == ["Good"] * 4
    assert all((v["channels"]["masked"], v["channels"]["n_noisy"]) == ([3, 7], 0) for v in judged)
    assert "channels 3, 7, when it was judged" in page
