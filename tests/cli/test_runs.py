"""Runs begin and end: a real daemon, a real collector, a run control, and the example of the document."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

from .conftest import Told
from .program import WAIT_SECONDS
from .test_online import Running, daemon_of, write_daemon, write_replay

Dqm = Callable[..., Told]
STALE_SECONDS = 1.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-format.md"


def example(address: str, run: int) -> str:
    """Program of the document, for another daemon and another run."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    changed = code.replace("tcp://127.0.0.1:5565", address).replace("591", str(run))
    assert changed.count(address) == 1
    return str(changed)


def streams(daemon: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.get("/api/v1/overview").json()["streams"]
    return found


def activities(daemon: Running) -> set[str]:
    return {stream["activity"] for stream in streams(daemon)}


def silent(daemon: Running) -> list[str]:
    alarms = daemon.get("/api/v1/alarms").json()["alarms"]
    return [alarm["stream"] for alarm in alarms if alarm["cause"] == "silent" and alarm["state"] == "Active"]


def youngest_window(daemon: Running) -> float:
    """Give the age of the window that came last, s."""
    ages = re.findall(r"^dqm_window_age_seconds\{.*\} (\S+)$", daemon.get("/metrics").text, re.MULTILINE)
    return min(map(float, ages))


@pytest.mark.slow
def test_runs_end_begin_and_are_silent_in_between_only_if_nobody_has_ended_them(
    dqm: Dqm, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    config = write_daemon(tmp_path, bundle)
    text = config.read_text().replace("workers = 1", "workers = 0")
    config.write_text(text.replace("[[streams]]\n", f"[[streams]]\nstale_seconds = {STALE_SECONDS}\n"))
    address = f"ipc://{tmp_path}/windows.ipc"
    control = ("--type", "cosmics", "--connect", address)
    with daemon_of(config) as daemon:
        collector = write_replay(tmp_path, folder / "mixed.csv")
        assert dqm("collect", collector).code == 0
        wait_until(lambda: activities(daemon) == {"Idle"}, "the end of the run is known")
        assert daemon.n_judged() == 6
        first, second = streams(daemon)
        assert (first["run"]["run"], first["run"]["why"]) == (5, "the source ended")
        assert first["run"]["began_at"] < first["run"]["ended_at"] < time.time()
        assert re.fullmatch(r"run 5 ended at \d\d:\d\d UTC: the source ended", second["reason"])
        assert 'dqm_stream_idle{stream="chamber-1"} 1.0' in daemon.get("/metrics").text
        assert daemon.get("/").text.count("</svg>Idle</span>") >= 2
        # the alarm 'silent' must not come after the end of a run
        wait_until(lambda: youngest_window(daemon) > 2.5 * STALE_SECONDS, "a stream in a run would be silent")
        assert silent(daemon) == []

        told = dqm("run-control", "begin", "--run", 6, "--stream", "chamber-?", *control)
        assert (told.code, told.out) == (0, "the begin of run 6 of chamber-? is stored\n")
        wait_until(lambda: len(silent(daemon)) == 2, "a run without windows is silent")
        assert daemon.end() == 0
    with daemon_of(config) as daemon:
        assert activities(daemon) <= {"Running", "Silent"}
        assert {stream["run"]["run"] for stream in streams(daemon)} == {6}
        program = [sys.executable, "-c", example(address, 6)]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
        assert ended.stdout == "ack stored\n"
        wait_until(lambda: silent(daemon) == [], "silence ends with the run")
        assert activities(daemon) == {"Idle"}
        told = dqm("run-control", "begin", "--run", 7, "--time", 2e9, "--stream", "chamber-1", *control)
        assert told.code == 0
        told = dqm("run-control", "end", "--run", 7, "--stream", "chamber-1", *control)
        assert told.code == 1
        assert "refused (run-time): run 7 of chamber-1 would end at" in told.err
        told = dqm("run-control", "end", "--run", 6, "--why", "another", *control)
        assert told.code == 1
        assert "the end of run 6 is refused (run-ended): run 6 of chamber-1 ended already at" in told.err
        counted = 'dqm_refused_messages_total{reason="run-ended"} 1.0'
        wait_until(lambda: counted in daemon.get("/metrics").text, "it is counted")  # after the answer
        (logged,) = [
            line
            for line in daemon.log.read_text().splitlines()
            if '"message refused"' in line and '"run-ended"' in line
        ]
        assert '"run": 6' in logged
        assert daemon.end() == 0
    flags = dqm("flags", config, "--run", 5, "--by-judgement", "--format", "csv").out
    assert {row["run_state"] for row in csv.DictReader(flags.splitlines())} == {"complete"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--run", -1), "Invalid value for '--run'"),
        (("--run", 6, "--stream", "a/b"), "streams: String should match pattern"),
        (("--run", 6, "--why", "x" * 300), "why: String should have at most 256 characters"),
        (("--run", 6, "--time", 1e12), "time: Input should be less than or equal to"),
        (("--run", 6, "--connect", "http://x"), "must begin with tcp:// or ipc://"),
        (("--run", 6, "--connect", "tcp://10.1.1.1:5565"), "key and daemon_key must be given"),
        (("--run", 6, "--key", "none.secret"), "key and daemon_key must both be given"),
        (("--run", 6, "--key", "none.secret", "--daemon-key", "d.public"), "the key cannot be read"),
        (("--run", 6, "--connect", "ipc://nobody.ipc", "--wait", 0.2), "has no answer after 0.2 s"),
    ],
)
def test_what_cannot_be_sent_says_why(dqm: Dqm, options: tuple[object, ...], message: str) -> None:
    told = dqm("run-control", "end", "--type", "cosmics", *options)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
