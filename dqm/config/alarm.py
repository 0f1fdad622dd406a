"""What raises an alarm and how often it may be false: the tables ``[alarm]`` and ``[groups]``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dqm.config.section import Name, Section

__all__ = ["AlarmSection", "GroupSection", "PriorityName", "Text"]

PriorityName = Literal["P1", "P2", "P3", "P4"]
Text = str | None


class AlarmSection(Section):
    """``[alarm]``: the false-alarm budget, and what holds for all streams unless they say otherwise."""

    false_alarms_per_shift: float = Field(
        1.0, gt=0.0, le=1000.0, description="false alarms that a shift may see over all streams, > 0"
    )
    shift_hours: float = Field(8.0, gt=0.0, le=168.0, description="length of a shift, h")
    windows_per_hour: float = Field(
        60.0, gt=0.0, le=1e6, description="windows that a stream sends in an hour of data taking"
    )
    k: int = Field(2, ge=1, le=16, description="windows of the last n that must differ, 1 to n")
    n: int = Field(3, ge=1, le=16, description="windows that are looked back on, 1 to 16")
    drift_share: float = Field(
        0.5, ge=0.0, lt=1.0, description="share of the budget for slow deterioration; 0: not watched"
    )
    nuisance_share: float = Field(
        0.1, gt=0.0, lt=1.0, description="share for nuisance parameters far from their measurement, if any"
    )
    autocorrelation: float = Field(
        0.0,
        ge=0.0,
        le=0.7,
        description="correlation of the significances of neighbouring healthy windows of a stream, 0 to 0.7",
    )
    on_delay_seconds: float = Field(
        0.0, ge=0.0, le=86_400.0, description="a condition must last so long before it alarms, s"
    )
    off_delay_seconds: float = Field(
        300.0, ge=0.0, le=86_400.0, description="it must be gone so long before the alarm ends, s"
    )
    latching: bool = Field(
        False, description="whether an alarm whose condition has gone waits to be acknowledged"
    )
    grace_windows: int = Field(
        0, ge=0, le=100_000, description="first windows of each run that count for nothing"
    )
    run_types: tuple[Name, ...] = Field(
        (), description="types of runs whose windows count; empty: those of all runs"
    )
    priority: PriorityName = Field("P2", description="how soon an operator must respond, P1 first")
    condition: Text = Field(
        None, min_length=1, description="what a departure means, in words; left out: a text for each cause"
    )
    action: Text = Field(
        None, min_length=1, description="what to do first about a departure; left out: a text for each cause"
    )
    contact: str = Field(
        "the detector expert on call", min_length=1, description="whom to call: a name and a number"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} must not exceed n = {self.n}")
        if self.drift_share + self.nuisance_share >= 1.0:
            raise ValueError(
                f"drift_share = {self.drift_share} and nuisance_share = {self.nuisance_share} leave nothing "
                "for windows that differ; their sum must be less than 1"
            )
        return self


class GroupSection(Section):
    """``[groups."muon/station-1"]``: what holds for the streams of a group and of those within it."""

    policy: Literal["any", "all"] = Field(
        "any", description="any: as bad as its worst member; all: as bad as its best"
    )
    enabled: bool | None = Field(None, description="whether its streams alarm; left out: as around it")
    run_types: tuple[Name, ...] | None = Field(
        None, description="instead of [alarm] run_types; left out: as around it"
    )
    priority: PriorityName | None = Field(None, description="how soon to respond; left out: as around it")
    condition: Text = Field(None, min_length=1, description="what a departure means; left out: as around it")
    action: Text = Field(None, min_length=1, description="what to do first; left out: as around it")
    contact: Text = Field(None, min_length=1, description="whom to call; left out: as around it")
