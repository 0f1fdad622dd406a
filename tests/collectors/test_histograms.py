"""The collector of histograms: differences of states, files that change, and what cannot be counted."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import uproot
from structlog.testing import capture_logs
from uproot.writing.identify import to_TH1x, to_TProfile

from dqm.errors import ConfigError, FileError
from dqm.events import EventBatch, FloatArray, Origin
from dqm.service.collector.sources import open_source
from dqm.stream import RunLabel, WholeCutter
from dqm_collectors import histograms
from dqm_collectors.histograms import HistogramsCollector
from dqm_collectors.root_histograms import HistogramFile, parse_histograms, read_histograms
from dqm_collectors.root_process import write_histograms

EDGES = np.array([0.0, 100.0, 200.0, 400.0])
NAME = "chamber/drift"
START_NS = 1_700_000_000_000_000_000


def read_here(path: Path, names: Sequence[str]) -> HistogramFile:
    """As `read_histograms`, without a process of its own."""
    sink = io.BytesIO()
    write_histograms(path, names, sink)
    return parse_histograms(pa.ipc.open_stream(sink.getvalue()).read_all(), path, names)


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "read_histograms", read_here)


def th1(contents: Sequence[float], edges: FloatArray = EDGES, variances: FloatArray | None = None) -> Any:
    """A TH1D with under- and overflow 0, and a sum of squared weights if given."""
    flow = np.concatenate([[0.0], contents, [0.0]])
    middle = 0.5 * (edges[1:] + edges[:-1])
    return to_TH1x(
        fName="drift", fTitle="", data=flow, fEntries=flow.sum(), fTsumw=flow.sum(), fTsumw2=flow.sum(),
        fTsumwx=float((flow[1:-1] * middle).sum()), fTsumwx2=0.0,
        fSumw2=flow if variances is None else np.concatenate([[0.0], variances, [0.0]]),
        fXaxis=uproot.writing.identify.to_TAxis(
            fName="xaxis", fTitle="", fNbins=len(edges) - 1, fXmin=edges[0], fXmax=edges[-1], fXbins=edges
        ),
    )  # fmt: skip


def write(path: Path, contents: Any, second: float | None = None, **others: Any) -> Path:
    """Write a file in the place of another, with a time of its last change."""
    scratch = path.with_suffix(".tmp")
    with uproot.recreate(scratch) as file:
        file[NAME] = contents if not isinstance(contents, list) else th1(contents)
        for name, value in others.items():
            file[name] = value
    if second is not None:
        os.utime(scratch, ns=(START_NS, START_NS + round(second * 1e9)))
    scratch.replace(path)
    return path


def options(path: Path, **changes: Any) -> dict[str, Any]:
    return {"inputs": [path], "histograms": {"d": {"name": NAME, "features": ["time_ns"]}}} | changes


def once(path: Path, **changes: Any) -> list[EventBatch]:
    return list(open_source("histograms", options(path, follow=False, **changes)))


class Following:
    """A collector whose clock and sleep are the test's: each step is one look at the files."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.now = 0.0
        chosen = HistogramsCollector.Options(**options(path, poll_seconds=1.0, **changes))
        self.collector = HistogramsCollector(chosen, clock=lambda: self.now, sleep=self.sleep)
        self.batches: Iterator[EventBatch] = iter(self.collector)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self) -> list[EventBatch]:
        """Batches of the next look, without the last one, which is empty."""
        found = []
        for batch in self.batches:
            if not len(batch.x):
                return found
            found.append(batch)
        raise AssertionError("the collector ended")


def contents_of(batches: list[EventBatch]) -> list[list[float]]:
    return [batch.x[1:-1, 1].tolist() for batch in batches]


