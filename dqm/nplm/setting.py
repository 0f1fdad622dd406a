"""The tests that `SeveralTest` combines: which kernels and plain tests a reference gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.feature_kind import FeatureKind, FeatureView, views_of
from dqm.nplm.plain_test import OrderTest, SettingTest, SharesTest
from dqm.nplm.samples import Sample, standardisation
from dqm.nplm.score import Score, quantiles_of_distances

__all__ = [
    "ScaledReference",
    "ScaledSample",
    "Setting",
    "choose_kernels",
    "choose_views",
    "make_plain",
    "make_score",
    "weigh_kernels",
]

SMOOTH_PENALTY = 2e-3
"""With this penalty, or a larger one, a kernel has few functions and sees little but means."""

SMOOTH_CENTERS = 100
"""Most centres of such a kernel; more do not change its T (correlation 0.9997 with 12 features)."""

LADDER = (
    (0.05, 1e-8, False),
    (0.5, 1e-4, False),
    (0.01, 1e-4, True),
    (0.05, 1e-8, True),
    (0.9, SMOOTH_PENALTY, False),
    (0.9, 1e-2, False),
)
"""Kernels of all features: the width, as a quantile of the distances between two reference events, the
penalty, and whether the features are decorrelated first. For changes of shape, for shifts, for spikes, for
what departs across a correlation, for the mean of a feature, and for the means of all of them together. They
were chosen on simulated chambers, see ``tests/studies/several_settings.py``, and the last two on normal
features, see ``tests/studies/smooth_changes.py``."""

LADDER_OF_ONE = (
    (0.05, 1e-6, False),
    (0.25, 1e-3, False),
    (0.25, 1e-6, False),
    (0.5, 1e-6, False),
    (0.9, SMOOTH_PENALTY, False),
)
"""The same for a single feature, which cannot be decorrelated: for spikes, for peaks among many events of the
reference and among few, for peaks far in its tail, and for its mean. They were chosen on exponential
distributions, see ``tests/studies/published_signals.py``, the last one as above."""

LEAST_RIDGE = 0.05
"""Smallest penalty of these, times the events of the reference: with a smaller one, single events far from
those of a small reference decide. It does not raise a penalty beyond `LARGEST_RAISED`."""

LARGEST_RAISED = 0.5 * SMOOTH_PENALTY
"""A kernel for peaks stays one, however small the reference is."""

FEATURE_QUANTILES = (0.05, 0.5)
"""Widths of the kernels of one feature, likewise."""

FEATURE_PENALTY = 1e-4
"""Their penalty. With a weak one a single event far from all others decides."""

FEATURE_CENTERS = 100
"""Most centres of the kernels of one feature."""

LEAST_VARIANCE = 1e-6
"""Variance of a combination of standardised features below which it adds nothing to the others."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the tests.

    Parameters
    ----------
    test : {"kernel", "order", "share", "shares", "pulls"}
        A kernel, or a plain test of one feature: Kolmogorov-Smirnov, the share of the value that departs
        most, or the shares of all values. Or the distances between fitted nuisance parameters and their
        measurements.
    feature : int or None
        Column that it looks at; None for all.
    width, penalty : float
        Sigma of a kernel, in standard deviations of the reference, and its lambda in Falkon's normalisation.
    is_decorrelated : bool
        Whether the kernel is of all features without their linear correlation.
    """

    test: SettingTest
    feature: int | None = None
    width: float = math.nan
    penalty: float = math.nan
    is_decorrelated: bool = False

    @property
    def is_smooth(self) -> bool:
        """Whether it sees little but means, and has few centres."""
        return self.penalty >= SMOOTH_PENALTY

    @property
    def functions(self) -> tuple[int | None, bool, float, bool]:
        """What the functions of a kernel depend on: two that differ in the penalty alone share their sums."""
        return self.feature, self.is_decorrelated, self.width, self.is_smooth


@dataclass(frozen=True)
class ScaledReference:
    """A reference and its centres, in the coordinates of the tests.

    Parameters
    ----------
    views : list of FeatureView
        One for each feature.
    reference, centers : ndarray, shapes (n_reference, d), (m, d)
        Raw.
    shares : ndarray, shape (n_reference,)
        Weights of the reference rows, which sum to 1.
    n_events : float
        Events that these rows stand for.
    """

    views: list[FeatureView]
    reference: FloatArray
    centers: FloatArray
    shares: FloatArray
    n_events: float

    @property
    def ordered(self) -> list[int]:
        """Features that have their own kernels; a single one has the kernels of all features."""
        return [k for k, view in enumerate(self.views) if view.kind.is_ordered and len(self.views) > 1]

    @cached_property
    def axes(self) -> FloatArray:
        """Columns that make the lines of the features uncorrelated, of variance 1."""
        lines = self.lines(self.reference)
        variances, axes = np.linalg.eigh(lines.T @ (self.shares[:, None] * lines))
        kept = variances > LEAST_VARIANCE
        found: FloatArray = axes[:, kept] / np.sqrt(variances[kept])
        return found

    def lines(self, x: FloatArray) -> FloatArray:
        """Give the coordinates of events on the lines of all ordered features."""
        lines = [view.line(c) for view, c in zip(self.views, x.T, strict=True) if view.kind.is_ordered]
        return np.column_stack(lines) if lines else np.empty((len(x), 0))


class ScaledSample:
    """Some events in the coordinates of the kernels; what several settings share is computed once.

    Parameters
    ----------
    seen : ScaledReference
        Of the reference.
    x : ndarray, shape (n, d)
        The events, raw.
    """

    def __init__(self, seen: ScaledReference, x: FloatArray) -> None:
        self._seen = seen
        self._x = x
        self._blocks = [view.columns(column) for view, column in zip(seen.views, x.T, strict=True)]

    def at(self, setting: Setting) -> FloatArray:
        """Give the coordinates that a setting takes, shape (n, k)."""
        if setting.feature is not None:
            return self._blocks[setting.feature]
        return self._decorrelated if setting.is_decorrelated else self._everything

    @cached_property
    def _everything(self) -> FloatArray:
        return np.hstack(self._blocks)

    @cached_property
    def _decorrelated(self) -> FloatArray:
        pairs = zip(self._seen.views, self._blocks, strict=True)
        others = [block[:, 1:] if view.kind.is_ordered else block for view, block in pairs]
        return np.hstack([self._seen.lines(self._x) @ self._seen.axes, *others])


def choose_views(kinds: Sequence[str], sample: Sample, shares: FloatArray) -> list[FeatureView]:
    """Make the view of each feature; raises `InputError` for a kind that cannot be.

    Parameters
    ----------
    kinds : sequence of str
        What each feature is, see `FeatureKind.parse`; empty if all are smooth.
    sample : Sample
        The reference.
    shares : ndarray, shape (n_reference,)
        Weights of its rows, which sum to 1.
    """
    events = sample.x
    n_features = events.shape[1]
    if kinds and len(kinds) != n_features:
        raise InputError(
            f"{format_count(len(kinds), 'kind')} for {format_count(n_features, 'feature')}",
            where="kinds",
            fix="Give one for each feature",
        )
    parsed = [FeatureKind.parse(kind) for kind in kinds] or [FeatureKind()] * n_features
    if sample.counts is not None and not all(kind.is_plain for kind in parsed):
        raise InputError(
            "a kind of a feature with counted rows", where="kinds", fix="Leave it out: bins are numbers"
        )
    standardisation(events, shares, [kind.is_ordered for kind in parsed])
    return views_of(parsed, events, shares)


def choose_kernels(
    seen: ScaledReference,
    *,
    width: float | Sequence[float] | None = None,
    penalty: float | Sequence[float] | None = None,
    is_decorrelated: Sequence[float] | None = None,
    feature_width: Sequence[float] | None = None,
) -> list[Setting]:
    """Choose the kernels of a reference; what is not given is that of `LADDER`, or `LADDER_OF_ONE`.

    Parameters
    ----------
    seen : ScaledReference
        The reference.
    width, penalty, is_decorrelated, feature_width
        As in `SeveralTest`.

    Raises
    ------
    InputError
        If a number is not above 0, or there are not as many as there should be.
    """
    quantiles, usual, usually = zip(*_ladder(seen), strict=True)
    flags = tuple(map(bool, usually if is_decorrelated is None and width is None else is_decorrelated or ()))
    if width is None:
        scaled = ScaledSample(seen, seen.reference)
        widths = tuple(
            quantiles_of_distances(
                scaled.at(Setting("kernel", is_decorrelated=flag)), seen.shares, (quantile,)
            )[0]
            for quantile, flag in zip(quantiles, flags, strict=True)
        )
        penalties = usual if penalty is None else _positive(penalty, "penalty")
    else:
        widths = _positive(width, "width")
        penalties = _positive(FEATURE_PENALTY if penalty is None else penalty, "penalty")
    columns = (
        widths,
        _for_each(penalties, len(widths), "penalties"),
        _for_each(flags or (False,), len(widths), "is_decorrelated"),
    )
    chosen = [Setting("kernel", None, wide, p, bool(flag)) for wide, p, flag in zip(*columns, strict=True)]
    if width is None:  # of a small reference, or of categories alone, some are the same
        chosen = list(dict.fromkeys(chosen))
    n_each = len(FEATURE_QUANTILES)
    if feature_width is not None:
        n = len(seen.ordered)
        n_each, left = divmod(len(feature_width), max(1, n))
        if left or (feature_width and not n):
            raise InputError(
                f"{format_count(len(feature_width), 'width')} for {format_count(n, 'feature')}",
                where="feature_width",
                fix="Give the same number for each feature",
            )
    for place, feature in enumerate(seen.ordered):
        if feature_width is None:
            line = seen.views[feature].columns(seen.reference[:, feature])
            found = quantiles_of_distances(line, seen.shares, FEATURE_QUANTILES)
        else:
            found = _positive(feature_width[place * n_each : (place + 1) * n_each], "feature_width")
        chosen += [Setting("kernel", feature, wide, FEATURE_PENALTY) for wide in found]
    return chosen


def _ladder(seen: ScaledReference) -> tuple[tuple[float, float, bool], ...]:
    if len(seen.views) > 1:
        return LADDER
    least = min(LEAST_RIDGE / seen.n_events, LARGEST_RAISED)
    return tuple((quantile, max(penalty, least), flag) for quantile, penalty, flag in LADDER_OF_ONE)


def make_score(
    kind: type[Score], seen: ScaledReference, reference: ScaledSample, centers: ScaledSample, setting: Setting
) -> Score:
    """Prepare the kernel of a setting.

    Parameters
    ----------
    kind : type
        `Score`, or one that is prepared for less.
    seen : ScaledReference
        The reference.
    reference, centers : ScaledSample
        Of its events and centres.
    setting : Setting
        The kernel.
    """
    at = centers.at(setting)
    if setting.feature is not None:
        at = seen.views[setting.feature].columns(_spread(seen.centers[:, setting.feature]))
    elif setting.is_smooth:
        at = at[:SMOOTH_CENTERS]
    return kind(
        reference.at(setting),
        seen.shares,
        at,
        width=setting.width,
        penalty=setting.penalty,
        n_reference=seen.n_events,
    )


def make_plain(seen: ScaledReference) -> list[tuple[int, OrderTest | SharesTest]]:
    """Prepare the plain tests, each with its feature.

    Kernels of a single smooth feature are sensitive to the same departures.
    """
    made: list[tuple[int, OrderTest | SharesTest]] = []
    for feature, view in enumerate(seen.views):
        values = seen.reference[:, feature]
        if view.kind.is_ordered and not view.kind.is_plain:
            made.append((feature, OrderTest(view, values, seen.shares)))
        if view.kind.has_classes:
            made.append((feature, SharesTest(view, values, seen.shares)))
    return made


def weigh_kernels(settings: Sequence[Setting], n_features: int) -> list[float]:
    """Give what is added to the log p of each kernel: its share of the smallest p in healthy windows.

    The kernels of single features together weigh as much as a few of all features. Kernels of all features
    with the weakest penalty and smooth ones count twice: they find what others do not.
    """
    weakest = min((one.penalty for one in settings if one.feature is None), default=0.0)

    def weigh(one: Setting) -> float:
        if one.feature is not None:
            return math.log(n_features)
        return 0.0 if one.penalty == weakest or one.is_smooth else math.log(2.0)

    return [weigh(one) for one in settings]


def _positive(values: float | Sequence[float], what: str) -> tuple[float, ...]:
    """Check one number or several; raises `InputError` for one that is not above 0."""
    try:
        found = (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is {values!r}", fix="Give finite numbers above 0") from error
    for value in found:
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{what} is {value}", fix="Give finite numbers above 0")
    return found


def _for_each(values: tuple[float, ...], n: int, what: str) -> tuple[float, ...]:
    """Give one value for each of n widths, of as many or of one for all."""
    if len(values) == 1:
        return values * n
    if len(values) != n:
        raise InputError(
            f"{format_count(n, 'width')} and {len(values)} {what}", fix="Give one for each, or one for all"
        )
    return values


def _spread(values: FloatArray) -> FloatArray:
    """Choose a few distinct values, evenly over their ranks."""
    distinct = np.unique(values)
    n = min(FEATURE_CENTERS, len(distinct))
    chosen: FloatArray = distinct[np.linspace(0, len(distinct) - 1, n).round().astype(int)]
    return chosen
