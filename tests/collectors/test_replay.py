import gzip
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from pydantic import ValidationError

from dqm.errors import FileError
from dqm_collectors.replay import ReplayCollector, read_features
from dqm_collectors.root import RESERVING_NOTHING

CSV = "t_1,theta,n_hits\n1.5,-3,4\n2.5,0,5\n3.5,7e0,4\n"
TIMED = "time,chamber,t_1\n10,2,1\n10.5,0,2\n13,0,3\n13,2,4\n"


def write(folder: Path, text: str, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def write_tree(path: Path, **columns: list[object]) -> None:
    arrays = {name: np.array(values) for name, values in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree("events", {name: (x.dtype, x.shape[1:]) for name, x in arrays.items()})
        file["events"].extend(arrays)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet", "events.root"])
def test_all_formats_give_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"t_1": [1.5, 2.5, 3.5], "theta": [-3.0, 0, 7], "n_hits": [4, 5, 4]}), path)
    elif path.suffix == ".root":
        write_tree(path, t_1=[1.5, 2.5, 3.5], theta=[-3.0, 0.0, 7.0], n_hits=[4.0, 5.0, 4.0])
    else:
        write(tmp_path, CSV, name)
    (batch,) = read_features(path)
    assert batch.names == ("t_1", "theta", "n_hits")
    assert batch.chamber == "0"
    assert batch.times is None
    assert batch.x.tolist() == [[1.5, -3, 4], [2.5, 0, 5], [3.5, 7, 4]]
    assert batch.x.dtype == np.float64


def test_a_bad_root_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a readable ROOT file"):
        list(read_features(write(tmp_path, "no ROOT at all", "events.root")))
    with uproot.recreate(tmp_path / "empty.root"):
        pass
    with pytest.raises(FileError, match="the file has no tree"):
        list(read_features(tmp_path / "empty.root"))
    write_tree(tmp_path / "bad.root", t_1=[1.0, np.nan], pair=[[0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(FileError, match=r"row 2, column 't_1': nan"):
        list(read_features(tmp_path / "bad.root", ("t_1",)))
    with pytest.raises(FileError, match=r"column 'pair': holds double\[2\], a list in each row"):
        list(read_features(tmp_path / "bad.root", ("pair",)))


def test_a_root_file_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.root"
    write_tree(path, t_1=[0.0] * 1000)
    content = bytearray(path.read_bytes())
    claim = content.index(b"\x07TBasket") - 28  # fObjlen, the bytes of the basket once unpacked
    assert int.from_bytes(content[claim : claim + 4], "big") == 8000
    content[claim : claim + 4] = (2**31 - 2).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"claims\.root: .* Unable to allocate 2\.00 GiB"):
        list(read_features(path))


MEASURED = """
import resource, sys
from pathlib import Path
from dqm_collectors import root_process

def n_bytes():
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()

before = n_bytes()
root_process.limit_memory(2**33)
with open("/dev/null", "wb") as sink:
    root_process.write_tree(Path(sys.argv[1]), "events", ["t_1"], sink)
print((n_bytes() - before) // 2**20)
"""


def test_reading_a_small_root_file_takes_little_of_the_memory_that_it_may_use(tmp_path: Path) -> None:
    write_tree(tmp_path / "events.root", t_1=[0.0] * 1000)
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "events.root"],
        env=os.environ | RESERVING_NOTHING,
        capture_output=True,
        check=True,
    )
    assert int(told.stdout) < 200, "MiB, stacks of threads among them; its limit leaves 1024"


@pytest.mark.slow
def test_a_root_file_may_have_no_rows(tmp_path: Path) -> None:
    write_tree(tmp_path / "empty.root", t_1=[])
    assert not list(read_features(tmp_path / "empty.root"))


@pytest.mark.slow
def test_a_root_file_is_left_half_read(tmp_path: Path) -> None:
    write_tree(tmp_path / "long.root", t_1=list(range(300_000)))
    batches = read_features(tmp_path / "long.root")
    assert next(batches).x[0].tolist() == [0]
    batches.close()
    assert not readers_of(tmp_path / "long.root")


