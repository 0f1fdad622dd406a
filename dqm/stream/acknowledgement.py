"""Answers of the daemon: a window or the border of a run is acknowledged (it is stored) or refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.errors import LARGEST_INTEGER
from dqm.events import RunEvent, Window, WindowHeader

__all__ = [
    "Answer",
    "Identity",
    "Reason",
    "RunAnswer",
    "RunIdentity",
    "decode_answer",
    "encode_acknowledgement",
    "encode_refusal",
    "encode_run_answer",
    "identity_of",
]

Identity = tuple[str, int, int]
"""Stream, run and seq of a window."""

RunIdentity = tuple[str, int, RunEvent, float]
"""Streams, run, event and time of a message about a run."""

_ACKNOWLEDGED, _REFUSED = b"ack", b"nak"
_Number = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


class Reason(StrEnum):
    """Why a message was refused. The set is closed, because it is a metric label."""

    FRAMES = "frames"
    HEADER_SIZE = "header-size"
    HEADER_JSON = "header-json"
    VERSION = "version"
    HEADER_FIELD = "header-field"
    FEATURE_COUNT = "feature-count"
    EVENT_COUNT = "event-count"
    PAYLOAD_SIZE = "payload-size"
    PAYLOAD_ARROW = "payload-arrow"
    PAYLOAD_COMPRESSED = "payload-compressed"
    PAYLOAD_COLUMNS = "payload-columns"
    PAYLOAD_DTYPE = "payload-dtype"
    PAYLOAD_NULL = "payload-null"
    NOT_FINITE = "not-finite"
    COUNTS = "counts"
    """A row stands for a negative number of events."""
    HANDSHAKE = "handshake"
    """A connection, not a message: the peer has no keys, or a wrong public key of the daemon."""
    UNKNOWN_KEY = "unknown-key"
    """None of the daemon's files has the key of the connection, or it was removed."""
    ROUTING_ID = "routing-id"
    """The peer kept a routing id of its own. Where keys are required its messages are refused."""
    STREAM_NOT_ALLOWED = "stream-not-allowed"
    """The key of the connection may not send this stream."""
    UNKNOWN_STREAM = "unknown-stream"
    """The daemon's configuration has no such stream. The daemon gives this reason and those below."""
    ORIGIN = "origin"
    """The run has windows of another origin; replayed windows may not enter a live run."""
    IDENTITY = "identity"
    """Another window has the same stream, run and seq."""
    RUN_ENDED = "run-ended"
    """The run has ended already, at another time or for another reason."""
    RUN_TIME = "run-time"
    """The run would end before it begins."""


class Answer(BaseModel):
    """Answer to one window: acknowledged if `reason` is empty, refused otherwise.

    Parameters
    ----------
    stream, run, seq : str, int, int
        Identity of the window.
    reason : str
        One of the values of `Reason`; empty for an acknowledgement.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    stream: str
    run: _Number
    seq: _Number
    reason: Annotated[str, Field(max_length=64)] = ""

    @property
    def identity(self) -> Identity:
        """Stream, run and seq of the window."""
        return self.stream, self.run, self.seq


class _Refusal(Answer):
    reason: Annotated[str, Field(min_length=1, max_length=64)]


class _Acknowledgement(Answer):
    reason: Literal[""] = ""


class RunAnswer(BaseModel):
    """Answer to one message about a run: acknowledged if `reason` is empty, refused otherwise.

    Parameters
    ----------
    streams, run, event, time : str, int, RunEvent, float
        Those of the message.
    reason : str
        One of the values of `Reason`; empty for an acknowledgement.
    what : str
        The same in words.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal["dqm-run"] = "dqm-run"
    streams: Annotated[str, Field(max_length=64)]
    run: _Number
    event: RunEvent
    time: float
    reason: Annotated[str, Field(max_length=64)] = ""
    what: Annotated[str, Field(max_length=1000)] = ""

    @property
    def identity(self) -> RunIdentity:
        """Streams, run, event and time."""
        return self.streams, self.run, self.event, self.time


def identity_of(window: Window | WindowHeader) -> Identity:
    """Return stream, run and seq of a window, which identify it."""
    return window.stream, window.run, window.seq


def encode_acknowledgement(identity: Identity) -> list[bytes]:
    """Return the two frames that acknowledge a window."""
    stream, run, seq = identity
    answer = _Acknowledgement(stream=stream, run=run, seq=seq)
    return [_ACKNOWLEDGED, answer.model_dump_json(exclude={"reason"}).encode()]


def encode_refusal(identity: Identity, reason: str) -> list[bytes]:
    """Return the two frames that refuse a window, so that it is not sent again."""
    stream, run, seq = identity
    return [_REFUSED, _Refusal(stream=stream, run=run, seq=seq, reason=reason).model_dump_json().encode()]


def encode_run_answer(identity: RunIdentity, reason: str = "", what: str = "") -> list[bytes]:
    """Return the two frames that acknowledge a message about a run, or refuse it if there is a reason."""
    streams, run, event, time = identity
    answer = RunAnswer(streams=streams, run=run, event=event, time=time, reason=reason, what=what[:1000])
    text = answer.model_dump_json(exclude=None if reason else {"reason", "what"})
    return [_REFUSED if reason else _ACKNOWLEDGED, text.encode()]


def decode_answer(frames: list[bytes]) -> Answer | RunAnswer | None:
    """Decode an answer; None if this version does not know its kind."""
    kinds = {_ACKNOWLEDGED: _Acknowledgement, _REFUSED: _Refusal}
    if len(frames) != 2 or frames[0] not in kinds:
        return None
    for kind in (kinds[frames[0]], RunAnswer):
        try:
            answer = kind.model_validate_json(frames[1])
        except ValidationError:
            continue
        if bool(answer.reason) is (frames[0] == _REFUSED):
            return answer
    return None
