"""Keys of the streams and of their groups in the configuration of ``dqm run``."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, ValidationInfo, field_validator

from dqm.config.notify import PriorityName
from dqm.config.values import (
    ConfigPath,
    GroupPath,
    Name,
    Section,
)
from dqm.errors import LARGEST_INTEGER

__all__ = ["ConditionRule", "GroupSection", "ReferenceSection", "RollingSection", "StreamSection", "Text"]

Text = str | None


class GroupSection(Section):
    """``[groups."muon/station-1"]``: settings of the streams in a group and in the groups within it."""

    policy: Literal["any", "all"] = Field(
        "any", description="state of the group: any (that of the worst member), all (that of the best)"
    )
    enabled: bool | None = Field(
        None, description="whether its streams raise alarms; default: as the outer group"
    )
    run_types: tuple[Name, ...] | None = Field(
        None, description="replaces [alarm] run_types; default: as the outer group"
    )
    priority: PriorityName | None = Field(
        None, description="how soon to respond; default: as the outer group"
    )
    condition: Text = Field(
        None, min_length=1, description="what a departure means; default: as the outer group"
    )
    action: Text = Field(None, min_length=1, description="what to do first; default: as the outer group")
    contact: Text = Field(None, min_length=1, description="whom to call; default: as the outer group")


def _check_condition(value: object) -> ConditionRule:
    """Take a text, a number, or a range of two numbers."""
    match value:
        case bool():
            pass
        case str():
            return value
        case int() | float() if math.isfinite(value):
            return float(value)
        case [(int() | float()) as low, (int() | float()) as high]:
            if math.isfinite(low) and math.isfinite(high) and low <= high:
                return float(low), float(high)
    raise ValueError(
        f"{value!r} is not a condition: give a text, a number, or a range [LOW, HIGH] with LOW <= HIGH"
    )


ConditionRule = str | float | tuple[float, float]
"""What a condition of a window must be: this text, this number, or a number in a closed range."""

_Condition = Annotated[ConditionRule, PlainValidator(_check_condition)]


class ReferenceSection(Section):
    """``[[streams.references]]``: a bundle, and which windows of the stream it judges."""

    bundle: ConfigPath = Field(description="reference bundle; relative to this file")
    run_types: tuple[Name, ...] = Field((), description="for runs of these types; empty: of all types")
    conditions: dict[Name, _Condition] = Field(
        {},
        description="for windows with these conditions, each a text, a number, or a range [LOW, HIGH] with "
        "its ends",
    )

    @property
    def takes_all(self) -> bool:
        """Whether it fits every window."""
        return not (self.run_types or self.conditions)


class RollingSection(Section):
    """``[streams.rolling]``: the last good windows of the stream as a second reference, beside its bundle."""

    windows: int = Field(
        10, ge=2, le=100, description="good windows that each window is compared with, 2 to 100"
    )
    permutations: int = Field(
        200,
        ge=100,
        le=10_000,
        description="random divisions of their events that p comes from, 100 to 10000",
    )


class StreamSection(Section):
    """``[[streams]]``: one stream and its references."""

    name: Name = Field(description="name of the stream: up to 64 letters, digits, '.', '_', '-'")
    bundle: ConfigPath | None = Field(
        None, description="reference bundle of all windows; relative to this file"
    )
    bundles: dict[Name, ConfigPath] = Field(
        {}, description="instead: a reference bundle for each type of run"
    )
    references: tuple[ReferenceSection, ...] = Field(
        (),
        validate_default=True,
        description="instead: bundles with conditions; the first that fits a window judges it",
    )
    accept_red_certificate: bool = Field(
        False,
        description="whether its bundles are used although a line of their certificate is red; otherwise the "
        "daemon does not start with them",
    )
    min_events: int | None = Field(
        None, ge=1, le=LARGEST_INTEGER, description="replaces [quality] min_events for this stream"
    )
    rate_uncertainty: float | None = Field(
        None, ge=0.0, le=1.0, description="replaces [quality] rate_uncertainty for this stream"
    )
    bad_channels: tuple[Annotated[int, Field(ge=0, le=LARGEST_INTEGER)], ...] = Field(
        (),
        max_length=100_000,
        description="channels that are known to be bad and count for nothing; for a bundle of channels",
    )
    expected_rate_hz: float | None = Field(
        None,
        gt=0.0,
        le=1e12,
        description="rate of events in a healthy detector, for windows cut by count, Hz; default: that of "
        "the reference's run, if the bundle knows it",
    )
    largest_nan_share: float = Field(
        0.0,
        ge=0.0,
        le=0.5,
        description="windows with NaN in up to this share of a feature are judged: the shape of the other "
        "events, and the share; 0: windows with NaN are refused",
    )
    rolling: RollingSection | None = Field(
        None,
        description="a second test, against the last good windows, for sudden changes; default: none",
    )
    stale_seconds: float = Field(
        600.0, gt=0.0, description="without a window for this time the stream is Null and raises an alarm, s"
    )
    unjudged_seconds: float | None = Field(
        None,
        gt=0.0,
        description="an alarm is raised if windows come and none of them could be judged for this time, s; "
        "default: stale_seconds",
    )
    limits: dict[Name, float] = Field(
        {},
        max_length=16,
        description="largest value of conditions that come with the windows, by name, such as "
        "left_out_share = 0.01; k of n windows above one raise an alarm; default: none",
    )
    group: GroupPath | Literal[""] = Field(
        "", description="path of its group, such as muon/station-1; empty: no group"
    )
    windows_per_hour: float | None = Field(
        None, gt=0.0, le=1e6, description="replaces [alarm] windows_per_hour for this stream"
    )
    enabled: bool | None = Field(
        None, description="whether it raises alarms; default: as its group, true without group"
    )
    priority: PriorityName | None = Field(None, description="how soon to respond; default: as its group")
    condition: Text = Field(None, min_length=1, description="what a departure means; default: as its group")
    action: Text = Field(None, min_length=1, description="what to do first; default: as its group")
    contact: Text = Field(None, min_length=1, description="whom to call; default: as its group")

    @field_validator("references")
    @classmethod
    def _check_references(
        cls, references: tuple[ReferenceSection, ...], info: ValidationInfo
    ) -> tuple[ReferenceSection, ...]:
        """Check that one of three keys names the bundles, and that each bundle is used."""
        others = [key for key in ("bundle", "bundles") if info.data.get(key)]
        given = [*others, *(["references"] if references else [])]
        if not given and {"bundle", "bundles"} <= info.data.keys():  # else it is told what is wrong with them
            raise ValueError("one of bundle, bundles and references must be given")
        if len(given) > 1:
            raise ValueError(f"one of bundle, bundles and references may be given, not {' and '.join(given)}")
        general = [reference.takes_all for reference in references[:-1]]
        if any(general):
            raise ValueError(
                f"number {general.index(True)} takes every window, so those after it are never used: put it "
                "last"
            )
        return references

    @property
    def ordered_references(self) -> tuple[ReferenceSection, ...]:
        """Its references, whichever key names them; the first that fits a window judges it."""
        if self.bundle is not None:
            return (ReferenceSection(bundle=self.bundle),)
        by_type = (ReferenceSection(bundle=path, run_types=(name,)) for name, path in self.bundles.items())
        return (*by_type, *self.references)