def test_an_accumulating_histogram_gives_what_each_state_adds(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    source = Following(path)
    assert source.collector.origin is Origin.LIVE
    assert source.look() == [], "nobody knows when the first state has come"
    assert source.look() == []
    write(path, [6, 8, 7], 2.5)
    (batch,) = source.look()
    assert batch.chamber == "d"
    assert batch.names == ("time_ns", "events")
    assert batch.counts == "events"
    assert batch.x.tolist() == [[-50, 0], [50, 1], [150, 2], [300, 0], [500, 0]]
    assert batch.is_whole
    assert batch.end is not None
    assert batch.start is not None
    assert batch.end - batch.start == pytest.approx(2.5)
    write(path, [9, 9, 9], 4.0)
    assert contents_of(source.look()) == [[3, 1, 2]]
    assert source.collector.counts() == {"states": 3, "events_in_bins": 9, "resets": 0, "unreadable": 0}


def test_a_reset_is_told_and_begins_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [50, 60, 70], 0.0)
    source = Following(path)
    source.look()
    write(path, [1, 2, 3], 1.0)
    with capture_logs() as logs:
        assert source.look() == []
    (entry,) = [entry for entry in logs if "reset" in entry["event"]]
    assert entry["reason"] == "the bin at 300 went from 70 to 3"
    assert (entry["events_before"], entry["events_now"]) == (180, 6)
    write(path, [2, 2, 3], 3.0)
    (batch,) = source.look()
    assert contents_of([batch]) == [[1, 0, 0]]
    assert batch.end is not None
    assert batch.start is not None
    assert batch.end - batch.start == pytest.approx(2.0), "the time before the reset is not live"
    assert source.collector.counts()["resets"] == 1


def test_a_histogram_that_shrinks_again_and_again_does_not_accumulate(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [50, 60, 70], 0.0)
    source = Following(path)
    source.look()
    for k in (1, 2):
        write(path, [50 - 10 * k, 60, 70], float(k))
        assert source.look() == []
    write(path, [20, 60, 70], 3.0)
    with pytest.raises(FileError, match=r"the bin at 50 went from 30 to 20. If each state .*content = \"sep"):
        source.look()


def test_states_with_their_own_events_are_sent_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [50, 60, 70], 0.0)
    source = Following(path, content="separate")
    source.look()
    write(path, [1, 2, 3], 2.0)
    assert contents_of(source.look()) == [[1, 2, 3]]


