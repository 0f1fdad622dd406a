"""Flat form of a verdict, used by page, API, reports, command line and JSON lines."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from dqm.events.channel_summary import ChannelSummary
from dqm.events.finite import finite
from dqm.events.result import NanResult, NuisanceResult, PMethod, RateResult, RollingResult
from dqm.events.verdict import Quality, Verdict
from dqm.events.window import Condition, Origin

__all__ = ["View", "WindowSummary", "summarise"]


class View(BaseModel):
    """Base class of values that the daemon shows."""

    model_config = ConfigDict(frozen=True)


class WindowSummary(View):
    """Verdict on one window, without its explanation."""

    stream: str
    run: int
    seq: int
    run_type: str
    origin: Origin
    start: float | None = Field(description="first moment covered, Unix seconds; null without a clock")
    end: float | None = Field(description="last moment covered, Unix seconds; null without a clock")
    judged_at: float = Field(description="when it was decided, Unix seconds")
    quality: Quality
    reason: str = Field(description="why, in words; empty only if Good")
    n_data: int = Field(description="events in the window")
    n_expected: float = Field(description="events the reference was scaled to, N(R_0)")
    n_lost: int = Field(description="windows lost by the sender before this one")
    is_late: bool = Field(
        description="whether another run had begun when it arrived: it does not count for alarms"
    )
    t: float | None = Field(
        description="test statistic tau - delta; a lower bound if p_method is bound; null if not known"
    )
    tau: float | None
    delta: float | None
    p: float | None = Field(description="p-value in (0, 1]; null if not known")
    p_low: float | None = Field(description="95 % interval of p")
    p_high: float | None
    p_method: PMethod | None = Field(
        description="read from the null table, or from the tail fitted beyond it; or bound: the fit ended "
        "where t was certain to be beyond all that the tail can quote; or outside: it is that of the number "
        "of events beyond the range of the reference"
    )
    z: float | None = Field(description="p as a one-sided Gaussian significance; null for p = 1")
    rate: RateResult | None = Field(
        description="test of the number of events; null if it is not known how many are expected"
    )
    channels: ChannelSummary | None = Field(
        description="dead and noisy channels; null if the test is not one of channels"
    )
    nan: NanResult | None = Field(
        description="test of the share of events with NaN; null in streams that take none"
    )
    rolling: RollingResult | None = Field(
        description="test against the last good windows; null in streams without a rolling reference"
    )
    nuisances: dict[str, NuisanceResult]
    warnings: dict[str, str] = Field(description="nuisance parameters that disagree with their measurement")
    remarks: tuple[str, ...] = Field(description="what limits the meaning of the numbers")
    conditions: dict[str, Condition]
    bundle: str = Field(description="reference bundle that judged it; empty if none did")
    seconds: float = Field(description="wall time of the test, s")


def summarise(verdict: Verdict) -> WindowSummary:
    """Make the flat form of a verdict; a number that is not finite, such as z for p = 1, is None."""
    r = verdict.result
    return WindowSummary(
        stream=verdict.window.stream,
        run=verdict.window.run,
        seq=verdict.window.seq,
        run_type=verdict.window.run_type,
        origin=verdict.window.origin,
        start=verdict.window.start,
        end=verdict.window.end,
        judged_at=verdict.judged_at,
        quality=verdict.quality,
        reason=verdict.reason,
        n_data=r.n_data,
        n_expected=r.n_expected,
        n_lost=verdict.window.n_lost,
        is_late=verdict.window.is_late,
        t=finite(r.t),
        tau=finite(r.tau),
        delta=finite(r.delta),
        p=finite(r.p),
        p_low=finite(r.p_low),
        p_high=finite(r.p_high),
        p_method=r.p_method,
        z=finite(r.z),
        rate=r.rate,
        channels=r.channels,
        nan=r.nan,
        rolling=r.rolling,
        nuisances=dict(r.nuisances),
        warnings=dict(verdict.warnings),
        remarks=r.remarks,
        conditions=dict(verdict.window.conditions),
        bundle=verdict.bundle,
        seconds=verdict.seconds,
    )
