"""Evaluation of a window with a bundle: Window in, statistic and p-value out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from dqm.alarm import describe_p, describe_too_few
from dqm.errors import InputError, format_count
from dqm.events import (
    SMALLEST_P,
    ChannelSummary,
    Explanation,
    FloatArray,
    NuisanceResult,
    PMethod,
    Profiled,
    TestResult,
    Window,
    WindowCut,
)
from dqm.nplm import FeatureKind, RatioMaps
from dqm.nplm.channels import ChannelResult
from dqm.nplm.samples import Sample
from dqm.reference.binning import Binning
from dqm.reference.channel_explanation import ChannelExplainer, describe_outside, summarise_channels
from dqm.reference.constraints import ReadingPolicy, read_constraints
from dqm.reference.explanation import Explainer, Explains, WindowExplanation
from dqm.reference.manifest import NullTableEntry, WindowKind
from dqm.reference.nan import compare_nan
from dqm.reference.nuisances import taylor_model
from dqm.reference.null import NullTable
from dqm.reference.number_and_shape import Retest, make_retest
from dqm.reference.outside import SHARE, Outside, OutsideTest
from dqm.reference.statistic import (
    Outcome,
    PreparedStatistic,
    is_lower_bound,
    prepare_statistic,
    resize,
)
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.window_range import interpolate

__all__ = ["Evaluation", "Evaluator"]

MOST_SHOWN_CHANNELS = 1024
"""Most channels with which the occupancy of every window is kept; with more, that of unhealthy ones."""

ENDED_EARLY = "the fit ended early, far beyond the null table: t is larger, and maps show the point reached"

SURPRISING = 1e-4
"""Events outside the reference are remarked on if their number has a smaller probability than this."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """What it takes to evaluate windows of one kind.

    `pulls` holds mean and standard deviation of each parameter's two pulls in healthy toys: a reference of
    finite size moves all of them alike.
    """

    kind: WindowKind
    test: PreparedStatistic
    table: NullTable
    pulls: dict[str, FloatArray]
    explainer: Explains

    @classmethod
    def between(
        cls, lower: _Scale, upper: _Scale, share: float, test: PreparedStatistic, kind: WindowKind
    ) -> _Scale:
        """Set up windows of a size between two calibrated ones; maps and faults are as for the nearer one."""
        nearer = lower if share < 0.5 else upper
        table = NullTable.between(lower.table, upper.table, share)
        pulls = {
            name: (1.0 - share) * moments + share * upper.pulls[name] for name, moments in lower.pulls.items()
        }
        return cls(kind, test.stopping_above(table.t_quotable), table, pulls, nearer.explainer)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A tested window.

    Parameters
    ----------
    result : TestResult
        What the test gave.
    evidence : tuple, optional
        What it takes to explain that: explainer, events in the reference's features, outcome of the fit,
        events beyond the reference, and what tests the shape alone. None if there was no fit, or none that
        can be used.
    """

    result: TestResult
    evidence: tuple[Explains, Sample, Outcome, Outside | None, Retest | None] | None = field(
        default=None, repr=False, compare=False
    )

    def __str__(self) -> str:
        """Give the numbers in one line."""
        r = self.result
        numbers = [] if r.t is None else [f"t {'>' if r.is_lower_bound else '='} {r.t:.4g}"]
        if r.p is None:
            numbers.append(f"p is not known: {r.reason}")
        else:
            numbers.append(f"{describe_p(r.p)} ({r.p_low:.2g} to {r.p_high:.2g}, {r.p_method})")
            numbers.append(f"z = {r.z:.2f}")
        return "; ".join([", ".join(numbers), *r.remarks])

    @property
    def t(self) -> float | None:
        """Test statistic ``tau - delta``, or a lower bound of it; None if the fit did not run or converge."""
        return self.result.t

    @property
    def tau(self) -> float | None:
        """Twice the log likelihood ratio of the best anomaly with nuisance parameters to the reference.

        A lower bound of it if `t` is one.
        """
        return self.result.tau

    @property
    def delta(self) -> float | None:
        """The same of the nuisance parameters alone; 0 if there are none."""
        return self.result.delta

    @property
    def p(self) -> float | None:
        """Probability of `t` or more in healthy windows, in (0, 1]; None if it is not known."""
        return self.result.p

    @property
    def p_low(self) -> float | None:
        """Lower end of the 95 % interval of `p`."""
        return self.result.p_low

    @property
    def p_high(self) -> float | None:
        """Upper end of the 95 % interval of `p`."""
        return self.result.p_high

    @property
    def p_method(self) -> PMethod | None:
        """Whether `p` is read from the null table, from the tail fitted beyond it, or from a bound of `t`."""
        return self.result.p_method

    @property
    def z(self) -> float | None:
        """`p` as a one-sided Gaussian significance."""
        return self.result.z

    @property
    def reason(self) -> str:
        """Why `p` is not known; empty otherwise."""
        return self.result.reason

    @property
    def remarks(self) -> tuple[str, ...]:
        """What limits the meaning of these numbers."""
        return self.result.remarks

    @property
    def nuisances(self) -> Mapping[str, NuisanceResult]:
        """Fitted nuisance parameters by name."""
        return self.result.nuisances

    @property
    def is_always_explained(self) -> bool:
        """Whether this window is explained also if it is healthy: for the occupancy of its channels."""
        channels = self.result.channels
        return channels is not None and channels.n_channels + channels.n_masked <= MOST_SHOWN_CHANNELS

    def find_explanation(self) -> Explanation | None:
        """Say where the window departs from the reference, and what it looks like.

        Returns
        -------
        Explanation or None
            None without evidence, or from a statistic that learns no density ratio.
        """
        if self.evidence is None:
            return None
        explainer, window, outcome, outside, retest = self.evidence
        decides = self.result.p_method is PMethod.OUTSIDE
        return explainer.explain(window, outcome, outside, range_decides=decides, retest=retest)

    def explain(self) -> WindowExplanation:
        """Give the same to look at: it can be drawn, and gives histograms.

        Returns
        -------
        WindowExplanation

        Raises
        ------
        InputError
            If there is nothing to explain: the window could not be tested, or the statistic learns no density
            ratio.
        """
        found = self.find_explanation()
        if found is None:
            reason = self.reason or "its statistic learns no density ratio"
            raise InputError(f"the window cannot be explained: {reason}")
        return WindowExplanation(found, str(self))


