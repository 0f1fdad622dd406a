"""What the daemon answers: this window's verdict is stored, or this window is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.events import Window, WindowHeader

__all__ = ["Answer", "Identity", "decode_answer", "encode_acknowledgement", "encode_refusal", "identity_of"]

Identity = tuple[str, int, int]
"""Stream, run and seq of a window."""

_ACKNOWLEDGED, _REFUSED = b"ack", b"nak"
_Number = Annotated[int, Field(ge=0, lt=2**63)]


class Answer(BaseModel):
    """Answer to one window: acknowledged if `reason` is empty, refused otherwise.

    Parameters
    ----------
    stream, run, seq : str, int, int
        Identity of the window.
    reason : str
        One of the words of `Reason`; empty for an acknowledgement.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    stream: str
    run: _Number
    seq: _Number
    reason: Annotated[str, Field(max_length=64)] = ""

    @property
    def identity(self) -> Identity:
        """Stream, run and seq."""
        return self.stream, self.run, self.seq


class _Refusal(Answer):
    reason: Annotated[str, Field(min_length=1, max_length=64)]


class _Acknowledgement(Answer):
    reason: Literal[""] = ""


def identity_of(window: Window | WindowHeader) -> Identity:
    """Give what tells a window from all others."""
    return window.stream, window.run, window.seq


def encode_acknowledgement(identity: Identity) -> list[bytes]:
    """Give the two frames that acknowledge a window."""
    stream, run, seq = identity
    answer = _Acknowledgement(stream=stream, run=run, seq=seq)
    return [_ACKNOWLEDGED, answer.model_dump_json(exclude={"reason"}).encode()]


def encode_refusal(identity: Identity, reason: str) -> list[bytes]:
    """Give the two frames that refuse a window: it is not worth sending again."""
    stream, run, seq = identity
    return [_REFUSED, _Refusal(stream=stream, run=run, seq=seq, reason=reason).model_dump_json().encode()]


def decode_answer(frames: list[bytes]) -> Answer | None:
    """Read an answer; None if it is of a kind that this version does not know."""
    kinds = {_ACKNOWLEDGED: _Acknowledgement, _REFUSED: _Refusal}
    if len(frames) != 2 or frames[0] not in kinds:
        return None
    try:
        return kinds[frames[0]].model_validate_json(frames[1])
    except ValidationError:
        return None
