"""CSV as spreadsheets and instruments write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dqm.errors import FileError
from dqm_collectors.inputs.features import FeatureReader
from dqm_collectors.inputs.growing import GrowingTable
from dqm_collectors.inputs.names import feature_of
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.tables import InputTable
from dqm_collectors.inputs.text_table import open_text_table
from dqm_collectors.replay import ReplayCollector

COMMA = {"decimal": ","}
ROWS = [[1234.5, -2.0], [0.25, 3e3]]


def read(path: Path, **options: object) -> tuple[tuple[str, ...], list[list[float]]]:
    batches = list(ReplayCollector(ReplayCollector.Options.model_validate({"inputs": (path,), **options})))
    return batches[0].names, np.concatenate([batch.x for batch in batches]).tolist()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a,b\n1234.5,-2\n0.25,3e3\n", {}),
        ("a;b\n1234,5;-2\n0,25;3e3\n", {"decimal": ","}),
        ("a\tb\n1234,5\t-2,0\n,25\t3e3\n", {"decimal": ","}),
        ("a|b\n1234.5|-2\n.25|3000\n", {"separator": "|"}),
        ('a,b\n"1,234.5",-2\n0.25,"3,000"\n', {"thousands": ","}),
        ("a;b\n1.234,5;-2\n0,25;3.000\n", {"thousands": ".", "decimal": ","}),
        ("a;b\n1 234,5;-2\n 0,25 ; 3 000\n", {"thousands": " ", "decimal": ","}),
        ("a;b\n1'234.5;-2\n0.25;3'000\n", {"thousands": "'"}),
        ("# taken on Monday\n\n  # by Anna\na,b\n1234.5,-2\n# a break\n0.25,3e3\n# end", {}),
        ("% old\na,b\n1234.5,-2\n% new\n0.25,3e3\n", {"comment": "%"}),
        ("\ufeffa,b\r\n1234.5,-2\r\n0.25,3e3\r\n", {}),
        ('"a","b"\n"1234.5","-2"\n0.25,3e3\n', {}),
        ("a , b\n1234.5,-2\n0.25,3e3", {}),
    ],
)
def test_the_same_numbers_in_every_spelling(tmp_path: Path, text: str, options: dict[str, object]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert read(path, **options) == (("a", "b"), ROWS)


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("time [ns]", "time_ns"),
        ("drift time (ns)", "drift_time_ns"),
        ("E[keV]", "E_keV"),
        (" q ", "q"),
        ("hits.x", "hits.x"),
        ("angle [°]", "angle [°]"),
        ("v [m/s]", "v [m/s]"),
        ("[ns]", "[ns]"),
        ("a b c", "a_b_c"),
        ("x" * 65, "x" * 65),
    ],
)
def test_units_become_part_of_the_name(name: str, feature: str) -> None:
    assert feature_of(name) == feature


def test_units_in_the_header_and_another_unit_by_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        '"drift time [ns]";"angle [°]";"t [ms]"\n120,5;-3;1000\n98,25;4;2000\n', encoding="cp1252"
    )
    columns = {"angle_deg": "angle [°]", "time": {"column": "t [ms]", "scale": 1e-3}}
    options = {"encoding": "cp1252", "decimal": ",", "columns": columns}
    (batch,) = ReplayCollector(ReplayCollector.Options.model_validate({"inputs": (path,), **options}))
    assert batch.names == ("drift_time_ns", "angle_deg")
    assert batch.x.tolist() == [[120.5, -3], [98.25, 4]]
    assert batch.times.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a;b\n1,5;2\n", {}, r"row 2, column 'a': .*invalid value '1,5'"),
        ("a,b\n12,34\n", {"thousands": ","}, None),
        (
            'a,b\n"12,34",1\n',
            {"thousands": ","},
            r"row 2, column 'a': '12,34' is not a number with thousands",
        ),
        ("a;b\n1;2\n1.120,5;2\n", {}, r"set decimal = \",\""),
        (
            "a;b\n1;2\n1.5;2\n",
            {"thousands": ".", "decimal": ","},
            r"row 3, column 'a': '1\.5' is not a number",
        ),
        ("1.5,2.5\n3,4\n", {}, "the first line has numbers, not names: 1.5,2.5"),
        ("# a b\n1.5,2.5\n", {}, 'the first line has numbers.*behind a #, give comment = ""'),
        ("a,angle [°]\n1,2\n", {}, r"'angle \[°\]' cannot be the name of a feature.*columns = \{angle = "),
        ("a,a\n1,2\n", {}, "two columns have the same name: a"),
        ("a [ns],a_ns\n1,2\n", {}, "two columns are called 'a_ns': 'a_ns' is the second"),
        ("a,b\n1,2\n", {"features": ("aa",)}, r"no column 'aa'. Did you mean 'a'\? There are: a, b"),
        ("a,b\n1,2\n", {"columns": {"c": "d"}}, r"no column 'd'. There are: a, b"),
        ("a,b\n1,2\n", {"derive": {"r": "a * tt"}}, r"derive\.r: no column 'tt'. There are: a, b"),
        ("a,b\n1,2\n", {"derive": {"r": "s", "s": "a"}}, r"derive\.r: no column 's'"),
        ("a,b\n1,2\n", {"derive": {"a": "b"}}, r"derive\.a: there is a column 'a' already"),
        ("a,b\n1,2\n", {"select": "c > 1"}, r"no column 'c'. There are: a, b"),
        ("a,b\n1,2\n", {"columns": {"c": {"column": "a", "take": "max"}}}, "has no lists, of which 'max'"),
        ("a,b\n0,2\n", {"derive": {"r": "log(a)"}}, r"row 2, column 'r': -inf is not a number"),
        (
            "a,b\n1,2\n",
            {"transform": [{"name": "turn", "features": ["a"], "nu": 1}]},
            "unknown transformation 'turn'",
        ),
        ("a,b\n1,2\n", {"derive": {"a b": "a"}}, "'a b' cannot be the name of a feature"),
        ("a,b\n1,2\n", {"columns": {"c": "a"}, "derive": {"c": "b"}}, "c is in columns and in derive"),
        ("a,b\n1,2\n", {"thousands": "."}, "thousands and decimal are both '.'"),
        ("a,b\n1,2\n", {"decimal": ",", "separator": ","}, "separator ',' is also a mark within numbers"),
        ("", {}, "the file is empty"),
        ("# only\n", {}, "the file is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_there_is(
    tmp_path: Path, text: str, options: dict[str, object], message: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    if message is None:
        assert read(path, **options)[1] == [[12, 34]]
        return
    with pytest.raises(Exception, match=message):
        read(path, **options)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("angle [°],b\n1,2\n", encoding="latin-1")
    with pytest.raises(FileError, match=r"the text is not utf-8: byte 0xb0.*encoding = .latin-1"):
        read(path)
    path.write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(FileError, match="the text is UTF-16"):
        read(path)


def test_rows_after_comments_have_the_numbers_of_their_lines_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{k},1\n# {k}\n" for k in range(300_000))
    path.write_text(f"a,b\n{rows}x,1\n")
    with pytest.raises(FileError, match=r"row 600002, column 'a': .*invalid value 'x'"):
        read(path)


def test_derived_features_selection_and_transformations(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [3.0, 1.0, 6.0], "y": [4.0, 1.0, 8.0], "layer": [1, 2, 1]}), path)
    options = {
        "derive": {"r": "sqrt(x**2 + y**2)", "half": "r / 2"},
        "select": "layer == 1",
        "features": ("half", "y"),
        "transform": [{"name": "shift", "features": ["half"], "nu": 1.0}],
    }
    assert read(path, **options) == (("half", "y"), [[3.5, 4], [6, 8]])


def test_an_expression_may_give_time_and_chamber(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t [ns],board,q\n1e9,0,5\n2e9,1,6\n")
    derive = {"time": "t_ns * 1e-9", "chamber": "2 * board"}
    options = ReplayCollector.Options(inputs=(path,), derive=derive, features=("q",))
    one, two = ReplayCollector(options)
    assert (one.chamber, two.chamber) == ("0", "2")
    assert two.times.tolist() == [2.0]


def test_recorded_tables_are_read(real_data: Path) -> None:
    names, x = read(real_data / "legnaro" / "run1252_shifted.csv", derive={"width": "bin_hi_ns - bin_lo_ns"})
    assert names == ("bin_lo_ns", "bin_hi_ns", "count", "width")
    assert np.ptp(np.array(x)[:, 3]) < 0.01
    chosen = {"features": ("rate_hz",), "select": "run == 1265 and rate_hz > 300"}
    assert [
        round(row[0])
        for row in read(real_data / "legnaro" / "occupancy_and_rate_per_channel.csv", **chosen)[1]
    ] == [805]
    words = read(
        real_data / "tdc" / "run591_first120k.csv.gz", derive={"t_ns": "25 * (BX_COUNTER + TDC_MEAS / 30)"}
    )[1]
    assert len(words) == 120_000


def test_features_may_be_asked_for_by_the_names_of_columns(tmp_path: Path) -> None:
    """Bundles of version 0.2.0 may have such features."""
    path = tmp_path / "a.csv"
    path.write_text("drift time [ns],angle [°],b\n1,2,3\n")
    features = ("angle [°]", "drift time [ns]")
    assert read(path, features=features) == (features, [[2, 1]])
    derive = {"r": "`drift time [ns]` * b", "s": "r + `angle [°]`"}
    assert read(path, features=("r", "s"), derive=derive)[1] == [[3, 5]]


def test_the_chamber_may_be_a_feature_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("layer,q\n2,5\n1,6\n")
    columns = {"chamber": "layer", "number": "layer"}
    one, two = ReplayCollector(
        ReplayCollector.Options.model_validate({"inputs": (path,), "columns": columns})
    )
    assert (one.chamber, two.chamber, one.names) == ("1", "2", ("q", "number"))
    assert two.x.tolist() == [[5, 2]]


def test_columns_with_nothing_to_say_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,comment [°]\n1,x\n")
    assert read(path, features=("a",)) == (("a",), [[1]])


def test_a_message_does_not_name_thousands_of_columns(tmp_path: Path) -> None:
    names = [f"x/{k}" for k in range(5000)]
    (tmp_path / "wide.csv").write_text(f"{','.join(names)}\n{','.join('1' * 5000)}\n")
    with pytest.raises(FileError, match="cannot be names of features") as told:
        read(tmp_path / "wide.csv")
    assert len(str(told.value)) < 4000


@pytest.mark.parametrize(
    ("text", "options", "where", "fix"),
    [
        ("# one\n\na,b\n1,2\n\n# two\n3,x\n", {}, "row 7, column 'b'", ""),
        ("\ufeff# one\r\na,b\r\n1,2\r\n3\r\n", {}, "Row #4: Expected 2 columns, got 1", ""),
        ("# one\na,b\n1,nan\n", {}, "row 3, column 'b'", "(--set of extract and init)"),
        (
            "% one\na;b\n\n1.234,5;x\n",
            {"comment": "%", "thousands": ".", "decimal": ","},
            "row 4, column 'b'",
            "",
        ),
        ("# one\ntime,a\n2,1\n# two\n1,1\n", {}, "row 5, column 'time'", "Sort the rows by time"),
        ("a,b\n1,5,2,5\n", {}, "Row #2: Expected 2 columns, got 4", "decimal commas need another separator"),
        ("a;b\n1.234,5;2\n", {"decimal": ","}, "row 2, column 'a'", 'set thousands = ".", as in --read'),
        ("a;b\n1.234,5;2\n", {}, "row 2, column 'a'", 'set decimal = "," and thousands = "."'),
        ("a;b\n1,5;2\n", {}, "row 2, column 'a'", 'set decimal = ",", or thousands = ","'),
        ("a;b\nx;2\n", {}, "row 2, column 'a'", """as in --set 'features=["b"]' of extract"""),
    ],
)
@pytest.mark.parametrize("reader", ["replay", "files"])
def test_errors_name_the_line_and_what_to_set(
    tmp_path: Path, text: str, options: dict[str, object], where: str, fix: str, reader: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    table: InputTable = open_text_table(path, FileOptions(inputs=(path,), **options))
    if reader == "files":
        table = GrowingTable(path, FileOptions(inputs=(path,), **options)).open(0, is_complete=True)
    with pytest.raises(FileError) as told:
        list(FeatureReader(FileOptions(inputs=(path,), **options), table).read())
    assert where in str(told.value)
    assert fix in str(told.value)


@pytest.mark.parametrize("name", ["time [s]", "Time (s)", "time[sec]", "time"])
def test_a_time_with_its_unit_is_the_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{name},a\n10.5,1\n11,2\n")
    (batch,) = ReplayCollector(ReplayCollector.Options(inputs=(path,)))
    assert batch.names == ("a",)
    assert batch.times is not None
    assert batch.times.tolist() == [10.5, 11.0]


@pytest.mark.parametrize(
    ("header", "options", "names"),
    [
        ("time [ns],a", {}, ("time_ns", "a")),
        ("time [s],a", {"features": ("time_s",)}, ("time_s",)),
        ("time [s],a", {"derive": {"late": "time_s - 10"}}, ("time_s", "a", "late")),
        ("time [s],a", {"columns": {"delay": {"column": "time [s]"}}}, ("a", "delay")),
    ],
)
def test_a_time_that_is_a_feature_stays_one(
    tmp_path: Path, header: str, options: dict[str, object], names: tuple[str, ...]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n10.5,1\n9,2\n")
    (batch,) = ReplayCollector(ReplayCollector.Options.model_validate({"inputs": (path,), **options}))
    assert batch.names == names
    assert batch.times is None
