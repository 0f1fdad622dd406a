"""Simulated spectra over recorded ones: ``python tests/studies/simulation_spectra.py OUTPUT_FOLDER``.

Needs the recorded data beside the checkout and matplotlib; writes one figure and the numbers as JSON.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.stats import ks_2samp

from dqm_collectors.beam import BeamCollector
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.chamber.geometry import NS_PER_COUNT, Convention, WireMap
from dqm_collectors.chamber.reconstruction import free_segments
from dqm_collectors.chamber.segments import Segments, Selection
from dqm_collectors.chamber.simulation import simulate_hits
from dqm_collectors.tdc import read_tdc

mpl.use("Agg")
from matplotlib import pyplot as plt

DATA = Path(__file__).parents[2].parent / "shared" / "data"
N_MUONS = 200_000
SPACING_NS = 5000.0
LOOSE = Selection(max_residual_mm=5.0)


def recorded_segments() -> tuple[Segments, np.ndarray]:
    """Segments of run 591 with a loose selection; times between hits of one wire, ns."""
    parts = list(read_tdc(DATA / "tdc" / "run591_first120k.csv.gz"))
    wires = WireMap.of(Convention.Y2018)
    head, fpga, channel, counts = (
        np.concatenate([getattr(p, n) for p in parts]) for n in ("head", "fpga", "channel", "counts")
    )
    hit = wires.is_wire(head, channel)
    segments = free_segments(counts[hit], wires.numbers(fpga[hit], channel[hit]), LOOSE)
    return segments, same_wire_gaps(fpga[hit] * 1000 + channel[hit], counts[hit])


def simulated(conditions: Conditions) -> tuple[Segments, np.ndarray, np.ndarray]:
    """The same of the simulation, and the times of all hits since their muon's passage, ns."""
    passage = np.arange(N_MUONS) * SPACING_NS + 1000
    raw = simulate_hits(conditions, passage, N_MUONS * SPACING_NS, np.random.default_rng(1)).raw
    segments = free_segments(raw.counts, WireMap.of(Convention.Y2021).numbers(raw.fpga, raw.channel), LOOSE)
    since = raw.counts * NS_PER_COUNT % SPACING_NS - 1000
    return segments, same_wire_gaps(raw.channel, raw.counts), since


def wire_rates(seconds: float = 100.0) -> np.ndarray:
    """Hits per second of each wire of a healthy chamber at its nominal rate."""
    rng, duration = np.random.default_rng(1), seconds * 1e9
    conditions = Conditions()
    passage = rng.uniform(0, duration, rng.poisson(conditions.rate_hz * seconds))
    raw = simulate_hits(conditions, np.sort(passage), duration, rng).raw
    return np.bincount(raw.channel, minlength=64) / seconds


def same_wire_gaps(wire: np.ndarray, counts: np.ndarray) -> np.ndarray:
    order = np.lexsort((counts, wire))
    return np.diff(counts[order])[np.diff(wire[order]) == 0] * NS_PER_COUNT


def box_edges(centre: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Where a drift-time box reaches half its plateau, rising and falling."""
    plateau = np.median(count[count > count.max() / 4])
    over = np.flatnonzero(count > plateau / 2)
    return float(centre[over[0]]), float(centre[over[-1]])


def compare(axis, title, real, simulation, bins) -> dict[str, list[float]]:
    """Draw two samples as densities; return mean and RMS of both and their KS distance."""
    for sample, style in ((real, "k."), (simulation, "r-")):
        density, edges = np.histogram(sample, bins, density=True)
        axis.plot((edges[1:] + edges[:-1]) / 2, density, style, ds="steps-mid" if style == "r-" else None)
    axis.set_title(title)
    inside = [s[(s >= bins[0]) & (s <= bins[-1])] for s in (real, simulation)]
    return {
        "mean": [float(s.mean()) for s in inside],
        "rms": [float(s.std()) for s in inside],
        "ks": [float(ks_2samp(*inside).statistic)],
    }


def compare_box(axis, since: np.ndarray) -> dict[str, list[float]]:
    """Drift-time box of run 1252, moved so that the rising edges agree."""
    low, high, count = np.loadtxt(DATA / "legnaro" / "run1252_shifted.csv", delimiter=",", skiprows=1).T
    bins = np.append(low, high[-1])
    centre = (low + high) / 2
    rise = box_edges(centre, count)[0] - box_edges(centre, np.histogram(since, bins)[0])[0]
    ours = np.histogram(since + rise, bins)[0]
    axis.plot(centre, count / count.sum(), "k.")
    axis.plot(centre, ours / ours.sum(), "r-", ds="steps-mid")
    axis.set_title("drift-time box, run 1252")
    distance = np.abs(np.cumsum(count) / count.sum() - np.cumsum(ours) / ours.sum()).max()
    return {
        "edges_ns": [*box_edges(centre, count), *box_edges(centre, ours)],
        "shift_ns": [rise],
        "ks": [float(distance)],
    }


def main(folder: Path) -> None:
    """Make the figure and the numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    real, real_gaps = recorded_segments()
    ours, our_gaps, since = simulated(Conditions(drift_velocity_mm_per_ns=0.055))
    figure, axes = plt.subplots(3, 4, figsize=(18, 11))
    axis = iter(axes.flat)
    clean = [s.features[s.residual_mm < 1] for s in (real, ours)]
    numbers = {
        f"t_{k + 1}": compare(
            next(axis), f"t_{k + 1} / ns", *(c[:, k] for c in clean), np.linspace(-20, 420, 45)
        )
        for k in range(4)
    }
    numbers["theta"] = compare(next(axis), "theta / deg", *(c[:, 4] for c in clean), np.linspace(-66, 66, 45))
    numbers["n_hits"] = compare(next(axis), "n_hits", *(c[:, 5] for c in clean), np.arange(3.5, 20))
    numbers["residual"] = compare(
        next(axis), "residual / mm", real.residual_mm, ours.residual_mm, np.linspace(0, 5, 50)
    )
    numbers["same wire"] = compare(
        next(axis), "time between hits of a wire / ns", real_gaps, our_gaps, np.linspace(0, 800, 60)
    )
    nominal = simulated(Conditions())[2]
    numbers["box 1252"] = compare_box(next(axis), nominal)
    beam = BeamCollector(BeamCollector.Options(inputs=(DATA / "lemma" / "data_260.txt.gz",)))
    times = np.concatenate([b.x[:, :4].ravel() for b in beam])
    numbers["beam times"] = compare(
        next(axis), "times of beam segments, run 260 / ns", times, since + 20, np.linspace(-20, 420, 45)
    )
    rates = np.genfromtxt(DATA / "legnaro" / "occupancy_and_rate_per_channel.csv", delimiter=",", names=True)
    numbers["wire rate / Hz"] = compare(
        next(axis),
        "rate of a wire / Hz",
        rates["rate_hz"][rates["run"] == 1252],
        wire_rates(),
        np.arange(0, 40),
    )
    for empty in axis:
        empty.remove()
    figure.tight_layout()
    figure.savefig(folder / "simulation_spectra.png", dpi=70)
    (folder / "simulation_spectra.json").write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
