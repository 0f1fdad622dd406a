"""``dqm extract`` and ``dqm compare``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.collectors.words import binary_of, simulated_hits
from tests.service.small import N_WINDOW, healthy_events, write_csv

from .conftest import Told
from .program import json_lines, run_dqm

Dqm = Callable[..., Told]

KEYS = {
    "stream", "run", "seq", "n_data", "n_expected", "t", "p", "p_method", "z", "quality", "reason", "bundle",
    "seconds",
}  # fmt: skip


def test_compare_gives_one_json_object_a_line_for_each_window(dqm: Dqm, folder: Path, bundle: Path) -> None:
    told = dqm("compare", bundle, folder / "mixed.csv", "--window", N_WINDOW, "--json")
    assert (told.code, told.err) == (0, "")
    windows = json_lines(told.out)
    assert [(w["stream"], w["run"], w["seq"]) for w in windows] == [
        (f"chamber-{chamber}", 0, seq) for chamber in (1, 2) for seq in range(3)
    ]
    identifier = json.loads(dqm("reference", "show", bundle, "--json").out)["identifier"]
    for window in windows:
        assert window.keys() >= KEYS
        assert (window["n_data"], window["n_expected"], window["bundle"]) == (60, 60.0, identifier)
        assert window["p_method"] in ("empirical", "tail", "bound")
        assert 0 < window["p"] <= 1
        assert window["seconds"] > 0
        assert (window["quality"] == "Bad") == (window["stream"] == "chamber-2")
        assert (window["reason"] == "") == (window["quality"] == "Good")


def test_a_file_is_one_window_and_its_place_is_the_run(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    for name, n in (("one.csv", 60), ("two.csv", 70)):
        write_csv(tmp_path / name, healthy_events(n, 300))
    told = dqm("compare", bundle, "one.csv", "two.csv", "--json")
    assert told.code == 0
    one, two = json_lines(told.out)
    assert (one["stream"], one["run"], one["quality"], one["n_data"]) == ("one", 0, "Good", 60)
    assert (two["stream"], two["run"], two["quality"], two["n_data"]) == ("two", 1, "Null", 70)
    assert (two["t"], two["p"], two["p_method"], two["z"]) == (None, None, None, None)
    assert (
        two["reason"]
        == "no null table for windows of 70 events cut by count (calibrated: 60 events cut by count)"
    )


def test_compare_prints_a_table_and_counts(dqm: Dqm, folder: Path, bundle: Path) -> None:
    told = dqm("compare", bundle, folder / "mixed.csv", "--window", N_WINDOW, "--chamber", "chamber-2")
    assert told.code == 0
    assert told.out.count("✗ Bad") == 3
    assert "differs from the reference: p < 1e-15" in told.out
    assert told.out.rstrip().endswith("3 Bad")


def test_extract_writes_the_features_of_a_source(dqm: Dqm, tmp_path: Path) -> None:
    told = dqm(
        "extract", "simulate", "-o", "events.parquet", "--events", 500, "--set", "chambers=[0, 2]", "--set",
        "seed=4", "--set", "start=1700000000.0", "--chamber", "2",
    )  # fmt: skip
    assert (told.code, told.out) == (0, "events.parquet: 500 events\n")
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.column_names[:7] == ["chamber", "time", "t_1", "t_2", "t_3", "t_4", "theta"]
    assert set(table["chamber"].to_pylist()) == {"2"}
    assert min(table["time"].to_pylist()) > 1700000000.0
    again = dqm("extract", "replay", "events.parquet", "-o", "again.parquet", "--set", 'features=["theta"]')
    assert again.code == 0
    back = pq.read_table(tmp_path / "again.parquet")
    assert back.column_names == ["chamber", "time", "theta"]
    assert back["theta"].to_pylist() == table["theta"].to_pylist()


def test_extract_tells_what_was_read_and_left_out(dqm: Dqm, tmp_path: Path) -> None:
    raw = simulated_hits()
    n = len(raw.head)
    damaged = replace(raw, tdc=np.where(np.arange(n) % 100, raw.tdc, 30))
    (tmp_path / "run.dat").write_bytes(binary_of(damaged))
    told = dqm("extract", "tdc", "run.dat", "-o", "events.parquet")
    bad = -(-n // 100)
    assert told.code == 0
    assert told.out.splitlines()[1] == f"read: words {n}, hits {n - bad}, left out tdc {bad}"
    wrong = dqm("extract", "tdc", "run.dat", "-o", "wrong.parquet", "--set", "convention=2018")
    assert wrong.code == 1
    assert 'convention = "2021" would fit' in wrong.err
    assert not (tmp_path / "wrong.parquet").exists()


BAD = {
    "missing.csv": None,
    "malformed.csv": "a,b\n1,2\n3,x\n",
    "short.csv": "a,b\n1,2\n3\n",
    "nan.csv": "a,b\n1,2\n3,nan\n",
    "columns.csv": "a,c\n1,2\n",
    "empty.csv": "",
    "no-parquet.parquet": "a,b\n1,2\n",
}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.csv", "missing.csv: .*No such file"),
        ("malformed.csv", "malformed.csv, row 3, column 'b'.*'x'"),
        ("short.csv", "short.csv.*#3"),
        ("nan.csv", "nan.csv, row 3, column 'b': nan is not a number"),
        ("columns.csv", "columns.csv: no column 'b'. There are: a, c"),
        ("empty.csv", "empty.csv: the file is empty"),
        ("no-parquet.parquet", "no-parquet.parquet"),
    ],
)
def test_a_bad_file_is_named_by_every_command(
    dqm: Dqm, bundle: Path, tmp_path: Path, file: str, message: str
) -> None:
    if (text := BAD[file]) is not None:
        (tmp_path / file).write_text(text)
    before = sorted(tmp_path.iterdir())
    build = ("-o", "ref", "--events", 10, "--window", 10, "--features", "a,b")
    for command in (
        ("compare", bundle, file),
        ("reference", "build", file, *build),
        ("extract", "replay", file, "-o", "out.parquet", "--set", 'features=["a", "b"]'),
    ):
        told = dqm(*command)
        assert (told.code, told.out) == (2, ""), command
        assert re.search(f"^error: .*{message}", told.err, re.MULTILINE), told.err
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("compare", "none.dqmref", "x.csv"), "error: none.dqmref: no reference bundle"),
        (
            ("extract", "nothing", "-o", "x.parquet"),
            "error: unknown collector 'nothing'. Installed: beam,",
        ),
        (
            ("extract", "simulate", "-o", "x.parquet", "--set", "seed"),
            "error: --set: 'seed' is not KEY=VALUE",
        ),
        (
            ("extract", "simulate", "-o", "x.parquet", "--set", "sed=1", "--set", "speed=-1"),
            "sed: unknown key; did you mean 'seed'?",
        ),
        (
            ("extract", "simulate", "-o", "none/x.parquet", "--events", 9),
            "error: none/x.parquet: cannot write",
        ),
        (("compare", "none.dqmref"), "error: FILE: no file to test. Give files of events after the bundle"),
        (("compare", "none.dqmref", "x.csv", "--window", "0"), "Invalid value for '--window'"),
        (
            ("reference", "build", "x.csv", "-o", "x.dqmref", "--window", "nan"),
            "Invalid value for '--window': 'nan' is not a number",
        ),
    ],
)
def test_a_bad_command_is_told_and_leaves_nothing(
    dqm: Dqm, tmp_path: Path, command: tuple[str, ...], message: str
) -> None:
    told = dqm(*command)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
    assert not list(tmp_path.iterdir())


def test_an_uncalibrated_bundle_judges_nothing(dqm: Dqm, bare: Path, folder: Path) -> None:
    told = dqm("compare", bare, folder / "mixed.csv", "--json")
    assert (told.code, told.out) == (2, "")
    assert f"has no null table, so no p-value can be given. Run 'dqm reference calibrate {bare}" in told.err


def test_a_program_that_fails_shows_no_traceback(tmp_path: Path) -> None:
    told = run_dqm("history", "none.sqlite", cwd=tmp_path, code=2)
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("error: none.sqlite: no such file")


def write_steps(folder: Path, *, as_files: bool) -> list[Path]:
    """Write 12 windows, of which the last three have changed."""
    x = healthy_events(12 * N_WINDOW, 41)
    x[9 * N_WINDOW :, 0] += 1.5
    parts = np.split(x, 12) if as_files else [x]
    paths = [folder / f"{number:02}.csv" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_csv(path, part)
    return paths


@pytest.mark.parametrize("as_files", [False, True])
def test_compare_tests_windows_against_the_last_good_ones(
    dqm: Dqm, bundle: Path, tmp_path: Path, as_files: bool
) -> None:
    paths = write_steps(tmp_path, as_files=as_files)
    of_file = () if as_files else ("--window", N_WINDOW)
    told = dqm("compare", bundle, *paths, *of_file, "--rolling", 4, "--permutations", 100, "--json")
    assert (told.code, told.err) == (0, "")
    windows = json_lines(told.out)
    rolling = [window["rolling"] for window in windows]
    assert [one["reason"] for one in rolling[:2]] == ["0 of 4 good windows before it"] * 2
    tested = [(number, one) for number, one in enumerate(rolling) if one["p"] is not None]
    assert [number for number, _ in tested][-3:] == [9, 10, 11]
    assert all(one["p"] < 0.01 for _, one in tested[-3:])
    assert all(tuple(one["last"]) <= ((7, 0) if as_files else (0, 7)) for _, one in tested)
    without = json_lines(dqm("compare", bundle, *paths, *of_file, "--json").out)
    for one, other in zip(windows, without, strict=True):
        assert other["rolling"] is None
        changing = ("rolling", "seconds", "judged_at")
        assert [(k, v) for k, v in one.items() if k not in changing] == [
            (k, v) for k, v in other.items() if k not in changing
        ]
    table = dqm("compare", bundle, *paths, *of_file, "--rolling", 4).out
    assert "rolling p" in table.splitlines()[0]


def test_compare_refuses_a_rolling_reference_that_cannot_be(dqm: Dqm, bundle: Path, folder: Path) -> None:
    for options, message in (
        (("--permutations", 200), "--permutations needs --two or --rolling"),
        (
            ("--rolling", 5, "--permutations", 20),
            "--permutations: 20 permutations are too few with --rolling. Give 100",
        ),
    ):
        told = dqm("compare", bundle, folder / "mixed.csv", "--window", N_WINDOW, *options)
        assert (told.code, told.out) == (2, "")
        assert message in told.err