@pytest.mark.parametrize("content", ["accumulated", "separate"])
def test_another_binning_is_refused(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    source = Following(path, content=content)
    source.look()
    write(path, th1([5, 6, 7], np.array([0.0, 100.0, 200.0, 300.0])), 1.0)
    with pytest.raises(
        FileError,
        match=r"run.root, histogram 'chamber/drift': its binning changed from 3 bins of 0 to 400 to 3 bins "
        r"of 0 to 300. Build a reference",
    ):
        source.look()


def test_a_half_written_file_is_tried_again(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    source = Following(path)
    source.look()
    whole = write(tmp_path / "next.root", [6, 7, 8], 1.0).read_bytes()
    with capture_logs() as logs:
        for size in (0, 100, 300):
            path.write_bytes(whole[:size])
            assert source.look() == []
        with uproot.recreate(path):
            pass  # opened by the writer: no histogram is there yet
        assert source.look() == []
        write(path, [6, 7, 8], 5.0)
        assert contents_of(source.look()) == [[1, 1, 1]]
    told = [entry["event"] for entry in logs]
    assert told == ["the file cannot be read; trying again", "the file can be read again"]
    assert source.collector.counts()["unreadable"] == 4


def test_a_file_that_stays_unreadable_ends_the_collector(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    source = Following(path, patience_seconds=3.0)
    source.look()
    path.unlink()
    for _ in range(4):
        assert source.look() == []
    with pytest.raises(FileError, match=r"run.root: cannot be read: No such file"):
        source.look()


def test_what_passes_is_not_held_against_the_next_trouble(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    source = Following(path, patience_seconds=3.0)
    source.look()
    for _ in range(2):
        path.rename(tmp_path / "away")
        assert source.look() == []
        assert source.look() == []
        (tmp_path / "away").rename(path)
        for _ in range(5):
            assert source.look() == []
    write(path, [6, 6, 7], 9.0)
    assert contents_of(source.look()) == [[1, 0, 0]]


def test_axes_that_are_not_known_yet_change_nothing(tmp_path: Path) -> None:
    source = Following(tmp_path, histograms={"h": {"name": "two"}})
    cutter = WholeCutter(RunLabel(1), n_events=1)
    assert cutter.push(next(source.batches)) == []
    for second, n in enumerate((3, 5)):
        two = np.histogram2d(np.ones(n), np.ones(n), bins=([0.0, 2.0], [0.0, 2.0]))
        write(tmp_path / f"{second}.root", [1, 2, 3], float(second), two=two)
        batches = source.look()
    (window,) = [window for batch in batches for window in cutter.push(batch)]
    assert window.names == ("x", "y", "events")
    assert window.n_events == 2


def test_a_missing_histogram_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0, other=th1([1, 2, 3]))
    wrong = {"d": {"name": "drift"}}
    for follow in (True, False):
        source = HistogramsCollector(
            HistogramsCollector.Options(inputs=(path,), histograms=wrong, follow=follow)
        )
        with pytest.raises(FileError, match=r"no histogram 'drift'. There are: chamber/drift, other"):
            next(iter(source))


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ([1.0, 2.5, 3.0], "the bin at 150 has the content 2.5, which is not a whole number"),
        ([1.0, -2.0, 3.0], "the bin at 150 has the content -2, which is not a whole number of 0 or more"),
        ([1.0, np.nan, 3.0], "the bin at 150 has the content nan"),
        ([1.0, np.inf, 3.0], "the bin at 150 has the content inf"),
    ],
)
def test_contents_that_are_no_counts_are_refused(tmp_path: Path, contents: list[float], told: str) -> None:
    path = write(tmp_path / "run.root", contents)
    with pytest.raises(FileError, match=f"histogram 'chamber/drift': {told}.*Fill it without weights"):
        once(path)


def test_weighted_histograms_are_refused_and_those_of_unit_weights_are_not(tmp_path: Path) -> None:
    weighted = th1([4.0, 4.0, 4.0], variances=np.array([4.0, 8.0, 4.0]))
    with pytest.raises(FileError, match=r"content 4, but a sum of squared weights \(Sumw2\) of 8"):
        once(write(tmp_path / "weighted.root", weighted))
    unit = th1([4.0, 4.0, 4.0], variances=np.array([4.0, 4.0, 4.0]))
    assert contents_of(once(write(tmp_path / "unit.root", unit))) == [[4, 4, 4]]


def test_what_is_no_histogram_of_counts_is_refused_by_its_kind(tmp_path: Path) -> None:
    three = np.histogramdd(np.zeros((5, 3)), bins=(2, 2, 2))
    axis = uproot.writing.identify.to_TAxis(fName="xaxis", fTitle="", fNbins=2, fXmin=0.0, fXmax=2.0)
    zeros = np.zeros(4)
    profile = to_TProfile(
        fName="p", fTitle="", data=zeros, fEntries=0.0, fTsumw=0.0, fTsumw2=0.0, fTsumwx=0.0, fTsumwx2=0.0,
        fTsumwy=0.0, fTsumwy2=0.0, fSumw2=zeros, fBinEntries=zeros, fBinSumw2=zeros, fXaxis=axis,
    )  # fmt: skip
    big = np.histogram2d([0.0], [0.0], bins=(400, 400))
    path = write(tmp_path / "run.root", [1, 2, 3], three=three, profile=profile, big=big)
    with uproot.update(path) as file:
        file.mktree("tree", {"a": "f8"})
    found = read_here(path, ["three", "profile", "big", "tree"])
    assert [error.what for error in found.problems.values()] == [
        "it is a TH3D, and only a TH1 or TH2 has counts in bins",
        "it is a TProfile, and only a TH1 or TH2 has counts in bins",
        "it has 161604 bins with under- and overflow, and at most 100000 are possible",
        "it is a TTree, and only a TH1 or TH2 has counts in bins",
    ]


def test_a_histogram_of_two_axes_gives_a_row_for_each_bin(tmp_path: Path) -> None:
    x, y = np.array([0.5, 0.5, 1.5, 9.0]), np.array([0.5, 1.5, 2.5, 0.5])
    two = np.histogram2d(x[:3], y[:3], bins=([0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]))
    path = write(tmp_path / "run.root", [1, 2, 3], two=two)
    choice = {"h": {"name": "two"}}
    (batch,) = once(path, histograms=choice, flow=False)
    assert batch.names == ("x", "y", "events")
    assert batch.x.tolist() == [
        [0.5, 0.5, 1], [0.5, 1.5, 1], [0.5, 2.5, 0], [1.5, 0.5, 0], [1.5, 1.5, 0], [1.5, 2.5, 1],
    ]  # fmt: skip
    (batch,) = once(path, histograms=choice)
    assert len(batch.x) == 4 * 5
    with pytest.raises(FileError, match=r"1 feature named for a TH2: a. Name 2 axes under"):
        once(path, histograms={"h": {"name": "two", "features": ["a"]}})


def test_under_and_overflow_are_bins_or_are_counted(tmp_path: Path) -> None:
    flow = np.array([7.0, 1.0, 2.0, 3.0, 9.0])
    state = to_TH1x(
        fName="drift", fTitle="", data=flow, fEntries=22.0, fTsumw=22.0, fTsumw2=22.0, fTsumwx=0.0,
        fTsumwx2=0.0, fSumw2=np.array([]),
        fXaxis=uproot.writing.identify.to_TAxis(fName="xaxis", fTitle="", fNbins=3, fXmin=0.0, fXmax=3.0),
    )  # fmt: skip
    path = write(tmp_path / "run.root", state)
    (batch,) = once(path)
    assert batch.x.tolist() == [[-0.5, 7], [0.5, 1], [1.5, 2], [2.5, 3], [3.5, 9]]
    source = open_source("histograms", options(path, follow=False, flow=False))
    (batch,) = list(source)
    assert batch.x.tolist() == [[0.5, 1], [1.5, 2], [2.5, 3]]
    assert source.counts()["in_under_or_overflow"] == 16  # type: ignore[attr-defined]


def test_histograms_of_one_file_are_streams_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [1, 2, 3], other=th1([4, 5, 6]))
    batches = once(path, histograms={"a": {"name": NAME}, "b": {"name": "other"}})
    assert [(batch.chamber, *contents_of([batch])) for batch in batches] == [
        ("a", [1, 2, 3]), ("b", [4, 5, 6])
    ]  # fmt: skip


