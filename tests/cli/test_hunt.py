"""``dqm hunt``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dqm.events import FloatArray
from tests.service.small import healthy_events, write_csv

from .conftest import Told
from .program import json_lines

Dqm = Callable[..., Told]

N = 1600
FEW = ("--permutations", 19)
QUICK = ("--positions", 8, "--permutations", 19, "--processes", 1)


def write_run(path: Path, x: FloatArray, time: FloatArray, **columns: FloatArray) -> None:
    values = {"time": time, "a": x[:, 0], "b": x[:, 1], **columns}
    pq.write_table(pa.table({name: pa.array(column) for name, column in values.items()}), path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    time = 1.6e9 + np.sort(rng.uniform(0.0, 100.0, N))
    x = healthy_events(N, 1)
    write_run(tmp_path / "good.parquet", x, time, wire=rng.integers(0, 40, N).astype(float))
    x[(time > 1.6e9 + 42.0) & (time < 1.6e9 + 46.0), 1] += 2.5
    write_run(tmp_path / "burst.parquet", x, time)
    return tmp_path


@pytest.mark.usefixtures("files")
def test_a_burst_is_found_with_its_time_p_and_what_it_looks_like(dqm: Dqm) -> None:
    told = dqm("hunt", "burst.parquet", *QUICK)
    assert told.code == 0
    first = told.out.splitlines()[1]
    assert "p of the hunt" in told.out
    begin, _, end = first.split()[:3]
    assert float(begin) < 1.6e9 + 46.0
    assert float(end) > 1.6e9 + 42.0
    assert "p = 0.05 of the whole hunt: 1600 events, 19 permutations" in told.out
    assert "what is selected departs mostly in b" in told.out
    (found,) = json_lines(dqm("hunt", "burst.parquet", *QUICK, "--json").out)
    assert (found["along"], found["features"], found["n_events"]) == ("time", ["a", "b"], N)
    assert found["p"] == pytest.approx(0.05)
    best = found["windows"][found["leading"][0]]
    assert best["side_low"] < best["low"] < best["high"] < best["side_high"]
    assert {"share", "selected", "expected", "p"} == best["shares"][0].keys()
    maps = found["explanation"]["maps"]
    assert [one["features"] for one in maps] == [["a"], ["b"]]
    assert sum(maps[1]["data"]) == pytest.approx(sum(maps[1]["reference"]))
    assert sum(maps[1]["fitted"]) == pytest.approx(sum(maps[1]["reference"]))
    caught = sum(one["n_selected"] for one in found["bins"])
    assert 0 < caught < sum(one["n_events"] for one in found["bins"])


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_nothing_stands_out_in_a_healthy_run_along_any_column(dqm: Dqm) -> None:
    for along in ("time", "wire"):
        told = dqm("hunt", "good.parquet", "--along", along, "--features", "a,b", *QUICK)
        assert told.code == 0
        assert "nothing stands out; the smallest p of one window is" in told.out


@pytest.mark.long
@pytest.mark.usefixtures("files")
def test_a_hunt_is_the_same_with_any_number_of_processes(dqm: Dqm) -> None:
    options = ("--positions", 8, "--permutations", 19, "--json")
    told = [dqm("hunt", "good.parquet", *options, "--processes", n).out for n in (1, 2)]
    assert told[0] == told[1]


@pytest.mark.slow
def test_the_figure_is_written(dqm: Dqm, files: Path) -> None:
    assert dqm("hunt", "burst.parquet", *QUICK, "--plot", "hunt.png").code == 0
    assert (files / "hunt.png").stat().st_size > 10_000
    told = dqm("hunt", "burst.parquet", *QUICK, "--plot", "hunt.gif")
    assert (told.code, told.out) == (2, "")
    assert "no figure has the ending '.gif'" in told.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("good.parquet", "--along", "gas"),
            "good.parquet: no column 'gas' of numbers. There are: time, a, b, wire",
        ),
        (("good.parquet", "--along", "gas", "--features", "a,b"), "no column 'gas'"),
        (("flat.parquet", "--along", "flat"), "flat.parquet, flat: the coordinate is constant (3)"),
        (("flat.parquet",), "flat.parquet: flat is constant. Choose other features"),
        (("follow.parquet", "--positions", "8"), "follow.parquet: warm (100%) follows time"),
        (("few.csv", "--along", "a"), "few.csv, a: 300 events for 20 positions"),
        (("few.csv",), "few.csv: no column 'time' of numbers. There are: a, b"),
        (
            ("text.parquet", "--along", "label", "--features", "a"),
            "column 'label': holds string, not numbers. Hunt along a column of numbers",
        ),
        (("number.parquet", "--along", "chamber", "--features", "a"), "the coordinate is constant (3)"),
        (("part.parquet", "--along", "place"), "no column 'place' of numbers. There are: time, a, b, wire"),
        (
            ("text.parquet", "--along", "chamber", "--features", "a"),
            "'chamber': holds string, not numbers. Hunt",
        ),
        (
            ("good.parquet", "--permutations", 18),
            "18 permutations: p is never below 0.053, and a place stands out at p = 0.05 or less. Give at",
        ),
        (("good.parquet", "good.parquet"), "have the same events, of 1600 and 1600: these samples are not"),
        (
            ("good.parquet", "part.parquet"),
            "and part.parquet: have 100 events in common, of 1600",
        ),
        (("good.parquet", "--along", "a", "--features", "a"), "no feature but a"),
        (("good.parquet", "--features", "time"), "no feature but time"),
        (("good.parquet", "--chamber", "7"), "no events of chamber 7"),
        (("good.parquet", "--positions", "4"), "4 positions are too few"),
        (("good.parquet", "few.csv"), "few.csv: has the features a, b, but files before it have a, b, wire"),
    ],
)
def test_what_cannot_be_hunted_is_refused(
    dqm: Dqm, files: Path, options: tuple[str, ...], message: str
) -> None:
    x, time = healthy_events(N, 3), np.arange(float(N))
    write_run(files / "flat.parquet", x, time, flat=np.full(N, 3.0))
    write_run(files / "follow.parquet", x, time, warm=20.0 + np.sin(time / 400.0))
    pq.write_table(pq.read_table(files / "good.parquet").slice(500, 100), files / "part.parquet")
    write_csv(files / "few.csv", healthy_events(300, 4))
    text = pa.array(["x"] * N)
    write_run(files / "number.parquet", x, time, chamber=np.full(N, 3.0))
    write_run(files / "text.parquet", x, time, label=text, chamber=text)
    told = dqm("hunt", *options, *(() if "--permutations" in options else FEW), "--processes", 1)
    assert (told.code, told.out) == (2, "")
    assert message in told.err


@pytest.mark.slow
def test_proportions_teach_what_the_class_looks_like(dqm: Dqm, files: Path) -> None:
    for name, fraction, seed in (("low", 0.1, 5), ("middle", 0.3, 6), ("high", 0.7, 7)):
        x = healthy_events(1000, seed)
        x[: round(1000 * fraction), 1] += 3.0
        write_csv(files / f"{name}.csv", x)
    names = ("low.csv", "middle.csv", "high.csv", "--fractions", "0.1,0.3,0.7")
    told = dqm("hunt", *names, "--plot", "class.svg")
    assert told.code == 0
    assert "the class departs mostly in b" in told.out
    assert (files / "class.svg").exists()
    (found,) = json_lines(dqm("hunt", *names, "--json").out)
    assert found["auc"] > 0.9
    scores = [one["mean_score"] for one in found["samples"]]
    assert scores == sorted(scores)
    for one in found["samples"]:
        assert one["mean_score"] == pytest.approx(one["expected_score"], abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fractions", "0.1"), "2 samples and 1 fraction"),
        (("--fractions", "0.1,0.3"), "good.parquet and good.parquet: have the same events, of 1600 and"),
        (("--fractions", "0.1,0.1"), "all fractions are 0.1"),
        (("--fractions", "0.1,x"), "--fractions: '0.1,x' are not numbers"),
        (("--fractions", "0.1,2"), "the fraction 2 is not in [0, 1]"),
        (("--fractions", "0.1,0.3", "--along", "a"), "--along cannot be given with --fractions"),
        (("--fractions", "0.1,0.3"), "burst.parquet: has the features a, b, but good.parquet has a, b, wire"),
    ],
)
def test_fractions_that_cannot_be_are_refused(
    dqm: Dqm, files: Path, options: tuple[str, ...], message: str
) -> None:
    second = message.partition(":")[0].rpartition(" ")[2]
    if not second.endswith(".parquet"):
        second = "other.parquet"
        write_run(files / second, healthy_events(N, 9), np.arange(float(N)), wire=np.arange(float(N)))
    told = dqm("hunt", "good.parquet", second, *options)
    assert (told.code, told.out) == (2, "")
    assert message in told.err


def test_files_are_read_as_they_say(dqm: Dqm, files: Path) -> None:
    """A table with decimal commas, as a spreadsheet writes it."""
    rng = np.random.default_rng(8)
    rows = [
        f"{k / 10:.1f};{x:.4f};{y:.4f}".replace(".", ",")
        for k, (x, y) in enumerate(rng.normal(size=(800, 2)))
    ]
    table = files / "commas.csv"
    table.write_text("place;a;b\n" + "\n".join(rows) + "\n")
    few = ("--along", "place", "--positions", "8", "--permutations", "19")
    assert 'set decimal = ","' in dqm("hunt", table, *few).err
    told = dqm("hunt", table, *few, "--read", 'decimal=","', "--json")
    assert told.code == 0, told.err
    (found,) = json_lines(told.out)
    assert found["features"] == ["a", "b"]


def test_a_reading_of_slow_control_becomes_a_coordinate_as_the_page_says(
    dqm: Dqm, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The burst at 42 to 46 s is at 24.2 to 24.6 degrees."""
    page = (Path(__file__).parents[2] / "docs" / "hunt.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    rows = [f"{1.6e9 + t},{name},{value},0.1" for t in range(0, 101, 10)
            for name, value in (("temperature", 20.0 + 0.1 * t), ("pressure", 963.0))]  # fmt: skip
    (files / "readings.csv").write_text("\n".join(["time,name,value,sigma", *rows]) + "\n")
    (files / "burst.parquet").rename(files / "run.parquet")
    monkeypatch.chdir(files)
    exec(code, {})  # noqa: S102 - the text of our own page
    told = dqm("hunt", "run-temperature.parquet", "--along", "temperature", *QUICK)
    assert told.code == 0, told.err
    begin, _, end = told.out.splitlines()[1].split()[:3]
    assert 20.0 < float(begin) < 24.6
    assert 24.2 < float(end) < 30.0
