"""The numbers that a false-alarm budget comes to, for the streams of a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scipy import optimize, special

from dqm.alarm.budget import (
    LARGEST_CORRELATION,
    LARGEST_P,
    LARGEST_Z,
    REFERENCE_Z,
    correlated_onset_rate,
    drift_limit,
    onset_rate,
    run_length,
    shared_onset_rate,
    solve_threshold,
)
from dqm.alarm.e_process import HealthyZ
from dqm.alarm.quality import QualityLimits
from dqm.alarm.rules import alarm_rules
from dqm.alarm.values import Cause
from dqm.config import AlarmSection, DaemonConfig, DriftTestName, StreamSection
from dqm.errors import ConfigError

__all__ = ["StreamFacts", "Thresholds", "derive_thresholds", "quality_limits"]

SMALLEST_PULL = 3.0
"""Pulls of healthy windows have wider tails than a Gaussian's, so no limit is closer than this."""

_LARGEST_PULL = 9.0

WANDERING = LARGEST_CORRELATION
"""Correlation of Z of neighbouring windows that is assumed where channels wander: see docs/studies.md."""

CERTAIN_P = 1e-9
"""Below this p a number of events counts also if no bundle expects one: it is too rare for chance."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the thresholds depend on of a stream's reference.

    Parameters
    ----------
    n_measured : int
        Nuisance parameters that can disagree with their measurement.
    n_expected : float or None
        Events in a window whose number is tested; None if no window says how many are expected.
    rate_uncertainty : float
        Relative uncertainty of that number, >= 0.
    wanders : bool
        Whether what the windows count changes slowly, so that neighbouring healthy windows are alike.
    z_offset : float
        Uncertainty of all Z together because the reference is finite, sigmas, >= 0.
    """

    n_measured: int = 0
    n_expected: float | None = None
    rate_uncertainty: float = 0.0
    wanders: bool = False
    z_offset: float = 0.0

    @property
    def common_share(self) -> float:
        """Share of the variance of the number that the windows of a stream have in common."""
        systematic = self.rate_uncertainty**2
        return systematic / (systematic + 1.0 / (self.n_expected or 1.0))

    @classmethod
    def of_any(cls, facts: Sequence[StreamFacts]) -> StreamFacts:
        """Put the references of one stream together.

        Which of them judges a window is not known beforehand. So each cause counts by the reference with the
        most false alarms.
        """
        number = max(
            (one for one in facts if one.n_expected), key=lambda one: one.common_share, default=cls()
        )
        return replace(
            number,
            n_measured=max(one.n_measured for one in facts),
            wanders=any(one.wanders for one in facts),
            z_offset=max(one.z_offset for one in facts),
        )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Numbers that decide on alarms.

    Parameters
    ----------
    p_threshold : float
        A window with a smaller p counts towards k of n.
    drift_limit : float or None
        Where the sum of significances alarms, or the log of the evidence of a run; None: slow deterioration
        is not watched.
    largest_pull : float
        A nuisance parameter further from its measurement is a warning, standard deviations.
    rate_p : float or None
        A window whose number of events has a smaller p counts towards k of n; None: it is not watched.
    changed_p : float
        A window whose p against the last good ones is smaller counts towards k of n; 0: no stream has such a
        test.
    reference_z, largest_z : float
        What is taken off each Z before it is summed, and where Z is cut off.
    drift_test : {"sum", "run"}
        How slow deterioration is found: by `dqm.alarm.drift.Drift` or `dqm.alarm.e_process.EProcess`.
    healthy_z : mapping of str to HealthyZ
        What the latter takes healthy windows of a stream to be; independent, with an exact Z, if left out.
    windows_per_shift : float
        Windows of all streams that alarm.
    false_alarms_per_shift : mapping of Cause to float
        What is expected of each cause in healthy data; together at most the budget, unless pull limits are
        configured.
    """

    p_threshold: float
    drift_limit: float | None
    largest_pull: float = SMALLEST_PULL
    rate_p: float | None = None
    changed_p: float = 0.0
    reference_z: float = REFERENCE_Z
    largest_z: float = LARGEST_Z
    drift_test: DriftTestName = "sum"
    healthy_z: Mapping[str, HealthyZ] = field(default_factory=dict)
    windows_per_shift: float = 0.0
    false_alarms_per_shift: Mapping[Cause, float] = field(default_factory=dict)

    @property
    def least_evidence(self) -> float:
        """Evidence of a run, to 1, that alarms; 0 where `drift_test` is another."""
        return (
            math.exp(self.drift_limit) if self.drift_limit is not None and self.drift_test == "run" else 0.0
        )


def derive_thresholds(config: DaemonConfig, facts: Mapping[str, StreamFacts] | None = None) -> Thresholds:
    """Share the budget out among causes and streams.

    All streams have the same thresholds, so each has false alarms in proportion to its windows. Limits of
    conditions, silence and windows that cannot be judged do not depend on chance and have no share.

    Parameters
    ----------
    config : DaemonConfig
        Checked configuration.
    facts : mapping of str to StreamFacts, optional
        Of the reference of each stream; a stream that is left out has no nuisance parameter and no expected
        number of events.

    Returns
    -------
    Thresholds
        Numbers as derived.

    Raises
    ------
    InputError
        If the budget is too small to be kept.
    """
    alarm = config.alarm
    windows = _windows_per_shift(config)
    known = {name: fact for name, fact in (facts or {}).items() if windows.get(name)}
    counts = [(windows[name], fact.n_measured) for name, fact in known.items() if fact.n_measured]
    counted: dict[StreamFacts, float] = {}  # windows, by what is expected of them
    for name, fact in known.items():
        if fact.n_expected:
            counted[fact] = counted.get(fact, 0.0) + windows[name]
    total = sum(windows.values())
    budget = alarm.false_alarms_per_shift / total
    share = 1.0 - alarm.drift_share
    share -= alarm.nuisance_share if counts else 0.0
    share -= alarm.rate_share if counted else 0.0
    rolling = {stream.name for stream in config.streams if stream.rolling} & windows.keys()
    share -= alarm.rolling_share if rolling else 0.0
    onset, length = _healthy(alarm, windows, known)
    p = solve_threshold(budget * share, onset)
    expected = dict.fromkeys((Cause.LIMIT, Cause.SILENT, Cause.REFUSED, Cause.UNJUDGED), 0.0)
    expected[Cause.DIFFERS] = onset(p) * total
    limit, expected[Cause.DRIFT] = _solve_drift(alarm, windows, length)
    pull = config.nuisances.largest_pull
    if pull is None:
        pull = _solve_pull(alarm, counts)
    expected[Cause.NUISANCE] = _nuisance_alarms(pull, alarm, counts)
    rate_p = _solve_rate(alarm, counted) if alarm.rate_share else None
    expected[Cause.RATE] = _rate_alarms(rate_p or 0.0, alarm, counted)
    n_rolling = sum(windows[name] for name in rolling)
    changed_p = _solve_changed(alarm, n_rolling)
    expected[Cause.CHANGED] = (
        n_rolling * _onset_rate(changed_p, alarm, alarm.autocorrelation) if n_rolling else 0.0
    )
    return Thresholds(
        p_threshold=p,
        drift_limit=limit,
        largest_pull=pull,
        rate_p=rate_p,
        changed_p=changed_p,
        drift_test=alarm.drift_test,
        healthy_z=_healthy_z(alarm, windows, known),
        windows_per_shift=total,
        false_alarms_per_shift=expected,
    )


def quality_limits(config: DaemonConfig, stream: StreamSection, thresholds: Thresholds) -> QualityLimits:
    """Say what p-values mean for the quality of a single window.

    A window that counts towards an alarm is Bad. Three times as many healthy windows are Medium or Bad:
    enough to be noticed, too few to become usual.

    Parameters
    ----------
    config : DaemonConfig
        Whose ``[quality]`` may set either limit.
    stream : StreamSection
        Stream of the windows.
    thresholds : Thresholds
        As derived.

    Returns
    -------
    QualityLimits
        For `dqm.alarm.grade` and `warn`.

    Raises
    ------
    ConfigError
        If one limit is configured on the wrong side of the other, derived one.
    """
    quality = config.quality
    bad_p = thresholds.p_threshold if quality.bad_p is None else quality.bad_p
    medium_p = min(3.0 * bad_p, 0.5 + 0.5 * bad_p) if quality.medium_p is None else quality.medium_p
    if not bad_p < medium_p:
        raise ConfigError(
            f"medium_p = {medium_p:g} must be greater than bad_p, by the false-alarm budget {bad_p:.3g}",
            where="quality",
            fix="Set bad_p, too, or leave both out",
        )
    min_events = quality.min_events if stream.min_events is None else stream.min_events
    return QualityLimits(
        medium_p=medium_p,
        bad_p=bad_p,
        min_events=min_events,
        largest_pull=thresholds.largest_pull,
        medium_rate_p=3.0 * (thresholds.rate_p or 0.0),
        bad_rate_p=thresholds.rate_p or 0.0,
    )


def _windows_per_shift(config: DaemonConfig) -> dict[str, float]:
    """Windows by stream; of those that alarm, or of all if none does."""
    alarm = config.alarm
    rates = {
        stream.name: alarm.windows_per_hour if stream.windows_per_hour is None else stream.windows_per_hour
        for stream in config.streams
    }
    alarming = {rules.stream for rules in alarm_rules(config).streams if rules.enabled} or rates.keys()
    return {name: rate * alarm.shift_hours for name, rate in rates.items() if name in alarming}


def _healthy(
    alarm: AlarmSection, windows: Mapping[str, float], known: Mapping[str, StreamFacts]
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Give onset rate by p and run length by limit, on average over the windows of all streams.

    They are correlated as configured, and by `WANDERING` or more where the reference says that they wander.
    """
    total = sum(windows.values())
    shares: dict[float, float] = {}  # of the windows, by correlation
    for name, n in windows.items():
        c = _correlation(alarm, known.get(name))
        shares[c] = shares.get(c, 0.0) + n / total

    def onset(p: float) -> float:
        return sum(share * _onset_rate(p, alarm, c) for c, share in shares.items())

    def length(limit: float) -> float:
        rate = sum(share / run_length(limit, correlation=c) for c, share in shares.items())
        return 1.0 / rate if rate else math.inf

    return onset, length


