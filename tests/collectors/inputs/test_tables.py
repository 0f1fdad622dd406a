"""Files of another format than their names say, and columns that are no numbers."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from dqm.errors import FileError
from dqm_collectors.inputs.features import FeatureReader
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.tables import open_table

TABLE = pa.table({"a": [1.0, 2.0]})


def write(path: Path, kind: str) -> None:
    """Write a table as a format, whatever the name of the file."""
    match kind:
        case "Parquet":
            pq.write_table(TABLE, path)
        case "Arrow":
            feather.write_feather(TABLE, str(path), compression="uncompressed")
        case "ROOT":
            uproot = pytest.importorskip("uproot")
            with uproot.recreate(path.with_suffix(".root")) as file:
                file["t"] = {"a": np.arange(3.0)}
            path.with_suffix(".root").rename(path)
        case "gzip":
            path.write_bytes(gzip.compress(b"a\n1\n"))
        case "zip":
            with path.open("wb") as archive:
                np.savez(archive, a=np.zeros(3))
        case _:
            path.write_bytes(b"")


@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x", "x.PARQUET"])
@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("Parquet", "Rename it: the name must end in .parquet"),
        ("ROOT", "Rename it: the name must end in .root"),
        ("gzip", "Rename it: the name must end in .csv.gz"),
        ("Arrow", "Save it as Parquet or CSV"),
        ("zip", "Save it as Parquet or CSV"),
    ],
)
def test_a_file_that_is_no_text_is_told_its_format(tmp_path: Path, name: str, kind: str, fix: str) -> None:
    path = tmp_path / name
    write(path, kind)
    with pytest.raises(FileError, match=f"the file is no text, but .*{kind}") as told:
        open_table(path, FileOptions(inputs=(path,)))
    assert told.value.where == str(path)
    assert str(told.value.fix).startswith(fix)


@pytest.mark.parametrize("name", ["root", "PAR1", "ARROW1", "FEA1"])
def test_a_column_may_be_called_like_a_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{name},b\n1,2\n")
    assert [one.name for one in open_table(path, FileOptions(inputs=(path,))).columns] == [name, "b"]


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b"", "Files of Parquet begin with PAR1"),
        (b"a,b\n1,2\n", "Files of Parquet begin with PAR1"),
        (b"PAR1" + bytes(100), "The file is cut off or damaged"),
    ],
)
def test_what_is_no_parquet_is_told_what_to_do(tmp_path: Path, content: bytes, fix: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(FileError) as told:
        open_table(path, FileOptions(inputs=(path,)))
    assert str(told.value.fix).startswith(fix)
    assert ".." not in str(told.value)


NUMBERS = [1.0, np.inf]
UNUSABLE = {
    "holds string, not numbers": ["x", "y"],
    "holds struct<u: double>, not numbers": [{"u": 1.0}, {"u": 2.0}],
    "the values are not plain numbers": [2**62 + 1, 2**62 + 3],
    "inf is not a number": NUMBERS,
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("others", [("a", "c"), ("time", "c")])
def test_columns_that_can_be_used_are_named(tmp_path: Path, what: str, others: tuple[str, str]) -> None:
    path = tmp_path / "x.parquet"
    columns = {others[0]: [1.0, 2.0], "b": UNUSABLE[what], "c": [1.0, 2.0]}
    pq.write_table(pa.table(columns), path)
    options = FileOptions(inputs=(path,))
    with pytest.raises(FileError, match=what) as told:
        list(FeatureReader(options, open_table(path, options)).read())
    named = "a,c" if "a" in others else "c"
    assert f"--features {named}, or" in str(told.value.fix)
    assert "A,B" not in str(told.value.fix)


def test_a_file_without_numbers_names_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "l": [[1.0]]}), path)
    options = FileOptions(inputs=(path,))
    with pytest.raises(FileError, match=r"holds string, not numbers\. Give a file with a column of numbers"):
        FeatureReader(options, open_table(path, options))
