"""Simulation of one chamber: raw hits of cosmic muons under given conditions.

The space-time relation is that of the real cell: the plateau of the drift-time spectrum gives the drift
velocity, its excess at small times a faster region around the wire. The effects of faults at the edge of a
cell and below the nominal threshold are tuned to the response of the real chambers; they are not derived from
a field map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray
from dqm_collectors.chamber.conditions import NOMINAL_THRESHOLD_MV, Conditions
from dqm_collectors.chamber.geometry import (
    CELL_WIDTH_MM,
    CELLS_PER_LAYER,
    LAYER_Z_MM,
    N_LAYERS,
    NS_PER_COUNT,
    WIRES_PER_CHAMBER,
    BoolArray,
    Convention,
    IntArray,
    WireMap,
    wire_x_mm,
)
from dqm_collectors.chamber.hits import RawHits

__all__ = ["Simulation", "drift_time_ns", "simulate_hits"]

HALF_CELL_MM = CELL_WIDTH_MM / 2
ANGLE_POWER = 3.5  # power of the cosine: flux through a flat chamber with the acceptance of scintillators
NEAR_WIRE_GAIN_NS = 27.0  # time saved in the strong field around the wire
NEAR_WIRE_MM = 3.5
NEAR_WIRE_JITTER_NS = 8.0  # near the wire few electrons arrive at the same time
NEIGHBOUR_REACH_MM = 0.7  # vertical path that still leaves a signal in the neighbouring cell
EDGE_DELAY_NS = 140.0  # delay at the edge of a cell whose strips have no voltage
EDGE_POWER = 3.0
EDGE_LOSS = 0.35  # loss of efficiency at the same place
PULSE_MV = 450.0  # median amplitude of a muon's pulse at the discriminator
PULSE_SPREAD = 0.5
RISE_NS = 20.0
NOISE_MV = 30.0  # RMS of the electronic noise
SMALL_PULSE_MV = 9.0  # exponential decrease of the spectrum of early electrons and crosstalk


@dataclass(frozen=True, slots=True)
class Simulation:
    """Raw hits of one chamber and the simulated truth.

    Parameters
    ----------
    raw : RawHits
        Words in order of time.
    muon : ndarray of int64, shape (n_words,)
        Muon of each word; -1 for noise.
    theta_deg : ndarray, shape (n_muons,)
        Angle to the vertical.
    drift_ns : ndarray, shape (n_muons, 4)
        Drift time of the muon's own pulse in each layer; NaN if there is none.
    """

    raw: RawHits
    muon: IntArray
    theta_deg: FloatArray
    drift_ns: FloatArray


@dataclass(slots=True)
class _Pulses:
    """Signals on wires before the dead time of the electronics; arrays of equal length."""

    muon: IntArray
    layer: IntArray
    cell: IntArray
    time_ns: FloatArray

    def take(self, which: BoolArray) -> _Pulses:
        return _Pulses(self.muon[which], self.layer[which], self.cell[which], self.time_ns[which])

    def __add__(self, other: _Pulses) -> _Pulses:
        return _Pulses(
            np.concatenate([self.muon, other.muon]),
            np.concatenate([self.layer, other.layer]),
            np.concatenate([self.cell, other.cell]),
            np.concatenate([self.time_ns, other.time_ns]),
        )


def drift_time_ns(distance_mm: FloatArray, conditions: Conditions) -> FloatArray:
    """Drift time at a distance from the wire, without the resolution.

    Parameters
    ----------
    distance_mm : ndarray
        Distance from the wire, 0 to 21 mm.
    conditions : Conditions
        Drift velocity and strip voltage are used.

    Returns
    -------
    ndarray, shape of `distance_mm`
        Never negative; it grows with the distance.
    """
    gain = NEAR_WIRE_GAIN_NS * -np.expm1(-distance_mm / NEAR_WIRE_MM)
    weakness = max(0.0, 1 - conditions.strip_fraction)
    edge = EDGE_DELAY_NS * weakness * (distance_mm / HALF_CELL_MM) ** EDGE_POWER
    return np.asarray(distance_mm / conditions.drift_velocity_mm_per_ns - gain + edge)


def simulate_hits(
    conditions: Conditions,
    passage_ns: FloatArray,
    duration_ns: float,
    rng: np.random.Generator,
    *,
    chamber: int = 0,
    first_count: int = 0,
    convention: Convention = Convention.Y2021,
) -> Simulation:
    """Simulate the raw hits of one chamber while muons cross it.

    Parameters
    ----------
    conditions : Conditions
        Conditions of the chamber during the whole time; `passage_ns` replaces their `rate_hz`.
    passage_ns : ndarray, shape (n_muons,)
        Times at which muons cross the chamber, within ``[0, duration_ns)``.
    duration_ns : float
        Length of the simulated time, over which noise is distributed.
    rng : numpy.random.Generator
        Source of all random numbers.
    chamber : int
        Number of the chamber, 0 to 3.
    first_count : int
        TDC count at the start.
    convention : Convention
        Numbering of the channels.

    Returns
    -------
    Simulation
        Raw hits and truth.

    Examples
    --------
    Three muons, 5 us apart, in a healthy chamber:

    >>> import numpy as np
    >>> from dqm_collectors.chamber.conditions import Conditions
    >>> from dqm_collectors.chamber.simulation import simulate_hits
    >>> rng = np.random.default_rng(1)
    >>> simulation = simulate_hits(Conditions(), np.array([0.0, 5000.0, 10_000.0]), 15_000.0, rng)
    >>> simulation.drift_ns.shape
    (3, 4)
    >>> len(simulation.raw.counts) == len(simulation.muon)
    True
    """
    muon, x, slope = _tracks(conditions, len(passage_ns), rng)
    distance, cell, inside = _crossings(x)
    pulses = _signals(conditions, muon, distance, cell, inside, rng)
    truth = np.full((len(passage_ns), N_LAYERS), np.nan)
    # backwards: pulses of second particles come after those of the muons and must be overwritten by them
    own_last = slice(None, None, -1)
    truth[pulses.muon[own_last], pulses.layer[own_last] - 1] = pulses.time_ns[own_last]
    pulses += _neighbours(conditions, muon, x, slope, rng)
    pulses += _crosstalk(conditions, pulses, rng)
    pulses.time_ns += passage_ns[pulses.muon] + np.array(conditions.t0_ns)[pulses.layer - 1]
    pulses += _noise(conditions, duration_ns, rng)
    pulses += _afterpulses(conditions, pulses, rng)
    wires = WireMap.of(convention)
    fpga, channel = wires.channels(chamber, pulses.layer, pulses.cell)
    wire = (channel - wires.first_channel) % WIRES_PER_CHAMBER
    counts = np.floor(pulses.time_ns / NS_PER_COUNT).astype(np.int64) + first_count
    kept = _read_out(conditions, wire, counts)
    raw = RawHits.at(counts[kept], head=wires.hit_head, fpga=fpga[kept], channel=channel[kept])
    return Simulation(raw, pulses.muon[kept], np.degrees(np.arctan(slope[: len(passage_ns)])), truth)


def _tracks(
    conditions: Conditions, n_muons: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Draw muons, then second particles: muon they belong to, position in each layer (mm), slope."""
    grid = np.linspace(-np.pi / 2, np.pi / 2, 20001)
    density = np.cumsum(np.cos(grid) ** ANGLE_POWER)
    slope = np.tan(np.interp(rng.random(n_muons), density / density[-1], grid))
    half_width = CELL_WIDTH_MM * (CELLS_PER_LAYER + 1) / 2
    middle = half_width * _tilt(rng.uniform(-1.0, 1.0, n_muons), conditions.illumination_slope)
    showering = np.flatnonzero(rng.random(n_muons) < conditions.shower_probability)
    companion = middle[showering] + rng.normal(0, 2 * CELL_WIDTH_MM, len(showering))
    bend = slope[showering] + rng.normal(0, 0.1, len(showering))
    slope = np.concatenate([slope, bend])
    x = np.concatenate([middle, companion])[:, None] + slope[:, None] * LAYER_Z_MM
    return np.concatenate([np.arange(n_muons), showering]), x, slope


