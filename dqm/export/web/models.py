"""What the page and the JSON API show, as pydantic models: their schemas are the API's documentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dqm.alarm import Alarm, AlarmChange, AlarmState, Mask
from dqm.config import NAME_PATTERN
from dqm.events import Condition, Likeness, NuisanceResult, Origin, PMethod, Quality

__all__ = [
    "AlarmList",
    "BundleFacts",
    "ChangeList",
    "ExplanationMaps",
    "Group",
    "Kept",
    "MakeMask",
    "Map",
    "MaskList",
    "Overview",
    "Problem",
    "Recent",
    "Shelve",
    "Signed",
    "Stream",
    "Window",
    "WindowList",
    "WindowSummary",
]

_LONGEST_TEXT = 500
_LONGEST_SHELF_HOURS = 24 * 31

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_LONGEST_TEXT)]
RunType = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _Shown(BaseModel):
    """Something to be shown; made by the daemon."""

    model_config = ConfigDict(frozen=True)


class _Asked(BaseModel):
    """Something asked for; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recent(_Shown):
    """One of the last windows of a stream."""

    run: int
    seq: int
    quality: Quality


class WindowSummary(_Shown):
    """Verdict on one window, without its maps."""

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
    t: float | None = Field(description="test statistic tau - delta; null if not known")
    tau: float | None
    delta: float | None
    p: float | None = Field(description="p-value in (0, 1]; null if not known")
    p_low: float | None = Field(description="95 % interval of p")
    p_high: float | None
    p_method: PMethod | None = Field(
        description="read from the null table, or from the tail fitted beyond it"
    )
    z: float | None = Field(description="p as a one-sided Gaussian significance")
    nuisances: dict[str, NuisanceResult]
    warnings: dict[str, str] = Field(description="nuisance parameters that disagree with their measurement")
    remarks: tuple[str, ...] = Field(description="what limits the meaning of the numbers")
    conditions: dict[str, Condition]
    bundle: str = Field(description="reference bundle that judged it; empty if none did")
    seconds: float = Field(description="wall time of the test, s")


class Map(_Shown):
    """A window and its reference in bins of one feature or of two; density ratio is fitted / reference."""

    features: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...] = Field(description="bin edges of each feature, raw units")
    reference: list[float] | list[list[float]] = Field(description="events expected in each bin")
    reference_error: list[float] | list[list[float]] = Field(description="its own one-sigma error")
    data: list[float] | list[list[float]] = Field(description="events seen")
    fitted: list[float] | list[list[float]] = Field(description="reference reweighted by exp(f)")


class ExplanationMaps(_Shown):
    """Where a window departs from the reference, and what it looks like."""

    text: str
    ranking: tuple[tuple[str, float], ...] = Field(
        description="features and their share of the departure, 0 to 1, the largest first"
    )
    likenesses: tuple[Likeness, ...] = Field(description="known faults, the most similar first")
    maps: tuple[Map, ...] = Field(description="one for each feature")
    pairs: tuple[Map, ...] = Field(description="one for each pair of features")


class Kept(_Shown):
    """Whether the events of a window are still there."""

    url: str | None = Field(description="where to fetch them; null if they are not kept")
    reason: str = Field(description="why they are not kept; empty if they are")


class BundleFacts(_Shown):
    """Reference bundle in use."""

    identifier: str
    features: tuple[str, ...]
    windows: str = Field(description="windows it is meant for")
    statistic: str
    settings: dict[str, float | int | str]
    n_reference: int = Field(description="reference events")
    n_toys: int = Field(description="healthy toys in all its null tables")
    nuisances: tuple[str, ...]
    templates: tuple[str, ...] = Field(description="faults it has been taught")
    sources: tuple[str, ...]


class Window(_Shown):
    """Everything about one window."""

    verdict: WindowSummary
    explanation: ExplanationMaps | None
    why_unexplained: str = Field(description="why there are no maps; empty if there are")
    bundle: BundleFacts | None
    why_no_bundle: str = Field(description="why the bundle is not described; empty if it is")
    kept: Kept


class WindowList(_Shown):
    """Verdicts of a stream, the newest first."""

    stream: str
    windows: tuple[WindowSummary, ...]


class Stream(_Shown):
    """One stream as it stands."""

    name: str
    path: str = Field(description="groups it belongs to, joined by '/'; empty for none")
    quality: Quality
    reason: str = Field(description="why, in words; empty only if Good")
    since: float = Field(description="when this quality began, Unix seconds")
    alarm: Alarm | None = Field(description="its most pressing alarm; null if all are Normal")
    needs_response: bool = Field(description="whether somebody must respond to that alarm")
    last: WindowSummary | None = Field(description="last window; null before the first since the start")
    recent: tuple[Recent, ...] = Field(description="last windows, the newest last")
    explained: str = Field(description="what the last anomalous window looks like; empty if nothing is known")
    bundle: str


class Group(_Shown):
    """Group of streams, rolled up."""

    name: str
    path: str
    quality: Quality
    state: AlarmState
    groups: tuple[Group, ...]
    streams: tuple[str, ...]


class Overview(_Shown):
    """Everything at one look."""

    time: float = Field(description="Unix seconds")
    version: str
    needs_response: tuple[Alarm, ...] = Field(
        description="alarms somebody must respond to, most pressing first"
    )
    qualities: dict[Quality, int] = Field(description="streams of each quality")
    origins: tuple[Origin, ...] = Field(description="where the windows shown came from, if not all are live")
    tree: Group
    streams: tuple[Stream, ...]


class AlarmList(_Shown):
    """Alarms as they stand, the most pressing first."""

    time: float
    alarms: tuple[Alarm, ...]


class ChangeList(_Shown):
    """What happened to alarms, the newest first."""

    changes: tuple[AlarmChange, ...]


class MaskList(_Shown):
    """Masks in force or to come."""

    time: float
    masks: tuple[Mask, ...]


class Problem(_Shown):
    """What was wrong, where, and what to do; after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what was wrong")
    where: str | None = None
    fix: str | None = Field(None, description="what to do about it")


class Signed(_Asked):
    """What somebody says when they change something; who, they have proved."""

    comment: Text = Field(description="why, and what is being done")


class Shelve(_Asked):
    """Put an alarm aside; it comes back by itself."""

    reason: Text = Field(description="why")
    hours: float | None = Field(
        None, gt=0, le=_LONGEST_SHELF_HOURS, description="for how long; null only if one_shot"
    )
    one_shot: bool = Field(False, description="whether it also ends when the condition has gone")

    @model_validator(mode="after")
    def _check_end(self) -> Shelve:
        if self.hours is None and not self.one_shot:
            raise ValueError("a shelf must end: give hours, or one_shot")
        return self


class MakeMask(_Asked):
    """Suppress the alarms of streams: a known problem, work on the detector."""

    streams: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z0-9._/*?\[\]!-]+$",
        description="pattern of stream names or of group/stream paths, with * and ?",
    )
    reason: Text = Field(description="why")
    run_types: tuple[RunType, ...] = Field(
        (), max_length=16, description="only in runs of these; empty: in all"
    )
    start: float | None = Field(None, description="from when, Unix seconds; null: at once")
    until: float | None = Field(None, description="until when, Unix seconds; null: until it is removed")

    @model_validator(mode="after")
    def _check_order(self) -> MakeMask:
        if self.start is not None and self.until is not None and self.until <= self.start:
            raise ValueError("the mask ends before it begins: 'until' must be later than 'start'")
        return self
