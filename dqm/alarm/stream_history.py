"""What the last windows of one stream show: k of n, drift, nuisance parameters, silence; also in words.

A window of quality ``Null`` does not count, neither for an alarm nor against it: nothing is known. A window
that differs in spite of losses is Bad, not Null, and counts. Counting continues over runs, since a fault does
not end with a run, and starting a new run must not end its alarm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ConfigDict

from dqm.alarm.drift import Drift
from dqm.alarm.quality import describe_p
from dqm.alarm.rules import Rules, StreamRules
from dqm.alarm.thresholds import Thresholds
from dqm.alarm.values import Cause
from dqm.events import Quality, Verdict

__all__ = ["StreamHistory"]


@dataclass(slots=True)
class StreamHistory:
    """Summary of the windows of a stream; its size does not grow.

    Parameters
    ----------
    quality : Quality
        Of the last window; Null if there was none or the stream is silent.
    run, seq, run_type
        Of the last window; -1, -1 and empty if there was none.
    filtered : bool
        Whether the last window did not count: grace, or the type of its run.
    silent : bool
        Whether none has come for too long.
    p : list of float
        The last n that count.
    warnings : list of str
        Of the same windows; empty strings where there was none.
    drift : Drift
        Sum of their significances.
    beyond : int
        Windows below the threshold since that sum left 0.
    """

    quality: Quality = Quality.NULL
    run: int = -1
    seq: int = -1
    run_type: str = ""
    filtered: bool = False
    silent: bool = False
    p: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)
    beyond: int = 0

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    def add(self, verdict: Verdict, rules: Rules, stream: StreamRules, thresholds: Thresholds) -> None:
        """Add a window."""
        self.quality = verdict.quality
        self.run, self.seq, self.run_type = verdict.window.run, verdict.window.seq, verdict.window.run_type
        self.silent = False
        is_other_run = bool(stream.run_types) and verdict.window.run_type not in stream.run_types
        self.filtered = is_other_run or verdict.window.seq < rules.grace_windows
        result = verdict.result
        if self.filtered or verdict.quality is Quality.NULL or result.p is None or result.z is None:
            return
        self.p = [*self.p, result.p][-rules.n :]
        self.warnings = [*self.warnings, "; ".join(verdict.warnings.values())][-rules.n :]
        # while windows differ there is an alarm already, and a second one would say the same
        if thresholds.drift_limit is None or self._n_differing(thresholds) >= rules.k:
            return
        self.drift.add(
            result.z,
            limit=thresholds.drift_limit,
            reference_z=thresholds.reference_z,
            largest_z=thresholds.largest_z,
        )
        self.beyond = self.beyond + (result.p < thresholds.p_threshold) if self.drift.windows else 0

    def describe(self, rules: Rules, stream: StreamRules, thresholds: Thresholds) -> dict[Cause, str]:
        """Describe the conditions that hold.

        Returns
        -------
        dict of Cause to str
            Causes whose condition does not hold are left out.
        """
        found = {}
        if self._n_differing(thresholds) >= rules.k:
            found[Cause.DIFFERS] = self._describe_difference(rules, thresholds)
        if self.drift.is_drifting and thresholds.drift_limit is not None:
            found[Cause.DRIFT] = self._describe_drift(thresholds)
        n_warnings = sum(map(bool, self.warnings))
        if n_warnings >= rules.k:
            last = next(filter(None, reversed(self.warnings)))
            found[Cause.NUISANCE] = f"{_of_last(n_warnings, rules.n)} disagree with slow control: {last}"
        if self.silent:
            last = (
                f"no window since number {self.seq} of run {self.run}" if self.run >= 0 else "no window yet"
            )
            found[Cause.SILENT] = f"{last}, for more than {stream.stale_seconds:g} s"
        return found

    def _n_differing(self, thresholds: Thresholds) -> int:
        return sum(p < thresholds.p_threshold for p in self.p)

    def _describe_difference(self, rules: Rules, thresholds: Thresholds) -> str:
        limit = thresholds.p_threshold
        share = _of_last(self._n_differing(thresholds), rules.n)
        last_p = describe_p(next(p for p in reversed(self.p) if p < limit))
        return f"{share} differ from the reference (p < {limit:.2g}), the last of them with {last_p}"

    def _describe_drift(self, thresholds: Thresholds) -> str:
        alone = "none" if self.beyond == 0 else f"{self.beyond}"
        return (
            f"windows have deteriorated over the last {self.drift.windows}, "
            f"{alone} of them alone beyond p = {thresholds.p_threshold:.2g}: "
            f"summed significance {self.drift.sum:.1f}, limit {thresholds.drift_limit:.1f}"
        )


def _of_last(count: int, n: int) -> str:
    return "the last window" if n == 1 else f"{count} of the last {n} windows"
