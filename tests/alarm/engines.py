"""Engines and windows to test with."""

from __future__ import annotations

from collections.abc import Mapping

from scipy import stats

from dqm.alarm import AlarmEngine, Guidance, PresentState, Priority, Rules, StreamRules, Thresholds, Timing
from dqm.alarm.values import Cause
from dqm.events import Quality, RateResult, RollingResult, TestResult, Verdict, WindowCut
from tests.verdicts import make_verdict

THRESHOLDS = Thresholds(p_threshold=0.01, drift_limit=5.0, rate_p=0.01, changed_p=0.01)
GUIDANCE = {cause: Guidance("it means", "do this", "call that") for cause in Cause}


def stream(name: str = "s", group: str = "", **changes: object) -> StreamRules:
    given: dict[str, object] = {
        "stale_seconds": 600.0,
        "unjudged_seconds": 600.0,
        "enabled": True,
        "run_types": (),
        "priority": Priority.P2,
        "guidance": GUIDANCE,
    }
    return StreamRules(name, group, **{**given, **changes})  # type: ignore[arg-type]


def engine(
    *streams: StreamRules,
    timing: Timing | None = None,
    now: float = 0.0,
    dumps: Mapping[str, object] | None = None,
    **changes: object,
) -> AlarmEngine:
    rules = Rules(streams or (stream(),), timing=timing or Timing(), **changes)  # type: ignore[arg-type]
    return AlarmEngine(rules, THRESHOLDS, now, dumps)


def best_of(b: AlarmEngine, name: str = "s") -> Quality:
    """What the alarms leave of a stream whose windows are Good."""
    return PresentState(0.0, Quality.GOOD).beside(b.ceilings[name]).quality


def verdict(
    p: float | None = 0.5,
    seq: int = 0,
    name: str = "s",
    run: int = 1,
    run_type: str = "physics",
    warning: str = "",
    quality: Quality | None = None,
    n_lost: int = 0,
    reason: str = "",
    rate: RateResult | None = None,
    is_late: bool = False,
    conditions: Mapping[str, str | float] | None = None,
    rolling_p: float | None = None,
) -> Verdict:
    if quality is None:
        quality = Quality.NULL if p is None else Quality.BAD if p < 0.01 else Quality.GOOD
    z = None if p is None else float(stats.norm.isf(p))
    rolling = None if rolling_p is None else RollingResult(10, (1, 0), (1, 9), p=rolling_p)
    return make_verdict(
        stream=name, run=run, seq=seq, quality=quality, reason=reason, bundle="b", seconds=0.1, judged_at=0.0,
        result=TestResult(500, 500.0, t=1.0, p=p, z=z, rate=rate, rolling=rolling),
        run_type=run_type, n_lost=n_lost, is_late=is_late, warnings={"gas": warning} if warning else {},
        conditions=conditions or {},
    )  # fmt: skip


def rate_of(p: float, n_expected: float = 1000.0) -> RateResult:
    """Give a test of the number; the windows here have 500 events."""
    return RateResult(WindowCut.TIME, n_expected, uncertainty=0.02, live_seconds=10.0, p=p, z=-3.0)
