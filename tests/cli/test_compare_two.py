"""``dqm compare --two``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.service.small import healthy_events, write_csv

from .conftest import Told
from .program import json_lines

Dqm = Callable[..., Told]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_csv(tmp_path / "one.csv", healthy_events(150, 1))
    write_csv(tmp_path / "two.csv", healthy_events(120, 2))
    write_csv(tmp_path / "far.csv", healthy_events(120, 3) + 1.0)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_compares_two_files_with_p_and_maps(dqm: Dqm) -> None:
    options = ("--permutations", 49, "--json", "--processes", 1)
    (alike,) = json_lines(dqm("compare", "--two", "one.csv", "two.csv", *options).out)
    (unlike,) = json_lines(dqm("compare", "--two", "one.csv", "far.csv", *options).out)
    assert (alike["n_first"], alike["n_second"], alike["n_permutations"]) == (150, 120, 49)
    assert alike["p"] > 0.05
    assert unlike["p"] == pytest.approx(1 / 50)
    assert unlike["t"] == pytest.approx(unlike["t_first"] + unlike["t_second"])
    maps = unlike["explanation"]["maps"]
    assert [one["features"] for one in maps] == [["a"], ["b"]]
    assert sum(maps[0]["data"]) == 150
    assert sum(maps[0]["reference"]) == pytest.approx(150)
    learned, seen = np.array(maps[0]["fitted"]), np.array(maps[0]["data"])
    assert np.abs(learned - seen).sum() < 0.5 * np.abs(np.array(maps[0]["reference"]) - seen).sum()
    assert len(unlike["explanation"]["pairs"]) == 1


@pytest.mark.usefixtures("files")
def test_a_figure_without_a_directory_is_refused_before_the_work(dqm: Dqm) -> None:
    told = dqm("compare", "--two", "one.csv", "two.csv", "--permutations", 10**6, "--plot", "none/maps.png")
    assert (told.code, told.out) == (2, "")
    assert "none/maps.png: its directory does not exist. mkdir -p none" in told.err


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_compares_with_a_network(dqm: Dqm) -> None:
    options = ("--permutations", 19, "--statistic", "neural", "--features", "b", "--processes", 1)
    (unlike,) = json_lines(dqm("compare", "--two", "one.csv", "far.csv", *options, "--json").out)
    assert unlike["p"] == pytest.approx(1 / 20)
    assert unlike["settings"] == [{"layers": [4], "test": "network"}]
    assert "--statistic needs --two" in dqm("compare", "none", "one.csv", "--statistic", "neural").err


@pytest.mark.long
@pytest.mark.usefixtures("files")
def test_is_the_same_with_any_number_of_processes(dqm: Dqm) -> None:
    told = [
        dqm("compare", "--two", "one.csv", "two.csv", "--permutations", 50, "--json", "--processes", n).out
        for n in (1, 2)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (slice(0, 150), "one.csv and other.csv: have the same events, of 150 and 150"),
        (slice(0, 20), "one.csv and other.csv: have 20 events in common, of 150 and 120"),
        (slice(0, 3), "one.csv and other.csv: have 3 events in common, of 150 and 103"),
    ],
)
def test_events_in_both_files_are_refused(dqm: Dqm, files: Path, rows: slice, message: str) -> None:
    common = healthy_events(150, 1)[::-1][rows]
    write_csv(files / "other.csv", np.concatenate([common, healthy_events(100, 9)[: 150 - len(common)]]))
    before = sorted(files.iterdir())
    told = dqm("compare", "--two", "one.csv", "other.csv")
    assert (told.code, told.out) == (2, "")
    assert f"error: {message}" in told.err
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u,v\n1,2\n3,4\n", "one.csv and other.csv: no common feature: a, b and u, v"),
        ("a,b\n1,2\n", "other.csv: has 1 event"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(dqm: Dqm, files: Path, text: str, message: str) -> None:
    (files / "other.csv").write_text(text)
    before = sorted(files.iterdir())
    told = dqm("compare", "--two", "one.csv", "other.csv", "--plot", "maps.png")
    assert (told.code, told.out) == (2, "")
    assert f"error: {message}" in told.err
    assert sorted(files.iterdir()) == before


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--two", "one.csv", "two.csv", "two.csv"),
            "--two: needs two files to compare with each other",
        ),
        (
            ("--two", "one.csv"),
            "with each other, got 1: one.csv. Give A and B",
        ),
        (("one.dqmref",), "FILE: no file to test. Give files of events after the bundle"),
        (
            ("--two", "one.csv", "two.csv", "--statistic", "mmd"),
            "--statistic: no 'mmd' with --two. Choose kernel or neural. Other statistics need a bundle",
        ),
        (("--two", "one.csv", "two.csv", "--window", "60"), "--window cannot be given with --two"),
        (("--two", "one.csv", "two.csv", "--chamber", "1,2,3"), "--chamber: 3 chambers"),
        (("one.csv", "two.csv", "--seed", "3"), "--seed needs --two"),
    ],
)
def test_options_of_the_other_comparison_are_refused(
    dqm: Dqm, options: tuple[str, ...], message: str
) -> None:
    told = dqm("compare", *options)
    assert (told.code, told.out) == (2, "")
    assert message in told.err


def test_few_events_get_a_note(dqm: Dqm, files: Path) -> None:
    write_csv(files / "few.csv", healthy_events(9, 4))
    write_csv(files / "ten.csv", healthy_events(10, 5))
    options = ("--permutations", 9, "--processes", 1)
    told = dqm("compare", "--two", "one.csv", "few.csv", *options)
    assert told.code == 0
    assert "note: B has 9 events: so few show only a very large difference" in told.err
    assert "note:" not in dqm("compare", "--two", "ten.csv", "one.csv", *options).err


def test_nan_is_left_out_by_what_the_message_says(dqm: Dqm, files: Path) -> None:
    x = healthy_events(150, 6)
    x[3, 1] = np.nan
    write_csv(files / "nan.csv", x)
    told = dqm("compare", "--two", "nan.csv", "two.csv")
    assert told.code == 2
    (advice,) = re.findall(r"--read '([^']+)' of a command", told.err)
    assert advice == 'select="b == b"'
    options = ("--permutations", 9, "--processes", 1, "--json")
    (found,) = json_lines(dqm("compare", "--two", "nan.csv", "two.csv", "--read", advice, *options).out)
    assert (found["n_first"], found["n_second"]) == (149, 120)


def test_a_column_of_text_is_left_out_by_what_the_message_says(dqm: Dqm, files: Path) -> None:
    (files / "text.csv").write_text("time,a,word\n1,2,x\n2,3,y\n")
    told = dqm("hunt", "text.csv")
    assert told.code == 2
    assert "column 'word'" in told.err
    assert "Name the features to use: --features a, or" in told.err
