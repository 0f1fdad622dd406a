"""What people do with alarms: one frozen command for each action, checked when it is made.

`dqm.alarm.AlarmEngine.apply` carries commands out. What depends on the state of an alarm or on the time is
checked there; everything else is checked here, so a command that exists is well formed.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

from dqm.alarm.channel_choice import ChannelChoice
from dqm.alarm.values import Cause, Mask
from dqm.config import NAME_PATTERN, PATH_PATTERN

__all__ = [
    "LATEST_MOMENT",
    "LONGEST_TARGET",
    "AcceptChange",
    "AcknowledgeAlarm",
    "AcknowledgeGroup",
    "AddMask",
    "AlarmCommand",
    "Command",
    "Comment",
    "GroupName",
    "MaskHours",
    "Moment",
    "RemoveMask",
    "RunTypes",
    "ShelveAlarm",
    "ShelveHours",
    "StreamPattern",
    "UnshelveAlarm",
    "shorten_target",
]

_LONGEST_COMMENT = 500
_LONGEST_SHELF_HOURS = 24 * 31
_LONGEST_MASK_HOURS = 24 * 366
_COMMENT_CHARACTER = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
_COMMENT_PATTERN = rf"^{_COMMENT_CHARACTER}*[^\x00-\x1f\x7f-\x9f\s]{_COMMENT_CHARACTER}*$"
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)

LATEST_MOMENT = 4_102_444_800.0
"""Latest time that people may give, Unix seconds: the beginning of the year 2100."""


LONGEST_TARGET = 256
"""Most letters of what the audit names as changed."""


def shorten_target(text: str) -> str:
    """Write what is changed for the audit; dots stand for the end of what is too long."""
    return text if len(text) <= LONGEST_TARGET else f"{text[: LONGEST_TARGET - 3]}..."


def _check_comment(text: str) -> str:
    """Refuse what no keyboard writes and a terminal obeys: C0 but for tab and line ends, DEL, C1."""
    wrong = [c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r"]
    if wrong:
        raise ValueError(f"a comment must not have control characters, such as {wrong[0]!r}")
    return text


Comment = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_LONGEST_COMMENT),
    AfterValidator(_check_comment),
    Field(json_schema_extra={"pattern": _COMMENT_PATTERN}),  # the same, for the description
]
"""Why somebody acts, for the audit and for the next shift: text of any language and of several lines."""

ShelveHours = Annotated[float, Field(gt=0, le=_LONGEST_SHELF_HOURS)]
"""For how long an alarm is shelved, hours."""

MaskHours = Annotated[float, Field(gt=0, le=_LONGEST_MASK_HOURS)]
"""In how many hours a mask begins, and how many it lasts: a year at most."""

Moment = Annotated[float, Field(ge=0, le=LATEST_MOMENT)]
"""A time that people give, Unix seconds."""

StreamPattern = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._/*?\[\]!-]+$")
]
"""Streams of a mask, see `dqm.alarm.Mask`."""

GroupName = Annotated[str, StringConstraints(max_length=519, pattern=rf"^$|{PATH_PATTERN}")]
"""Path of a group; empty: all streams."""

RunTypes = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=NAME_PATTERN)], ...], Field(max_length=16)
]
"""Types of the runs in which a mask applies; empty: all."""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class _AlarmCommand:
    """Something done with one alarm; `comment` says why, or what is being done."""

    stream: str
    cause: Cause
    comment: Comment

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return f"{self.stream} {self.cause}"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AcknowledgeAlarm(_AlarmCommand):
    """Take over an alarm that is raised."""

    action: ClassVar[str] = "acknowledge"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AcknowledgeGroup:
    """Take over the raised alarms of one cause in all streams of a group, at once.

    Parameters
    ----------
    group : str
        Path of the group, whose inner groups are meant, too; empty: all streams.
    cause : Cause
        What the alarms are raised for.
    comment : str
        What is being done.
    before : float or None
        Only alarms that were raised by then, Unix seconds: what came after somebody looked is not
        acknowledged unseen. None: all.
    """

    action: ClassVar[str] = "acknowledge"

    group: GroupName
    cause: Cause
    comment: Comment
    before: Moment | None = None

    @property
    def target(self) -> str:
        """What the audit names if it is refused; what is done is noted for each alarm."""
        return shorten_target(f"{self.group or 'all streams'} {self.cause}")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ShelveAlarm(_AlarmCommand):
    """Put an alarm aside for some time, or until its condition has gone.

    Parameters
    ----------
    stream, cause
        The alarm.
    comment : str
        The reason.
    hours : float or None
        For how long, hours; None only if `one_shot`.
    one_shot : bool
        Whether the shelf also ends when the condition has gone.
    """

    action: ClassVar[str] = "shelve"

    hours: ShelveHours | None = None
    one_shot: bool = False

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        if self.hours is None and not self.one_shot:
            raise ValueError("a shelf must end: give hours, or one_shot")
        return self


@dataclass(frozen=True, slots=True, config=_CONFIG)
class UnshelveAlarm(_AlarmCommand):
    """End a shelf early."""

    action: ClassVar[str] = "unshelve"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AcceptChange:
    """Take the state after a sudden change as the one to compare with, also if a mask or a shelf hides it.

    The rolling reference of the stream begins anew, and the alarm ``changed`` ends; if it is raised, this
    acknowledges it, too. What "good" is stays with the bundle.

    Parameters
    ----------
    stream : str
        A stream with a rolling reference.
    comment : str
        What was changed.
    """

    action: ClassVar[str] = "accept"
    cause: ClassVar[Cause] = Cause.CHANGED

    stream: str
    comment: Comment

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return f"{self.stream} {self.cause}"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AddMask:
    """Suppress all alarms of some streams, or some of their channels: a known problem, or work.

    Parameters
    ----------
    identifier : str
        Name of the new mask, unique.
    streams : str
        Pattern of stream names, of ``group/stream`` paths or of groups, with ``*`` and ``?``.
    comment : str
        The reason.
    run_types : tuple of str
        Only in runs of these types; empty: in all.
    start, until : float or None
        From and until when, Unix seconds, 0 to `LATEST_MOMENT`; None: at once, and until it is removed.
    channels : ChannelChoice or None
        What is masked of the streams; None: all alarms.
    """

    action: ClassVar[str] = "mask"

    identifier: Annotated[str, StringConstraints(min_length=1)]
    streams: StreamPattern
    comment: Comment
    run_types: RunTypes = ()
    start: Moment | None = None
    until: Moment | None = None
    channels: ChannelChoice | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.start is not None and self.until is not None and self.until <= self.start:
            raise ValueError("the mask ends before it begins: 'until' must be later than 'start'")
        return self

    def make_mask(self, user: str, now: float) -> Mask:
        """Make the mask that a user commands now, Unix seconds."""
        return Mask(
            self.identifier,
            self.streams,
            user,
            self.comment,
            now,
            self.run_types,
            self.start,
            self.until,
            self.channels,
        )

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        what = self.streams if self.channels is None else f"{self.streams}: {self.channels}"
        return shorten_target(what)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class RemoveMask:
    """End a mask early.

    Parameters
    ----------
    identifier : str
        The mask.
    comment : str
        Why.
    """

    action: ClassVar[str] = "unmask"

    identifier: str
    comment: Comment

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return self.identifier


AlarmCommand = AcknowledgeAlarm | ShelveAlarm | UnshelveAlarm | AcceptChange
"""Something done with one alarm."""

Command = AlarmCommand | AcknowledgeGroup | AddMask | RemoveMask
"""Every action of a person on alarms."""
