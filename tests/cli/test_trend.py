"""``dqm trend``, and the runs, times and files of ``dqm history``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

from dqm.events import Quality, TestResult
from dqm.store import VerdictStore, sqlite_url
from tests.verdicts import make_verdict

from .conftest import Told

Dqm = Callable[..., Told]

BEGIN = 1_795_000_000.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty runs of two streams; the second gets worse from run 16 on."""
    path, rng = tmp_path_factory.mktemp("trend") / "verdicts.sqlite", np.random.default_rng(4)
    with VerdictStore(sqlite_url(path)) as opened:
        for run in range(1, 31):
            for stream in ("chamber-1", "chamber-2"):
                for seq in range(8):
                    grown = 0.05 * max(0, (run - 16) * 8 + seq) if stream == "chamber-2" else 0.0
                    z, time = float(rng.normal() + grown), BEGIN + 3600.0 * run + 60.0 * seq
                    opened.append(
                        make_verdict(
                            stream=stream, run=run, seq=seq, quality=Quality.BAD if z > 3 else Quality.GOOD,
                            reason="", bundle="b", seconds=0.1, judged_at=time, start=time, end=time + 60.0,
                            run_type="physics", conditions={"hv": 1200.0},
                            result=TestResult(500, 500.0, t=1.0, p=float(stats.norm.sf(z)), z=z),
                        )
                    )  # fmt: skip
    return path


def test_the_trend_marks_runs_and_says_since_when(dqm: Dqm, store: Path) -> None:
    told = dqm("trend", store).out
    assert "chamber-2: since " in told
    assert "between window" in told
    assert "chamber-1: since" not in told
    lines = [line for line in told.partition("\nchamber-2")[2].splitlines() if "before" in line]
    assert {int(line.split()[0]) for line in lines} >= set(range(22, 31))


def test_runs_and_stream_are_chosen_and_written_as_json_and_tables(
    dqm: Dqm, store: Path, tmp_path: Path
) -> None:
    dqm("trend", store, "--runs", "20-22,30", "--stream", "chamber-1", "-o", tmp_path / "trend.csv")
    with (tmp_path / "trend.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stream"], row["run"]) for row in rows] == [
        ("chamber-1", run) for run in ("20", "21", "22", "30")
    ]
    assert json.loads(rows[0]["conditions"]) == {"hv": 1200.0}
    (line,) = dqm("trend", store, "--runs", "7", "--stream", "chamber-2", "--json").out.splitlines()
    assert json.loads(line)["n_windows"] == 8
    assert len(dqm("trend", store, "--last", "3", "--json").out.splitlines()) == 6


def test_history_takes_runs_and_a_time_and_writes_tables(dqm: Dqm, store: Path, tmp_path: Path) -> None:
    lines = dqm("history", store, "--runs", "3-4,9", "--json").out.splitlines()
    assert len(lines) == 48
    since = datetime.fromtimestamp(BEGIN + 10.5 * 3600.0, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    later = dqm("history", store, "--since", since, "--limit", "1000", "--json").out.splitlines()
    assert len(later) == 20 * 2 * 8, "runs 11 to 30"
    dqm("history", store, "--run", "5", "-o", tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert table.num_rows == 16
    assert set(table["run"].to_pylist()) == {5}


@pytest.mark.parametrize("command", ["trend", "history"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--runs", "5-"), "--runs"),
        (("--runs", ""), "no run is given"),
        (("-o", "x.xlsx"), "Name the file .csv or .parquet"),
        (("--runs", "99", "-o", "x.csv"), "there is nothing to write"),
        (("--stream", "none", "-o", "x.csv"), "Streams with windows: chamber-1, chamber-2"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    dqm: Dqm,
    store: Path,
    tmp_path: Path,
    command: str,
    options: tuple[str, ...],
    told: str,
) -> None:
    given = [tmp_path / one if one.startswith("x.") else one for one in options]
    failed = dqm(command, store, *given)
    assert (failed.code, told in failed.err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_what_does_not_match_is_said(dqm: Dqm, store: Path) -> None:
    assert dqm("trend", store, "--runs", "99").out == "no verdicts match\n"


def test_history_is_cut_only_where_nothing_is_asked_for(dqm: Dqm, store: Path, tmp_path: Path) -> None:
    told = dqm("history", store, "--json")
    assert len(told.out.splitlines()) == 100
    assert "the last 100 verdicts; there are more" in told.err
    told = dqm("history", store, "--runs", "1-10", "--json")
    assert (len(told.out.splitlines()), told.err) == (160, "")
    assert "the last 100 verdicts; there are more" in dqm("history", store, "--runs", "1-10").err
    assert dqm("history", store, "-o", tmp_path / "all.csv").out.startswith("480 verdicts written")
    assert len(dqm("history", store, "--limit", "7", "--runs", "1-10", "--json").out.splitlines()) == 7


def test_a_stream_that_is_configured_may_have_no_windows_yet(dqm: Dqm, store: Path, tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text(
        f'[daemon]\ndata_dir = "{store.parent}"\n[[streams]]\nname = "chamber-3"\nbundle = "none.dqmref"\n'
    )
    for command in ("trend", "history"):
        told = dqm(command, config, "--stream", "chamber-3")
        assert (told.code, told.out) == (0, "no verdicts match\n"), told.err
        assert dqm(command, config, "--stream", "chamber-4").code == 2
