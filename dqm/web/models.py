"""What the page and the JSON API show and take, as pydantic models: their schemas document the API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from dqm.alarm import (
    AcknowledgeGroup,
    Activity,
    AddMask,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    ChannelChoice,
    Mask,
    Priority,
    ShelveAlarm,
    parse_runs,
)
from dqm.alarm.amendments import SequenceNumber
from dqm.alarm.commands import Comment, GroupName, MaskHours, Moment, RunTypes, ShelveHours, StreamPattern
from dqm.config import NAME_PATTERN, Role
from dqm.events import Explanation, Origin, Quality
from dqm.events.summary import View, WindowSummary
from dqm.export.views import BundleFacts, Recent
from dqm.stream import TurnedAwayPeer
from dqm.web.other_daemons import OtherDaemonOverview
from dqm.web.timeline import HOURS

__all__ = [
    "Account",
    "AccountBody",
    "AccountList",
    "AcknowledgedGroup",
    "AlarmLine",
    "AlarmList",
    "ChangeList",
    "ChangeQuery",
    "CommentBody",
    "FailingTarget",
    "Group",
    "GroupBody",
    "Kept",
    "MaskBody",
    "MaskForm",
    "MaskList",
    "Overview",
    "Problem",
    "RoleBody",
    "SequenceNumber",
    "ShelveBody",
    "Stream",
    "StreamName",
    "StreamRun",
    "TrendChoice",
    "TrendQuery",
    "WallChoice",
    "WindowComment",
    "WindowDetail",
    "WindowList",
    "WindowPlace",
    "WindowQuery",
]

StreamName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Name of a stream, as the wire format allows it."""


class Kept(View):
    """Whether the events of a window are still there."""

    url: str | None = Field(description="where to fetch them; null if they are not kept")
    reason: str = Field(description="why they are not kept; empty if they are")


class WindowComment(View):
    """What a person said of a window: another flag, or the fault that it shows."""

    quality: Quality | None = Field(description="the flag; null if a fault is named")
    fault: str = Field(description="the fault; empty if a flag is given")
    user: str
    time: float = Field(description="Unix seconds")
    comment: str


class WindowDetail(View):
    """Everything about one window."""

    verdict: WindowSummary
    explanation: Explanation | None
    why_unexplained: str = Field(description="why there are no maps; empty if there are")
    bundle: BundleFacts | None
    why_no_bundle: str = Field(description="why the bundle is not described; empty if it is")
    kept: Kept
    said: tuple[WindowComment, ...] = Field(description="what people said of it: at most a flag and a fault")


class WindowList(View):
    """Verdicts of a stream, the newest first."""

    stream: str
    windows: tuple[WindowSummary, ...]


class StreamRun(View):
    """Run that a stream is in, or was in last."""

    run: int
    run_type: str
    began_at: float | None = Field(description="Unix seconds; null if no sender said it")
    resumed_at: float | None = Field(
        description="when it last went on after a stop, Unix seconds; null if it never did"
    )
    ended_at: float | None = Field(description="Unix seconds; null while it is open")
    why: str = Field(description="why it ended; empty while it is open")


class Stream(View):
    """One stream at present."""

    name: str
    path: str = Field(description="groups it belongs to, joined by '/'; empty for none")
    quality: Quality
    reason: str = Field(description="why, in words; empty only if Good")
    since: float = Field(description="when this quality began, Unix seconds")
    alarm: Alarm | None = Field(description="its most urgent alarm; null if all are Normal")
    needs_response: bool = Field(description="whether somebody must respond to that alarm")
    activity: Activity = Field(description="Running; Idle after the end of its run; Silent")
    run: StreamRun | None = Field(description="its present or last run; null if none is known")
    last: WindowSummary | None = Field(description="last window of this run; null before the first")
    is_known: bool = Field(default=False, exclude=True)  # whether its numbers are of the present
    is_suppressed: bool = Field(default=False, exclude=True)  # whether its alarms are, as a whole
    recent: tuple[Recent, ...] = Field(description="last windows, the newest last")
    explained: str = Field(description="what the last anomalous window looks like; empty if nothing is known")
    bundle: str = Field(description="bundle that judged the last window; before it, the first of the stream")
    bundles: tuple[str, ...] = Field(description="its bundles, in the order in which they are tried")


class Group(View):
    """Group of streams, rolled up."""

    name: str
    path: str
    quality: Quality
    state: AlarmState
    idle: bool = Field(description="whether the runs of all streams in it have ended")
    groups: tuple[Group, ...]
    streams: tuple[str, ...]