def _correlation(alarm: AlarmSection, facts: StreamFacts | None) -> float:
    return max(alarm.autocorrelation, WANDERING if facts and facts.wanders else 0.0)


def _healthy_z(
    alarm: AlarmSection, streams: Iterable[str], known: Mapping[str, StreamFacts]
) -> dict[str, HealthyZ]:
    return {
        name: HealthyZ(known[name].z_offset if name in known else 0.0, _correlation(alarm, known.get(name)))
        for name in streams
    }


def _solve_drift(
    alarm: AlarmSection, windows: Mapping[str, float], length: Callable[[float], float]
) -> tuple[float | None, float]:
    """Give the limit of the sum or of the log of the evidence, and the false alarms of a shift."""
    allowed = alarm.false_alarms_per_shift * alarm.drift_share
    total = sum(windows.values())
    if not allowed:
        return None, 0.0
    if alarm.drift_test == "run":
        runs = len(windows) * alarm.runs_per_shift
        probability = min(allowed / runs, LARGEST_P)
        return -math.log(probability), probability * runs
    limit = drift_limit(total / allowed, length)
    return limit, total / length(limit)


def _onset_rate(p: float, alarm: AlarmSection, c: float) -> float:
    return correlated_onset_rate(p, alarm.k, alarm.n, c) if c else onset_rate(p, alarm.k, alarm.n)