class Evaluator:
    """A bundle ready to evaluate windows of every kind it is calibrated for.

    Parameters
    ----------
    bundle : StoredBundle
        Calibrated bundle.
    policy : ReadingPolicy
        What to do without a usable measurement of a nuisance parameter.
    device : str
        Where windows are tested, "cpu" or "cuda".
    """

    def __init__(
        self, bundle: StoredBundle, policy: ReadingPolicy | None = None, device: str = "cpu"
    ) -> None:
        self.bundle = bundle
        self._device = device
        self._policy = policy or ReadingPolicy()
        self._explain = _explanations(bundle)
        self._learned = {
            entry.name: taylor_model(bundle, entry).nu_range
            for entry in bundle.manifest.nuisances
            if entry.kind == "shape"
        }
        self._binning = None if bundle.bins is None else Binning(bundle.bins, bundle.manifest.features)
        # only where faults alone move events beyond the reference
        can_tell = bundle.manifest.counts is None and not self._learned
        self._outside = OutsideTest(bundle.reference, bundle.manifest.features) if can_tell else None
        self._scales: list[_Scale] = []
        for entry in bundle.manifest.null:
            self._scales.append(self._scale(entry))

    def evaluate(
        self,
        window: Window,
        policy: ReadingPolicy | None = None,
        *,
        min_events: int = 0,
        masked: Sequence[int] = (),
        tests_nan: bool = False,
    ) -> Evaluation:
        """Test the shape of a window, and keep what it takes to explain it.

        Parameters
        ----------
        window : Window
            For windows cut by count N(R_0) is their own number of events.
        policy : ReadingPolicy, optional
            Instead of the evaluator's own.
        min_events : int
            A window with fewer events is not tested.
        masked : sequence of int
            Channels that count for nothing, of a bundle of channels.
        tests_nan : bool
            Whether events may have NaN. Then the share of these is tested, and the shape of the others. The
            expected number of the others is that of the window times their share in the reference.

        Returns
        -------
        Evaluation
            Its result has ``p`` None and a reason if the window cannot be tested: no events, a feature that
            is missing, a nuisance parameter without usable measurement, a size the null table does not
            cover, a fit that did not converge or went astray. Pulls are in standard deviations of healthy
            toys.
        """
        if tests_nan and not window.counts and not self._missing(window):
            return self._evaluate_finite(window, policy, min_events)
        n_data = window.n_events
        n_expected = float(n_data) if window.n_expected is None else window.n_expected
        constraints = read_constraints(self.bundle.manifest.nuisances, window, policy or self._policy)
        reason = self._mismatch(window)
        if not reason and n_data < min_events:
            reason = describe_too_few(n_data, min_events, window.n_expected)
            return Evaluation(TestResult(n_data, n_expected, reason=reason, is_too_small=True))
        reason = reason or self._obstacle(window) or constraints.obstacle
        if reason:
            return Evaluation(TestResult(n_data, n_expected, reason=reason))
        kind = WindowKind(cut=window.cut, n_expected=n_expected, free=constraints.free)
        scale = self._find_scale(kind)
        if scale is None:
            reason = f"no null table for windows of {kind} (calibrated: {self.bundle.manifest.judged})"
            return Evaluation(TestResult(n_data, n_expected, reason=reason))
        sample = Sample(self._select(window), window.weights)
        if self._binning is not None:
            sample = sample.filled
        try:
            outcome = scale.test.evaluate(
                sample.x, auxiliary=constraints.measured, weights=sample.counts, masked=masked
            )
        except InputError as error:
            return Evaluation(TestResult(n_data, n_expected, reason=str(error)))
        is_bound = is_lower_bound(outcome)
        if not (outcome.converged or is_bound) or np.isnan(outcome.t):
            return Evaluation(TestResult(n_data, n_expected, reason="the fit did not converge"))
        result = TestResult(
            n_data,
            n_expected,
            t=outcome.t,
            tau=outcome.tau,
            delta=outcome.delta,
            nuisances={name: _standardise(r, scale.pulls[name]) for name, r in outcome.nuisances.items()},
            remarks=(*constraints.remarks, *self._remarks(outcome, n_data)),
            channels=self._describe_channels(outcome),
        )
        outside = None if self._outside is None else self._outside.evaluate(sample.x)
        is_astray = outcome.t < scale.table.t_implausible
        if is_astray and (outside is None or outside.p > SURPRISING):
            reason = (
                f"t = {outcome.t:.4g} is far below that of any healthy window: the fit does not describe it"
            )
            return Evaluation(replace(result, reason=reason))
        p = scale.table.p_value(outcome.t)
        method = PMethod.BOUND if is_bound else p.method
        result = replace(result, p=p.p, p_low=p.low, p_high=p.high, p_method=method, z=p.z)
        retest = make_retest(
            self.bundle, scale.test, scale.kind, scale.table, sample, constraints.measured, self._device
        )
        return Evaluation(_join(result, outside), (scale.explainer, sample, outcome, outside, retest))

    def _evaluate_finite(self, window: Window, policy: ReadingPolicy | None, min_events: int) -> Evaluation:
        """Test the events without NaN, and the share of the others."""
        x = self._select(window)
        manifest = self.bundle.manifest
        share = manifest.finite_share
        found = compare_nan(x, manifest)
        finite = replace(
            window,
            x=x[~np.isnan(x).any(axis=1)],
            names=manifest.features,
            n_expected=None if window.n_expected is None else share * window.n_expected,
        )
        evaluation = self.evaluate(finite, policy, min_events=min_events)
        remarks = evaluation.result.remarks
        if found is not None and found.n_dropped:
            told = f"{format_count(found.n_dropped, 'event')} of {len(x)} with NaN"
            remarks = (*remarks, f"the shape is tested without {told}")
        result = replace(evaluation.result, n_data=len(x), nan=found, remarks=remarks)
        return replace(evaluation, result=result)

    def _find_scale(self, kind: WindowKind) -> _Scale | None:
        """Find what windows of a kind need, or make it from the calibrated sizes at both sides."""
        scale = next((one for one in self._scales if one.kind.covers(kind)), None)
        window_range = next((one for one in self.bundle.manifest.ranges if one.covers(kind)), None)
        if scale is not None or window_range is None:
            return scale
        known = sorted(
            (one for one in self._scales if window_range.covers(one.kind)), key=lambda s: s.kind.n_expected
        )
        place, share = interpolate([one.kind.n_expected for one in known], kind.n_expected)
        lower, upper = known[place], known[place + 1]
        nearer = lower if share < 0.5 else upper
        test = resize(self.bundle, nearer.test, kind, self._device)
        return _Scale.between(lower, upper, share, test, kind)

    def _prepare(self, kind: WindowKind) -> PreparedStatistic:
        """Set up the test; sizes that differ in nothing else share what they can."""
        for scale in self._scales:
            if scale.kind.cut is kind.cut and set(scale.kind.free) == set(kind.free):
                return resize(self.bundle, scale.test, kind, self._device)
        return prepare_statistic(self.bundle, kind, self._device)

    def _scale(self, entry: NullTableEntry) -> _Scale:
        toys = self.bundle.toys(entry)
        names = [entry.name for entry in self.bundle.manifest.nuisances]
        pairs = toys[:, 2:].reshape(len(toys), len(names), 2)
        moments = np.stack([pairs.mean(axis=0), pairs.std(axis=0, ddof=1)])
        test = self._prepare(entry.kind)
        table = NullTable(toys[:, 0])
        return _Scale(
            entry.kind,
            test.stopping_above(table.t_quotable),
            table,
            {name: moments[:, i] for i, name in enumerate(names)},
            self._explain(entry, test),
        )

    def _describe_channels(self, outcome: Outcome) -> ChannelSummary | None:
        return summarise_channels(outcome, self.bundle) if isinstance(outcome, ChannelResult) else None

    def _select(self, window: Window) -> FloatArray:
        """Give the columns of the reference, in its order; a window may carry more."""
        features = self.bundle.manifest.features
        if window.names == features:
            return window.x
        return window.x[:, [window.names.index(name) for name in features]]

    def _missing(self, window: Window) -> list[str]:
        return [name for name in self.bundle.manifest.features if name not in window.names]

    def _mismatch(self, window: Window) -> str:
        """Say why no window like this can be tested; empty if it can."""
        missing = self._missing(window)
        if missing:
            return f"features of the reference are missing: {', '.join(missing)}"
        counts = self.bundle.manifest.counts or ""
        if window.counts != counts:
            return f"{_describe_rows(window.counts)}, but the reference has {_describe_rows(counts)}"
        if window.cut is WindowCut.TIME and window.n_expected is None:
            return "cut by time, but the sender gave no expected number of events"
        if window.n_expected == 0.0 and window.n_events:
            return f"{format_count(window.n_events, 'event')}, but the sender expected none (n_expected = 0)"
        return "the detector was not live" if window.n_expected == 0.0 else ""

    def _obstacle(self, window: Window) -> str:
        """Say why the events of a window cannot be tested; empty if they can."""
        if not window.n_events:
            return "no events"
        return "" if self._binning is None else self._binning.find_fault(self._select(window), window.weights)

    def _remarks(self, outcome: Outcome, n_data: int) -> tuple[str, ...]:
        """Say where the window has values that the reference does not have."""
        if isinstance(outcome, ChannelResult):
            return describe_outside(outcome)
        remarks = [ENDED_EARLY] if is_lower_bound(outcome) else []
        n_reference = self.bundle.manifest.n_reference
        n_features = len(self.bundle.manifest.features)
        expected = 2.0 * n_features * n_data / n_reference
        if special.gammainc(outcome.n_outside, expected) < SURPRISING:  # Poisson: as many or more
            n_outside = format_count(outcome.n_outside, "event lies", "events lie")
            remarks.append(f"{n_outside} where the reference has none (expected: {expected:.2g})")
        for name, (low, high) in self._learned.items():
            fitted = outcome.nuisances.get(name)  # a statistic may give none
            value = low if fitted is None else fitted.reference.value
            if not low <= value <= high:
                remarks.append(
                    f"{name} is fitted at {value:.3g}, outside the {low:g} to {high:g} it was learned in"
                )
        return tuple(remarks)


