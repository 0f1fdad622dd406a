import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm_collectors.chamber.geometry import (
    NS_PER_COUNT,
    Convention,
    WireMap,
    beam_wire_x_mm,
    time_counts,
    wire_x_mm,
)
from dqm_collectors.chamber.hits import RawHits

ALL_WIRES = np.arange(128)


@pytest.mark.parametrize("convention", Convention)
def test_channels_and_wires_are_one_to_one(convention: Convention) -> None:
    wires = WireMap.of(convention)
    fpga = np.repeat([0, 1], 128)
    channel = np.tile(ALL_WIRES, 2) + wires.first_channel
    places = wires.wires(fpga, channel)
    assert len(set(zip(*(p.tolist() for p in places), strict=True))) == 256
    back = wires.channels(*places)
    np.testing.assert_array_equal(back, (fpga, channel))


def test_layers_of_the_first_four_channels() -> None:
    _, layer, cell = WireMap.of(Convention.Y2021).wires(np.zeros(4, dtype=np.int64), np.arange(4))
    assert layer.tolist() == [4, 2, 3, 1]
    assert wire_x_mm(layer, cell).tolist() == [-315, -315, -294, -294]


def test_words_that_are_not_wires() -> None:
    one, two = np.ones(4, dtype=np.int64), np.full(4, 2)
    old, new = WireMap.of(Convention.Y2018), WireMap.of(Convention.Y2021)
    assert old.is_wire(one, np.array([0, 1, 128, 137])).tolist() == [False, True, True, False]
    assert new.is_wire(two, np.array([0, 127, 128, 138])).tolist() == [True, True, False, False]
    assert not new.is_wire(one, np.arange(4)).any()


@given(st.integers(0, 2**40))
def test_time_survives_the_way_through_the_electronics(count: int) -> None:
    counts = np.array([count])
    raw = RawHits.at(counts, head=2, fpga=np.zeros_like(counts), channel=np.zeros_like(counts))
    assert raw.bx[0] < 3564
    assert raw.tdc[0] < 30
    assert time_counts(raw.orbit, raw.bx, raw.tdc)[0] == count


def test_time_in_ns_is_that_of_the_authors_formula() -> None:
    counts = time_counts(np.array([315994]), np.array([3563]), np.array([29]))
    assert counts[0] * NS_PER_COUNT == pytest.approx(25 * (315994 * 3564 + 3563 + 29 / 30), rel=1e-15)


def test_beam_wires_snap_to_their_grid() -> None:
    x = np.array([651.0, 126.02, 20.98])
    assert beam_wire_x_mm(np.array([1, 2, 3]), x).tolist() == [651, 126, 21]