def readers_of(path: Path) -> list[str]:
    """Processes that were started to read the file."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(command.read_text())
    return [line for line in found if "root_process" in line and str(path) in line]


def test_features_are_taken_by_name_and_in_order(tmp_path: Path) -> None:
    (batch,) = read_features(write(tmp_path, CSV), ("theta", "t_1"), chamber="7")
    assert batch.names == ("theta", "t_1")
    assert batch.x[0].tolist() == [-3, 1.5]
    assert batch.chamber == "7"


def test_rows_go_to_their_chambers(tmp_path: Path) -> None:
    zero, two = read_features(write(tmp_path, TIMED))
    assert (zero.chamber, two.chamber) == ("0", "2")
    assert zero.x.tolist() == [[2], [3]]
    assert two.times.tolist() == [10, 13]
    assert zero.start == two.start == 10
    assert zero.end == two.end == np.nextafter(13, 14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_1,theta\n1,2\n3,nan\n", "row 3, column 'theta': nan is not a number. Leave .*--drop-nan"),
        ("t_1,theta\n1,2\ninf,2\n", "row 3, column 't_1': inf is not a number"),
        (
            "t_1,theta\n1,2\n3,x\n",
            "row 3, column 'theta': .*invalid value 'x'. Correct its values, or leave this column out",
        ),
        ("t_1,theta\n1,2\n3,\n", "row 3, column 'theta'"),
        ("t_1,theta\n1,2\n3\n", "Row #3: Expected 2 columns, got 1"),
        ("time,t_1\n5,1\n4,1\n", "row 3, column 'time': time goes back"),
        ("time,chamber\n5,1\n", "no features"),
        ("t_1,t_1\n5,1\n", "two columns have the same name: t_1"),
        ("", "the file is empty"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=rf"events\.csv.*{message}"):
        list(read_features(write(tmp_path, text)))


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no column 'phi'. There are: t_1, theta, n_hits"):
        list(read_features(write(tmp_path, CSV), ("phi",)))


def test_bad_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"t_1": [1.0, None]}), path)
    with pytest.raises(FileError, match=r"row 2, column 't_1'"):
        list(read_features(path))
    pq.write_table(pa.table({"t_1": ["a"]}), path)
    with pytest.raises(FileError, match=r"column 't_1': holds string"):
        list(read_features(path))
    path.write_bytes(b"no parquet")
    with pytest.raises(FileError, match=r"events\.parquet"):
        list(read_features(path))


def test_events_come_at_the_rate_asked_for(tmp_path: Path, fake_time) -> None:
    path = write(tmp_path, "t_1\n" + "1\n" * 50)
    options = ReplayCollector.Options(inputs=(path, path), rate_hz=20.0)
    replay = ReplayCollector(options, clock=fake_time.clock, sleep=fake_time.sleep)
    seen = [(fake_time.now, len(b.x)) for b in replay]
    assert seen == [(101, 20), (102, 20), (102.5, 10), (103.5, 20), (104.5, 20), (105, 10)]


def test_events_come_at_their_recorded_times(tmp_path: Path, fake_time) -> None:
    options = ReplayCollector.Options(inputs=(write(tmp_path, TIMED),), speed=2.0)
    replay = ReplayCollector(options, clock=fake_time.clock, sleep=fake_time.sleep)
    seen = [(fake_time.now, b.chamber, b.x[:, 0].tolist(), b.start) for b in replay]
    assert seen == [
        (100.25, "0", [2], 10),
        (100.25, "2", [1], 10),
        (101.5, "0", [3], np.nextafter(10.5, 11)),
        (101.5, "2", [4], np.nextafter(10.5, 11)),
    ]


def test_speed_needs_times_and_excludes_a_rate(tmp_path: Path) -> None:
    path = write(tmp_path, CSV)
    with pytest.raises(FileError, match="no column 'time'"):
        list(ReplayCollector(ReplayCollector.Options(inputs=(path,), speed=1.0)))
    with pytest.raises(ValidationError, match="cannot both be given"):
        ReplayCollector.Options(inputs=(path,), speed=1.0, rate_hz=1.0)


def test_a_big_file_comes_in_joined_stretches(tmp_path: Path) -> None:
    n = 150_000
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"time": np.arange(n) / 100, "t_1": np.zeros(n)}), path)
    batches = list(read_features(path))
    assert len(batches) > 1
    assert sum(len(b.x) for b in batches) == n
    assert [b.end for b in batches[:-1]] == [b.start for b in batches[1:]]
