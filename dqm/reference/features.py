"""What the features of a run are like, told before a bundle is built."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

__all__ = ["describe_features", "refuse_useless"]

HEAVY = 15.0
"""Largest distance from the median, in half widths of the middle 68 %, of a feature without heavy tails."""

PILE = 0.02
"""Share of the events with one value above which the value is worth a word."""

FEW_VALUES = 30
"""Distinct values below which a feature may be a category."""

CORRELATED = 0.98

FEWEST_DISTINCT = 10
"""Distinct events that a reference must have."""


def refuse_useless(reference: FloatArray, names: Sequence[str]) -> None:
    """Refuse a reference that no test can use; raises `InputError`, which names the features."""
    spread, size = reference.std(axis=0), np.maximum(1.0, np.abs(reference.mean(axis=0)))
    constant = [name for name, flat in zip(names, spread <= 1e-12 * size, strict=True) if flat]
    if constant:
        raise InputError(
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are'} constant in the reference of "
            f"{len(reference)} events",
            fix="Choose other features: a constant cannot be standardised and carries no information",
        )
    n_distinct = len(np.unique(reference, axis=0))
    if n_distinct < FEWEST_DISTINCT:
        raise InputError(
            f"the reference has {format_count(n_distinct, 'distinct event')} among {len(reference)}",
            fix=f"Give events of which {FEWEST_DISTINCT} or more are distinct",
        )


def describe_features(x: FloatArray, names: Sequence[str], statistic: str) -> list[str]:
    """Say what is unusual in the features of a run.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events, raw.
    names : sequence of str
        Names of the features.
    statistic : str
        The test that will be built.

    Returns
    -------
    list of str
        One sentence each; empty if nothing is unusual.
    """
    found = []
    advice = "" if statistic == "several" else ": --statistic several looks at each feature by itself, too"
    for column, name in zip(x.T, names, strict=True):
        found += [f"{name} {what}{advice}" for what in _describe(column)]
    n_repeated = len(x) - len(np.unique(x, axis=0))
    if n_repeated > PILE * len(x):
        found.append(f"{n_repeated} of {len(x)} events are copies of others")
    return found + _describe_pairs(x, names)


def _describe(column: FloatArray) -> list[str]:
    values, counts = np.unique(column, return_counts=True)
    if len(values) == 1:  # refused later
        return []
    low, middle, high = np.quantile(column, [0.16, 0.5, 0.84])
    steps = np.diff(values) / np.diff(values).min()
    is_even = len(values) < len(column) / 10 and bool(np.all(np.abs(steps - np.round(steps)) < 1e-3))
    found = []
    if is_even and len(values) <= FEW_VALUES:
        found.append(f"has {len(values)} values only, in equal steps")
    elif is_even:
        found.append(f"comes in steps of {np.diff(values).min():.4g} ({len(values)} values)")
    elif counts.max() > PILE * len(column):
        share = 100 * counts.max() / len(column)
        found.append(f"is {values[counts.argmax()]:g} in {share:.0f} % of the events")
    half_width = 0.5 * (high - low)
    farthest = float(np.abs(column - middle).max())
    if half_width > 0 and farthest > HEAVY * half_width:
        found.append(
            f"has heavy tails: its farthest value is {farthest / half_width:.0f} half widths from the median"
        )
    return found


def _describe_pairs(x: FloatArray, names: Sequence[str]) -> list[str]:
    with np.errstate(divide="ignore", invalid="ignore"):  # of a constant, which is refused later
        correlation: FloatArray = np.reshape(np.corrcoef(x, rowvar=False), (len(names), len(names)))
    return [
        f"{names[i]} and {names[j]} say the same (correlation {correlation[i, j]:.3f}): one of them is enough"
        for i, j in combinations(range(len(names)), 2)
        if abs(correlation[i, j]) > CORRELATED
    ]
