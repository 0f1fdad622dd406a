"""Trend of a stream as the API gives it."""

from __future__ import annotations

from pydantic import Field

from dqm.alarm import StreamTrend, means
from dqm.events import Quality
from dqm.events.summary import View

__all__ = ["Trend", "TrendRun", "show_trend"]


class TrendRun(View):
    """The windows of one run."""

    run: int
    run_type: str
    begin: float | None = Field(description="time of its first window, Unix seconds; null without a clock")
    end: float | None
    qualities: dict[Quality, int] = Field(description="windows of each quality")
    bad_share: float | None = Field(
        description="Bad ones among those that are not Null; null if there are none"
    )
    z_quantiles: tuple[float, ...] = Field(
        description="Z below which 16, 50 and 84 % of the windows are, to 0.05; empty if none has one"
    )
    rate_hz: float | None = Field(description="events per second of live time; null if it is not known")
    n_dead: int | None = Field(description="median number of dead channels; null if the test has no channels")
    n_noisy: int | None = Field(description="median number of noisy channels")
    nuisances: dict[str, float] = Field(description="means of the fitted nuisance parameters")
    conditions: dict[str, float] = Field(description="means of the conditions that are numbers")
    feature_shares: dict[str, float] = Field(
        description="mean share of each feature in the departure of windows that were explained"
    )
    marks: tuple[str, ...] = Field(
        description="how it differs from the runs before, in words; empty if it does not"
    )


class Trend(View):
    """The runs of a stream side by side."""

    stream: str
    onset: str = Field(description="since when windows are worse, in words; empty if nothing is certain")
    runs: tuple[TrendRun, ...] = Field(description="in the order of time")


def show_trend(trend: StreamTrend) -> Trend:
    """Make what the API gives."""
    return Trend(
        stream=trend.stream,
        onset=trend.describe_onset(),
        runs=tuple(
            TrendRun(
                run=run.run,
                run_type=run.run_type,
                begin=run.begin,
                end=run.end,
                qualities={quality: run.counts.get(quality, 0) for quality in Quality},
                bad_share=run.bad_share,
                z_quantiles=run.z_quantiles,
                rate_hz=run.rate_hz,
                n_dead=run.n_dead,
                n_noisy=run.n_noisy,
                nuisances=means(run.nuisances),
                conditions=means(run.conditions),
                feature_shares=means(run.features),
                marks=marks,
            )
            for run, marks in trend.marked_runs
        ),
    )
