"""Start and tutorial lead a reader to their end by the text alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.program import json_lines, run_dqm
from tests.ports import free_port
from tests.store.postgres import PostgresServer

from .pictures import picture_pages
from .test_commands import PAGES
from .walk import ROOT, commands_of, walk, walk_commands

LONGEST_SECONDS = 900.0
"""Longest time of the tutorial, on a busy machine; alone it takes less than five minutes."""


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def on_free_ports(name: str) -> str:
    """Give a page with ports that nobody else has."""
    text = page(name)
    for port in ("5565", "8787"):
        text = text.replace(port, str(free_port()))
    return text


WAITS = [
    (name, command)
    for name in PAGES
    for command in commands_of((ROOT / name).read_text())
    if command.startswith("until ")
]


def test_pages_wait_for_the_daemon_in_three_places() -> None:
    assert sorted(str(name) for name, _ in WAITS) == ["docs/postgresql.md", *["docs/tutorial.md"] * 2]


@pytest.mark.parametrize("wait", sorted({wait for _, wait in WAITS}))
def test_waiting_for_a_daemon_that_does_not_start_ends_with_the_reason(tmp_path: Path, wait: str) -> None:
    start = "{ echo begun; echo address is in use; exit 2; } > daemon.log &"
    said = walk_commands([start, wait], tmp_path, seconds=60.0)
    assert said.splitlines()[-1] == "address is in use"


@pytest.mark.long
def test_five_minutes_lead_to_small_p_of_the_faulty_file(tmp_path: Path) -> None:
    text = page("start.md")
    walk(text, tmp_path, seconds=LONGEST_SECONDS)
    compare = commands_of(text)[-1]
    told = run_dqm(*compare.split()[1:], "--json", cwd=tmp_path).stdout
    p = {run: [line["p"] for line in json_lines(told) if line["run"] == run] for run in (0, 1)}
    assert len(p[0]) == len(p[1]) == 6
    assert min(p[0]) > 0.003
    assert max(p[1]) < 0.003


@pytest.mark.long
def test_the_tutorial_leads_to_the_fault(tmp_path: Path) -> None:
    text = on_free_ports("tutorial.md")
    said = walk(text, tmp_path, seconds=LONGEST_SECONDS)
    assert "certified" in said
    assert "differs" in said.split("$ dqm alarms list")[1]
    assert "lowered cathode voltage" in said.rpartition("$ dqm alarms list")[2], (
        "the fault is known by its name"
    )
    verdicts = [json.loads(line) for line in _history(tmp_path)]
    before = [v["quality"] for v in verdicts if v["end"] <= 60.0]
    after = [v["quality"] for v in verdicts if v["start"] >= 60.0]
    assert len(before) > 5
    assert before.count("Bad") <= 1, "by chance"
    assert after.count("Bad") >= 3
    assert (tmp_path / "run7.html").stat().st_size > 10_000
    keep = os.environ.get("DQM_PICTURES")  # a directory: the pictures of the page are made again
    if keep:
        shutil.copy(tmp_path / "validation.png", Path(keep) / "tutorial_validation.png")
        address = re.search(r"http://127\.0\.0\.1:\d+", text)
        assert address
        last = max(v["seq"] for v in verdicts if v["run"] == 7)  # judged before the fault was learned
        picture_pages(tmp_path, address[0], {
            "tutorial_stream": ("/streams/chamber-0?run=7", "#charts", "#charts"),
            "tutorial_maps": (f"/windows/chamber-0/7/{last}", "#explanation", "[data-save=chart-map-4]"),
        })  # fmt: skip


@pytest.mark.long
def test_the_calorimeter_is_monitored_as_its_page_says(tmp_path: Path) -> None:
    text = on_free_ports("calorimeter.md")
    said = walk(text, tmp_path, seconds=LONGEST_SECONDS)
    compared = said.partition("$ dqm compare")[2].partition("$ dqm check")[0]
    lines = compared.splitlines()
    assert not [line for line in lines if line.startswith("healthy") and "Bad" in line]
    assert [line for line in lines if line.startswith("faulty") and not re.search(r"e-1\d", line)] == []
    verdicts = json_lines(run_dqm("history", "daemon.toml", "--json", cwd=tmp_path).stdout)
    assert [(v["stream"], v["quality"]) for v in verdicts] == [("calorimeter", "Bad")] * 4
    assert "differs" in said.rpartition("$ dqm alarms list")[2]


@pytest.mark.long
def test_files_of_events_become_features_as_their_page_says(tmp_path: Path) -> None:
    said = walk(page("inputs.md"), tmp_path, seconds=LONGEST_SECONDS)
    compared = said.partition("$ dqm compare")[2].partition("$ dqm extract")[0].splitlines()
    assert {line.split()[1] for line in compared if line.startswith("calo_run")} == {"7", "12"}
    scan = pq.read_table(tmp_path / "scan.parquet").to_pydict()
    assert scan == {
        "chamber": ["0", "0"],
        "drift_time_ns": [1120.5, 98.75],
        "angle_deg": [-3.25, 4.0],
        "slow": [1.0, 0.0],
    }
    assert pq.read_metadata(tmp_path / "hits.parquet").num_rows > 9000


@pytest.mark.long
def test_the_hunt_finds_the_place_of_its_page(tmp_path: Path) -> None:
    text = page("hunt.md").partition("## Along a reading of slow control")[0]  # run by tests/cli/test_hunt.py
    said = walk(text, tmp_path, seconds=LONGEST_SECONDS)
    rows = [line.split() for line in said.splitlines() if " to " in line and "%" in line]
    assert rows
    assert float(rows[0][0]) < 155.0
    assert float(rows[0][2]) > 151.0
    assert "what is selected departs mostly in" in said
    assert (tmp_path / "hunt.png").stat().st_size > 10_000


def qualities(folder: Path, config: str = "daemon.toml", *more: object) -> dict[str, list[str]]:
    """Qualities of the stored windows, by stream."""
    found: dict[str, list[str]] = {}
    for line in json_lines(run_dqm("history", config, "--json", *more, cwd=folder).stdout):
        found.setdefault(line["stream"], []).append(line["quality"])
    return found


@pytest.mark.long
def test_the_first_run_leads_from_a_good_run_to_a_monitor(tmp_path: Path) -> None:
    text = on_free_ports("first-run.md")
    http = re.search(r"127\.0\.0\.1:(\d+)/", text)
    assert http
    listen = f"--listen tcp://127.0.0.1:{free_port()} --http 127.0.0.1:{http[1]}"
    text = text.replace("--toys 1000\n", f"--toys 1000 {listen}\n")
    said = walk(text, tmp_path, seconds=LONGEST_SECONDS)
    assert "as it should be" in said.partition("$ dqm init")[0]
    seen = qualities(tmp_path, "west/daemon.toml")["west"]
    assert seen[-3:] == ["Bad"] * 3
    assert "differs" in said.rpartition("$ dqm alarms list")[2]
    assert "0 things to correct" in said.rpartition("$ dqm doctor")[2]


@pytest.mark.long
def test_the_silicon_tracker_is_monitored_as_its_page_says(tmp_path: Path) -> None:
    http, listen = free_port(), free_port()
    addresses = f"--listen tcp://127.0.0.1:{listen} --http 127.0.0.1:{http}"
    text = page("silicon-tracker.md").replace("--cut time\n", f"--cut time {addresses}\n")
    walk(text, tmp_path, seconds=LONGEST_SECONDS)
    seen = qualities(tmp_path, "tracker/daemon.toml")
    assert seen["tracker-L1M4"].count("Bad") >= 4
    assert seen["tracker-L1M3"].count("Bad") <= 1


@pytest.mark.long
def test_pressure_is_explained_and_a_stuck_sensor_is_told(tmp_path: Path) -> None:
    walk(on_free_ports("pressure.md"), tmp_path, seconds=LONGEST_SECONDS)
    assert "Bad" not in qualities(tmp_path, "daemon.toml", "--run", 1)["chamber-0"]
    told = json_lines(run_dqm("history", "daemon.toml", "--run", 2, "--json", cwd=tmp_path).stdout)
    assert len(told) == 4
    assert all("drift_velocity" in one["warnings"] for one in told)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has after five minutes: the reference and a healthy run."""
    folder = tmp_path_factory.mktemp("start")
    walk(page("start.md"), folder, seconds=LONGEST_SECONDS)
    return folder


@pytest.mark.long
def test_postgresql_keeps_the_verdicts_as_its_page_says(started: Path, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    with PostgresServer() as server:
        url = server.make_database()
        text = on_free_ports("postgresql.md")
        given = "postgresql://dqm@db.example.org/dqm?sslmode=verify-full"
        assert given in text
        said = walk(text.replace(given, url), tmp_path, seconds=LONGEST_SECONDS)
    assert "daemon.toml: no mistakes found" in said
    assert "PostgreSQL" in said.rpartition("$ dqm doctor")[2]


@pytest.mark.long
def test_hosts_with_keys_work_together_as_their_page_says(started: Path, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    text = on_free_ports("many-hosts.md")
    text = text.replace('keys = "keys"', 'keys = "keys"\nkeyed = "all"').replace(
        "monitor.example.org", "127.0.0.1"
    )
    said = walk(text, tmp_path, seconds=LONGEST_SECONDS)
    assert len(qualities(tmp_path)["west-0"]) == 6
    assert "1 key of collectors: hall-1" in said


def _history(folder: Path) -> list[str]:
    return run_dqm("history", "daemon.toml", "--run", 7, "--json", cwd=folder).stdout.splitlines()
