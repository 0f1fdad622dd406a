"""Features to and from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dqm.errors import ConfigError, FileError, InputError, NoEventsError
from dqm.events import EventBatch
from dqm.service.collector.sources import open_source
from dqm.service.offline import extraction
from dqm.service.offline.comparison import cut_file
from dqm.service.offline.extraction import extract
from dqm.service.offline.feature_files import (
    feature_names,
    list_inputs,
    read_counted,
    read_events,
    read_features,
    read_run,
)
from dqm.service.offline.two_files import read_two
from tests.service.small import FEATURES, healthy_events, write_csv

SIMULATION = {"chambers": [1, 3], "seconds": 12.0, "rate_hz": 40.0, "seed": 5, "batch_seconds": 2.0}


def joined(batches: Iterator[EventBatch], chamber: str) -> EventBatch:
    mine = [b for b in batches if b.chamber == chamber]
    times = np.concatenate([b.times for b in mine if b.times is not None])
    return EventBatch(chamber, mine[0].names, np.concatenate([b.x for b in mine]), times)


@pytest.mark.parametrize("rows_at_once", [65_536, 100])
def test_what_was_extracted_is_read_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(extraction, "ROWS_AT_ONCE", rows_at_once)
    path, told = tmp_path / "events.parquet", []
    n = extract(open_source("simulate", SIMULATION), path, progress=told.append)
    assert told[-1] == n == pq.read_metadata(path).num_rows
    assert pq.read_schema(path).names[:3] == ["chamber", "time", "t_1"]
    table = pq.read_table(path).to_pydict()
    for chamber in ("1", "3"):
        source = joined(iter(open_source("simulate", SIMULATION)), chamber)
        rows = [k for k, value in enumerate(table["chamber"]) if value == chamber]
        assert len(rows) > 300
        np.testing.assert_array_equal(np.take(table["time"], rows), source.times)
        for k, name in enumerate(source.names):
            np.testing.assert_array_equal(np.take(table[name], rows), source.x[:, k])


@pytest.mark.parametrize(
    "as_input", ["events.parquet", ".", "ev*.parquet", "link.parquet", "../{}/events.parquet"]
)
def test_an_input_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_input: str) -> None:
    monkeypatch.chdir(tmp_path)
    extract(open_source("simulate", SIMULATION), Path("events.parquet"), n_events=10)
    Path("link.parquet").symlink_to("events.parquet")
    before = Path("events.parquet").read_bytes()
    named = as_input.format(tmp_path.name)
    with pytest.raises(
        ConfigError, match=r"^events.parquet: is read as well, by the name .*would be overwritten"
    ):
        extract(open_source("replay", {"inputs": [named]}), Path("events.parquet"))
    assert Path("events.parquet").read_bytes() == before


def test_a_file_that_is_not_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    for n in (10, 20):
        extract(open_source("simulate", SIMULATION), path, n_events=n)
    assert pq.read_metadata(path).num_rows == 20


@pytest.mark.parametrize("name", ["events.csv", "events", "events.PARQUET"])
def test_features_are_not_written_under_the_name_of_another_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"become a Parquet file.*with the ending \.parquet"):
        extract(open_source("simulate", SIMULATION), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_features_come_back_through_the_readers(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    extract(open_source("simulate", SIMULATION), path, chamber="3")
    source = joined(iter(open_source("simulate", SIMULATION)), "3")
    back = joined(read_features(path, None), "3")
    assert back.names == source.names
    np.testing.assert_array_equal(back.x, source.x)
    x, names, (file,) = read_events([path], ("theta", "t_1"))
    np.testing.assert_array_equal(x, source.x[:, [names.index("theta") + 4, 0]])
    assert (file.name, file.n_events) == ("events.parquet", len(source.x))
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_extract_takes_so_many_events_of_one_chamber(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    endless = SIMULATION | {"seconds": None}
    assert extract(open_source("simulate", endless), path, n_events=123, chamber="3") == 123
    assert set(pq.read_table(path)["chamber"].to_pylist()) == {"3"}
    assert pq.read_metadata(path).num_rows == 123


def test_an_extract_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "ROWS_AT_ONCE", 1)
    text = "a,b\n" + "1,2\n" * 70_000 + "1,x\n"
    (tmp_path / "events.csv").write_text(text)
    (tmp_path / "old.parquet").write_bytes(b"as it was")
    for name in ("new.parquet", "old.parquet"):
        with pytest.raises(FileError, match=r"events\.csv.*row 70002"):
            extract(open_source("replay", {"inputs": [tmp_path / "events.csv"]}), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "old.parquet"]
    assert (tmp_path / "old.parquet").read_bytes() == b"as it was"


@pytest.mark.parametrize("output", ["none/events.parquet", "folder.parquet"])
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, output: str) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(FileError, match="cannot write"):
        extract(open_source("simulate", SIMULATION), tmp_path / output)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder.parquet"]


def test_the_working_directory_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"with the ending \.parquet"):
        extract(open_source("simulate", SIMULATION), Path())
    assert not list(tmp_path.iterdir())


def test_a_source_without_events_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoEventsError, match="the source has no events"):
        extract(open_source("simulate", SIMULATION), tmp_path / "x.parquet", chamber="0")
    assert not list(tmp_path.iterdir())


def test_a_selection_that_leaves_out_all_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    source = open_source("replay", {"inputs": [path], "select": "a > 5"})
    with pytest.raises(NoEventsError, match="the source has no events with select = 'a > 5'"):
        extract(source, tmp_path / "x.parquet")
    with pytest.raises(FileError, match=r"a\.csv: no events with select = 'a > 5'"):
        read_run([path], None, reading={"select": "a > 5"})
    with pytest.raises(FileError, match=r"a\.csv: no rows with select = 'a > 5'"):
        read_counted([path], None, "b", reading={"select": "a > 5"})


def test_files_of_different_features_are_not_extracted_together(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", healthy_events(10, 1))
    (tmp_path / "two.csv").write_text("a,c\n1,2\n")
    source = open_source("replay", {"inputs": [tmp_path / "one.csv", tmp_path / "two.csv"]})
    with pytest.raises(
        InputError, match=r"two\.csv: its columns are not those of .*one\.csv: it lacks b; it also has c"
    ):
        extract(source, tmp_path / "x.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.csv", "two.csv"]


def test_reading_takes_only_common_columns_of_several_files(tmp_path: Path) -> None:
    one = write_csv(tmp_path / "one.csv", healthy_events(10, 1))
    two = tmp_path / "two.csv"
    two.write_text("b,a,c\n1,2,3\n")
    with pytest.raises(
        InputError, match=r"two\.csv: has the features b, a, c, but files before it have a, b"
    ):
        read_events([one, two], None)
    x, names, files = read_events([one, two], FEATURES)
    assert names == FEATURES
    assert x[-1].tolist() == [2, 1]
    assert [file.n_events for file in files] == [10, 1]


def test_reading_takes_the_keys_of_the_collectors(tmp_path: Path) -> None:
    for run, text in ((9, "x [mm];y\n3,0;4\n6;8\n"), (10, "x [mm];y\n5;12\n8;15\n")):
        (tmp_path / f"run{run}.csv").write_text(text)
    reading = {
        "decimal": ",",
        "derive": {"r": "sqrt(x_mm**2 + y**2)"},
        "name_pattern": r"run(?P<run>\d+)\.csv",
        "features": ["r"],
    }
    run = read_run([tmp_path], None, reading=reading)
    assert run.names == ("r",)
    assert run.x.tolist() == [[5], [10], [13], [17]]
    assert [source.name for source in run.sources] == ["run9.csv", "run10.csv"]
    assert [file.run for file in list_inputs([tmp_path], reading)] == [9, 10]
    counted = read_counted([tmp_path / "run9.csv"], None, "y", reading={"decimal": ","})
    assert (counted.names, counted.column, counted.n_events) == (("x_mm",), "y", 12)
    windows = list(cut_file(tmp_path / "run9.csv", ("r",), run=9, n_window=2, reading=reading))
    assert [window.x.tolist() for window in windows] == [[[5], [10]]]
    with pytest.raises(ConfigError, match=r"--read: .*derive.* is more than arithmetic"):
        read_run([tmp_path], None, reading={"derive": {"r": "x.y"}})


def test_two_files_are_read_by_the_same_keys(tmp_path: Path) -> None:
    for name, first in (("one.csv", 0), ("two.csv", 50)):
        (tmp_path / name).write_text("x;y\n" + "".join(f"{k},5;{k}\n" for k in range(first, first + 20)))
    reading = {"decimal": ",", "derive": {"r": "x - y"}, "features": ["r", "y"], "select": "y < 65"}
    two = read_two((tmp_path / "one.csv", tmp_path / "two.csv"), ("y", "x"), reading=reading)
    assert two.names == ("y", "x")
    assert two.second.x[:, 0].tolist() == list(range(50, 65))


def test_reading_no_events_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "one.csv", healthy_events(10, 1), ["0"] * 10)
    with pytest.raises(FileError, match=r"one\.csv: no events of chamber 7"):
        read_events([path], None, "7")
    with pytest.raises(InputError, match="no files given"):
        read_events([], None)


def test_chambers_of_a_source_with_a_clock_are_merged_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "ROWS_AT_ONCE", 50)
    source = open_source("simulate", {"chambers": [0, 1], "seed": 3, "seconds": 8.0})
    n = extract(source, tmp_path / "events.parquet")
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.num_rows == n > 200
    assert (np.diff(table["time"].to_numpy()) >= 0).all()
    whole, names, _ = read_events([tmp_path / "events.parquet"], ["t_1", "theta"])
    part, _, _ = read_events([tmp_path / "events.parquet"], ["t_1", "theta"], chamber="1")
    assert names == ("t_1", "theta")
    assert len(whole) == n > len(part) > 50


def test_a_reader_is_told_of_names_that_change_and_of_a_long_pause(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    rows = [f"{k + (60 if k > 49 else 0)},{k}.5,{k % 7}" for k in range(100)]
    path.write_text("time,drift time [ns],q\n" + "\n".join(rows) + "\n")
    assert feature_names(path) == {"drift time [ns]": "drift_time_ns"}
    pause, names = read_run([path], None).notes
    assert pause.startswith(f"{path}: no event for 61 s after event 50 of 100")
    assert names == "columns have these names as features: 'drift time [ns]' is drift_time_ns"
    assert len(read_run([path], ["q"]).notes) == 1, "the other column is not used"
