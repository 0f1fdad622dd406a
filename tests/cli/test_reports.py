"""``dqm report`` and ``dqm flags``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.events.finite import utc_time
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from tests.world import START, verdict_of

from .conftest import Told

Dqm = Callable[..., Told]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two runs of chamber-1; the window of run 8 has no times."""
    path = tmp_path / "data" / STORE_FILE
    path.parent.mkdir()
    with VerdictStore(sqlite_url(path)) as opened:
        for seq in range(4):
            times = {"start": START + 10 * seq, "end": START + 10 * seq + 10}
            opened.append(verdict_of(seq=seq, p=1e-9 if seq == 2 else 0.5, **times))
        opened.append(verdict_of(run=8, start=None, end=None))
    (tmp_path / "daemon.toml").write_text(
        "".join(f'[[streams]]\nname = "chamber-{n}"\nbundle = "b"\n' for n in (1, 2))
    )
    return path


def test_the_report_of_a_run_is_one_file(dqm: Dqm, store: Path, tmp_path: Path) -> None:
    told = dqm("report", "daemon.toml", "--run", 7)
    assert told.code == 0, told.err
    text = (tmp_path / "run-7.html").read_text()
    assert told.out == f"run-7.html: {len(text) / 1e6:.1f} MB\n"
    assert "chamber-2" in text
    assert dqm("report", store, "-o", "last.html").code == 0
    assert "Run 8" in (tmp_path / "last.html").read_text()


def test_the_report_of_a_bundle_says_what_it_is(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    told = dqm("report", bundle)
    assert told.code == 0, told.err
    text = (tmp_path / "ref.html").read_text()
    for part in ("healthy.csv", "Windows of 60 events cut by count: 150 healthy toys", "the bundle knows no"):
        assert part in text


def test_flags_are_printed_as_json_and_csv(dqm: Dqm, store: Path) -> None:
    rows = json.loads(dqm("flags", "daemon.toml", "--run", 7, "--format", "json").out)
    assert [(r["stream"], r["from"] - START, r["to"] - START, r["flag"]) for r in rows] == [
        ("chamber-1", 0, 20, "Good"), ("chamber-1", 20, 30, "Bad"), ("chamber-1", 30, 40, "Good"),
        ("chamber-2", 0, 40, "Unknown Quality"),
    ]  # fmt: skip
    assert {r["created_by"].split()[0] for r in rows} == {"dqm"}
    each = [json.loads(line) for line in dqm("flags", "daemon.toml", "--run", 7, "--json").out.splitlines()]
    assert each == rows, "one object a line"
    lines = list(csv.DictReader(io.StringIO(dqm("flags", store, "--run", 7, "--format", "csv").out)))
    assert [line["flag"] for line in lines] == ["Good", "Bad", "Good"]
    borders = ["run_state", "run_began", "run_ended"]
    flag = ["flag", "comment", "origin", "bundle", "created_by"]
    said = ["amended_by", "amended_at", "original_flag", "original_comment", "fault"]
    assert list(lines[0]) == ["stream", "from", "to", *flag, *borders, *said]


def test_flags_are_a_table_for_people(dqm: Dqm, store: Path) -> None:
    title, head, *rows = dqm("flags", store, "--run", 7).out.splitlines()
    assert (title.strip(), head.split()) == (
        "run 7", ["stream", "from", "(UTC)", "to", "(UTC)", "flag", "run", "is", "why"],
    )  # fmt: skip
    assert [row.split()[5:7] for row in rows] == [["✓", "Good"], ["✗", "Bad"], ["✓", "Good"]]
    begin, end = (utc_time(START + seconds).strftime("%Y-%m-%d %H:%M:%S") for seconds in (20.0, 30.0))
    assert f"chamber-1  {begin}  {end}" in rows[1]
    told = dqm("flags", store, "--run", 7, "--json", "--format", "csv")
    assert told.code == 2
    assert "--json cannot be given with --format. Give one of them" in told.err


def test_windows_without_times_are_refused_unless_asked(dqm: Dqm, store: Path) -> None:
    told = dqm("flags", store)
    assert told.code == 2
    assert "chamber-1: window 0 of run 8 has no times" in told.err
    (row,) = json.loads(dqm("flags", store, "--by-judgement", "--format", "json").out)
    assert row["to"] == START


@pytest.mark.parametrize("command", ["report", "flags"])
def test_mistakes_are_told(dqm: Dqm, store: Path, tmp_path: Path, command: str) -> None:
    assert "run 99 has no windows" in dqm(command, store, "--run", 99).err
    assert dqm(command, "none.sqlite").code == 2
    VerdictStore(sqlite_url(tmp_path / "empty.sqlite")).close()
    assert "no window is stored" in dqm(command, "empty.sqlite").err


def test_a_report_that_cannot_be_written_is_told(dqm: Dqm, store: Path) -> None:
    told = dqm("report", store, "--run", 7, "-o", "nowhere/x.html")
    assert told.code == 2
    assert "nowhere/x.html: cannot write" in told.err


@pytest.mark.parametrize("name", ["run.png", "run.pdf", "run.json"])
def test_a_report_is_html_or_is_refused(dqm: Dqm, tmp_path: Path, name: str) -> None:
    told = dqm("report", "none.sqlite", "-o", name)
    assert told.code == 2
    assert f"{name}: no report has the ending '{name[3:]}'. Choose one of .html, .htm" in told.err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("store")
def test_a_report_does_not_take_the_place_of_what_it_reports(dqm: Dqm, tmp_path: Path) -> None:
    config = (tmp_path / "daemon.toml").rename(tmp_path / "daemon")
    before = config.read_text()
    told = dqm("report", "daemon", "--run", 7, "-o", config)
    assert told.code == 2
    assert "daemon: is read as well, by the name daemon" in told.err
    assert config.read_text() == before
