import numpy as np
import pytest
from pydantic import ValidationError

from dqm_collectors.chamber.conditions import Conditions, Fault, conditions_at
from dqm_collectors.chamber.geometry import NS_PER_COUNT, Convention, WireMap, wire_x_mm
from dqm_collectors.chamber.reconstruction import free_segments
from dqm_collectors.chamber.segments import Hits, Segments, Selection, find_segments
from dqm_collectors.chamber.simulation import Simulation, drift_time_ns, simulate_hits

SPACING_NS = 5000.0
T0_CONSTANT_NS = 20.0
"""What a calibration of t0 finds: the strong field near the wire brings all times forward."""


def simulate(conditions: Conditions, n_muons: int = 20_000) -> Simulation:
    passage = np.arange(n_muons) * SPACING_NS + 1000
    return simulate_hits(conditions, passage, n_muons * SPACING_NS, np.random.default_rng(4))


def reconstruct(simulation: Simulation, *, t0_known: bool) -> Segments:
    raw = simulation.raw
    wires = WireMap.of(Convention.Y2021)
    if not t0_known:
        return free_segments(raw.counts, wires.numbers(raw.fpga, raw.channel), Selection())
    _, layer, cell = wires.wires(raw.fpga, raw.channel)
    time = raw.counts * NS_PER_COUNT
    event = (time // SPACING_NS).astype(np.int64)
    time = time - event * SPACING_NS - 1000 + T0_CONSTANT_NS
    return find_segments(Hits(event, layer, wire_x_mm(layer, cell), time), Selection(t0_known=True))


def share_right(simulation: Simulation, segments: Segments, *, t0_known: bool) -> float:
    """Share of segments whose four times are all within 15 ns of the muon's own pulses."""
    muon = simulation.muon[segments.hits]
    one = (muon == muon[:, :1]).all(axis=1) & (muon[:, 0] >= 0)
    off = segments.features[:, :4] - simulation.drift_ns[muon[:, 0]]
    off -= T0_CONSTANT_NS if t0_known else np.nanmedian(off[one])
    return float(np.mean(one & (np.abs(off) < 15).all(axis=1)))


def test_a_known_t0_gives_the_right_times() -> None:
    single = simulate(Conditions(shower_probability=0))
    assert share_right(single, reconstruct(single, t0_known=True), t0_known=True) > 0.987
    healthy = simulate(Conditions())
    assert share_right(healthy, reconstruct(healthy, t0_known=True), t0_known=True) > 0.97


def test_an_unknown_t0_gives_mostly_the_right_times_and_angles() -> None:
    healthy = simulate(Conditions())
    segments = reconstruct(healthy, t0_known=False)
    assert share_right(healthy, segments, t0_known=False) > 0.86
    off = segments.features[:, 4] - healthy.theta_deg[healthy.muon[segments.hits[:, 0]]]
    assert np.mean(np.abs(off) < 3) > 0.88


def test_most_muons_with_four_pulses_have_a_segment() -> None:
    healthy = simulate(Conditions())
    complete = np.isfinite(healthy.drift_ns).all(axis=1).sum()
    assert 0.8 < len(reconstruct(healthy, t0_known=False).event) / complete < 0.95


def test_drift_time_grows_to_the_edge_of_the_cell() -> None:
    distance = np.linspace(0, 21, 200)
    nominal, weak = (drift_time_ns(distance, Conditions(strip_voltage_v=v)) for v in (-1200, -300))
    assert nominal[0] == 0
    assert nominal[-1] == pytest.approx(363, abs=1)
    assert (np.diff(nominal) > 0).all()
    assert (weak >= nominal).all()
    assert weak[-1] > nominal[-1] + 50


def test_dead_and_noisy_wires() -> None:
    simulation = simulate(Conditions(dead_wires=(3, 17), noisy_wires={40: 1e4}))
    counts = np.bincount(simulation.raw.channel, minlength=64)
    assert counts[[3, 17]].tolist() == [0, 0]
    noise = np.bincount(simulation.raw.channel[simulation.muon < 0], minlength=64)
    assert noise[40] == pytest.approx(1e4 * 0.1, rel=0.2)


def test_a_wire_is_deaf_for_its_dead_time() -> None:
    raw = simulate(Conditions(afterpulse_probability=0.5, dead_time_ns=150.0)).raw
    order = np.lexsort((raw.counts, raw.channel))
    same = np.diff(raw.channel[order]) == 0
    assert np.diff(raw.counts[order])[same].min() * NS_PER_COUNT >= 150


def test_a_delay_moves_one_layer_only() -> None:
    plain, moved = simulate(Conditions()).raw, simulate(Conditions(t0_ns=(0, 50, 0, 0))).raw
    shift = []
    for layer in (1, 2):
        mean = []
        for raw in (plain, moved):
            _, where, _ = WireMap.of(Convention.Y2021).wires(raw.fpga, raw.channel)
            mean.append((raw.counts[where == layer] * NS_PER_COUNT % SPACING_NS).mean())
        shift.append(mean[1] - mean[0])
    assert shift == pytest.approx([0, 50], abs=5)


def test_a_lower_threshold_lets_more_through() -> None:
    counts = [len(simulate(Conditions(threshold_mv=mv)).raw.head) for mv in (100, 75, 50, 25)]
    assert counts == sorted(counts)
    noise = [(simulate(Conditions(threshold_mv=mv)).muon < 0).sum() for mv in (100, 50)]
    assert noise[1] > 2 * noise[0]


def test_same_seed_same_hits() -> None:
    first, second = (simulate(Conditions(), 500).raw for _ in range(2))
    np.testing.assert_array_equal(first.counts, second.counts)


def test_faults_start_and_stop() -> None:
    faults = [
        Fault(chamber=1, knob="strip_voltage_v", value=-900, start=10, stop=20),
        Fault(chamber=1, knob="dead_wires", value=[5], start=15),
    ]
    base = Conditions()
    assert conditions_at(base, faults, 1, 9.9) is base
    assert conditions_at(base, faults, 0, 12) is base
    assert conditions_at(base, faults, 1, 10).strip_voltage_v == -900
    late = conditions_at(base, faults, 1, 20)
    assert (late.strip_voltage_v, late.dead_wires) == (-1200, (5,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knob": "voltage"}, "no knob 'voltage'; known are rate_hz, strip_voltage_v"),
        ({"value": 500}, "strip_voltage_v"),
        ({"stop": 5}, "not after its start"),
        ({"chamber": 4}, "chamber"),
    ],
)
def test_a_fault_that_makes_no_sense(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Fault(**{"chamber": 0, "knob": "strip_voltage_v", "value": -900, "start": 10, **change})