def _explanations(bundle: StoredBundle) -> Callable[[NullTableEntry, PreparedStatistic], Explains]:
    """Choose how windows are explained: by channel, or by maps in the bins of the reference."""
    if bundle.manifest.is_of_channels:
        by_channel = ChannelExplainer(bundle)
        return lambda _entry, _test: by_channel
    special = [FeatureKind.parse(kind).special for kind in bundle.manifest.kinds_of_features.values()]
    maps = RatioMaps(
        bundle.reference,
        bundle.manifest.features,
        counts=bundle.reference_sample.counts,
        bins=bundle.bins,
        special=special,
    )
    return lambda entry, test: Explainer(bundle, entry, test, maps)


def _join(result: TestResult, outside: Outside | None) -> TestResult:
    """Take the p of the number of events beyond the reference, if it is the smaller one."""
    if outside is None or result.p is None or outside.p >= SHARE * result.p:
        return result
    p = max(SMALLEST_P, outside.p / SHARE)
    remarks = (*result.remarks, f"p is that of the range: {outside}")
    z = -float(special.ndtri(p))
    return replace(result, p=p, p_low=p, p_high=p, p_method=PMethod.OUTSIDE, z=z, remarks=remarks)


def _describe_rows(counts: str) -> str:
    return f"rows counted by {counts!r}" if counts else "one row for each event"


def _standardise(result: NuisanceResult, moments: FloatArray) -> NuisanceResult:
    """Give pulls in standard deviations of healthy toys."""

    def scaled(one: Profiled, mean: float, deviation: float) -> Profiled:
        return one if one.pull is None else replace(one, pull=(one.pull - mean) / deviation)

    return replace(
        result,
        reference=scaled(result.reference, *map(float, moments[:, 0])),
        alternative=scaled(result.alternative, *map(float, moments[:, 1])),
    )
