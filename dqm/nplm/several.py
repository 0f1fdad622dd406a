"""Several kernels, one statistic: what needs no choice of a width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.kernel_test import KernelTest
from dqm.nplm.nuisance import Nuisance
from dqm.nplm.prepared import check_device
from dqm.nplm.result import KernelResult
from dqm.nplm.samples import Sample, check_windows, choose_centers, reference_shares, standardisation
from dqm.nplm.score import FEATURE_CENTERS, Score, Setting, choose_settings

__all__ = ["SeveralResult", "SeveralTest"]

FIT_PENALTY = 1e-6
"""Penalty of the fit that makes the maps."""

TUNING_TOYS = 200
"""Healthy windows that show how the settings come out."""

MOST_WINDOWS_PER_SPLIT = 10
"""Most of them that share a reference."""

RULES = ("smallest", "product", "mean")
"""How the p of the settings are combined."""


@dataclass(frozen=True)
class SeveralResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        Combined statistic: -2 log of the smallest p of the settings, of their product, or of their mean.
        These p are approximate; toys tell what t is worth.
    log_p : ndarray, shape (n_settings,)
        Logarithm of the approximate p of each setting.
    n_outside : int
        As in `KernelResult`.
    """

    t: float
    log_p: FloatArray
    n_outside: int
    _test: SeveralTest
    _sample: Sample

    converged = True
    """One step always ends."""

    delta = 0.0

    @property
    def tau(self) -> float:
        """Equal to `t`: there are no nuisance parameters."""
        return self.t

    @property
    def nuisances(self) -> Mapping[str, NuisanceResult]:
        """Empty: there are no nuisance parameters."""
        return {}

    @property
    def place(self) -> int:
        """Number of the setting with the smallest p: the one that saw it."""
        return int(self.log_p.argmin())

    @property
    def seen_by(self) -> Setting:
        """The setting with the smallest p."""
        return self._test.settings[self.place]

    @cached_property
    def fitted(self) -> KernelResult:
        """The window fitted to convergence with the setting that saw it; for maps."""
        return self.fitted_with(self.place)

    def fitted_with(self, place: int) -> KernelResult:
        """Fit the window to convergence with one of the settings."""
        return self._test.fit(self._sample, place)


