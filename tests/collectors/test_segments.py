import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqm_collectors.chamber.geometry import (
    DRIFT_VELOCITY_MM_PER_NS,
    LAYER_Z_MM,
    beam_wire_x_mm,
    wire_x_mm,
)
from dqm_collectors.chamber.segments import Hits, Selection, find_segments, group_hits

LAYERS = np.arange(1, 5)


def straight_track(x: float, slope: float, t0: float = 0.0, event: int = 0) -> Hits:
    """Exact hits of one straight track in an ideal cell."""
    position = x + slope * LAYER_Z_MM
    first = wire_x_mm(LAYERS, np.zeros(4, dtype=np.int64))
    wire = first + 42 * np.rint((position - first) / 42)
    time = np.abs(position - wire) / DRIFT_VELOCITY_MM_PER_NS + t0
    return Hits(np.full(4, event), LAYERS, wire, time)


def join(*parts: Hits) -> Hits:
    return Hits(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("event", "layer", "wire_mm", "time_ns"))
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(-200, 200), st.floats(-0.5, 0.5), st.floats(0, 1e9))
def test_an_exact_track_has_a_fit_without_residual(x: float, slope: float, t0: float) -> None:
    track = straight_track(x, slope, t0)
    for known in (True, False):
        hits = Hits(track.event, track.layer, track.wire_mm, track.time_ns - (t0 if known else 0.0))
        found = find_segments(hits, Selection(t0_known=known))
        if known or not np.all(np.diff(np.sign(x + slope * LAYER_Z_MM - track.wire_mm)) == 0):
            assert found.residual_mm == pytest.approx([0], abs=1e-4)


def test_values_of_a_segment() -> None:
    found = find_segments(straight_track(8.0, 0.2, t0=5000.0), Selection())
    assert found.t0_ns == pytest.approx([5000])
    assert found.features[0, :4] == pytest.approx(straight_track(8.0, 0.2).time_ns)
    assert found.features[0, 4] == pytest.approx(np.degrees(np.arctan(0.2)))
    assert found.features[0, 5] == 4


def test_two_tracks_of_one_event_share_no_hit() -> None:
    found = find_segments(
        join(straight_track(-100.0, 0.1), straight_track(120.0, 0.1)), Selection(t0_known=True)
    )
    assert len(found.event) == 2
    assert len(np.unique(found.hits)) == 8
    assert found.features[:, 5].tolist() == [8, 8]


def test_one_event_does_not_borrow_hits_of_another() -> None:
    first, second = straight_track(0.0, 0.1, event=0), straight_track(0.0, 0.1, event=1)
    mixed = join(first, second)
    lacking = Hits(*(getattr(mixed, n)[[0, 1, 6, 7]] for n in ("event", "layer", "wire_mm", "time_ns")))
    assert len(find_segments(lacking, Selection()).event) == 0


def test_a_hit_too_many_does_not_disturb() -> None:
    track = straight_track(8.0, 0.2)
    late = Hits(track.event[:1], track.layer[:1], track.wire_mm[:1], track.time_ns[:1] + 250)
    found = find_segments(join(late, track), Selection(t0_known=True))
    assert found.hits.tolist() == [[1, 2, 3, 4]]
    assert found.features[0, 5] == 5


@pytest.mark.parametrize("shift", [450.0, -450.0])
def test_drift_times_must_be_physical(shift: float) -> None:
    track = straight_track(8.0, 0.2, t0=shift)
    assert len(find_segments(track, Selection(t0_known=True)).event) == 0


def test_a_noise_burst_is_left_alone() -> None:
    burst = join(*(straight_track(x, 0.0) for x in np.linspace(-200, 200, 30)))
    assert len(find_segments(burst, Selection()).event) == 0
    assert len(find_segments(burst, Selection(max_event_hits=1000, t0_known=True)).event) > 10


def test_no_hits_no_segments() -> None:
    none = np.empty(0, dtype=np.int64)
    found = find_segments(Hits(none, none, np.empty(0), np.empty(0)), Selection())
    assert found.features.shape == (0, 6)


def test_groups_end_at_a_silence_and_at_the_next_chamber() -> None:
    chamber = np.array([1, 0, 0, 0, 1])
    counts = np.array([50, 900, 10, 350, 60]) + 10**14
    group, since = group_hits(chamber, counts, 400)
    assert group.tolist() == [2, 1, 0, 0, 2]
    assert since.tolist() == [0, 0, 0, 340, 10]


def test_the_beam_frame_gives_the_same_segments() -> None:
    track = straight_track(8.0, 0.2)
    x = track.wire_mm + 315.0 + 21.0 - np.where(track.layer % 2 == 1, 21.0, 21.0)
    wire = beam_wire_x_mm(track.layer, x + 0.02)
    found = find_segments(Hits(track.event, track.layer, wire, track.time_ns), Selection(t0_known=True))
    assert found.features[0, 4] == pytest.approx(np.degrees(np.arctan(0.2)))
