"""Files against a bundle."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dqm.alarm import QualityLimits
from dqm.errors import BundleError, FileError
from dqm.events import Origin, Quality, Verdict
from dqm.reference import Bundle, Processes, ReadingPolicy
from dqm.service.offline import comparison
from dqm.service.offline.comparison import ComparisonTask, compare, cut_file
from tests.service.small import FEATURES, N_WINDOW, faulty_events, healthy_events, write_csv


@pytest.fixture(scope="module")
def assessment(bundle: Bundle) -> ComparisonTask:
    return ComparisonTask(bundle.path, bundle.identifier, QualityLimits(0.02, 0.01, 1), ReadingPolicy())


def judge(
    assessment: ComparisonTask,
    path: Path,
    *,
    run: int,
    n_window: int | None,
    chamber: str | None = None,
    processes: int = 1,
) -> Iterator[Verdict]:
    windows = cut_file(path, FEATURES, run=run, n_window=n_window, chamber=chamber)
    return compare(assessment, windows, Processes(processes))


def test_all_formats_get_the_same_verdicts(tmp_path: Path, assessment: ComparisonTask) -> None:
    x = np.concatenate([healthy_events(2 * N_WINDOW, 100), faulty_events(N_WINDOW + 10, 1)])
    plain = write_csv(tmp_path / "events.csv", x)
    zipped = tmp_path / "events.csv.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    parquet = tmp_path / "events.parquet"
    pq.write_table(pa.table({"b": x[:, 1], "more": x[:, 0], "a": x[:, 0]}), parquet)
    told = {
        path: [
            (v.window.stream, v.window.run, v.window.seq, v.quality, v.result)
            for v in judge(assessment, path, run=4, n_window=N_WINDOW)
        ]
        for path in (plain, zipped, parquet)
    }
    assert told[plain] == told[zipped] == told[parquet]
    assert [row[:3] for row in told[plain]] == [("events", 4, 0), ("events", 4, 1), ("events", 4, 2)]
    assert told[plain][2][3] is Quality.BAD
    assert all(row[3] is not Quality.BAD for row in told[plain][:2])


def test_a_whole_file_is_one_window_and_leftover_events_are_none(
    tmp_path: Path, assessment: ComparisonTask
) -> None:
    path = write_csv(tmp_path / "events.csv", healthy_events(N_WINDOW, 100))
    (whole,) = judge(assessment, path, run=0, n_window=None)
    (cut,) = judge(assessment, path, run=0, n_window=N_WINDOW)
    assert whole.result == cut.result
    assert whole.window.origin is Origin.REPLAYED
    path = write_csv(tmp_path / "events.csv", healthy_events(2 * N_WINDOW - 1, 100))
    assert len(list(judge(assessment, path, run=0, n_window=N_WINDOW))) == 1
    (whole,) = judge(assessment, path, run=0, n_window=None)
    assert whole.quality is Quality.NULL
    assert whole.reason.startswith("no null table for windows of 119 events")


def test_chambers_are_judged_apart(tmp_path: Path, assessment: ComparisonTask) -> None:
    x = np.stack([healthy_events(120, 100), faulty_events(120, 1)], axis=1).reshape(-1, 2)
    path = write_csv(tmp_path / "events.csv", x, ["left", "right"] * 120)
    told = [
        (v.window.stream, v.window.seq, v.quality is Quality.BAD)
        for v in judge(assessment, path, run=0, n_window=60)
    ]
    assert told == [("left", 0, False), ("left", 1, False), ("right", 0, True), ("right", 1, True)]
    (right,) = judge(assessment, path, run=0, n_window=120, chamber="right")
    assert (right.window.stream, right.result.n_data) == ("right", 120)


def test_what_cannot_be_compared_is_named(tmp_path: Path, assessment: ComparisonTask) -> None:
    path = tmp_path / "events.csv"
    path.write_text("a,c\n1,2\n")
    with pytest.raises(FileError, match=r"events\.csv: no column 'b'. There are: a, c"):
        list(judge(assessment, path, run=0, n_window=None))
    write_csv(path, healthy_events(10, 1))
    with pytest.raises(FileError, match=r"events\.csv: fewer events than a window of 60"):
        list(judge(assessment, path, run=0, n_window=60))
    path.write_text("a,b\n")
    with pytest.raises(FileError, match=r"events\.csv: no events"):
        list(judge(assessment, path, run=0, n_window=None))


def test_parallel_processes_give_the_same_verdicts_in_the_same_order(
    tmp_path: Path, assessment: ComparisonTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "WINDOWS_AT_ONCE", 2)
    path = write_csv(tmp_path / "events.csv", healthy_events(9 * N_WINDOW, 100))
    alone, together = (
        [(v.window.stream, v.window.seq, v.quality, v.result, v.bundle) for v in found]
        for found in (judge(assessment, path, run=0, n_window=N_WINDOW, processes=n) for n in (1, 2))
    )
    assert [row[1] for row in together] == list(range(9))
    assert together == alone


def test_a_bundle_that_changed_meanwhile_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    path = write_csv(tmp_path / "events.csv", healthy_events(N_WINDOW, 100))
    other = ComparisonTask(bundle.path, "0" * 16, QualityLimits(0.02, 0.01, 1), ReadingPolicy())
    with pytest.raises(BundleError, match=f"is bundle {bundle.identifier}, not 0000000000000000"):
        list(judge(other, path, run=0, n_window=N_WINDOW, processes=2))
