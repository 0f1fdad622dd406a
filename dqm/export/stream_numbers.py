"""Numbers of one stream, kept until they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dqm.events import Quality, RunRecord, Verdict
from dqm.events.finite import finite
from dqm.stream import StreamCounts

__all__ = ["StreamNumbers"]


@dataclass(slots=True)
class StreamNumbers:
    """Counts since the start of the daemon, and the last window.

    Parameters
    ----------
    bundles : sequence of str
        Identifiers of its bundles.
    quality : Quality
        That of the last window.
    last : Verdict, optional
        The last window.
    is_stale : bool
        Whether that window is too old for the present state.
    run : RunRecord, optional
        Its present run.
    n_judged : Counter
        Windows by quality.
    n_lost, n_duplicates, n_skipped : int
        Windows that were lost, that came again, and that were skipped in an overload.
    arrivals : StreamCounts What the receiver has counted.
    """

    bundles: Sequence[str]
    quality: Quality = Quality.NULL
    last: Verdict | None = None
    is_stale: bool = False
    run: RunRecord | None = None
    n_judged: Counter[Quality] = field(default_factory=Counter)
    n_lost: int = 0
    n_duplicates: int = 0
    n_skipped: int = 0
    arrivals: StreamCounts = field(default_factory=StreamCounts)

    @property
    def bundle(self) -> str:
        """The bundle that judged the last window; the first bundle, if none did."""
        last = "" if self.last is None else self.last.bundle
        return last if last in self.bundles else self.bundles[0]

    def number(self, name: str, now: float) -> float | None:
        """Value of a gauge of the last window, if there is one, and if it is finite."""
        if self.last is None:
            return None
        result = self.last.result
        known = not self.is_stale
        values: dict[str, float | None] = {
            "dqm_window_statistic": result.t if known else None,
            "dqm_window_tau": result.tau if known else None,
            "dqm_window_delta": result.delta if known else None,
            "dqm_window_p_value": result.p if known else None,
            "dqm_window_z_score": result.z if known else None,
            "dqm_window_age_seconds": max(0.0, now - self.last.judged_at),
            "dqm_window_events": result.n_data,
            "dqm_window_expected_events": result.n_expected
            if result.rate is None
            else result.rate.n_expected,
            "dqm_window_rate_p_value": result.rate.p if known and result.rate else None,
            "dqm_window_rate_z_score": result.rate.z if known and result.rate else None,
            "dqm_window_rolling_p_value": result.rolling.p if known and result.rolling else None,
            "dqm_window_rolling_windows": result.rolling.n_windows if known and result.rolling else None,
        }
        return finite(values[name])

    def nuisances(self) -> Iterable[tuple[str, dict[str, float | None]]]:
        """Gauges of each nuisance parameter of the last window."""
        if self.last is None or self.is_stale:
            return
        for name, nuisance in self.last.result.nuisances.items():
            yield (
                name,
                {
                    "dqm_nuisance_value": finite(nuisance.reference.value),
                    "dqm_nuisance_measured": finite(nuisance.measured),
                    "dqm_nuisance_pull": finite(nuisance.reference.pull),
                    "dqm_nuisance_warning": float(name in self.last.warnings),
                },
            )