class SeveralTest:
    """Tests of several kernels together: wide and narrow, of all features and of each feature by itself.

    Each setting has the statistic of one Newton step, see `dqm.nplm.score`, and an approximate p. The
    smallest of them, or their product or mean, makes t. p follows from toys that all settings are tested on,
    so it accounts for their number and for what they have in common.

    Parameters
    ----------
    reference, n_expected, centers, weights, counts, rng, device
        As in `KernelTest`.
    width : float or sequence of float, optional
        Widths of the kernels of all features, in standard deviations; by default quantiles of the distances
        between reference events.
    feature_width : sequence of float, optional
        Widths of the kernels of single features, in the unit of each: all of the first feature, then all of
        the second, and so on, the same number of each. By default quantiles of the distances; empty for none.
    mean_ratio, variance_ratio : sequence of float, optional
        Mean and variance of each setting's statistic in healthy windows, see `tune`; 1 by default.
    rule : {"smallest", "product", "mean"}
        How the p of the settings are combined.
    nuisances : sequence
        Must be empty.
    few_windows : bool
        Of no effect: nothing here is for many windows.

    Raises
    ------
    InputError
        As in `KernelTest`; also with nuisance parameters.

    References
    ----------
    Grosso et al. (2024), arXiv:2408.12296.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import SeveralTest
    >>> rng = numpy.random.default_rng(1)
    >>> reference = rng.normal(size=(1000, 2))
    >>> test = SeveralTest(reference, n_expected=200, centers=100, rng=rng)
    >>> healthy = test.evaluate(rng.normal(size=(200, 2)))
    >>> faulty = test.evaluate(rng.normal(size=(200, 2)) + [0.5, 0.0])
    >>> healthy.t < faulty.t
    True
    >>> 0 < faulty.seen_by.width < 3
    True
    """

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        centers: int | ArrayLike,
        width: float | Sequence[float] | None = None,
        feature_width: Sequence[float] | None = None,
        mean_ratio: Sequence[float] | None = None,
        variance_ratio: Sequence[float] | None = None,
        rule: Literal["smallest", "product", "mean"] = "smallest",
        weights: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        nuisances: Sequence[Nuisance] = (),
        few_windows: bool = False,  # noqa: ARG002 - as KernelTest
        device: str = "cpu",
    ) -> None:
        if nuisances:
            raise InputError(
                f"a test of several kernels takes no nuisance parameters, got {len(nuisances)}",
                fix="Build the bundle with --statistic kernel",
            )
        if rule not in RULES:
            raise InputError(f"unknown rule {rule!r}", fix=f"Choose one of {', '.join(RULES)}")
        check_device(device)  # one step is quick everywhere
        self._sample = Sample.check(reference, counts, "reference")
        self._reference = self._sample.x
        self._weights = weights
        self._shares = reference_shares(self._sample, weights)
        self._centers = choose_centers(centers, self._sample, rng)
        self._mean, self._scale = standardisation(self._reference, self._shares)
        self._low, self._high = self._reference.min(axis=0), self._reference.max(axis=0)
        self._middle = np.median(self._reference, axis=0)  # far values must not cost the others precision
        self._rule = rule
        self.settings = self._settings(width, feature_width)
        self._ratios = self._check_ratios(mean_ratio, variance_ratio)
        # all settings of single features together weigh as much as two settings of all features
        self._handicap = np.array(
            [0.0 if one.feature is None else math.log(len(self._mean)) for one in self.settings]
        )
        self._scores = [self._score(setting) for setting in self.settings]
        self._fits: dict[int, KernelTest] = {}
        self._resize(n_expected)

    def at(self, n_expected: float) -> SeveralTest:
        """Give this test for windows of another expected size; as `KernelTest.at`."""
        other = object.__new__(SeveralTest)
        other.__dict__ |= self.__dict__
        other._fits = {}
        other._resize(n_expected)
        return other

    def evaluate(
        self,
        data: ArrayLike,
        *,
        auxiliary: Mapping[str, float] | None = None,
        weights: ArrayLike | None = None,
    ) -> SeveralResult:
        """Test one window.

        Parameters
        ----------
        data : array_like, shape (n_data, d)
            Events of the window in raw features, at least one.
        auxiliary : mapping, optional
            Must be empty: there are no nuisance parameters.
        weights : array_like, shape (n_data,), optional
            Events that each row stands for, >= 0; one each by default.

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference; if a weight
            is negative or not finite, or all are 0.
        """
        if auxiliary:
            raise InputError(f"unknown nuisance parameters: {', '.join(auxiliary)}")
        (sample,) = check_windows([data], [weights], len(self._mean))
        log_p = self._handicap + [
            score.log_p(t, *ratios)
            for score, t, ratios in zip(self._sized, self._statistics(sample), self._ratios, strict=True)
        ]
        return SeveralResult(
            t=_combine(log_p, self._rule),
            log_p=log_p,
            n_outside=sample.count_outside(self._low, self._high),
            _test=self,
            _sample=sample,
        )

    def evaluate_many(
        self,
        windows: Sequence[ArrayLike],
        *,
        auxiliaries: Sequence[Mapping[str, float]] | None = None,
        weights: Sequence[ArrayLike | None] | None = None,
    ) -> list[SeveralResult]:
        """Test several windows, one by one."""
        return [
            self.evaluate(
                window,
                auxiliary=auxiliaries[place] if auxiliaries else None,
                weights=weights[place] if weights else None,
            )
            for place, window in enumerate(windows)
        ]

    @classmethod
    def tune(
        cls,
        events: FloatArray,
        *,
        n_reference: int,
        n_expected: float,
        n_centers: int,
        rng: np.random.Generator,
        counts: FloatArray | None = None,
    ) -> dict[str, tuple[float, ...]]:
        """Choose the settings for a run, and learn how each comes out in healthy windows.

        Parameters
        ----------
        events : ndarray, shape (n_events, d)
            Events of the run, raw, in random order; the first `n_reference` become the reference.
        n_reference, n_centers : int
            Events of the reference, and centres.
        n_expected : float
            Events expected in a window; more than a window is left beside the reference.
        rng : numpy.random.Generator
            Splits the events anew, into references and windows.
        counts : ndarray, shape (n_events,), optional
            Events that each row stands for.

        Returns
        -------
        dict
            Arguments of the test.
        """
        run = Sample(events, counts)
        settings = choose_settings(run.take(slice(n_reference)) if counts is None else run.filled)
        chosen: dict[str, tuple[float, ...]] = {
            "width": tuple(one.width for one in settings if one.feature is None),
            "feature_width": tuple(one.width for one in settings if one.feature is not None),
        }
        n, ratios = round(n_expected), []
        per_split = max(1, min(MOST_WINDOWS_PER_SPLIT, (int(run.n_events) - n_reference) // n))
        for _ in range(math.ceil(TUNING_TOYS / per_split)):
            reference, *windows, _ = run.split([n_reference, *[n] * per_split], rng)
            centers = reference.x[:n_centers]  # in random order
            if counts is not None:
                centers = reference.choose_rows(min(n_centers, len(reference.x)), rng)
            test = cls(
                reference.x,
                counts=reference.counts,
                n_expected=n_expected,
                centers=centers,
                width=chosen["width"],
                feature_width=chosen["feature_width"],
            )
            means = [score.mean for score in test._sized]
            ratios += [test._statistics(window) / means for window in windows]
        relative = np.array([2.0 * score.squares / score.mean**2 for score in test._sized])
        mean, variance = np.mean(ratios, axis=0), np.var(ratios, axis=0) / relative
        return chosen | {"mean_ratio": tuple(mean.tolist()), "variance_ratio": tuple(variance.tolist())}

    def _statistics(self, sample: Sample) -> FloatArray:
        """Give T of each setting."""
        counts = torch.from_numpy(sample.weights)
        return np.array(
            [score.statistic(self._columns(sample.x, score.score.setting), counts) for score in self._sized]
        )

    def _check_ratios(
        self, mean: Sequence[float] | None, variance: Sequence[float] | None
    ) -> list[tuple[float, float]]:
        n = len(self.settings)
        pairs = []
        for name, given in (("mean_ratio", mean), ("variance_ratio", variance)):
            ratios = np.ones(n) if given is None else np.asarray(given, dtype=float)
            if ratios.shape != (n,) or not (np.isfinite(ratios) & (ratios > 0)).all():
                raise InputError(
                    f"{name} has shape {ratios.shape} for {format_count(n, 'setting')}",
                    fix="Give a number above 0 for each, as SeveralTest.tune does",
                )
            pairs.append(ratios.tolist())
        return list(zip(*pairs, strict=True))

    def fit(self, sample: Sample, place: int) -> KernelResult:
        """Fit a window to convergence with one setting (logistic loss).

        Parameters
        ----------
        sample : Sample
            The window.
        place : int
            Number of the setting.
        """
        setting = self.settings[place]
        columns = slice(None) if setting.feature is None else slice(setting.feature, setting.feature + 1)
        if place not in self._fits:
            unit = 1.0 if setting.feature is None else self._scale[setting.feature]
            self._fits[place] = KernelTest(
                self._reference[:, columns],
                n_expected=self.n_expected,
                width=setting.width / unit,
                penalty=FIT_PENALTY,
                centers=self._centers[:, columns],
                weights=self._weights,
                counts=self._sample.counts,
                few_windows=True,
            )
        return self._fits[place].evaluate(sample.x[:, columns], weights=sample.counts)

    def _settings(
        self, width: float | Sequence[float] | None, feature_width: Sequence[float] | None
    ) -> tuple[Setting, ...]:
        """Take the settings that were given, and choose the others."""
        chosen = () if None not in (width, feature_width) else choose_settings(self._sample)
        if width is not None:
            given = (float(width),) if isinstance(width, int | float) else tuple(map(float, width))
            chosen = (*map(Setting, given), *(one for one in chosen if one.feature is not None))
        if feature_width is not None:
            n_each, left = divmod(len(feature_width), len(self._mean))
            if left:
                raise InputError(
                    f"{format_count(len(feature_width), 'width')} for {len(self._mean)} features",
                    where="feature_width",
                    fix="Give the same number for each feature",
                )
            singles = (Setting(float(w), k // n_each) for k, w in enumerate(feature_width))
            chosen = (*(one for one in chosen if one.feature is None), *singles)
        for setting in chosen:
            if not (np.isfinite(setting.width) and setting.width > 0):
                raise InputError(f"width is {setting.width}", fix="Give finite numbers above 0")
        return chosen

    def _score(self, setting: Setting) -> Score:
        centers = self._centers
        if setting.feature is not None:
            _, distinct = np.unique(centers[:, setting.feature], return_index=True)
            n = min(FEATURE_CENTERS, len(distinct))
            centers = centers[distinct[np.linspace(0, len(distinct) - 1, n).round().astype(int)]]
        return Score(
            setting,
            self._columns(self._reference, setting),
            torch.from_numpy(self._shares),
            self._columns(centers, setting),
            self._sample.n_events,
        )

    def _columns(self, x: FloatArray, setting: Setting) -> torch.Tensor:
        """Give the columns that a setting looks at, in units of its width."""
        if setting.feature is None:
            return torch.from_numpy((x - self._mean) / (self._scale * setting.width))
        chosen = slice(setting.feature, setting.feature + 1)
        return torch.from_numpy((x[:, chosen] - self._middle[chosen]) / setting.width)

    def _resize(self, n_expected: float) -> None:
        if not (np.isfinite(n_expected) and n_expected > 0):
            raise InputError(f"n_expected is {n_expected}", fix="Give a finite number above 0")
        self.n_expected = float(n_expected)
        self._sized = [score.at(self.n_expected) for score in self._scores]


def _combine(log_p: FloatArray, rule: str) -> float:
    if rule == "smallest":
        return -2.0 * float(log_p.min())
    if rule == "product":
        return -2.0 * float(log_p.sum())
    return -2.0 * float(np.logaddexp.reduce(log_p) - np.log(len(log_p)))