def _solve_changed(alarm: AlarmSection, windows: float) -> float:
    """Give the p-value against the last good windows below which one counts; `windows`: of such streams."""
    if not windows:
        return 0.0
    allowed = alarm.rolling_share * alarm.false_alarms_per_shift / windows
    return solve_threshold(allowed, lambda p: _onset_rate(p, alarm, alarm.autocorrelation))


def _solve_pull(alarm: AlarmSection, counts: list[tuple[float, int]]) -> float:
    allowed = alarm.nuisance_share * alarm.false_alarms_per_shift
    if _nuisance_alarms(SMALLEST_PULL, alarm, counts) <= allowed:
        return SMALLEST_PULL
    solved = optimize.brentq(
        lambda pull: math.log(_nuisance_alarms(pull, alarm, counts) / allowed), SMALLEST_PULL, _LARGEST_PULL
    )
    return float(solved)


def _nuisance_alarms(pull: float, alarm: AlarmSection, counts: list[tuple[float, int]]) -> float:
    """Count those expected per shift, pulls being normal; `counts`: windows and parameters of each stream."""
    outside = 2.0 * float(special.ndtr(-pull))
    single = [(windows, -math.expm1(n * math.log1p(-outside))) for windows, n in counts]
    return sum(windows * onset_rate(p, alarm.k, alarm.n) for windows, p in single)


def _solve_rate(alarm: AlarmSection, counted: Mapping[StreamFacts, float]) -> float:
    """Give the p-value of the number of events below which a window counts."""
    windows = sum(counted.values())
    if not windows:
        return CERTAIN_P
    allowed = alarm.rate_share * alarm.false_alarms_per_shift / windows
    return solve_threshold(allowed, lambda p: _rate_alarms(p, alarm, counted) / windows)


def _rate_alarms(p: float, alarm: AlarmSection, counted: Mapping[StreamFacts, float]) -> float:
    """Count those expected per shift; `counted`: windows, by what is expected of them."""
    return sum(
        windows * shared_onset_rate(p, alarm.k, alarm.n, facts.common_share)
        for facts, windows in counted.items()
    )
