"""Numbers of one stream: its counts, kept until they are scraped, and those of its last window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dqm.alarm import PresentState
from dqm.events import Quality, Verdict
from dqm.events.finite import finite
from dqm.stream import StreamCounts

__all__ = ["StreamNumbers", "nuisance_numbers", "window_number"]


@dataclass(slots=True)
class StreamNumbers:
    """Counts since the start of the daemon.

    Parameters
    ----------
    bundles : sequence of str
        Identifiers of its bundles.
    n_judged : Counter
        Windows by quality.
    n_lost, n_duplicates, n_skipped : int
        Windows that were lost, that came again, and that were skipped in an overload.
    arrivals : StreamCounts
        What the receiver has counted.
    """

    bundles: Sequence[str]
    n_judged: Counter[Quality] = field(default_factory=Counter)
    n_lost: int = 0
    n_duplicates: int = 0
    n_skipped: int = 0
    arrivals: StreamCounts = field(default_factory=StreamCounts)


def window_number(state: PresentState, name: str, now: float) -> float | None:
    """Value of a gauge of the last window, if there is one, and if it is finite.

    The age is that of the last window of any run, the number of events that of the last one of this run;
    the other numbers are there only while they say something of the present.
    """
    if name == "dqm_window_age_seconds":
        return None if state.newest is None else max(0.0, now - state.newest.judged_at)
    last = state.last
    if last is None:
        return None
    result = last.result
    rate = result.rate
    rolling = result.rolling
    of_any_age = {
        "dqm_window_events": result.n_data,
        "dqm_window_expected_events": result.n_expected if rate is None else rate.n_expected,
    }
    if name in of_any_age:
        return finite(of_any_age[name])
    values = {
        "dqm_window_statistic": result.t,
        "dqm_window_tau": result.tau,
        "dqm_window_delta": result.delta,
        "dqm_window_p_value": result.p,
        "dqm_window_z_score": result.z,
        "dqm_window_rate_p_value": rate.p if rate else None,
        "dqm_window_rate_z_score": rate.z if rate else None,
        "dqm_window_rolling_p_value": rolling.p if rolling else None,
        "dqm_window_rolling_windows": rolling.n_windows if rolling else None,
    }
    return finite(values[name]) if state.is_known else None


def nuisance_numbers(verdict: Verdict) -> Iterable[tuple[str, dict[str, float | None]]]:
    """Gauges of each nuisance parameter of a window."""
    for name, nuisance in verdict.result.nuisances.items():
        yield (
            name,
            {
                "dqm_nuisance_value": finite(nuisance.reference.value),
                "dqm_nuisance_measured": finite(nuisance.measured),
                "dqm_nuisance_pull": finite(nuisance.reference.pull),
                "dqm_nuisance_warning": float(name in verdict.warnings),
            },
        )