def test_new_files_of_a_directory_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    write(tmp_path / "old.root", [1, 1, 1], 0.0)
    write(tmp_path / "first.root", [5, 6, 7], 1.0)
    (tmp_path / "notes.txt").write_text("no ROOT file")
    source = Following(tmp_path)
    with capture_logs() as logs:
        assert source.look() == []
    assert [entry["n"] for entry in logs if entry["event"] == "earlier files are left out"] == [1]
    write(tmp_path / "b.root", [6, 6, 8], 2.0)
    write(tmp_path / "a.root", [9, 9, 9], 3.0)
    assert contents_of(source.look()) == [[1, 0, 1], [3, 3, 1]]
    write(tmp_path / "late.root", [9, 9, 9], 2.5)
    assert source.look() == []
    assert source.look() == []
    assert source.collector.counts()["late_files"] == 1


def test_a_file_of_a_directory_counts_once_if_its_events_are_its_own(tmp_path: Path) -> None:
    write(tmp_path / "first.root", [5, 6, 7], 0.0)
    source = Following(tmp_path, content="separate")
    source.look()
    write(tmp_path / "next.root", [1, 2, 3], 1.0)
    assert contents_of(source.look()) == [[1, 2, 3]]
    write(tmp_path / "next.root", [2, 3, 4], 2.0)
    assert source.look() == []


def test_a_directory_without_files_is_waited_for_or_refused(tmp_path: Path) -> None:
    source = Following(tmp_path)
    assert source.look() == []
    write(tmp_path / "first.root", [5, 6, 7], 0.0)
    assert source.look() == []
    write(tmp_path / "next.root", [5, 6, 8], 1.0)
    assert contents_of(source.look()) == [[0, 0, 1]]
    with pytest.raises(FileError, match=r"no file '\*.csv'. Check the directory and the key 'pattern'"):
        once(tmp_path, pattern="*.csv")


def test_files_that_are_read_once_begin_with_nothing(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / f"{k}.root", [5 * (k + 1), 0, 1], float(k))
    batches = once(tmp_path, state_seconds=10.0)
    assert contents_of(batches) == [[5, 0, 1], [5, 0, 0], [5, 0, 0]]
    assert [(batch.start, batch.end) for batch in batches] == [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    assert {(batch.start, batch.end) for batch in once(tmp_path)} == {(None, None)}


def test_an_empty_histogram_is_a_state_without_events(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [0, 0, 0], 0.0)
    source = Following(path)
    source.look()
    write(path, [0, 0, 0], 1.0)
    (batch,) = source.look()
    assert batch.n_events == 0
    assert batch.end is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state_seconds": 5.0}, "state_seconds needs follow = false"),
        ({"inputs": ["a.root", "b.root"]}, "one file or directory can be followed"),
        ({"histograms": {}}, "histograms"),
        ({"content": "weighted"}, "content"),
        ({"histograms": {"h": {"name": "a", "features": ["a", "b", "c"]}}}, "features"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_source("histograms", options(tmp_path / "run.root", **change))


def test_the_process_that_reads_gives_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "run.root", [5, 6, 7], 0.0)
    found, here = read_histograms(path, [NAME, "other"]), read_here(path, [NAME, "other"])
    assert np.array_equal(found.found[NAME].contents, here.found[NAME].contents)
    assert str(found.missing["other"]) == str(here.missing["other"])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileError, match=r"run.root: not a readable ROOT file"):
        read_histograms(path, [NAME])