class FailingTarget(View):
    """A target of messages about alarms that does not take any."""

    target: str
    since: float = Field(description="when it first failed since it last took one, Unix seconds")
    reason: str = Field(description="why the last try failed")


class OtherDaemon(View):
    """Another daemon, as it was when it last answered."""

    name: str
    url: str = Field(description="address of its page")
    answered_at: float | None = Field(description="when it last answered, Unix seconds; null if it never did")
    is_fresh: bool = Field(description="whether this is its present state")
    problem: str = Field(description="why there is no answer now; empty if there is one")
    overview: OtherDaemonOverview | None = Field(description="what it said; null if it never answered")


class AlarmLine(View):
    """Alarms of one cause with the same state in streams of one group, or one alarm: a line to read."""

    group: str = Field(description="path of the group; empty for all streams, and for a stream without one")
    name: str = Field(description="its title: the stream if there is only one, else the group")
    cause: Cause
    priority: Priority = Field(description="that of the most urgent alarm")
    needs_response: bool
    alarm: Alarm = Field(description="the most urgent of them")
    since: float = Field(description="when the first entered its state, Unix seconds")
    streams: tuple[str, ...] = Field(description="streams that have the alarm, by name")


class Overview(View):
    """Everything at a glance."""

    time: float = Field(description="Unix seconds")
    version: str
    notice: str = Field(description="what everybody must know about the daemon itself; mostly empty")
    turned_away: tuple[TurnedAwayPeer, ...] = Field(
        description="addresses whose connections were turned away in the last 10 minutes"
    )
    untold: tuple[FailingTarget, ...] = Field(description="targets that cannot be told of alarms")
    peers: tuple[OtherDaemon, ...] = Field(description="other daemons that are configured as peers")
    needs_response: tuple[Alarm, ...] = Field(
        description="alarms somebody must respond to, most urgent first"
    )
    groups: tuple[AlarmLine, ...] = Field(description="the same, those of one kind in a group as one line")
    qualities: dict[Quality, int] = Field(description="streams of each quality, those that are idle aside")
    n_idle: int = Field(description="streams whose run has ended")
    origins: tuple[Origin, ...] = Field(description="where the windows shown came from, if not all are live")
    tree: Group
    streams: tuple[Stream, ...]


class AlarmList(View):
    """All alarms at present, the most urgent first."""

    time: float
    alarms: tuple[Alarm, ...]
    groups: tuple[AlarmLine, ...] = Field(
        description="those that are not Normal, alarms of one kind in a group as one line"
    )
    explained: dict[str, str] = Field(
        description="what the last anomalous window of a stream looks like, of streams where that is known"
    )


class AcknowledgedGroup(View):
    """Result of an acknowledgement of a group."""

    acknowledged: tuple[str, ...] = Field(description="streams whose alarm was acknowledged")
    left: tuple[str, ...] = Field(description="streams whose alarm came later: it still needs a response")


class ChangeList(View):
    """What happened to alarms, the newest first."""

    changes: tuple[AlarmChange, ...]


class MaskList(View):
    """Masks in force or to come."""

    time: float
    masks: tuple[Mask, ...]


class Account(View):
    """Somebody who has a password here, or has signed in."""

    name: str
    role: Role
    has_password: bool = Field(description="whether the file of users has them")
    n_sessions: int = Field(description="in how many browsers they are signed in")


class AccountList(View):
    """Who can sign in with a password, and who has signed in."""

    accounts: tuple[Account, ...]


class Problem(View):
    """What was wrong, where, and what to do; after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what was wrong")
    where: str | None = None
    fix: str | None = Field(None, description="what to do about it")


class _Request(BaseModel):
    """What a request carries; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WindowPlace(_Request):
    """Which window."""

    stream: StreamName
    run: SequenceNumber
    seq: SequenceNumber


MOST_SHOWN = 1000
"""Most runs that are put side by side."""


def _check_runs(text: str) -> str:
    if text:
        parse_runs(text)
    return text


RunNumbers = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_check_runs)
]
"""Numbers of runs, as the commands take them; empty: none is named."""


