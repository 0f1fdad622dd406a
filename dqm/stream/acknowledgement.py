"""What the daemon answers: this window's verdict is stored."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.events import Window

__all__ = ["Identity", "decode_acknowledgement", "encode_acknowledgement", "identity_of"]

Identity = tuple[str, int, int]
"""Stream, run and seq of a window."""

_MARK = b"ack"
_Number = Annotated[int, Field(ge=0, lt=2**63)]


class _Acknowledgement(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    stream: str
    run: _Number
    seq: _Number


def identity_of(window: Window) -> Identity:
    """Give what tells a window from all others."""
    return window.stream, window.run, window.seq


def encode_acknowledgement(identity: Identity) -> list[bytes]:
    """Give the two frames that acknowledge a window."""
    stream, run, seq = identity
    return [_MARK, _Acknowledgement(stream=stream, run=run, seq=seq).model_dump_json().encode()]


def decode_acknowledgement(frames: list[bytes]) -> Identity | None:
    """Read an answer; None if it is of a kind that this version does not know."""
    if len(frames) != 2 or frames[0] != _MARK:
        return None
    try:
        known = _Acknowledgement.model_validate_json(frames[1])
    except ValidationError:
        return None
    return known.stream, known.run, known.seq
