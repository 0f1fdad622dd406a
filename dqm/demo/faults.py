"""Faults for events of any detector: what the demonstration does to a user's own run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dqm.alarm import Cause
from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.reference import choose_kinds, constant_features

__all__ = ["EventFault", "choose_faults"]

SHIFT = 0.5
"""Shift of the feature, in half widths of the middle 68 %."""

SPREAD = 1.5
"""Factor of the spread."""

EXTRA = 0.3
"""Share of events that are added."""

LOST = 0.4
"""Share of events that are lost."""

DEAD = (0.6, 0.8)
"""Quantiles between which a dead range has no events."""

Change = Callable[[FloatArray, np.random.Generator], FloatArray]


@dataclass(frozen=True, slots=True)
class EventFault:
    """A fault, as it changes events.

    Parameters
    ----------
    name : str
        Name of its stream.
    label : str
        What it does, for people.
    cause : Cause
        Alarm that must see it.
    change : callable
        Makes faulty events, shape (m, d), of healthy ones, shape (n, d), and a generator.
    """

    name: str
    label: str
    cause: Cause
    change: Change


def choose_faults(x: FloatArray, names: Sequence[str], *, counts_events: bool) -> list[EventFault]:
    """Choose the faults that make sense for the features of a run.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of the run.
    names : sequence of str
        Features.
    counts_events : bool
        Whether the number of events in a window is tested.

    Returns
    -------
    list of EventFault
        Shift, spread and a dead range of features that are numbers; extra events; lost events if they are
        counted.

    Raises
    ------
    InputError
        If no feature varies as a number does.
    """
    flat = set(constant_features(x, names))
    kinds = {one.feature: one.kind for one in choose_kinds(x, names)}
    numbers = [k for k, name in enumerate(names) if name not in flat and kinds[name].is_plain]
    numbers += [
        k for k, name in enumerate(names) if name not in flat and k not in numbers and kinds[name].is_ordered
    ]
    if not numbers:
        raise InputError("no feature is a number that varies", fix="Name others with --features")
    first, second, third = (numbers[place % len(numbers)] for place in range(3))
    low, middle, high = (np.quantile(x, q, axis=0) for q in (0.16, 0.5, 0.84))
    half = 0.5 * (high - low)
    half = np.where(half > 0, half, x.std(axis=0))
    dead = tuple(float(value) for value in np.quantile(x[:, third], DEAD))
    faults = [
        EventFault(
            "shift",
            f"{names[first]} shifted by {SHIFT * half[first]:.3g}, half of its width",
            Cause.DIFFERS,
            _shift(first, SHIFT * float(half[first])),
        ),
        EventFault(
            "spread",
            f"{names[second]} spread by {SPREAD - 1:.0%} about {middle[second]:.3g}",
            Cause.DIFFERS,
            _spread(second, SPREAD, float(middle[second])),
        ),
        EventFault(
            "dead-range",
            f"no events with {names[third]} from {dead[0]:.3g} to {dead[1]:.3g}",
            Cause.DIFFERS,
            _kill(third, dead[0], dead[1]),
        ),
        EventFault(
            "extra",
            f"{EXTRA:.0%} extra events, whose features have nothing to do with each other",
            Cause.DIFFERS,
            _add(EXTRA),
        ),
    ]
    if counts_events:
        faults.append(EventFault("missing", f"{LOST:.0%} of the events lost", Cause.RATE, _lose(LOST)))
    return faults


def _shift(k: int, by: float) -> Change:
    def change(x: FloatArray, _rng: np.random.Generator) -> FloatArray:
        moved = x.copy()
        moved[:, k] += by
        return moved

    return change


def _spread(k: int, by: float, middle: float) -> Change:
    def change(x: FloatArray, _rng: np.random.Generator) -> FloatArray:
        wider = x.copy()
        wider[:, k] = middle + by * (wider[:, k] - middle)
        return wider

    return change


def _kill(k: int, low: float, high: float) -> Change:
    def change(x: FloatArray, _rng: np.random.Generator) -> FloatArray:
        kept: FloatArray = x[(x[:, k] < low) | (x[:, k] > high)]
        return kept

    return change


def _add(share: float) -> Change:
    def change(x: FloatArray, rng: np.random.Generator) -> FloatArray:
        n = round(share * len(x))
        noise = np.column_stack([rng.choice(x[:, k], n) for k in range(x.shape[1])])
        if x.shape[1] == 1:  # with one feature there is no dependence to break
            noise = rng.uniform(x.min(), x.max(), (n, 1))
        return np.concatenate([x, noise])

    return change


def _lose(share: float) -> Change:
    def change(x: FloatArray, rng: np.random.Generator) -> FloatArray:
        kept: FloatArray = x[rng.random(len(x)) >= share]
        return kept

    return change