class TrendQuery(_Request):
    """Which runs of a stream to put side by side."""

    last: int = Field(30, ge=1, le=MOST_SHOWN, description="number of runs: the last ones")
    runs: RunNumbers = Field("", description="instead: these runs, as in 100-130,135; the last 1000 of them")

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """Numbers of these runs; None for the last ones."""
        return parse_runs(self.runs) if self.runs else None

    @property
    def most(self) -> int:
        """Most runs that are meant."""
        return MOST_SHOWN if self.runs else self.last

    @property
    def as_query(self) -> str:
        """The choice as the query of an address."""
        return urlencode({"runs": self.runs} if self.runs else {"last": self.last})


class TrendChoice(TrendQuery):
    """Which runs the page of trends shows."""

    stream: StreamName | None = Field(None, description="stream; None: all of them")


class WallChoice(_Request):
    """What the wall shows."""

    hours: int = Field(1, ge=1, le=HOURS, description="what the columns of time cover")


class WindowQuery(_Request):
    """Which windows of a stream to list."""

    run: SequenceNumber | None = Field(None, description="only of this run")
    quality: Quality | None = Field(None, description="only of this quality")
    limit: int = Field(100, ge=1, le=1000, description="most that are given: the last ones")


class ChangeQuery(_Request):
    """Which changes of alarms to list."""

    stream: StreamName | None = Field(None, description="only of this stream")
    since: Moment | None = Field(None, description="only since then, Unix seconds")
    limit: int = Field(100, ge=1, le=1000, description="most that are given: the last ones")


class CommentBody(_Request):
    """Why something is changed; who changes it is known from the sign-in."""

    comment: Comment = Field(description="why, and what is being done")


class GroupBody(CommentBody):
    """Acknowledge the alarms of one cause in a group."""

    cause: Cause
    group: GroupName = Field("", description="path of the group; empty: all streams")
    before: Moment | None = Field(
        None, description="only alarms raised by then, Unix seconds: when you looked; null: all"
    )

    def command(self) -> AcknowledgeGroup:
        """Make the command."""
        return AcknowledgeGroup(self.group, self.cause, self.comment, self.before)


class AccountBody(_Request):
    """Sign a user out everywhere, or remove one."""

    name: str = Field(min_length=1, max_length=64, description="the user")
    comment: Comment = Field(description="why")


class RoleBody(AccountBody):
    """Give a user another role."""

    role: Role


class ShelveBody(_Request):
    """Put an alarm aside; it comes back by itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["hours"], "properties": {"hours": {"type": "number"}}},
                {"required": ["one_shot"], "properties": {"one_shot": {"const": True}}},
            ]
        }
    )

    reason: Comment = Field(description="why")
    hours: ShelveHours | None = Field(None, description="for how long; null only if one_shot")
    one_shot: bool = Field(False, description="whether it also ends when the condition has gone")

    def command(self, stream: str, cause: Cause) -> ShelveAlarm:
        """Make the command for an alarm; raises pydantic's `ValidationError` if the shelf has no end."""
        return ShelveAlarm(stream, cause, self.reason, hours=self.hours, one_shot=self.one_shot)


class MaskBody(_Request):
    """Suppress the alarms of streams, or leave out channels: a known problem, work on the detector."""

    streams: StreamPattern = Field(
        description="pattern of stream names or of group/stream paths, with * and ?"
    )
    reason: Comment = Field(description="why")
    run_types: RunTypes = Field((), description="only in runs of these; empty: in all")
    start: Moment | None = Field(None, description="from when, Unix seconds; null: at once")
    until: Moment | None = Field(None, description="until when, Unix seconds; null: until it is removed")
    channels: ChannelChoice | None = Field(
        None, description="only these channels, which then count for nothing; null: all alarms"
    )

    def command(self) -> AddMask:
        """Make the command; raises pydantic's `ValidationError` if the mask ends before it begins."""
        return AddMask(
            uuid4().hex[:8],
            self.streams,
            self.reason,
            run_types=self.run_types,
            start=self.start,
            until=self.until,
            channels=self.channels,
        )


class MaskForm(_Request):
    """How long a mask lasts, as the form of the page asks."""

    begin: MaskHours | None = Field(None, description="in how many hours it begins; null: at once")
    hours: MaskHours | None = Field(None, description="for how many hours; null: until it is removed")

    def times(self, now: float) -> dict[str, float]:
        """Give the fields of `MaskBody` that say the same.

        Parameters
        ----------
        now : float
            Unix seconds.

        Returns
        -------
        dict
            ``start`` and ``until``, as far as they are given.
        """
        start = now + 3600.0 * (self.begin or 0.0)
        times = {} if self.begin is None else {"start": start}
        return times if self.hours is None else times | {"until": start + 3600.0 * self.hours}
