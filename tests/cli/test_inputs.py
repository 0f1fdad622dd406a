"""Files of events by the keys of the collectors: ``--read``, ``--read-as``, ``--set``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.service.small import healthy_events

from .conftest import Told
from .program import json_lines

Dqm = Callable[..., Told]
COLLECTOR = """
[collector]
name = "replay"
[window]
events = 40
[options]
inputs = ["run*.csv"]
name_pattern = 'run(?P<run>\\d+)\\.csv'
decimal = ","
features = ["a", "b"]
[options.columns]
a = { column = "charge [nC]", scale = 1e-3 }
[options.derive]
b = "height * 1"
"""


def write(path: Path, x: np.ndarray) -> None:
    rows = "".join(f"{row[0] * 1000!r};{row[1]!r}\n".replace(".", ",") for row in x.tolist())
    path.write_text(f"charge [nC];height\n{rows}")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run, n in ((9, 80), (10, 120)):
        write(tmp_path / f"run{run}.csv", healthy_events(n, run))
    (tmp_path / "collector.toml").write_text(COLLECTOR)
    return tmp_path


def test_compare_reads_files_as_their_collector_does(dqm: Dqm, bundle: Path, runs: Path) -> None:
    told = dqm("compare", bundle, runs, "--read-as", runs / "collector.toml", "--window", 40, "--json")
    assert told.code == 0, told.err
    lines = json_lines(told.out)
    assert [(line["run"], line["seq"]) for line in lines] == [(9, 0), (9, 1), (10, 0), (10, 1), (10, 2)]
    again = dqm(
        "compare",
        bundle,
        runs / "run9.csv",
        *("--read", "decimal=,"),
        *("--read", 'columns.a={column = "charge [nC]", scale = 1e-3}'),
        *("--read", "derive.b=height * 1"),
        *("--window", 40, "--json"),
    )
    assert [line["t"] for line in json_lines(again.out)] == [line["t"] for line in lines[:2]]


def test_a_bundle_is_built_of_what_a_pattern_names(dqm: Dqm, runs: Path) -> None:
    write(runs / "run11.csv", healthy_events(900, 11))
    told = dqm(
        "reference", "build", "run*.csv", "-o", "b.dqmref", "--window", 40, "--read-as", "collector.toml"
    )
    assert told.code == 0, told.err
    shown = json_lines(dqm("reference", "show", "b.dqmref", "--json").out)[0]
    assert shown["features"] == ["a", "b"]
    assert [source["name"] for source in shown["sources"]] == ["run9.csv", "run10.csv", "run11.csv"]


def test_extract_takes_the_same_keys(dqm: Dqm, runs: Path) -> None:
    options = ("--set", 'decimal=","', "--set", "derive.r=sqrt(height**2)", "--set", 'features=["r"]')
    told = dqm("extract", "replay", runs / "run9.csv", "-o", runs / "x.parquet", *options)
    assert told.code == 0, told.err
    assert pq.read_schema(runs / "x.parquet").names == ["chamber", "r"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--read", "decimals=,"),
            "'decimals=,' does not say how files are read. Give KEY=VALUE with one of these keys: columns",
        ),
        (("--read", "inputs=x"), "does not say how files are read"),
        (("--read", "tree"), "does not say how files are read"),
        (("--read", "derive=1"), "--read: derive: "),
        (("--read", "decimal=,", "--read", "decimal.x=1"), "--read: 'decimal.x' is not a table"),
        (("--read", "decimal=;"), "--read: decimal: "),
        (("--read", "derive.a=__import__('os')"), "is more than arithmetic: a call"),
        (
            ("--read", "decimal=,", "--read", "derive.b=heights"),
            "no column 'heights'. Did you mean 'height'?",
        ),
        (("--read", "decimal=,", "--read", "select=height + 1"), "is a number and no condition"),
        (("--read-as", "tdc.toml"), "the collector 'tdc' reads no files of features"),
        (("--read", "decimal=,"), "no column 'a'. There are: charge [nC], height"),
    ],
)
def test_what_cannot_be_read_so_is_refused(
    dqm: Dqm, bundle: Path, runs: Path, options: tuple[str, ...], message: str
) -> None:
    (runs / "tdc.toml").write_text(COLLECTOR.replace('"replay"', '"tdc"'))
    told = dqm("compare", bundle, runs / "run9.csv", *options)
    assert told.code == 2
    assert message in told.err
    assert "Traceback" not in told.err
