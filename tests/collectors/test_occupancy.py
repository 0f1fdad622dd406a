"""Hits of every channel, counted beside the segments of the same words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqm.events import EventBatch, FloatArray
from dqm_collectors.chamber.geometry import NS_PER_COUNT, WIRES_PER_CHAMBER, Convention, WireMap
from dqm_collectors.chamber.hits import RawHits, write_tdc
from dqm_collectors.chamber.occupancy import ChannelCounter
from dqm_collectors.simulate import SimulateCollector
from dqm_collectors.tdc import TdcCollector

MAP = Path(__file__).parents[2] / "configs" / "channels-chamber.csv"


def simulate(**options: object) -> SimulateCollector:
    plain = {"chambers": [0, 2], "seconds": 12.5, "batch_seconds": 2.0, "seed": 3}
    return SimulateCollector(SimulateCollector.Options.model_validate(plain | options))


def split(batches: list[EventBatch]) -> tuple[list[EventBatch], list[EventBatch]]:
    return [b for b in batches if not b.counts], [b for b in batches if b.counts]


def total(batches: list[EventBatch], chamber: int) -> FloatArray:
    return np.sum([b.x[:, 1] for b in batches if b.chamber == f"{chamber}.channels"], axis=0)


def words_by_channel(source: SimulateCollector, chamber: int) -> FloatArray:
    """Count the words themselves."""
    found = np.zeros(WIRES_PER_CHAMBER)
    for raw in source.raw_hits():
        mine = 2 * raw.fpga + raw.channel // WIRES_PER_CHAMBER == chamber
        found += np.bincount(raw.channel[mine] % WIRES_PER_CHAMBER, minlength=WIRES_PER_CHAMBER)
    return found


def test_every_hit_is_counted_once_and_segments_stay_the_same() -> None:
    segments, counts = split(list(simulate(channels=True)))
    for chamber in (0, 2):
        assert (total(counts, chamber) == words_by_channel(simulate(), chamber)).all()
    alone = list(simulate())
    assert [b.chamber for b in segments] == [b.chamber for b in alone]
    assert all((a.x == b.x).all() for a, b in zip(segments, alone, strict=True))


def test_each_chamber_has_a_batch_for_every_stretch_of_time() -> None:
    _, counts = split(list(simulate(channels=True)))
    mine = [b for b in counts if b.chamber == "2.channels"]
    assert [(b.start, b.end) for b in mine] == [(2.0 * k, min(2.0 * (k + 1), 12.5)) for k in range(7)]
    assert all((b.x[:, 0] == np.arange(64)).all() and (b.times == b.start).all() for b in mine)
    assert {(b.names, b.counts) for b in mine} == {(("channel", "hits"), "hits")}


def test_a_dead_wire_has_no_hits_and_a_noisy_one_has_many() -> None:
    _, counts = split(
        list(simulate(channels=True, conditions={"dead_wires": [17], "noisy_wires": {5: 500.0}}))
    )
    hits = total(counts, 0)
    assert hits[17] == 0
    assert hits[5] > 20 * np.median(hits)


def test_the_illumination_tilts_without_a_change_of_the_rate() -> None:
    _, flat = split(list(simulate(channels=True, seconds=100.0)))
    _, tilted = split(list(simulate(channels=True, seconds=100.0, conditions={"illumination_slope": 0.9})))
    before, after = total(flat, 0), total(tilted, 0)
    assert after.sum() == pytest.approx(before.sum(), rel=0.02)
    assert after[48:].sum() > 1.1 * before[48:].sum()
    assert after[:16].sum() < 0.9 * before[:16].sum()


@pytest.mark.parametrize("convention", list(Convention))
def test_counts_do_not_depend_on_how_the_words_are_cut(tmp_path: Path, convention: Convention) -> None:
    wires = WireMap.of(convention)
    rng = np.random.default_rng(5)
    moments = np.sort(rng.integers(0, round(7.3e9 / NS_PER_COUNT), 5000))
    layer, cell, chamber = rng.integers(1, 5, 5000), rng.integers(0, 16, 5000), rng.integers(0, 4, 5000)
    fpga, channel = wires.channels(chamber, layer, cell)
    raw = RawHits.at(moments, head=wires.hit_head, fpga=fpga, channel=channel)
    found = []
    for n_parts in (1, 50):
        counter = ChannelCounter(chambers=(0, 1, 2, 3), start=0.0, batch_seconds=1.0)
        batches = [
            batch
            for part in np.array_split(np.arange(5000), n_parts)
            for batch in counter.add(raw.counts[part], wires.numbers(raw.fpga[part], raw.channel[part]))
        ]
        batches += counter.finish()
        found.append(np.stack([b.x[:, 1] for b in batches]))
    assert found[0].sum() == 5000
    assert (found[0] == found[1]).all()
    write_tdc(raw, tmp_path / "run.csv")
    options = {"inputs": [tmp_path / "run.csv"], "convention": convention, "channels": True}
    _, read = split(list(TdcCollector(TdcCollector.Options.model_validate(options))))
    assert (np.stack([b.x[:, 1] for b in read]) == found[0]).all()


def test_hits_after_a_reset_of_the_clock_are_counted_in_the_stretches_of_the_segments(tmp_path: Path) -> None:
    raw = RawHits.concatenate(list(simulate(seconds=20.3).raw_hits()))
    half = len(raw.head) // 2
    raw.orbit[half:] -= raw.orbit[half]
    write_tdc(raw, tmp_path / "run.csv")
    options = {"inputs": [tmp_path / "run.csv"], "chambers": [0, 2], "batch_seconds": 2.0, "channels": True}
    source = TdcCollector(TdcCollector.Options.model_validate(options))
    segments, counts = split(list(source))
    assert source.counts()["clock_resets"] == 1
    assert [(f"{b.chamber}.channels", b.start, b.end) for b in segments] == [
        (b.chamber, b.start, b.end) for b in counts
    ]
    for chamber in (0, 2):
        assert (total(counts, chamber) == words_by_channel(simulate(seconds=20.3), chamber)).all()
    plain = TdcCollector(TdcCollector.Options.model_validate(options | {"channels": False}))
    assert [b.x.tobytes() for b in segments] == [b.x.tobytes() for b in plain]


def test_the_channel_map_of_the_chamber_is_that_of_the_electronics() -> None:
    rows = np.loadtxt(MAP, delimiter=",", skiprows=1)
    number = np.arange(64)
    _, layer, cell = WireMap.of(Convention.Y2021).wires(np.zeros_like(number), number)
    assert (rows == np.column_stack([number, layer, cell + 1, number // 16 + 1])).all()
