"""What the last windows of one stream show: k of n, drift, nuisance parameters, silence; also in words.

Shape and number of events of a window count each by itself, as far as they are known: a window that is too
small for the test of the shape still counts for the number. Where nothing is known, a window counts neither
for an alarm nor against it. If nothing has been known for a long time, that is an alarm of its own. A healthy
p of a window after losses is not evidence of health and does not count. Counting continues over runs: a fault
does not end with a run, and the start of a run must not end its alarm. A text about windows of an earlier run
says so. A late window, which arrived after another run had begun, says nothing of the present and does not
count; if only such windows come, that is not knowing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ConfigDict
from scipy import special

from dqm.alarm.drift import Drift
from dqm.alarm.e_process import EProcess, HealthyZ
from dqm.alarm.quality import departure_p, describe_nan, describe_p, describe_rate
from dqm.alarm.rules import Rules, StreamRules
from dqm.alarm.run_borders import describe_run
from dqm.alarm.thresholds import Thresholds
from dqm.alarm.values import Cause
from dqm.errors import format_count
from dqm.events import Quality, RunRecord, Verdict
from dqm.events.finite import format_clock

__all__ = ["RefusedWindows", "StreamHistory", "UnjudgedWindows"]

_MOST_REASONS = 16
_ROUNDING = 1e-9
"""What a sum that is kept at its limit may be below it."""

_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(slots=True)
class UnjudgedWindows:
    """Windows in a row that could not be judged, counted by their reasons; its size does not grow.

    Parameters
    ----------
    reasons : dict of str to tuple
        Number of windows and the last text, by the reason without its numbers.
    is_long : bool
        Whether they have gone on for too long.
    """

    reasons: dict[str, tuple[int, str]] = field(default_factory=dict)
    is_long: bool = False

    __pydantic_config__ = ConfigDict(extra="forbid")

    def add(self, reason: str) -> None:
        """Count a window."""
        kind = _NUMBER.sub("#", reason)
        if kind in self.reasons or len(self.reasons) < _MOST_REASONS:
            self.reasons[kind] = (self.reasons.get(kind, (0, ""))[0] + 1, reason)

    def describe(self) -> str:
        """Name the commonest reason."""
        count, reason = max(self.reasons.values(), default=(0, "none of them could be judged"))
        return f"{format_count(count, 'window')}: {reason}"


@dataclass(slots=True)
class RefusedWindows:
    """Windows that were refused, among the last ones that arrived.

    Parameters
    ----------
    arrivals : list of bool
        Of the last n windows that arrived, whether each was refused.
    count : int
        Refused since the first of them.
    since : float
        When the first of them came, Unix seconds.
    text : str
        Why the last one was refused.
    """

    arrivals: list[bool] = field(default_factory=list)
    count: int = 0
    since: float = 0.0
    text: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    def add(self, text: str, n: int, now: float) -> None:
        """Add a refused window."""
        if not self.count:
            self.since = now
        self.count += 1
        self.text = text
        self._arrive(n, is_refused=True)

    def add_accepted(self, n: int) -> None:
        """Add a window that was not refused; when none of the last n was, the count begins anew."""
        if self.count:
            self._arrive(n, is_refused=False)
            if not any(self.arrivals):
                self.count = 0
                self.text = ""

    def describe(self) -> str:
        """Give it in words: ``36 windows refused since 12:03 UTC: NaN or infinity in 2 % of t_2``."""
        begin = format_clock(self.since)
        return f"{format_count(self.count, 'window')} refused since {begin}: {self.text}"

    def _arrive(self, n: int, *, is_refused: bool) -> None:
        self.arrivals = [*self.arrivals, is_refused][-n:]


@dataclass(slots=True)
class StreamHistory:
    """Summary of the windows of a stream; its size does not grow.

    Parameters
    ----------
    run, seq, run_type
        Of the last window; -1, -1 and empty if there was none. A run that has begun has no window yet: its
        seq is -1.
    border : str
        How the present run began, in words; empty if nobody said it.
    counted_run : int
        Run of the last window that counted; -1 if there was none.
    filtered : bool
        Whether the last window did not count: grace, or the type of its run.
    silent : bool
        Whether none has come for too long.
    p : list of float
        Of the shape, of the last n windows that count.
    nan : str
        Share of NaN of the last window that differs, in words; empty if it differs by its shape.
    warnings : list of str
        Of the same windows; empty strings where there was none.
    excesses : list of str
        Of the last n windows, the conditions above their limits in words; empty strings where there is none.
    rate_p : list of float
        Of the number of events, of the last n windows that say what they expect.
    rate_texts : list of str
        The same in words.
    rolling_p : list of float
        Against the last good windows before them, of the last n windows that were compared.
    accepted_at : float or None
        When a person last accepted a sudden change, Unix seconds; None if nobody did.
    is_renewing : bool
        Whether the rolling reference has not begun anew since: windows are still compared with those before.
    drift : Drift
        Sum of the significances of the shapes.
    run_evidence : EProcess
        Evidence of the present run, where it is asked for instead.
    beyond : int
        Windows below the threshold since that sum left 0, or since the run began.
    refused : RefusedWindows
        Windows that were refused.
    unjudged : UnjudgedWindows
        Windows since the last one that could be judged.
    """

    run: int = -1
    seq: int = -1
    run_type: str = ""
    border: str = ""
    counted_run: int = -1
    filtered: bool = False
    silent: bool = False
    p: list[float] = field(default_factory=list)
    nan: str = ""
    warnings: list[str] = field(default_factory=list)
    excesses: list[str] = field(default_factory=list)
    rate_p: list[float] = field(default_factory=list)
    rate_texts: list[str] = field(default_factory=list)
    rolling_p: list[float] = field(default_factory=list)
    accepted_at: float | None = None
    is_renewing: bool = False
    drift: Drift = field(default_factory=Drift)
    run_evidence: EProcess = field(default_factory=EProcess)
    beyond: int = 0
    refused: RefusedWindows = field(default_factory=RefusedWindows)
    unjudged: UnjudgedWindows = field(default_factory=UnjudgedWindows)

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    def add(
        self,
        verdict: Verdict,
        rules: Rules,
        stream: StreamRules,
        thresholds: Thresholds,
        *,
        is_present: bool = True,
    ) -> None:
        """Add a window; `is_present`: of the present run, not of one that was over when it was judged."""
        window = verdict.window
        is_other_run = _is_other_run(window.run_type, stream)
        if window.is_late:
            self._add_late(verdict, is_watched=not is_other_run)
            return
        is_filtered = is_other_run or window.seq < rules.grace_windows
        if is_present:
            self.filtered = is_filtered
            self.run = window.run
            self.seq = window.seq
            self.run_type = window.run_type
        self.silent = False
        self.refused.add_accepted(rules.n)
        rolling_p = None if verdict.result.rolling is None else verdict.result.rolling.p
        self.is_renewing = self.is_renewing and rolling_p is not None
        if is_filtered:
            return
        self.counted_run = window.run
        if verdict.quality is Quality.NULL:
            self.unjudged.add(verdict.reason)
        else:
            self.unjudged = UnjudgedWindows()
        self.excesses = [*self.excesses, _describe_excess(verdict, stream.limits)][-rules.n :]
        self._add_number(verdict, rules)
        if rolling_p is not None and not self.is_renewing:
            self.rolling_p = [*self.rolling_p, rolling_p][-rules.n :]
        self._add_shape(verdict, rules, stream, thresholds)

    def accept_change(self, now: float) -> None:
        """Let the state after a sudden change be the one to compare with, from `now` on, Unix seconds."""
        self.accepted_at = now
        self.is_renewing = True
        self.rolling_p = []

    def begin(self, run: RunRecord, stream: StreamRules) -> None:
        """Begin a run: what belongs to the one before is not the present state any more."""
        self.border = describe_run(run)
        if self.run == run.run:
            return
        self.run = run.run
        self.seq = -1
        self.run_type = run.run_type
        self.filtered = _is_other_run(run.run_type, stream)

    def end(self) -> None:
        """End the run: nobody waits for a window any more."""
        self.silent = False

    def describe(self, rules: Rules, stream: StreamRules, thresholds: Thresholds) -> dict[Cause, str]:
        """Describe the conditions that hold.

        Returns
        -------
        dict of Cause to str
            Causes whose condition does not hold are left out.
        """
        found = self._describe_windows(rules, stream, thresholds)
        if self.silent:
            found[Cause.SILENT] = self.describe_silence(stream)
        if sum(self.refused.arrivals) >= rules.k:
            found[Cause.REFUSED] = self.refused.describe()
        if self.unjudged.is_long:
            limit = f"for more than {stream.unjudged_seconds:g} s"
            found[Cause.UNJUDGED] = f"no window could be judged {limit}; {self.unjudged.describe()}"
        return found

    def describe_silence(self, stream: StreamRules) -> str:
        """Say since which window none has come, and whether the last ones were refused."""
        refused = "; the last that arrived were refused" if any(self.refused.arrivals) else ""
        return f"{self._describe_last()}, for more than {stream.stale_seconds:g} s{refused}"

    def _describe_windows(
        self, rules: Rules, stream: StreamRules, thresholds: Thresholds
    ) -> dict[Cause, str]:
        """Describe what the windows that count show, and of which run they are if it is not the present."""
        found = {}
        if self._n_differing(thresholds) >= rules.k:
            found[Cause.DIFFERS] = self._describe_difference(rules, thresholds)
        n_other_numbers = sum(p < (thresholds.rate_p or 0.0) for p in self.rate_p)
        if n_other_numbers >= rules.k:
            share = _of_last(n_other_numbers, rules.n)
            found[Cause.RATE] = (
                f"{share} have another number of events: {self._last_other_number(thresholds)}"
            )
        changed = [p for p in self.rolling_p if p < thresholds.changed_p]
        if stream.n_rolling and len(changed) >= rules.k:
            found[Cause.CHANGED] = (
                f"{_of_last(len(changed), rules.n)} differ from the last {stream.n_rolling} good ones (p < "
                f"{thresholds.changed_p:.2g}), the last of them with {describe_p(changed[-1])}"
            )
        if thresholds.drift_limit is not None and self._watched(thresholds).is_drifting:
            found[Cause.DRIFT] = self._describe_drift(thresholds)
        n_warnings = sum(map(bool, self.warnings))
        if n_warnings >= rules.k:
            last = next(filter(None, reversed(self.warnings)))
            found[Cause.NUISANCE] = f"{_of_last(n_warnings, rules.n)} disagree with slow control: {last}"
        n_excesses = sum(map(bool, self.excesses))
        if n_excesses >= rules.k:
            last = next(filter(None, reversed(self.excesses)))
            found[Cause.LIMIT] = f"{_of_last(n_excesses, rules.n)} are above a limit: {last}"
        of_run = f" (run {self.counted_run})" if self.counted_run not in (-1, self.run) else ""
        return {cause: text + of_run for cause, text in found.items()}

    def _describe_last(self) -> str:
        """Say since which window none has come."""
        if self.run < 0:
            return "no window yet"
        if self.seq < 0:
            return f"{self.border}; no window of it came"
        return f"no window since number {self.seq} of run {self.run}"

    def _add_late(self, verdict: Verdict, *, is_watched: bool) -> None:
        """Note a window of an older run. It is not evidence of the present, but shows that windows come."""
        self.silent = False
        if not is_watched:
            return
        ended = f"run {verdict.window.run} is over, and windows of it still arrive"
        self.unjudged.add(ended if self.run < 0 else f"{ended}: run {self.run} has begun")

    def _add_number(self, verdict: Verdict, rules: Rules) -> None:
        rate = verdict.result.rate
        if rate is None:
            return
        text = f"{describe_rate(verdict.result.n_data, rate)} ({describe_p(rate.p)})"
        self.rate_p = [*self.rate_p, rate.p][-rules.n :]
        self.rate_texts = [*self.rate_texts, text][-rules.n :]

    def _add_shape(self, verdict: Verdict, rules: Rules, stream: StreamRules, thresholds: Thresholds) -> None:
        result = verdict.result
        p = departure_p(verdict.result)
        if verdict.quality is Quality.NULL or p is None:
            return
        if (verdict.window.n_lost or result.p is None) and p >= thresholds.p_threshold:
            return
        self.p = [*self.p, p][-rules.n :]
        if p < thresholds.p_threshold:
            nan = result.nan
            self.nan = "" if nan is None or nan.p > (result.p or 1.0) else describe_nan(nan)
        self.warnings = [*self.warnings, "; ".join(verdict.warnings.values())][-rules.n :]
        if result.p is None or result.z is None:
            return
        # while windows differ there is an alarm already, and a second one would say the same
        if thresholds.drift_limit is None or self._n_differing(thresholds) >= rules.k:
            return
        if thresholds.drift_test == "run":
            self._bet(verdict, thresholds.healthy_z.get(stream.stream, HealthyZ()), thresholds.drift_limit)
        else:
            self.run_evidence = EProcess()
            self.drift.add(
                result.z,
                limit=thresholds.drift_limit,
                reference_z=thresholds.reference_z,
                largest_z=thresholds.largest_z,
                window=(verdict.window.run, verdict.window.seq),
            )
        n_windows = self._watched(thresholds).windows
        is_beyond = n_windows > 0 and result.p < thresholds.p_threshold
        self.beyond = (self.beyond if n_windows > 1 else 0) + is_beyond

    def _bet(self, verdict: Verdict, healthy: HealthyZ, log_limit: float) -> None:
        self.drift = Drift()
        result = verdict.result
        # windows before which some were lost come here by their p: no fair bet
        if result.z is None or verdict.window.n_lost:
            return
        z = result.z if result.p_high is None else min(result.z, -float(special.ndtri(result.p_high)))
        self.run_evidence.add(verdict.window.run, z, healthy=healthy, log_limit=log_limit)

    def _watched(self, thresholds: Thresholds) -> Drift | EProcess:
        return self.run_evidence if thresholds.drift_test == "run" else self.drift

    def drift_statistic(self, thresholds: Thresholds) -> float:
        """Give what `Thresholds.drift_limit` is the limit of."""
        return self.run_evidence.log_wealth if thresholds.drift_test == "run" else self.drift.sum

    def _n_differing(self, thresholds: Thresholds) -> int:
        return sum(p < thresholds.p_threshold for p in self.p)

    def _last_other_number(self, thresholds: Thresholds) -> str:
        pairs = zip(reversed(self.rate_p), reversed(self.rate_texts), strict=True)
        return next(text for p, text in pairs if p < (thresholds.rate_p or 0.0))

    def _describe_difference(self, rules: Rules, thresholds: Thresholds) -> str:
        limit = thresholds.p_threshold
        share = _of_last(self._n_differing(thresholds), rules.n)
        last_p = describe_p(next(p for p in reversed(self.p) if p < limit))
        nan = f": {self.nan}" if self.nan else ""
        return f"{share} differ from the reference (p < {limit:.2g}), the last of them with {last_p}{nan}"

    def _describe_drift(self, thresholds: Thresholds) -> str:
        alone = "none" if self.beyond == 0 else f"{self.beyond}"
        beyond = f"{alone} of them alone beyond p = {thresholds.p_threshold:.2g}"
        if thresholds.least_evidence:
            log_wealth = self.run_evidence.log_wealth
            limit = _of_limit(log_wealth, thresholds.drift_limit, f"{thresholds.least_evidence:.3g}", end=1)
            return (
                f"windows have deteriorated in run {self.run_evidence.run}, {beyond}: evidence "
                f"{math.exp(log_wealth):.3g} to 1, {limit}"
            )
        since = f", {found}" if (found := self.drift.describe_since()) else ""
        limit = _of_limit(self.drift.sum, thresholds.drift_limit, f"{thresholds.drift_limit:.1f}", end=0)
        return (
            f"windows have deteriorated over the last {self.drift.windows}{since}, {beyond}: "
            f"summed significance {self.drift.sum:.1f}, {limit}"
        )


def _of_limit(now: float, limit: float | None, written: str, *, end: int) -> str:
    """Say the limit of a statistic that has reached it, and when the alarm ends if it is lower by now."""
    if limit is None or now >= limit - _ROUNDING:
        return f"limit {written}"
    return f"less than the limit {written} that it has reached; the alarm ends at {end}"


def _is_other_run(run_type: str, stream: StreamRules) -> bool:
    """Whether windows of runs of a type do not count."""
    return bool(stream.run_types) and run_type not in stream.run_types


def _describe_excess(verdict: Verdict, limits: Mapping[str, float]) -> str:
    """Name the conditions above their limits; one that is not a number or missing is not above."""
    conditions = verdict.window.conditions
    found = {name: value for name in limits if isinstance(value := conditions.get(name), float | int)}
    return ", ".join(
        f"{name} = {value:.3g}, limit {limits[name]:.3g}"
        for name, value in found.items()
        if value > limits[name]
    )


def _of_last(count: int, n: int) -> str:
    return "the last window" if n == 1 else f"{count} of the last {n} windows"
