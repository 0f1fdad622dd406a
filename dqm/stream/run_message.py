"""Messages about runs: ``dqm-run``, one frame of JSON; see ``docs/wire-format.md``. No sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.errors import InputError, PeerError, format_count
from dqm.events import RunEvent, RunNotice
from dqm.stream.acknowledgement import Reason, RunIdentity
from dqm.stream.fields import Count, Name, Pattern, Text, Time, refuse_doubles, summarise_mistakes
from dqm.stream.keys import CollectorKey
from dqm.stream.wire import Limits

__all__ = [
    "RUN_FORMAT",
    "RUN_VERSION",
    "RunHeader",
    "RunMessage",
    "claimed_run",
    "decode_run",
    "encode_run",
    "is_run_message",
    "run_identity_of",
]

RUN_FORMAT = "dqm-run"
RUN_VERSION = 2
"""Version of the wire format's text that brought this message."""

_RunVersion = Annotated[int, Field(ge=RUN_VERSION, le=RUN_VERSION)]


class _Kind(BaseModel):
    format: Literal["dqm-run"]


class _RunEnvelope(_Kind):
    version: _RunVersion


class _ClaimedRun(BaseModel):
    streams: Pattern
    run: Count
    event: RunEvent
    time: Time


class RunHeader(BaseModel):
    """The only frame: every field of a `RunNotice`, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["dqm-run"] = "dqm-run"
    version: _RunVersion = RUN_VERSION
    streams: Pattern
    run: Count
    run_type: Name
    event: RunEvent
    time: Time
    why: Text = ""


@dataclass(frozen=True, slots=True)
class RunMessage:
    """A notice that was received, and whom to answer.

    Parameters
    ----------
    notice : RunNotice
        What the sender says.
    sender : CollectorKey or None
        Key of the sender; None where no key is needed.
    peer : bytes
        Routing id of the connection.
    """

    notice: RunNotice
    sender: CollectorKey | None = None
    peer: bytes = b""


def encode_run(notice: RunNotice) -> bytes:
    """Encode a notice.

    Parameters
    ----------
    notice : RunNotice
        Notice to send.

    Returns
    -------
    bytes
        The only frame of the message.

    Raises
    ------
    InputError
        If the notice breaks the format, for example by a character in a name.

    Examples
    --------
    >>> from dqm.events import RunEvent, RunNotice
    >>> frame = encode_run(RunNotice("chamber-*", 591, "cosmics", RunEvent.END, 1.7e9, "operator"))
    >>> decode_run([frame]).why
    'operator'
    """
    try:
        header = RunHeader(
            streams=notice.streams,
            run=notice.run,
            run_type=notice.run_type,
            event=notice.event,
            time=notice.time,
            why=notice.why,
        )
    except ValidationError as error:
        raise InputError(
            f"the {notice.event} of the run cannot be sent: {summarise_mistakes(error)}",
            where=f"streams {notice.streams}, run {notice.run}",
            fix="docs/wire-format.md lists what each field may hold",
        ) from error
    return header.model_dump_json().encode()


def is_run_message(frames: Sequence[bytes], limits: Limits | None = None) -> bool:
    """Whether a message is about a run, well formed or not: one frame that says ``dqm-run``."""
    if len(frames) != 1 or len(frames[0]) > (limits or Limits()).max_header_bytes:
        return False
    try:
        _Kind.model_validate_json(frames[0])
    except ValidationError:
        return False
    return True


def decode_run(frames: Sequence[bytes], limits: Limits | None = None) -> RunNotice:
    """Decode a message about a run and check it against every rule of the format.

    Parameters
    ----------
    frames : sequence of bytes
        As received; there must be one.
    limits : Limits, optional
        Largest message that is accepted.

    Returns
    -------
    RunNotice
        What the sender says.

    Raises
    ------
    PeerError
        If the message breaks the format; its reason is one of `Reason`.
    """
    limits = limits or Limits()
    if len(frames) != 1:
        raise PeerError(
            Reason.FRAMES, f"a message about a run has one frame, got {format_count(len(frames), 'frame')}"
        )
    (frame,) = frames
    if len(frame) > limits.max_header_bytes:
        raise PeerError(
            Reason.HEADER_SIZE,
            f"message of {format_count(len(frame), 'byte')}, at most {limits.max_header_bytes} allowed",
        )
    try:
        _RunEnvelope.model_validate_json(frame, strict=True)
    except ValidationError as error:
        broken = any(problem["type"] in {"json_invalid", "model_type"} for problem in error.errors())
        what = f"not a {RUN_FORMAT} message of version {RUN_VERSION}: {summarise_mistakes(error)}"
        raise PeerError(Reason.HEADER_JSON if broken else Reason.VERSION, what) from error
    try:
        header = RunHeader.model_validate_json(frame, strict=True)
    except ValidationError as error:
        raise PeerError(Reason.HEADER_FIELD, summarise_mistakes(error)) from error
    refuse_doubles(frame)
    return RunNotice(header.streams, header.run, header.run_type, header.event, header.time, header.why)


def claimed_run(frames: Sequence[bytes]) -> RunIdentity | None:
    """Read which message about a run this is, so that it can be answered; None if that cannot be read."""
    try:
        claimed = _ClaimedRun.model_validate_json(frames[0], strict=True)
    except ValidationError:
        return None
    return claimed.streams, claimed.run, claimed.event, claimed.time


def run_identity_of(notice: RunNotice) -> RunIdentity:
    """Return streams, run, event and time of a notice, by which it is answered."""
    return notice.streams, notice.run, notice.event, notice.time
