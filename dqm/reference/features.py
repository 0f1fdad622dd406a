"""What the features of a run are like, and how the test uses each; chosen before a bundle is built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm import KINDS, FeatureKind
from dqm.nplm.samples import describe_scale, is_constant
from dqm.reference.manifest import check_names

__all__ = [
    "ChosenKind",
    "choose_kinds",
    "constant_features",
    "describe_features",
    "describe_sample",
    "refuse_scales",
    "refuse_useless",
]

HEAVY = 15.0
"""Largest distance from the median, in half widths of the middle 68 %, of a feature without heavy tails."""

PILE = 0.02
"""Share of the events with one value above which the value is mentioned."""

SENTINEL_SHARE = 0.002
"""The same for a value far from all others, which is not a number but a message."""

SENTINEL_EVENTS = 5
"""Fewest events of such a value."""

RARE = 0.01
"""Share of the events with any other value than the usual one, below which a feature is almost constant:
a reference of the same run may be constant."""

MOST_SPECIAL = 4
"""Most special values of a feature."""

MOST_STEPS = 256
"""Distinct values in equal steps of a feature whose values have shares."""

FEW_VALUES = 30
"""Distinct values below which steps need not be equal."""

CORRELATED = 0.98

FAR_SCALES = 1e4
"""Ratio of the spreads of two features above which it is mentioned."""

FEWEST_DISTINCT = 10
"""Distinct events that a reference must have."""

NAMES_OF_THINGS = frozenset({
    "board", "card", "chamber", "channel", "crate", "id", "layer", "link", "module", "sector", "slot",
    "station", "superlayer", "type", "wire",
})  # fmt: skip
"""Last words of the names of features that number things."""


@dataclass(frozen=True, slots=True)
class ChosenKind:
    """The kind of one feature, and why.

    Parameters
    ----------
    feature : str
        Its name.
    kind : FeatureKind
        What it is.
    found : str
        What is unusual about it; empty if nothing is.
    """

    feature: str
    kind: FeatureKind
    found: str

    def __str__(self) -> str:
        """Say it in one line."""
        special = ", ".join(f"{value:g}" for value in self.kind.special)
        rest = f"{special} as a category beside the rest, the rest as " if special else ""
        hint = ""
        if self.kind.name == "steps":
            hint = f"; if these are names: --feature {self.feature}=categories"
        return f"{self.feature} {self.found}: taken as {self.kind} ({rest}{KINDS[self.kind.name]}){hint}"


def constant_features(x: FloatArray, names: Sequence[str]) -> list[str]:
    """Name the features that have one value only, within rounding; raises as `refuse_scales`."""
    refuse_scales(x, names)
    return [name for name, flat in zip(names, is_constant(x), strict=True) if flat]


def refuse_scales(x: FloatArray, names: Sequence[str], where: str | None = None) -> None:
    """Refuse a feature whose variance float64 cannot hold; raises `InputError`, which names it.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events, raw, at least one.
    names : sequence of str
        Names of the features.
    where : str, optional
        Their file, for the message.
    """
    for name, column in zip(names, x.T, strict=True):
        what, limit = describe_scale(column)
        if what:
            largest = float(np.abs(column).max())
            power = 10.0 ** -max(-300.0, min(300.0, math.floor(math.log10(largest))))
            choice = f'columns={{"{name}" = {{column = "{name}", scale = {power:g}}}}}'
            raise InputError(
                f"{name} {what}", where=where, fix=f"Rescale it, as by --read '{choice}': {limit}"
            )


def refuse_useless(
    reference: FloatArray, names: Sequence[str], kinds: Mapping[str, FeatureKind] | None = None
) -> None:
    """Refuse a reference that no test can use; raises `InputError`, which names the features.

    A test that uses kinds may have constant features, but not only constant ones.
    """
    constant = constant_features(reference, names)
    allowed = set() if kinds is None else {name for name in constant if kinds[name].name == "categories"}
    if len(allowed) == len(names):
        allowed = set()
    refused = [name for name in constant if name not in allowed]
    if refused:
        if kinds is None:
            several = "The statistic several takes constants beside other features, and sees any other value"
        elif len(constant) == len(names):
            several = "Beside a feature that varies, constants are taken: any other value is told"
        else:
            several = (
                f"Or take it as categories, where any other value is told: --feature {refused[0]}=categories"
            )
        raise InputError(
            f"{', '.join(refused)} {'is' if len(refused) == 1 else 'are'} constant in the reference of "
            f"{len(reference)} events",
            fix=f"Choose other features: a constant cannot be standardised. {several}",
        )
    n_distinct = len(np.unique(reference, axis=0))
    if n_distinct < FEWEST_DISTINCT:
        raise InputError(
            f"the reference has {format_count(n_distinct, 'distinct event')} among {len(reference)}",
            fix=f"Give events of which {FEWEST_DISTINCT} or more are distinct, or a larger reference; "
            "'dqm reference advise' shows what a run allows",
        )


def choose_kinds(
    x: FloatArray, names: Sequence[str], given: Mapping[str, str] | None = None
) -> tuple[ChosenKind, ...]:
    """Look at each feature and choose its kind.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events, raw.
    names : sequence of str
        Names of the features.
    given : mapping of str to str, optional
        Kinds that the user gives for some of them, as `FeatureKind.parse` reads them.

    Raises
    ------
    InputError
        If a name or a kind that is given does not exist.
    """
    given = given or {}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(
            f"no feature {unknown[0]!r} among these events", fix=f"Choose from {', '.join(names)}"
        )
    check_names(names)
    chosen = []
    for column, name in zip(x.T, names, strict=True):
        kind, found = _look(column, name)
        if name in given:
            try:
                kind = FeatureKind.parse(given[name])
            except InputError as error:
                raise InputError(error.what, where=f"feature {name}", fix=error.fix) from error
            found = f"is given{_doubt_classes(column, kind)}"
        chosen.append(ChosenKind(name, kind, found))
    return tuple(chosen)


def describe_features(
    x: FloatArray, names: Sequence[str], statistic: str, given: Mapping[str, str] | None = None
) -> list[str]:
    """Say what is unusual in the features of a run, and how the test treats it.

    Parameters
    ----------
    x, names, given
        As in `choose_kinds`.
    statistic : str
        The test that will be built.

    Returns
    -------
    list of str
        One sentence each; empty if nothing is unusual.

    Raises
    ------
    InputError
        As `choose_kinds`.
    """
    unusual = [one for one in choose_kinds(x, names, given) if one.found]
    if statistic == "several":
        found = [str(one) for one in unusual]
    else:
        advice = f"the statistic {statistic} takes it as it is, 'several' would not"
        constant = constant_features(x, names)
        found = [
            f"{one.feature} is constant: 'several' would see any other value"
            if one.feature in constant
            else f"{one.feature} {one.found}: {advice}"
            for one in unusual
        ]
    return [*found, *_describe_scales(x, names), *describe_sample(x, names)]


def describe_sample(x: FloatArray, names: Sequence[str]) -> list[str]:
    """Say what is unusual about all features together and cannot be repaired by a test: copies, and doubles.

    Parameters
    ----------
    x, names
        As in `choose_kinds`.

    Returns
    -------
    list of str
        One sentence each; empty if nothing is unusual.
    """
    found = []
    n_repeated = len(x) - len(np.unique(x, axis=0))
    if n_repeated > PILE * len(x) and not _must_repeat(x):
        found.append(
            f"{n_repeated} of {len(x)} events are copies of others: if the file was written twice, leave the "
            "copies out, or the reference is smaller than it seems"
        )
    return found + _describe_pairs(x, names)


def _must_repeat(x: FloatArray) -> bool:
    """Tell whether events are equal because features have few values: there are fewer combinations."""
    n_values = [len(np.unique(column)) for column in x.T]
    return max(n_values) <= _most_values(len(x)) and math.prod(n_values) < len(x)


def _describe_scales(x: FloatArray, names: Sequence[str]) -> list[str]:
    spreads = {name: float(spread) for name, spread in zip(names, x.std(axis=0), strict=True) if spread > 0}
    if not spreads or max(spreads.values()) <= FAR_SCALES * min(spreads.values()):
        return []
    wide, narrow = max(spreads, key=spreads.__getitem__), min(spreads, key=spreads.__getitem__)
    return [
        f"{wide} and {narrow} have scales of {spreads[wide]:.2g} and {spreads[narrow]:.2g}: each feature is "
        "taken in units of its own spread"
    ]


def _look(column: FloatArray, name: str) -> tuple[FeatureKind, str]:
    """Choose the kind of a feature; also say what is unusual."""
    values, numbers = np.unique(column, return_counts=True)
    counts = numbers.astype(np.float64)
    if len(values) == 1:
        return FeatureKind("categories"), f"is always {values[0]:g}; any other value is told"
    usual = int(counts.argmax())
    if (n_others := len(column) - int(counts[usual])) < RARE * len(column):
        share = f"{format_count(n_others, 'event')} of {len(column)}"
        return FeatureKind("categories"), f"is {values[usual]:g} except in {share}; any other value is told"
    special = _find_special(values, counts)
    is_usual = ~np.isin(values, special)
    rest = values[is_usual]
    n_rest = int(counts[is_usual].sum())
    said = []
    for value in special:
        share = 100 * counts[values == value][0] / len(column)
        said.append(f"is {value:g} in {share:.2g} % of the events")
    if _has_steps(rest, n_rest):
        if not special and _numbers_things(name, rest):
            return FeatureKind("categories"), f"numbers {len(rest)} things by its name"
        step = float(np.diff(rest).min()) if len(rest) > 1 else 0.0
        said.append(f"has {len(rest)} values in steps of {step:.4g}")
        return FeatureKind("steps", special), " and ".join(said)
    line = column[~np.isin(column, special)]
    low, middle, high = np.quantile(line, [0.16, 0.5, 0.84])
    farthest = float(np.abs(line - middle).max())
    half_width = 0.5 * float(high - low)
    if half_width > 0 and farthest > HEAVY * half_width:
        said.append(
            f"has heavy tails, its farthest value {farthest / half_width:.0f} half widths from the median"
        )
        return FeatureKind("heavy", special), " and ".join(said)
    return FeatureKind("smooth", special), " and ".join(said)


def _doubt_classes(column: FloatArray, kind: FeatureKind) -> str:
    """Say that a feature has too many values for a kind that takes each value for itself; or nothing."""
    n_values = len(np.unique(column))
    if kind.name not in ("steps", "categories") or n_values <= _most_values(len(column)):
        return ""
    return (
        f", but has {format_count(n_values, 'value')} in {format_count(len(column), 'event')}, more than "
        f"{_most_values(len(column))}, so most are too rare to be tested (if these are numbers, leave "
        "--feature out)"
    )


def _most_values(n_events: int) -> int:
    """Give the most values that are taken each for itself: each is in ten events on average, or more."""
    return min(MOST_STEPS, n_events // 10)


def _find_special(values: FloatArray, counts: FloatArray) -> tuple[float, ...]:
    """Find values that are messages: far from the rest and repeated, or frequent where others are not."""
    n = int(counts.sum())
    special: list[float] = []
    while len(special) < MOST_SPECIAL and len(values) > 2:
        at = _next_special(values, counts, n)
        if at is None:
            break
        special.append(float(values[at]))
        values, counts = np.delete(values, at), np.delete(counts, at)
    return tuple(sorted(special))


def _next_special(values: FloatArray, counts: FloatArray, n_events: int) -> int | None:
    for end in (0, len(values) - 1):
        is_repeated = counts[end] >= max(SENTINEL_EVENTS, SENTINEL_SHARE * n_events)
        if is_repeated and _is_far(values, end):
            return end
    at = int(counts.argmax())
    is_pile = counts[at] > PILE * n_events
    return at if is_pile and not _has_steps(np.delete(values, at), int(counts.sum() - counts[at])) else None


def _is_far(values: FloatArray, at: int) -> bool:
    """Tell whether an end of the sorted values is farther from the rest than the rest is wide."""
    rest = np.delete(values, at)
    return float(np.abs(rest - values[at]).min()) > float(np.ptp(rest))


def _has_steps(values: FloatArray, n_events: int) -> bool:
    """Tell whether `n_events` events repeat a few values, or values in equal steps."""
    if len(values) < 2:
        return len(values) == 1
    if len(values) > _most_values(n_events):
        return False
    steps = np.diff(values) / np.diff(values).min()
    is_even = bool(np.all(np.abs(steps - np.round(steps)) < 1e-3))
    return is_even or len(values) <= FEW_VALUES


def _numbers_things(name: str, values: FloatArray) -> bool:
    """Tell whether a name says that its integers are numbers of things: wire, not n_wires."""
    words = [word for word in re.split(r"[^A-Za-z]+", name.lower()) if word]
    is_integer = bool(np.all(values == np.round(values)))
    return (
        is_integer and bool(words) and words[-1] in NAMES_OF_THINGS and words[0] not in ("n", "num", "hits")
    )


def _describe_pairs(x: FloatArray, names: Sequence[str]) -> list[str]:
    with np.errstate(divide="ignore", invalid="ignore"):  # of a constant
        correlation: FloatArray = np.reshape(np.corrcoef(x, rowvar=False), (len(names), len(names)))
    return [
        f"{names[i]} and {names[j]} say the same (correlation {correlation[i, j]:.3f}): one of them is enough"
        for i, j in combinations(range(len(names)), 2)
        if abs(correlation[i, j]) > CORRELATED
    ]
