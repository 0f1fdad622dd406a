"""Trees with lists, several trees, chains of files."""

from __future__ import annotations

import os
from pathlib import Path

import awkward
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from dqm.errors import FileError
from dqm.service.offline.file_contents import describe_file
from dqm_collectors.replay import ReplayCollector

from .trees import HITS, write_events, write_lists

pytestmark = pytest.mark.usefixtures("root_here")


def read(path: Path | str, **options: object) -> tuple[tuple[str, ...], list[list[float]]]:
    source = ReplayCollector(ReplayCollector.Options.model_validate({"inputs": (path,), **options}))
    batches = list(source)
    return batches[0].names, np.concatenate([batch.x for batch in batches]).tolist()


@pytest.fixture(scope="module", params=["tree", "ntuple", "parquet"])
def lists(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    if request.param == "parquet":
        columns = {"t": [1.0, 2, 3, 4], "x": HITS, "q": [[10 * v for v in row] for row in HITS]}
        table = pa.table({**columns, "layer": [[int(v) for v in row] for row in HITS]})
        pq.write_table(table, folder / "a.parquet")
        return folder / "a.parquet"
    return write_lists(folder / "a.root", as_tree=request.param == "tree")


def test_a_row_an_event_takes_one_value_of_each_list(lists: Path) -> None:
    takes = {
        "first": [1, np.nan, 3, 4],
        "last": [5, np.nan, 3, 6],
        "count": [2, 0, 1, 3],
        "sum": [6, 0, 3, 12],
        "mean": [3, np.nan, 3, 4],
        "min": [1, np.nan, 3, 2],
        "max": [5, np.nan, 3, 6],
        1: [5, np.nan, np.nan, 2],
    }
    columns = {f"x_{take}": {"column": "x", "take": take} for take in takes}
    names, x = read(lists, columns=columns, features=tuple(columns), keep_nan=True)
    assert names == tuple(columns)
    np.testing.assert_array_equal(np.array(x).T, np.array(list(takes.values()), dtype=float))


def test_a_row_an_element_repeats_what_has_no_list(lists: Path) -> None:
    names, x = read(lists, rows="element", features=("x", "q", "t"), derive={"d": "q - x"})
    assert names == ("x", "q", "t")
    assert x == [[v, 10 * v, t] for t, row in zip([1, 2, 3, 4], HITS, strict=True) for v in row]
    columns = {"n": {"column": "q", "take": "count"}}
    chosen = read(lists, rows="element", columns=columns, features=("x", "n"), select="n > 1 and x > 1")[1]
    assert chosen == [[5, 2], [4, 3], [2, 3], [6, 3]]


def test_elements_may_say_their_chamber(lists: Path) -> None:
    options = ReplayCollector.Options(
        inputs=(lists,), rows="element", columns={"chamber": "layer"}, features=("q",)
    )
    assert {batch.chamber: batch.x.ravel().tolist() for batch in ReplayCollector(options)} == {
        str(k): [10.0 * k] for k in (1, 2, 3, 4, 5, 6)
    }


def test_a_list_without_a_choice_is_refused_with_both_ways(lists: Path) -> None:
    with pytest.raises(
        FileError, match=r"column 'x': holds .*, a list in each row. .*take = \"first\".*rows = \"element\""
    ):
        read(lists, features=("t", "x"))
    with pytest.raises(FileError, match="row 2, column 'x': nan is not a number"):
        read(lists, columns={"x": {"column": "x", "take": "first"}}, features=("x",))


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("e", {"x": awkward.Array([[1.0], [2.0]]), "y": awkward.Array([[1.0], [2.0, 3.0]])})
    with pytest.raises(FileError, match=r"tree 'e', row 2: 'x' has 1 elements and 'y' has 2"):
        read(path, rows="element", features=("x", "y"))


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch()
    with pytest.raises(FileError, match=r"a\.root: the file is empty"):
        read(tmp_path / "a.root")


def test_fixed_arrays_are_lists_and_texts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("e", {"drift": np.arange(8.0).reshape(2, 4)})
        file.mktree("s", {"name": awkward.Array(["a", "b"]), "v": np.arange(2.0)})
    columns = {f"t_{k}": {"column": "drift", "take": k} for k in range(4)}
    assert read(path, tree="e", columns=columns)[1] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for keep_nan in (False, True):
        with pytest.raises(
            FileError, match="column 'drift': no row has an element 4: lists have at most 4 elements, counted"
        ):
            read(path, tree="e", columns={"t": {"column": "drift", "take": 4}}, keep_nan=keep_nan)
    with pytest.raises(FileError, match=r"column 'name': holds .*, not numbers"):
        read(path, tree="s")
    assert read(path, tree="s", features=("v",))[1] == [[0], [1]]


def test_of_several_trees_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("run/events", {"a": np.arange(3.0)})
        file.mktree("run/calibration", {"a": np.arange(2.0)})
    with pytest.raises(
        FileError, match=r"2 trees: run/events \(3 entries\), run/calibration \(2 entries\). Give one"
    ):
        read(path)
    with pytest.raises(
        FileError, match=r"no tree 'run/event'. Did you mean 'run/events'\? There are: run/events \(3"
    ):
        read(path, tree="run/event")
    assert read(path, tree="run/calibration")[1] == [[0], [1]]
    with pytest.raises(FileError, match=r"no column 'aa'. Did you mean 'a'\? There are: a \(double\)"):
        read(path, tree="run/events", features=("aa",))


def test_a_chain_names_the_file_that_differs(tmp_path: Path) -> None:
    for k in (1, 2, 10):
        write_events(tmp_path / f"run{k}.root", 3, first=10 * k)
    assert [row[0] for row in read(f"{tmp_path}/run*.root")[1]] == [10, 11, 12, 20, 21, 22, 100, 101, 102]
    with uproot.recreate(tmp_path / "run3.root") as file:
        file.mktree("events", {"number": np.arange(3, dtype=np.float32), "E": np.arange(3.0)})
    with pytest.raises(
        FileError,
        match=r"run3\.root: its columns are not those of .*run1\.root: it lacks half; it also has E; "
        r"'number' is float and "
        "was double",
    ):
        read(tmp_path)
    with pytest.raises(FileError, match=r"run3\.root: .*'number' is float and was double"):
        read(tmp_path, features=("number",))
    write_events(tmp_path / "run3.root", 3, tree="other")
    with pytest.raises(FileError, match=r"run3\.root: no tree 'events'. There are: other"):
        read(tmp_path, tree="events")


def test_a_tree_that_was_saved_several_times_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("e", {"a": np.arange(2.0)})
        file.mktree("e", {"a": np.arange(5.0)})
    (table,) = describe_file(path)
    assert (table.name, table.n_rows) == ("e", 5)
    assert len(read(path)[1]) == 5


def test_a_file_is_described(lists: Path, tmp_path: Path) -> None:
    (table,) = describe_file(lists)
    assert table.n_rows == 4
    kinds = {column.name: (column.is_number, column.is_list) for column in table.columns}
    assert {name: kinds[name] for name in ("t", "x", "q", "layer")} == {
        "t": (True, False),
        "x": (True, True),
        "q": (True, True),
        "layer": (True, True),
    }
    (tmp_path / "a.csv").write_text("drift time [ns];b\n1;2\n")
    (table,) = describe_file(tmp_path / "a.csv")
    assert [(column.name, column.feature) for column in table.columns] == [
        ("drift time [ns]", "drift_time_ns"),
        ("b", "b"),
    ]


def test_a_file_that_is_being_written_is_refused_offline(tmp_path: Path) -> None:
    whole = write_events(tmp_path / "whole.root", 20_000).read_bytes()
    for size in (0, 50, 300, len(whole) // 2, len(whole) - 1000):
        (tmp_path / "part.root").write_bytes(whole[:size])
        with pytest.raises(
            FileError, match=r"part\.root: (not a readable ROOT file|the file has no tree|the file is empty)"
        ):
            read(tmp_path / "part.root")


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_was_cut_is_refused_even_if_the_chosen_columns_could_be_read(
    tmp_path: Path, share: float
) -> None:
    path = tmp_path / "cut.root"
    with uproot.recreate(path) as file:
        file.mktree("events", {"early": "f8", "late": "f8"})
        for _ in range(10):
            file["events"].extend({"early": np.arange(1000.0), "late": np.arange(1000.0)})
    end = path.stat().st_size
    assert len(read(path, features=("early",))[1]) == 10_000
    os.truncate(path, int(share * end))
    for call in (lambda: read(path, features=("early",)), lambda: describe_file(path)):
        with pytest.raises(
            FileError, match=rf"it has {int(share * end)} bytes, and {end} by its header"
        ) as told:
            call()
        assert "If it is still being written, wait for its end" in str(told.value)


@pytest.mark.parametrize(
    "name", ["none.root", "none.csv", "none.csv.gz", "none.parquet", "none/", "none.txt"]
)
def test_a_file_that_is_not_there_is_not_one_that_is_being_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError) as told:
        read(tmp_path / name)
    assert str(told.value) == f"{tmp_path / name}: No such file or directory. Correct the path"
