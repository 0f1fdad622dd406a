"""What the page and the JSON API show, as pydantic models: their schemas are the API's documentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dqm.alarm import Alarm, AlarmChange, AlarmState, Mask
from dqm.config import NAME_PATTERN
from dqm.events import Origin, Quality
from dqm.events.summary import View, WindowSummary
from dqm.export.views import BundleFacts, ExplanationMaps, Recent

__all__ = [
    "AlarmList",
    "ChangeList",
    "Group",
    "Kept",
    "MakeMask",
    "MaskList",
    "Overview",
    "Problem",
    "Shelve",
    "Signed",
    "Stream",
    "Window",
    "WindowList",
]

_LONGEST_TEXT = 500
_LONGEST_SHELF_HOURS = 24 * 31

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_LONGEST_TEXT)]
RunType = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _Asked(BaseModel):
    """Something asked for; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kept(View):
    """Whether the events of a window are still there."""

    url: str | None = Field(description="where to fetch them; null if they are not kept")
    reason: str = Field(description="why they are not kept; empty if they are")


class Window(View):
    """Everything about one window."""

    verdict: WindowSummary
    explanation: ExplanationMaps | None
    why_unexplained: str = Field(description="why there are no maps; empty if there are")
    bundle: BundleFacts | None
    why_no_bundle: str = Field(description="why the bundle is not described; empty if it is")
    kept: Kept


class WindowList(View):
    """Verdicts of a stream, the newest first."""

    stream: str
    windows: tuple[WindowSummary, ...]


class Stream(View):
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


class Group(View):
    """Group of streams, rolled up."""

    name: str
    path: str
    quality: Quality
    state: AlarmState
    groups: tuple[Group, ...]
    streams: tuple[str, ...]


class Overview(View):
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


class AlarmList(View):
    """Alarms as they stand, the most pressing first."""

    time: float
    alarms: tuple[Alarm, ...]


class ChangeList(View):
    """What happened to alarms, the newest first."""

    changes: tuple[AlarmChange, ...]


class MaskList(View):
    """Masks in force or to come."""

    time: float
    masks: tuple[Mask, ...]


class Problem(View):
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
