"""Advice on a run: the budget as the daemon derives it, and faults of simulated chambers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.alarm import Thresholds, derive_thresholds
from dqm.config import DaemonConfig
from dqm.errors import format_count
from dqm.events import FloatArray, WindowCut
from dqm.reference import (
    DetectionTime,
    Faults,
    Light,
    PenaltyAdvice,
    WindowAdvice,
    advise_penalties,
    advise_window,
    constant_features,
    generic_faults,
    time_to_detect,
)
from dqm.service.collector.sources import open_source

__all__ = ["Advice", "Budget", "advise"]

USUAL_WINDOWS = (50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
"""Windows that are looked at if none is wanted."""

TRIED_AT_LEAST = 2
"""Sizes of windows with which faults are tried in any case."""

MOST_WORK = 27_000
"""Further sizes are tried up to this sum of reference events: half a minute on one core in all."""

WORK_OF_SIZE = 2500
"""Work of a size that does not depend on the reference, in the same units."""

SIMULATED_FEATURES = frozenset({"t_1", "t_2", "t_3", "t_4", "theta"})
"""Features by which a run of a drift-tube chamber is recognised."""

SIMULATED_FAULTS: dict[str, dict[str, object]] = {
    "cathode strips at 75 %": {"strip_voltage_v": -900.0},
    "thresholds at 75 %": {"threshold_mv": 75.0},
    "thresholds at 50 %": {"threshold_mv": 50.0},
    "drift velocity 2 % low": {"drift_velocity_mm_per_ns": 0.05277},
    "a layer late by 10 ns": {"t0_ns": [0.0, 10.0, 0.0, 0.0]},
    "resolution 0.45 mm": {"resolution_mm": 0.45},
}
"""Conditions of the collector ``simulate``."""

LONGEST_SIMULATED = 20_000
"""Most events of a simulated run; a longer one would not have a larger reference that matters here."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Results of the false-alarm budget.

    Parameters
    ----------
    thresholds : Thresholds
        As the daemon derives them.
    k, n : int
        How many of the last windows must count.
    text : str
        In words.
    """

    thresholds: Thresholds
    k: int
    n: int
    text: str

    @classmethod
    def of(cls, n_streams: int, false_alarms_per_shift: float, windows_per_hour: float) -> Budget:
        """Derive the budget as for a configuration of `n_streams` equal streams; raises `InputError`."""
        alarm = {"false_alarms_per_shift": false_alarms_per_shift, "windows_per_hour": windows_per_hour}
        streams = [{"name": f"s{number}", "bundle": "b"} for number in range(n_streams)]
        config = DaemonConfig.model_validate(
            {"alarm": alarm, "streams": streams}, context={"base": Path(), "environ": {}}
        )
        thresholds = derive_thresholds(config)
        k = config.alarm.k
        n = config.alarm.n
        hours = config.alarm.shift_hours
        text = (
            f"{false_alarms_per_shift:g} false alarms in {hours:g} h of {format_count(n_streams, 'stream')} "
            f"with {windows_per_hour:g} windows an hour: a window counts below "
            f"p = {thresholds.p_threshold:.2g}, and {k} of {n} of them alarm"
        )
        return cls(thresholds, k, n, text)


@dataclass(frozen=True, slots=True)
class Advice:
    """What is advised for a run.

    Parameters
    ----------
    windows : tuple of WindowAdvice
        One for each size that was looked at.
    best : WindowAdvice or None
        That with which most faults are seen, and soonest; None if the run allows none.
    penalties : tuple of PenaltyAdvice
        For a single kernel with windows of that size.
    detections : tuple of DetectionTime
        Of each fault.
    faults : str
        Where the faults come from, in words.
    constant : tuple of str
        Features that were left out, because they are constant.
    untried : tuple of float
        Possible sizes of windows with which no fault was tried, because that would take long.
    """

    windows: tuple[WindowAdvice, ...]
    best: WindowAdvice | None
    penalties: tuple[PenaltyAdvice, ...]
    detections: tuple[DetectionTime, ...]
    faults: str
    constant: tuple[str, ...]
    untried: tuple[float, ...] = ()


def advise(
    x: FloatArray,
    names: Sequence[str],
    *,
    wanted: Sequence[float],
    cut: WindowCut,
    budget: Budget,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Advice:
    """Say what a run allows.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of the run, as `refuse_run` accepts them.
    names : sequence of str
        Features.
    wanted : sequence of float
        Sizes of windows that are wanted; the usual ones if empty.
    cut : WindowCut
        What closes the windows.
    budget : Budget
        What windows are held to.
    seed : int
        Seed of all that is drawn.
    progress : callable
        Told the windows done and the total.

    Returns
    -------
    Advice
    """
    constant = constant_features(x, names)
    kept = [k for k, name in enumerate(names) if name not in constant]
    usable = x[:, kept]
    usable_names = [names[k] for k in kept]
    sizes = wanted or [size for size in USUAL_WINDOWS if size <= max(USUAL_WINDOWS[0], len(x) / 4)]
    windows = tuple(
        advise_window(len(x), size, cut, budget.thresholds.p_threshold) for size in sorted(set(sizes))
    )
    possible = [one for one in windows if one.light is not Light.RED]
    borne = [one for one in possible if one.light is Light.GREEN] or possible
    if not borne:
        return Advice(windows, None, (), (), "", tuple(constant))
    rng = np.random.default_rng(seed)
    run, faults, told = _choose_faults(usable, usable_names, possible[-1], seed)
    tried = _choose_tried(possible, borne)
    detections: list[DetectionTime] = []
    for place, one in enumerate(tried):
        detections += time_to_detect(
            run,
            usable_names,
            faults,
            n_reference=min(one.n_reference, len(run) // 2),
            n_expected=one.n_expected,
            p_threshold=budget.thresholds.p_threshold,
            drift_limit=budget.thresholds.drift_limit,
            k=budget.k,
            n=budget.n,
            rng=rng,
            progress=lambda done, total, place=place: progress(  # type: ignore[misc]
                place * total + done, len(tried) * total
            ),
        )
    best = max((one for one in tried if one in borne), key=lambda one: _merit(one, detections))
    penalties = advise_penalties(usable, best.n_reference, best.n_expected, rng)
    untried = tuple(one.n_expected for one in possible if one not in tried)
    return Advice(windows, best, tuple(penalties), tuple(detections), told, tuple(constant), untried)


def _choose_tried(possible: Sequence[WindowAdvice], borne: Sequence[WindowAdvice]) -> list[WindowAdvice]:
    """Choose the sizes with which faults are tried: all that are possible, if there is time for them."""
    leading = [borne[(len(borne) - 1) // 2], borne[-1]]
    chosen: list[WindowAdvice] = []
    work = 0
    for one in (*leading, *borne, *possible):
        work += WORK_OF_SIZE + one.n_reference if one not in chosen else 0
        if one not in chosen and (len(chosen) < TRIED_AT_LEAST or work <= MOST_WORK):
            chosen.append(one)
    return [one for one in possible if one in chosen]


def _merit(window: WindowAdvice, detections: Sequence[DetectionTime]) -> tuple[int, float]:
    """Tell how many faults are seen with windows of a size, and how soon."""
    seen = [one for one in detections if one.n_expected == window.n_expected and one.cause]
    return len(seen), -sum(math.log(one.n_windows * one.n_expected) for one in seen)


def _choose_faults(
    x: FloatArray, names: Sequence[str], largest: WindowAdvice, seed: int
) -> tuple[FloatArray, Faults, str]:
    """Use simulated chambers for a run of a chamber, and otherwise faults made from the run itself."""
    if not set(names) >= SIMULATED_FEATURES:
        return x, generic_faults(x, names), "faults made of the run itself"
    try:
        n_run = min(len(x), LONGEST_SIMULATED)
        run = _simulate(names, n_run, {}, seed)
        n_fault = max(2000, round(3 * largest.n_expected))
        samples = {
            name: _simulate(names, n_fault, conditions, seed + 1)
            for name, conditions in SIMULATED_FAULTS.items()
        }
    except KeyError:  # a feature that the simulation does not have
        return x, generic_faults(x, names), "faults made of the run itself"
    faults = {name: _draw(sample) for name, sample in samples.items()}
    return run, faults, f"faults of simulated chambers, with a simulated run of {n_run} events"


def _draw(sample: FloatArray) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    return lambda x, rng: sample[rng.choice(len(sample), size=len(x), replace=False)]


def _simulate(names: Sequence[str], n_events: int, conditions: dict[str, object], seed: int) -> FloatArray:
    """Simulate events of a chamber; raises `KeyError` for a feature that it does not have."""
    options = {"chambers": [0], "rate_hz": 1000.0, "seed": seed, "conditions": conditions}
    parts: list[FloatArray] = []
    for batch in open_source("simulate", options):
        columns = {name: batch.x[:, k] for k, name in enumerate(batch.names)}
        parts.append(np.column_stack([columns[name] for name in names]))
        if sum(map(len, parts)) >= n_events:
            break
    return np.concatenate(parts)[:n_events]
