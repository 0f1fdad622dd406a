"""Patterns and directories: which files, of which runs, in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from dqm.errors import FileError
from dqm_collectors.inputs.run_files import list_files, list_new
from dqm_collectors.replay import ReplayCollector

PATTERN = r"calo_run(?P<run>\d+)(?:_(?P<run_type>[a-z]+))?(?:_p(?P<part>\d+))?\.csv"


def names(folder: Path, *files: str, pattern: str | None = None, what: str = "") -> list[str]:
    for file in files:
        (folder / file).write_text("a,b\n1,2\n")
    return [file.path.name for file in list_files([folder / what], pattern)]


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    assert names(tmp_path, "run10.csv", "run9.csv", "run100.csv", "notes.md") == [
        "run9.csv",
        "run10.csv",
        "run100.csv",
    ]
    assert names(tmp_path, what="run1*.csv") == ["run10.csv", "run100.csv"]


def test_runs_types_and_parts_come_from_names(tmp_path: Path) -> None:
    files = ["calo_run8_cosmics_p2.csv", "calo_run8_cosmics_p10.csv", "calo_run7.csv", "other_run9.csv"]
    assert names(tmp_path, *files, pattern=PATTERN) == [
        "calo_run7.csv",
        "calo_run8_cosmics_p2.csv",
        "calo_run8_cosmics_p10.csv",
    ]
    found = list_files([tmp_path], PATTERN)
    assert [(file.run, file.run_type, file.part) for file in found] == [
        (7, "", 0),
        (8, "cosmics", 2),
        (8, "cosmics", 10),
    ]
    source = ReplayCollector(ReplayCollector.Options(inputs=(tmp_path,), name_pattern=PATTERN))
    assert source.gives_runs
    assert [(batch.run, batch.run_type) for batch in source] == [(7, ""), (8, "cosmics"), (8, "cosmics")]


def test_two_detectors_in_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileError, match=r"calo_run7\.csv: run 7 has a second file: tracker_run7\.csv.*two detectors"
    ):
        names(tmp_path, "calo_run7.csv", "tracker_run7.csv", pattern=r"\w+_run(?P<run>\d+)\.csv")
    (tmp_path / "tracker_run7.csv").write_text("x,b,y\n1,2,3\n")
    with pytest.raises(
        FileError,
        match=r"tracker_run7\.csv: its columns are not those of .*calo_run7\.csv: it lacks a; it also has "
        r"x, y",
    ):
        list(ReplayCollector(ReplayCollector.Options(inputs=(tmp_path,))))


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        ((), None, "there is no file.*these endings"),
        (("a.csv",), PATTERN, "there is no file.*name_pattern"),
        (("runx.csv",), r"run(?P<run>.)\.csv", "its name gives run = 'x', which is not a number"),
        (("run99999999999999999999.csv",), r"run(?P<run>\d+)\.csv", "which is not a number"),
        (("run1-a b.csv",), r"run(?P<run>\d)-(?P<run_type>.*)\.csv", "its name gives run_type = 'a b'"),
        (
            ("run1a_1.csv", "run1b_2.csv"),
            r"run(?P<run>\d)(?P<run_type>.)_(?P<part>\d)\.csv",
            "run 1 is 'a' by this file and 'b' by run1b_2.csv",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(
    tmp_path: Path, files: tuple[str, ...], pattern: str | None, message: str
) -> None:
    with pytest.raises(FileError, match=message):
        names(tmp_path, *files, pattern=pattern)


def test_a_file_that_is_named_must_match(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="the name does not match name_pattern"):
        names(tmp_path, "a.csv", pattern=PATTERN, what="a.csv")
    assert list_new([tmp_path / "later*.csv"], None) == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("run(", "not a regular expression"),
        (r"run\d+", "has the groups none"),
        (r"(?P<run>\d)(?P<dqm>.)", "run, dqm"),
    ],
)
def test_a_pattern_without_a_run_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReplayCollector.Options(inputs=(Path("x"),), name_pattern=pattern)


def test_a_name_with_brackets_that_exists_is_a_file(tmp_path: Path) -> None:
    assert names(tmp_path, "a[1].csv", what="a[1].csv") == ["a[1].csv"]
