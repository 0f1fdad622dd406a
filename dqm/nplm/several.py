"""Several kernels and plain tests in one statistic, which needs no choice of a width."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.drawn import DrawnWindows
from dqm.nplm.feature_kind import ordered_features
from dqm.nplm.nuisance import Nuisance, check_nuisances, measured_values
from dqm.nplm.nuisance_fit import NuisanceFit
from dqm.nplm.plain_test import OrderTest, PlainScale, SharesTest
from dqm.nplm.profiled_kernels import ProfiledKernels
from dqm.nplm.profiled_score import ProfiledScore
from dqm.nplm.samples import Sample, check_windows, choose_centers, reference_shares
from dqm.nplm.score import BriefScore, Score, log_chi_squared, pack_scores, unpack_scores
from dqm.nplm.setting import (
    ScaledReference,
    ScaledSample,
    Setting,
    choose_kernels,
    choose_views,
    make_plain,
    make_score,
    weigh_kernels,
)
from dqm.nplm.several_result import SeveralResult

if TYPE_CHECKING:
    from dqm.nplm.kernel_test import KernelTest
    from dqm.nplm.result import KernelResult

__all__ = ["SeveralTest"]

FIT_PENALTY = 1e-4
"""Penalty of the fit that makes the maps. With a smaller one f follows every fluctuation: maps of small
windows are then further from the truth, and the fit takes up to ten times as long (`docs/performance.md`)."""

FIT_CENTERS = 100
"""Most centres of that fit. More change the maps little."""

FIT_WIDTH = 0.5
"""Width of the kernel for the maps of a departure found by a plain test, in standard deviations."""

TUNING_TOYS = 200
"""Healthy windows with which the results of the settings are measured."""

MOST_WINDOWS_PER_SPLIT = 10
"""Most of them that share a reference."""

LOUD_P = 0.02
"""Approximate p of a kernel that 5 % of healthy windows may be below. Where it is smaller, by the luck of the
reference and events far from it, the kernel alone would set the threshold of the smallest p."""

RULES = ("smallest", "product", "mean")
"""How the p of the settings are combined."""


class SeveralTest:
    """Kernels wide and narrow, of all features and of each by itself, and plain tests, together.

    Each kernel has the statistic of one Newton step, see `dqm.nplm.score`, and an approximate p. Features
    that are not smooth have plain tests beside, see `dqm.nplm.plain_test`. The smallest p of all, or their
    product or mean, makes t. p follows from toys that are tested with all settings, so it accounts for their
    number and their correlation.

    Parameters
    ----------
    reference, n_expected, centers, weights, counts, rng, device
        As in `KernelTest`. Rows with counts are bins of histograms, whose features are all smooth.
    kinds : sequence of str, optional
        What each feature is, see `FeatureKind.parse`; all smooth by default.
    width : float or sequence of float, optional
        Widths of the kernels of all features, in standard deviations; by default quantiles of the distances
        between reference events.
    feature_width : sequence of float, optional
        Widths of the kernels of single features: all of the first feature that has an order, then all of the
        next, and so on, the same number of each. By default quantiles of the distances; empty for none.
    penalty : float or sequence of float, optional
        Penalty of each of these, or one for all. The loss is not a setting: both have the same statistic.
    is_decorrelated : sequence of bool, optional
        Whether each of these looks at the features without their linear correlation; no by default if widths
        are given.
    mean_ratio, variance_ratio : sequence of float, optional
        Mean and variance of each kernel's statistic in healthy windows, see `tune`; 1 by default.
    kernel_scale : sequence of float, optional
        What the log p of each kernel is multiplied by, above 0 and at most 1, see `tune`; 1 by default.
    plain_shift, plain_quantile : sequence of float, optional
        What is added to the log p of each plain test, which is too large where values repeat, and the log p
        below which all of it is added; see `PlainScale` and `tune`.
    rule : {"smallest", "product", "mean"}
        How the p of the settings are combined.
    nuisances : sequence of Normalisation or Shape
        Changes of the reference that are not a fault. They are fitted alone, once for all settings. These
        compare with the reference as the parameters deform it, see `dqm.nplm.profiled_score`. The distances
        of fitted values from measured ones are a setting more.
    few_windows : bool
        Prepare in half of the time, for a few windows of one size. t is the same within rounding.
    prepared : mapping of str to ndarray, optional
        `prepared` of an earlier test with the same arguments and without nuisance parameters, so that it is
        not computed again. Beside nuisance parameters it is of no use.

    Raises
    ------
    InputError
        As in `KernelTest`.

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
    >>> faulty.seen_by.test
    'kernel'
    """

    usual_settings: ClassVar[Mapping[str, object]] = {"rule": "smallest"}
    """What a bundle keeps beside the settings that `tune` chooses."""

    given_to_tune: ClassVar[tuple[str, ...]] = ("width", "penalty")
    """Settings that `tune` chooses if they are not given."""

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        centers: int | ArrayLike,
        kinds: Sequence[str] = (),
        width: float | Sequence[float] | None = None,
        feature_width: Sequence[float] | None = None,
        penalty: float | Sequence[float] | None = None,
        is_decorrelated: Sequence[float] | None = None,
        mean_ratio: Sequence[float] | None = None,
        variance_ratio: Sequence[float] | None = None,
        kernel_scale: Sequence[float] | None = None,
        plain_shift: Sequence[float] | None = None,
        plain_quantile: Sequence[float] | None = None,
        rule: Literal["smallest", "product", "mean"] = "smallest",
        weights: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        nuisances: Sequence[Nuisance] = (),
        few_windows: bool = False,
        prepared: Mapping[str, NDArray[Any]] | None = None,
        device: str = "cpu",
    ) -> None:
        if rule not in RULES:
            raise InputError(f"unknown rule {rule!r}", fix=f"Choose one of {', '.join(RULES)}")
        if (mean_ratio is None) != (plain_shift is None):
            raise InputError(
                "mean_ratio and plain_shift belong together: these settings were made by another version",
                fix="Build the bundle again, or take what SeveralTest.tune gives",
            )
        if device != "cpu":  # one step is quick everywhere
            from dqm.nplm.prepared import check_device

            check_device(device)
        self._rule = rule
        sample = Sample.check(reference, counts, "reference")
        shares = reference_shares(sample, weights)
        self._low = sample.x.min(axis=0)
        self._high = sample.x.max(axis=0)
        views = choose_views(kinds, sample, shares)
        self._seen = ScaledReference(
            views, sample.x, choose_centers(centers, sample, rng), shares, sample.n_events
        )
        self._weights = weights
        self._counts = sample.counts
        self._kernels = choose_kernels(
            self._seen,
            width=width,
            penalty=penalty,
            is_decorrelated=is_decorrelated,
            feature_width=feature_width,
        )
        self._nuisances = check_nuisances(nuisances)
        if prepared is None or self._nuisances:
            self._scores = self._make_scores(few_windows)
        else:
            self._scores = unpack_scores(
                prepared, [(one.width, one.penalty) for one in self._kernels], self._seen.n_events
            )
        self._fit = NuisanceFit(sample.x, n_expected, nuisances, shares) if nuisances else None
        self._plain = make_plain(self._seen)
        plain = [Setting(test, feature) for feature, one in self._plain for test in one.tests]
        pulls = [Setting("pulls")] if any(math.isfinite(one.sigma) for one in self._nuisances) else []
        self.settings = (*self._kernels, *pulls, *plain)
        numbers = len(self._kernels), len(pulls)
        self._mean_ratio = _check_each("mean_ratio", *numbers, mean_ratio)
        self._variance_ratio = _check_each("variance_ratio", *numbers, variance_ratio)
        self._kernel_scale = _check_each("kernel_scale", *numbers, kernel_scale, most=1.0)
        self._scale = PlainScale.check(len(plain), plain_shift, plain_quantile)
        self._handicap = self._weigh()
        self._fits: dict[int, KernelTest] = {}
        self._resize(n_expected)

    @property
    def prepared(self) -> dict[str, NDArray[Any]]:
        """What depends on the reference alone; empty beside nuisance parameters or for few windows."""
        return pack_scores(self._scores)

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
        auxiliary : mapping of str to float, optional
            Measured value of each nuisance parameter; required for all that are not free.
        weights : array_like, shape (n_data,), optional
            Events that each row stands for, >= 0; one each by default.

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference; if a weight
            is negative or not finite, or all are 0; if a measurement is missing or unknown.
        """
        measured = measured_values(self._nuisances, auxiliary)
        (sample,) = check_windows([data], [weights], len(self._low))
        if self._fit is not None:
            return self._beside_nuisances(sample, measured, self._fit)
        return self._result(sample, self._log_p(sample, self._statistics(sample)))

    def _result(self, sample: Sample, log_p: FloatArray, **others: Any) -> SeveralResult:
        return SeveralResult(
            t=_combine(log_p, self._rule),
            log_p=log_p,
            n_outside=sample.count_outside(self._low, self._high),
            _test=self,
            _sample=sample,
            **others,
        )

    def _beside_nuisances(self, sample: Sample, measured: FloatArray, fit: NuisanceFit) -> SeveralResult:
        """Test a window against the reference deformed by the nuisance parameters."""
        point = fit.find(sample.x, sample.weights, measured)
        if not np.isfinite(point.delta):
            unknown = np.full(len(self.settings), math.nan)
            return self._result(sample, unknown, delta=math.nan, converged=False)
        scaled = ScaledSample(self._seen, sample.x)
        columns = [scaled.at(setting) for setting in self._kernels]
        found = self._profile.evaluate(point, sample, columns, measured)
        log_p = self._log_p(sample, found.statistics, point.weights)
        seen = int(log_p.argmin())
        beside = found.describe(seen if seen < len(self._kernels) else 0)
        return self._result(sample, log_p, delta=point.delta, nuisances=beside)

    def _log_p(self, sample: Sample, kernels: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """Give the log p of all settings from T of the kernels, for a reference weighed anew."""
        plain = self._scale.correct(self._plain_log_p(sample.x, weights))
        of_kernels = self._kernel_scale * log_chi_squared(kernels, *self._moments)
        log_p: FloatArray = self._handicap + np.concatenate([of_kernels, plain])
        return log_p

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

    def evaluate_drawn(
        self,
        pool: FloatArray,
        rows: Sequence[NDArray[np.int64]],
        *,
        weights: Sequence[FloatArray] | None = None,
    ) -> list[SeveralResult]:
        """Test windows drawn from a pool; each event of the pool that is in any of them is looked at once.

        Parameters
        ----------
        pool : ndarray, shape (n_pool, d)
            Events in raw features, all finite.
        rows : sequence of ndarray of int, each of shape (n_data,)
            Places of the events of each window, at least one each, none twice.
        weights : sequence of ndarray, each of shape (n_data,), optional
            Events that each row stands for, >= 0; one each by default.

        Returns
        -------
        list of SeveralResult
            Equal to those of `evaluate` up to rounding.
        """
        if self._nuisances or not rows:
            counts = [None] * len(rows) if weights is None else weights
            return [self.evaluate(pool[one], weights=w) for one, w in zip(rows, counts, strict=True)]
        drawn = DrawnWindows(pool, rows, weights)
        scaled = ScaledSample(self._seen, drawn.x)
        kernels = self._from_sums(
            lambda setting, score: score.transform(drawn.sum(score.kernel, scaled.at(setting)))
        )
        samples = map(drawn.sample, range(len(rows)))
        return [self._result(s, self._log_p(s, one)) for s, one in zip(samples, kernels, strict=True)]

    @classmethod
    def tune(
        cls,
        events: FloatArray,
        *,
        n_reference: int,
        n_expected: float,
        n_centers: int,
        rng: np.random.Generator,
        kinds: Sequence[str] = (),
        counts: FloatArray | None = None,
        is_poisson: bool = False,
        given: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> dict[str, tuple[float, ...] | tuple[str, ...]]:
        """Choose the settings for a run, and measure the results of each in healthy windows.

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
        kinds : sequence of str, optional
            What each feature is.
        counts : ndarray, shape (n_events,), optional
            Events that each row stands for.
        is_poisson : bool
            Whether windows have a Poisson number of events, as those cut by time.
        given : mapping, optional
            Settings that are given; ``width`` and ``penalty`` are taken.
        progress : callable
            Called with the number of healthy windows tested so far, and the total.

        Returns
        -------
        dict
            Arguments of the test.
        """
        run = Sample(events, counts)
        begin = run.take(slice(n_reference)) if counts is None else run.filled
        first = cls(
            begin.x,
            counts=begin.counts,
            n_expected=n_expected,
            centers=_choose(n_centers, begin, rng),
            kinds=kinds,
            width=(given or {}).get("width"),
            penalty=(given or {}).get("penalty"),
        )
        of_all = [one for one in first._kernels if one.feature is None]
        chosen: dict[str, Any] = {
            "width": tuple(one.width for one in of_all),
            "penalty": tuple(one.penalty for one in of_all),
            "is_decorrelated": tuple(float(one.is_decorrelated) for one in of_all),
            "feature_width": tuple(one.width for one in first._kernels if one.feature is not None),
        }
        left = int(run.n_events) - n_reference
        ordered = ordered_features(kinds, run.x.shape[1])
        ratios: list[FloatArray] = []
        plain: list[FloatArray] = []
        while len(ratios) < TUNING_TOYS:
            sizes = _sizes(MOST_WINDOWS_PER_SPLIT, n_expected, left, is_poisson, rng)
            n_windows = max(1, int(np.searchsorted(np.cumsum(sizes), left, "right")))
            reference, *windows, _ = run.split([n_reference, *sizes[:n_windows]], rng, ordered)
            test = cls(
                reference.x,
                counts=reference.counts,
                n_expected=n_expected,
                centers=_choose(n_centers, reference, rng),
                kinds=kinds,
                few_windows=True,
                **chosen,
            )
            ratios += [test._statistics(window) / test._moments[0] for window in windows]
            plain += [test._plain_log_p(window.x) for window in windows]
            progress(min(len(ratios), TUNING_TOYS), TUNING_TOYS)
        mean, variance = first._moments
        mean_ratio = np.mean(ratios, axis=0)
        variance_ratio = np.var(ratios, axis=0) / (variance / mean**2)
        statistics = np.array(ratios) * mean
        if counts is None and left >= MOST_WINDOWS_PER_SPLIT * n_expected:  # toys come from this pool
            drawn = [
                n_reference + rng.choice(left, size, replace=False)
                for size in _sizes(TUNING_TOYS, n_expected, left, is_poisson, rng)
            ]
            statistics = np.array([first._statistics(Sample(events[rows])) for rows in drawn])
        log_p = log_chi_squared(statistics, mean * mean_ratio, variance * variance_ratio)
        low = np.minimum(np.quantile(log_p, 0.05, axis=0), -1e-9)
        scale = np.minimum(1.0, math.log(LOUD_P) / low)
        return {
            **({"kinds": tuple(kinds)} if kinds else {}),
            **chosen,
            "mean_ratio": tuple(mean_ratio.tolist()),
            "variance_ratio": tuple(variance_ratio.tolist()),
            "kernel_scale": tuple(scale.tolist()),
            **PlainScale.measure(np.array(plain)).settings,
        }

    def fit(self, sample: Sample, place: int, nu: Sequence[float] = ()) -> KernelResult:
        """Fit a window to convergence with one setting; a plain test is replaced by a kernel.

        The loss is the logistic one, beside nuisance parameters that of the likelihood.

        Parameters
        ----------
        sample : Sample
            The window.
        place : int
            Number of the setting.
        nu : sequence of float
            Nuisance parameters at which the reference is taken.
        """
        setting, seen = self.settings[place], self._seen
        if setting.test == "pulls" or not ScaledSample(seen, seen.centers).at(setting).shape[1]:
            setting = self.settings[0]  # a feature with one value has no coordinates
        test = self._fits.get(place)
        if test is None:
            from dqm.nplm.kernel_test import KernelTest  # torch: toys do without it

            weights, n_expected = self._weights, self.n_expected
            if self._fit is not None:
                of_rows = self._fit.weights_at(np.array(nu))
                weights = of_rows / (1.0 if self._counts is None else self._counts)
                n_expected = of_rows.sum()
            test = KernelTest(
                ScaledSample(seen, seen.reference).at(setting),
                n_expected=n_expected,
                width=setting.width if setting.test == "kernel" else FIT_WIDTH,
                penalty=FIT_PENALTY,
                centers=ScaledSample(seen, seen.centers[:FIT_CENTERS]).at(setting),
                weights=weights,
                counts=self._counts,
                loss="logistic" if self._fit is None else "likelihood",
                few_windows=True,
                is_standard=True,
            )
            if self._fit is None:  # otherwise each window has a reference of its own
                self._fits[place] = test
        return test.evaluate(ScaledSample(seen, sample.x).at(setting), weights=sample.counts)

    def describe_value(self, values: FloatArray, feature: int, nu: Sequence[float] = ()) -> str:
        """Say which value of a feature departs most in a window; empty if its shares are not tested."""
        weights = None if self._fit is None else self._fit.weights_at(np.array(nu))
        plain = self._plain_at(weights)
        tests = [test for place, test in plain if place == feature and isinstance(test, SharesTest)]
        return tests[0].describe(values) if tests else ""

    def _weigh(self) -> FloatArray:
        """Give what is added to the log p of each setting; see `weigh_kernels`.

        Plain tests together weigh as much as one test of all features.
        """
        n_plain = len({feature for feature, _ in self._plain})
        kernels = weigh_kernels(self._kernels, len(self._seen.views))
        others = [one.test for one in self.settings[len(kernels) :]]
        of_plain = math.log(max(1, n_plain))
        return np.array([*kernels, *(math.log(2.0) if one == "pulls" else of_plain for one in others)])

    def _make_scores(self, few_windows: bool) -> list[Score]:
        reference, centers = (ScaledSample(self._seen, x) for x in (self._seen.reference, self._seen.centers))
        kind = ProfiledScore if self._nuisances else BriefScore if few_windows else Score
        return [make_score(kind, self._seen, reference, centers, setting) for setting in self._kernels]

    def _plain_log_p(self, x: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        found = [np.atleast_1d(test.log_p(x[:, feature])) for feature, test in self._plain_at(weights)]
        return np.concatenate([np.empty(0), *found])

    def _plain_at(self, weights: FloatArray | None) -> list[tuple[int, OrderTest | SharesTest]]:
        """Give the plain tests, for a reference weighed anew if there are weights."""
        if weights is None:
            return self._plain
        shares = weights / weights.sum()
        return [(feature, test.weighed(shares)) for feature, test in self._plain]

    def _statistics(self, sample: Sample) -> FloatArray:
        """Give T of each kernel."""
        scaled = ScaledSample(self._seen, sample.x)
        return self._from_sums(lambda setting, score: score.sums(scaled.at(setting), sample.weights))

    def _from_sums(self, add: Callable[[Setting, Score], FloatArray]) -> FloatArray:
        """Give T of each kernel, shape (..., n_kernels), from the sums of its functions over windows.

        Kernels that differ in their penalty alone have the same sums.
        """
        sums: dict[object, FloatArray] = {}
        found = []
        for setting, sized in zip(self._kernels, self._sized, strict=True):
            if setting.functions not in sums:
                sums[setting.functions] = add(setting, sized.score)
            found.append(sized.of_sums(sums[setting.functions]))
        return np.stack(found, axis=-1)

    def _resize(self, n_expected: float) -> None:
        if not (np.isfinite(n_expected) and n_expected > 0):
            raise InputError(f"n_expected is {n_expected}", fix="Give a finite number above 0")
        self.n_expected = float(n_expected)
        if self._fit is None:
            self._sized = [score.at(self.n_expected) for score in self._scores]
            moments = [(sized.mean, sized.variance) for sized in self._sized]
        else:
            self._fit = self._fit.at(self.n_expected)
            scores = [one for one in self._scores if isinstance(one, ProfiledScore)]
            self._profile = ProfiledKernels(self._nuisances, self._fit, scores, self._seen.n_events)
            moments = self._profile.moments
        mean, variance = np.array(moments).T
        self._moments = mean * self._mean_ratio, variance * self._variance_ratio


def _choose(n_centers: int, sample: Sample, rng: np.random.Generator) -> FloatArray:
    """Draw centres; events are in random order already."""
    if sample.counts is None:
        return sample.x[:n_centers]
    return sample.choose_rows(min(n_centers, len(sample.x)), rng)


def _sizes(n: int, n_expected: float, most: int, is_poisson: bool, rng: np.random.Generator) -> list[int]:
    """Draw the numbers of events of n windows, at most `most` each."""
    if not is_poisson:
        return [round(n_expected)] * n
    sizes: list[int] = rng.poisson(n_expected, n).clip(1, most).tolist()
    return sizes


def _check_each(
    name: str, n: int, n_pulls: int, given: Sequence[float] | None, most: float = math.inf
) -> FloatArray:
    """Check numbers of n kernels, above 0 and at most `most`, and append those of the pulls, which are 1."""
    checked = np.ones(n) if given is None else np.asarray(given, dtype=float)
    limit = f" and at most {most:g}" if math.isfinite(most) else ""
    fix = f"Give a number above 0{limit} for each, as SeveralTest.tune does"
    if checked.shape != (n,):
        what = f"{name} has shape {checked.shape} for {format_count(n, 'setting')} of kernels"
        raise InputError(what, fix=fix)
    if not (np.isfinite(checked) & (checked > 0) & (checked <= most)).all():
        raise InputError(f"{name} is {checked.tolist()}", fix=fix)
    return np.append(checked, np.ones(n_pulls))


def _combine(log_p: FloatArray, rule: str) -> float:
    if rule == "smallest":
        return -2.0 * float(log_p.min())
    if rule == "product":
        return -2.0 * float(log_p.sum())
    return -2.0 * float(np.logaddexp.reduce(log_p) - np.log(len(log_p)))