def _tilt(u: FloatArray, slope: float) -> FloatArray:
    """Turn uniform numbers in [-1, 1] into such with the density ``(1 + slope * x) / 2``."""
    if slope == 0.0:
        return u
    return np.asarray((np.sqrt((1.0 - slope) ** 2 + 2.0 * slope * (u + 1.0)) - 1.0) / slope)


def _crossings(x: FloatArray) -> tuple[FloatArray, IntArray, BoolArray]:
    """Distance to the wire (mm), cell, and whether the cell exists; the last axis is the layer."""
    layer = np.broadcast_to(np.arange(1, N_LAYERS + 1), x.shape)
    first = wire_x_mm(layer, np.zeros_like(layer))
    cell = np.rint((x - first) / CELL_WIDTH_MM).astype(np.int64)
    distance = np.abs(x - first - CELL_WIDTH_MM * cell)
    return distance, cell, (cell >= 0) & (cell < CELLS_PER_LAYER)


def _signals(
    conditions: Conditions,
    muon: IntArray,
    distance: FloatArray,
    cell: IntArray,
    inside: BoolArray,
    rng: np.random.Generator,
) -> _Pulses:
    """Return the pulses of tracks in the cells that they cross, after the discriminator."""
    track, row = np.nonzero(inside)
    distance, cell = distance[track, row], cell[track, row]
    n = len(track)
    pulse = PULSE_MV * np.exp(PULSE_SPREAD * rng.standard_normal(n))
    weakness = max(0.0, 1 - conditions.strip_fraction)
    chance = conditions.efficiency * (1 - EDGE_LOSS * weakness * (distance / HALF_CELL_MM) ** EDGE_POWER)
    seen = (rng.random(n) < chance) & (pulse > conditions.threshold_mv)
    time = drift_time_ns(distance, conditions) + RISE_NS * conditions.threshold_mv / pulse
    jitter = NEAR_WIRE_JITTER_NS * np.exp(-distance / NEAR_WIRE_MM)
    time += rng.standard_normal(n) * np.hypot(
        conditions.resolution_mm / conditions.drift_velocity_mm_per_ns, jitter
    )
    early = rng.random(n) < _small_pulse_chance(conditions.delta_ray_probability, conditions)
    time[early] *= rng.random(early.sum())  # an electron from anywhere between the muon and the wire
    return _Pulses(muon[track], row + 1, cell, time).take(seen)


