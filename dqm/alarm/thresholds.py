"""The numbers that a false-alarm budget comes to, for the streams of a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from scipy import optimize, special

from dqm.alarm.budget import (
    LARGEST_Z,
    REFERENCE_Z,
    correlated_onset_rate,
    drift_limit,
    onset_rate,
    run_length,
    solve_threshold,
)
from dqm.alarm.quality import QualityLimits
from dqm.alarm.rules import alarm_rules
from dqm.alarm.values import Cause
from dqm.config import AlarmSection, DaemonConfig, StreamSection
from dqm.errors import ConfigError

__all__ = ["Thresholds", "derive_thresholds", "quality_limits"]

SMALLEST_PULL = 3.0
"""Pulls of healthy windows have wider tails than a Gaussian's, so no limit is closer than this."""

_LARGEST_PULL = 9.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Numbers that decide on alarms.

    Parameters
    ----------
    p_threshold : float
        A window with a smaller p counts towards k of n.
    drift_limit : float or None
        Where the sum of significances alarms; None: slow deterioration is not watched.
    largest_pull : float
        A nuisance parameter further from its measurement is a warning, standard deviations.
    reference_z, largest_z : float
        What is taken off each Z before it is summed, and where Z is cut off.
    windows_per_shift : float
        Windows of all streams that alarm.
    false_alarms_per_shift : mapping of Cause to float
        What is expected of each cause in healthy data; together at most the budget, unless pull limits are
        configured.
    """

    p_threshold: float
    drift_limit: float | None
    largest_pull: float = SMALLEST_PULL
    reference_z: float = REFERENCE_Z
    largest_z: float = LARGEST_Z
    windows_per_shift: float = 0.0
    false_alarms_per_shift: Mapping[Cause, float] = field(default_factory=dict)


def derive_thresholds(config: DaemonConfig, n_nuisances: Mapping[str, int] | None = None) -> Thresholds:
    """Share the budget out among causes and streams.

    All streams have the same thresholds, so each has false alarms in proportion to its windows. Silence is no
    matter of chance and has no share.

    Parameters
    ----------
    config : DaemonConfig
        Checked configuration.
    n_nuisances : mapping of str to int, optional
        Measured nuisance parameters of each stream's reference; none where a stream is left out.

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
    parameters = {name: n for name, n in (n_nuisances or {}).items() if n > 0 and windows.get(name)}
    total = sum(windows.values())
    budget = alarm.false_alarms_per_shift / total
    share = 1.0 - alarm.drift_share - (alarm.nuisance_share if parameters else 0.0)
    onset, length = _healthy(alarm)
    p = solve_threshold(budget * share, onset)
    expected = {Cause.DIFFERS: onset(p) * total, Cause.SILENT: 0.0}
    limit = drift_limit(1.0 / (budget * alarm.drift_share), length) if alarm.drift_share else None
    expected[Cause.DRIFT] = 0.0 if limit is None else total / length(limit)
    counts = [(windows[name], n) for name, n in parameters.items()]
    pull = config.nuisances.largest_pull
    if pull is None:
        pull = _solve_pull(alarm, counts)
    expected[Cause.NUISANCE] = _nuisance_alarms(pull, alarm, counts)
    return Thresholds(p, limit, pull, windows_per_shift=total, false_alarms_per_shift=expected)


def quality_limits(config: DaemonConfig, stream: StreamSection, thresholds: Thresholds) -> QualityLimits:
    """Say what p-values mean for the quality of a single window.

    A window that counts towards an alarm is Bad. Three times as many healthy windows are Medium or Bad:
    enough to draw the eye, too few to get used to.

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
    return QualityLimits(medium_p, bad_p, min_events, thresholds.largest_pull)


def _windows_per_shift(config: DaemonConfig) -> dict[str, float]:
    """Windows by stream; of those that alarm, or of all if none does."""
    alarm = config.alarm
    rates = {
        stream.name: alarm.windows_per_hour if stream.windows_per_hour is None else stream.windows_per_hour
        for stream in config.streams
    }
    alarming = {rules.stream for rules in alarm_rules(config).streams if rules.enabled} or rates.keys()
    return {name: rate * alarm.shift_hours for name, rate in rates.items() if name in alarming}


def _healthy(alarm: AlarmSection) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Give onset rate by p and run length by limit, of windows that are correlated as configured."""
    c = alarm.autocorrelation
    if not c:
        return lambda p: onset_rate(p, alarm.k, alarm.n), run_length
    return lambda p: correlated_onset_rate(p, alarm.k, alarm.n, c), partial(run_length, correlation=c)


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
