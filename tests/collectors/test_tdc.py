import gzip
import os
import threading
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import FileError
from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.chamber.geometry import Convention, WireMap
from dqm_collectors.chamber.hits import COLUMNS, RawHits, write_tdc
from dqm_collectors.chamber.reconstruction import Reconstruction
from dqm_collectors.chamber.segments import Selection
from dqm_collectors.chamber.simulation import simulate_hits
from dqm_collectors.tdc import TdcCollector
from dqm_collectors.word_files import read_words

HEADER = ",".join(COLUMNS) + "\n"
ROW = "2,0,71,46758,279,18\n"


def simulated_hits(convention: Convention = Convention.Y2021) -> RawHits:
    rng = np.random.default_rng(2)
    passage = np.sort(rng.uniform(0, 5e9, 600))
    return simulate_hits(Conditions(), passage, 5e9, rng, first_count=10**12, convention=convention).raw


def read(path: Path, **options) -> list[EventBatch]:
    return list(TdcCollector(TdcCollector.Options(inputs=(path,), **options)))


def events(batches: list[EventBatch], chamber: str = "0") -> tuple[np.ndarray, np.ndarray]:
    mine = [b for b in batches if b.chamber == chamber]
    return np.concatenate([b.times for b in mine]), np.concatenate([b.x for b in mine])


def reconstruct(parts: list[RawHits]) -> list[EventBatch]:
    stream = Reconstruction(
        WireMap.of(Convention.Y2021), Selection(), chambers=(0, 1), start=0.0, batch_seconds=0.7
    )
    return [b for part in parts for b in stream.feed(part)] + list(stream.finish())


def rows(raw: RawHits, which: np.ndarray) -> RawHits:
    return RawHits(*(getattr(raw, name)[which] for name in ("head", "fpga", "channel", "orbit", "bx", "tdc")))


@pytest.mark.parametrize("name", ["run.csv", "run.csv.gz"])
@pytest.mark.parametrize("convention", Convention)
def test_written_hits_are_read_back(tmp_path: Path, name: str, convention: Convention) -> None:
    path = tmp_path / name
    raw = simulated_hits(convention)
    write_tdc(raw, path)
    (back,) = read_words(path, WireMap.of(convention))
    for column in ("head", "fpga", "channel", "counts"):
        np.testing.assert_array_equal(getattr(back, column), getattr(raw, column))
    times, x = events(read(path, convention=convention, start=1000.0))
    assert 350 < len(x) < 600
    assert times.min() >= 1000


def test_block_borders_lose_and_double_nothing() -> None:
    raw = simulated_hits()
    whole = events(reconstruct([raw]))
    for n_parts in (2, 97, 1000):
        pieces = [rows(raw, part) for part in np.array_split(np.arange(len(raw.head)), n_parts)]
        np.testing.assert_array_equal(events(reconstruct(pieces))[1], whole[1], strict=True)


def test_words_out_of_order_change_nothing() -> None:
    raw = simulated_hits()
    late = np.random.default_rng(3).uniform(0, 500, len(raw.counts)) * 30 / 25
    order = np.argsort(raw.counts + late, kind="stable")
    pieces = [rows(raw, part) for part in np.array_split(order, 50)]
    np.testing.assert_array_equal(events(reconstruct(pieces))[1], events(reconstruct([raw]))[1])


def test_stretches_join_and_hold_their_events() -> None:
    by_chamber = defaultdict(list)
    for batch in reconstruct([simulated_hits()]):
        by_chamber[batch.chamber].append(batch)
        assert ((batch.times >= batch.start) & (batch.times < batch.end)).all()
        assert (np.diff(batch.times) >= 0).all()
    assert set(by_chamber) == {"0", "1"}
    assert all(len(b.x) == 0 for b in by_chamber["1"])
    for batches in by_chamber.values():
        assert batches[0].start == 0
        assert [b.end for b in batches[:-1]] == [b.start for b in batches[1:]]
        assert batches[-1].end == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + ROW * 2 + "2,0,x,1,2,3\n", r"row 4, column 'TDC_CHANNEL': .*invalid value 'x'"),
        (HEADER + ROW + "2,0,,1,2,3\n", "row 3, column 'TDC_CHANNEL'"),
        (HEADER + ROW + "2,0,3\n", "Row #3: Expected 6 columns, got 3"),
        (HEADER + "2,0,71,46 758,279,18\n", "Expected 6 columns, got 7"),
        ("HEAD,FPGA\n1,2\n", "no column TDC_CHANNEL, ORBIT_CNT, .*the first line has HEAD, FPGA. The first"),
        ("1,0,71,46758,279,18\n", "no column HEAD, .*the first line has 1, 0, 71"),
        ("# a\n" * 1000 + HEADER + ROW, "1000 lines of comments and no header"),
        ("", "the file is empty"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.csv"
    path.write_text(text)
    with pytest.raises(FileError, match=f"run.csv.*{message}"):
        read(path)


def test_a_row_far_behind_the_first_block_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(HEADER + ROW * 1000 + "2,0,71,467")
    with pytest.raises(FileError, match=r"Row #1002: Expected 6 columns, got 4"):
        list(read_words(path, WireMap.of(Convention.Y2021), block_bytes=1000))


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROW * 500).encode())[:-20])
    with pytest.raises(FileError, match=r"run\.csv\.gz: .*"):
        read(path)


def test_a_file_without_hits_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(HEADER)
    assert read(path) == []


def test_a_named_pipe_is_live(tmp_path: Path) -> None:
    pipe, path = tmp_path / "pipe", tmp_path / "run.csv"
    os.mkfifo(pipe)
    write_tdc(simulated_hits(), path)
    writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
    writer.start()
    collector = TdcCollector(TdcCollector.Options(inputs=(pipe,)))
    assert collector.origin is Origin.LIVE
    np.testing.assert_array_equal(events(list(collector))[1], events(read(path))[1])
    writer.join()


def test_speed_is_kept(tmp_path: Path, fake_time) -> None:
    path = tmp_path / "run.csv"
    write_tdc(simulated_hits(), path)
    options = TdcCollector.Options(inputs=(path,), speed=2.0)
    collector = TdcCollector(options, clock=fake_time.clock, sleep=fake_time.sleep)
    assert collector.origin is Origin.REPLAYED
    list(collector)
    assert fake_time.now == pytest.approx(100 + 5 / 2, abs=0.1)


def test_recorded_run(real_data: Path) -> None:
    path = real_data / "tdc" / "run591_first120k.csv.gz"
    found: Counter[str] = Counter()
    batches = read(path, convention="2018")
    for batch in batches:
        found[batch.chamber] += len(batch.x)
    assert found == {"0": 693, "1": 1050, "2": 1131, "3": 1097}
    assert batches[-1].end == pytest.approx(23.99, abs=0.01)
    _, x = events(batches, "2")
    assert x[:, :4].min() >= -15
    assert x[:, :4].max() <= 405
    assert np.std(x[:, 4]) == pytest.approx(28, abs=1)