def _neighbours(
    conditions: Conditions, muon: IntArray, x: FloatArray, slope: FloatArray, rng: np.random.Generator
) -> _Pulses:
    """Return the pulses of inclined tracks that also cross a corner of the next cell."""
    reach = NEIGHBOUR_REACH_MM * np.abs(slope)[:, None]
    distance, cell, _ = _crossings(x)
    track, row = np.nonzero(HALF_CELL_MM - distance < reach)
    beyond = np.where(_crossings(x + 2 * reach)[1] > cell, 1, -1)[track, row]
    other = cell[track, row] + beyond
    inside = (other >= 0) & (other < CELLS_PER_LAYER) & (rng.random(len(track)) < conditions.efficiency)
    time = drift_time_ns(np.full(len(track), HALF_CELL_MM), conditions)
    time += rng.normal(0, 2 * conditions.resolution_mm / conditions.drift_velocity_mm_per_ns, len(track))
    return _Pulses(muon[track], row + 1, other, time).take(inside)


def _crosstalk(conditions: Conditions, pulses: _Pulses, rng: np.random.Generator) -> _Pulses:
    """Return the crosstalk of hits on a neighbouring wire, at nearly the same time."""
    chance = _small_pulse_chance(conditions.crosstalk_probability, conditions)
    source = pulses.take(rng.random(len(pulses.muon)) < chance)
    n = len(source.muon)
    source.cell = source.cell + rng.choice((-1, 1), n)
    source.time_ns = source.time_ns + rng.normal(5, 8, n)
    return source.take((source.cell >= 0) & (source.cell < CELLS_PER_LAYER))


def _noise(conditions: Conditions, duration_ns: float, rng: np.random.Generator) -> _Pulses:
    """Return noise: Rice's rate of noise above a threshold, and the extra rate of noisy wires."""
    excess = (NOMINAL_THRESHOLD_MV**2 - conditions.threshold_mv**2) / (2 * NOISE_MV**2)
    rate = np.full(WIRES_PER_CHAMBER, conditions.noise_rate_hz * np.exp(excess))
    for noisy, extra in conditions.noisy_wires.items():
        rate[noisy] += extra
    wire: IntArray = np.repeat(np.arange(WIRES_PER_CHAMBER), rng.poisson(rate * duration_ns * 1e-9))
    _, layer, cell = WireMap.of(Convention.Y2021).wires(np.zeros_like(wire), wire)
    return _Pulses(np.full(len(wire), -1), layer, cell, rng.uniform(0, duration_ns, len(wire)))


def _afterpulses(conditions: Conditions, pulses: _Pulses, rng: np.random.Generator) -> _Pulses:
    """Return afterpulses: most within 300 ns, some later, from electrons of the cathode."""
    source = pulses.take(rng.random(len(pulses.muon)) < conditions.afterpulse_probability)
    n = len(source.muon)
    soon = conditions.dead_time_ns + rng.gamma(2, 72, n)
    source.time_ns = source.time_ns + np.where(rng.random(n) < 0.06, rng.normal(410, 25, n), soon)
    return source


def _small_pulse_chance(nominal: float, conditions: Conditions) -> float:
    """Probability that a small pulse passes the threshold; its odds fall exponentially with the threshold."""
    odds = nominal * np.exp((NOMINAL_THRESHOLD_MV - conditions.threshold_mv) / SMALL_PULSE_MV)
    return float(odds / (1 - nominal + odds))


def _read_out(conditions: Conditions, wire: IntArray, counts: IntArray) -> IntArray:
    """Select the pulses that are written, in order of time: their wire is not dead, its dead time is over."""
    order = np.lexsort((counts, wire))
    alive = ~np.isin(wire[order], conditions.dead_wires)
    dead_counts = conditions.dead_time_ns / NS_PER_COUNT
    busy = (np.diff(wire[order]) == 0) & (np.diff(counts[order]) < dead_counts)
    alive[1:] &= ~busy
    kept = order[alive]
    return kept[np.argsort(counts[kept], kind="stable")]
