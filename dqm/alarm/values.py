"""Values of the alarm logic: alarms, their states and changes, acknowledgements, shelves, masks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dqm.alarm.channel_choice import ChannelChoice

__all__ = [
    "RAISED",
    "Acknowledgement",
    "Alarm",
    "AlarmChange",
    "AlarmState",
    "Cause",
    "Guidance",
    "Mask",
    "Priority",
    "Shelf",
]


class AlarmState(StrEnum):
    """State of an alarm, after ANSI/ISA-18.2 in the words of JLab's JAWS."""

    NORMAL = "Normal"
    ON_DELAYED = "OnDelayed"
    ACTIVE = "Active"
    OFF_DELAYED = "OffDelayed"
    LATCHED = "Latched"
    SHELVED = "Shelved"
    MASKED = "Masked"
    FILTERED = "Filtered"
    DISABLED = "Disabled"


RAISED = frozenset({AlarmState.ACTIVE, AlarmState.OFF_DELAYED, AlarmState.LATCHED})
"""States of an alarm that was raised and has not ended."""


class Cause(StrEnum):
    """What an alarm is raised for; each stream has one alarm for each."""

    DIFFERS = "differs"
    """k of the last n windows differ from the reference."""
    RATE = "rate"
    """k of the last n windows have another number of events than expected."""
    DRIFT = "drift"
    """Windows deteriorate slowly: no single one shows it, their sum does."""
    NUISANCE = "nuisance"
    """A nuisance parameter disagrees with its measurement in k of the last n windows."""
    LIMIT = "limit"
    """A condition of k of the last n windows is above its limit."""
    CHANGED = "changed"
    """k of the last n windows differ from the last good ones before them: something changed suddenly."""
    SILENT = "silent"
    """No window has come for longer than the stream may be silent."""
    REFUSED = "refused"
    """k of the last n windows were refused: they break the format, or their numbers were used again."""
    UNJUDGED = "unjudged"
    """Windows come, and none of them could be judged for too long."""


class Priority(StrEnum):
    """How soon an operator must respond, P1 first."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"


@dataclass(frozen=True, slots=True)
class Guidance:
    """What an operator must know to respond.

    Parameters
    ----------
    condition : str
        What the alarm means.
    action : str
        What to do first.
    contact : str
        Whom to call.
    """

    condition: str
    action: str
    contact: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen an alarm and taken it over.

    Parameters
    ----------
    user, comment : str
        Who, and their comment.
    time : float
        When, Unix seconds.
    """

    user: str
    comment: str
    time: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """An alarm put aside for a while.

    Parameters
    ----------
    user, reason : str
        Who, and why.
    time : float
        When, Unix seconds.
    until : float or None
        When it ends by itself, Unix seconds; None only if `one_shot`.
    one_shot : bool
        Whether it also ends when the condition has gone.
    """

    user: str
    reason: str
    time: float
    until: float | None
    one_shot: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """Streams whose alarms are suppressed, or some of their channels: known problems, work on the detector.

    A mask of channels suppresses no alarm. Its channels count for nothing in windows that are judged while it
    is in force.

    Parameters
    ----------
    identifier : str
        Name of the mask, unique.
    streams : str
        Pattern of stream names, of ``group/stream`` paths or of groups, with ``*`` and ``?``.
    user, reason : str
        Who, and why.
    time : float
        When it was made, Unix seconds.
    run_types : tuple of str
        Only in runs of these types; empty: in all.
    start, until : float or None
        From and until when, Unix seconds; None: at once, and until it is removed.
    channels : ChannelChoice or None
        What is masked of the streams; None: all alarms.
    """

    identifier: str
    streams: str
    user: str
    reason: str
    time: float
    run_types: tuple[str, ...] = ()
    start: float | None = None
    until: float | None = None
    channels: ChannelChoice | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm at present.

    Parameters
    ----------
    stream : str
        Stream it belongs to.
    cause : Cause
        What it is raised for.
    priority : Priority
        How soon to respond.
    guidance : Guidance
        What to do.
    state : AlarmState
        Its state.
    since : float
        When it entered this state, Unix seconds.
    raised_at : float or None
        When the condition became true that is or was last alarmed, Unix seconds; None if it never was.
    text : str
        What is seen, in words for the shift crew; empty if nothing is. It begins with ``gone:`` when the
        condition does not hold any more.
    acknowledged : Acknowledgement or None
        Set while Active, OffDelayed or Latched and taken over by somebody.
    shelf : Shelf or None
        Set while Shelved, and until it ends also while Masked.
    mask : str
        Identifier of the mask while Masked; empty otherwise.
    group : str
        Path of the stream's group; empty for none, and in a history of before groups were noted.
    """

    stream: str
    cause: Cause
    priority: Priority
    guidance: Guidance
    state: AlarmState
    since: float
    raised_at: float | None = None
    text: str = ""
    acknowledged: Acknowledgement | None = None
    shelf: Shelf | None = None
    mask: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """One change of an alarm, for history and audit.

    Parameters
    ----------
    alarm : Alarm
        The alarm after the change.
    before : AlarmState
        State before the change; the same if the alarm was only acknowledged.
    time : float
        When, Unix seconds.
    action : str
        Its cause: ``window``, ``time``, ``configuration``, or the ``action`` of a command.
    user : str
        Who caused it; empty if nobody did.
    comment : str
        Their comment; empty if nobody did.
    """

    alarm: Alarm
    before: AlarmState
    time: float
    action: str
    user: str = ""
    comment: str = ""
