"""Fields that the messages of the wire share: their ranges, and how mistakes in them are told."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from dqm.config import NAME_PATTERN
from dqm.errors import LARGEST_INTEGER, PeerError
from dqm.stream.acknowledgement import Reason

__all__ = [
    "LATEST_TIME",
    "Count",
    "Name",
    "Pattern",
    "Text",
    "Time",
    "refuse_doubles",
    "summarise_mistakes",
]

LATEST_TIME = 1e11
"""Unix seconds: the year 5138."""

_LONGEST_TEXT = 256

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_*?-][A-Za-z0-9._*?-]{0,63}$")]
"""A name in which ``*`` stands for any characters and ``?`` for one."""

Text = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT, pattern=r"^[^\x00-\x1f\x7f]*$")]
Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Time = Annotated[float, Field(ge=0.0, le=LATEST_TIME)]


def refuse_doubles(frame: bytes) -> None:
    """Refuse an object that has a key twice (`PeerError`); pydantic takes the last of two values."""
    json.loads(frame, object_pairs_hook=_check_keys)


def summarise_mistakes(error: ValidationError) -> str:
    """First mistakes in one line; text from the peer is shortened and escaped."""
    lines = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'header'}: "
        f"{problem['msg'].removeprefix('Value error, ')}{_give(problem['input'])}"
        for problem in error.errors(include_url=False)[:3]
    ]
    return ascii("; ".join(lines))[1:-1][:500]


def _give(value: object) -> str:
    """Write a number that was refused; other values may be long."""
    return (
        f", got {value}"
        if isinstance(value, float) or (type(value) is int and value.bit_length() <= 64)
        else ""
    )


def _check_keys(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        double = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
        raise PeerError(Reason.HEADER_JSON, f"the header has the key {ascii(double[0])[:80]} twice")
