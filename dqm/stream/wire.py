"""The wire format: encode a `Window` in two frames of bytes, and decode it; see ``docs/wire-format.md``.

Nothing here uses a socket. A message either becomes a `Window` that follows every rule of the format, or is
refused by a `PeerError` with a reason of `Reason`. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dqm.errors import InputError, PeerError, format_count
from dqm.events import FloatArray, Measurement, Origin, Window, WindowCut
from dqm.stream.acknowledgement import Identity, Reason
from dqm.stream.arrow import read_columns, write_columns
from dqm.stream.fields import LATEST_TIME, Count, Name, Text, Time, refuse_doubles, summarise_mistakes

__all__ = [
    "FORMAT",
    "VERSION",
    "Header",
    "Limits",
    "claimed_identity",
    "decode",
    "encode",
    "header_of",
    "payload_of",
]

FORMAT = "dqm-window"
VERSION = 2
"""Newest version of the format; windows without counts are sent as version 1, which older daemons read."""

_FIRST_VERSION = 1

_MAX_EXPECTED = 1e12
# the live time may exceed the window by these seconds and this share of the window: the clock of a scaler is
# not that of the computer
_LIVE_SECONDS_EXCESS = 1e-3
_LIVE_SHARE_EXCESS = 1e-3
_MAX_ENTRIES = 64
_DIGEST_BYTES = 16
_EMPTY_PAYLOAD_BYTES = 4096  # Arrow's own bytes in a payload: schema, batch metadata, end mark
_COLUMN_BYTES = 1024  # Arrow's own bytes for each column: name, positions of its buffers, padding

_Version = Annotated[int, Field(ge=_FIRST_VERSION, le=VERSION)]  # a Literal would accept true as 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest message that is accepted.

    Parameters
    ----------
    max_header_bytes, max_payload_bytes : int
        Largest frames, bytes.
    max_events, max_features : int
        Most events and features of a window.
    """

    max_header_bytes: int = 65_536
    max_payload_bytes: int = 67_108_864
    max_events: int = 100_000
    max_features: int = 64


class _Envelope(BaseModel):
    """The two fields that every version of the format has."""

    format: Literal["dqm-window"]
    version: _Version


class _Identity(BaseModel):
    stream: Name
    run: Count
    seq: Count


class _Reading(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    value: float
    sigma: Annotated[float, Field(gt=0.0)]
    time: Time


class Header(BaseModel):
    """Frame 0: every field of a `Window` except the events, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["dqm-window"] = "dqm-window"
    version: _Version = _FIRST_VERSION
    stream: Name
    run: Count
    seq: Count
    run_type: Name
    origin: Origin
    cut: WindowCut
    features: Annotated[tuple[Name, ...], Field(min_length=1)]
    n_events: Count
    start: Time | None = None
    end: Time | None = None
    live_seconds: Annotated[float, Field(ge=0.0, le=LATEST_TIME)] | None = None
    n_expected: Annotated[float, Field(ge=0.0, le=_MAX_EXPECTED)] | None = None
    n_lost: Count = 0
    auxiliary: Annotated[tuple[_Reading, ...], Field(max_length=_MAX_ENTRIES)] = ()
    conditions: Annotated[dict[Name, Text | float], Field(max_length=_MAX_ENTRIES)] = {}
    counts: Name | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"features must differ from each other, got {', '.join(self.features)}")
        if len({reading.name for reading in self.auxiliary}) != len(self.auxiliary):
            raise ValueError("auxiliary must hold one measurement for each name")
        if (self.start is None) != (self.end is None):
            raise ValueError("start and end must both be given or both be null")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError(f"start {self.start} must not be after end {self.end}")
        if self.start is not None and self.end is not None and self.live_seconds is not None:
            seconds = self.end - self.start
            if self.live_seconds > seconds + _LIVE_SECONDS_EXCESS + _LIVE_SHARE_EXCESS * seconds:
                raise ValueError(
                    f"live_seconds {self.live_seconds} must not exceed end - start, which is {seconds} s"
                )
        if self.n_expected == 0.0 and self.live_seconds:
            raise ValueError(
                f"n_expected 0 needs live_seconds 0, got {self.live_seconds}: nominal rate times live time"
            )
        by_time = (self.start, self.live_seconds, self.n_expected)
        if self.cut is WindowCut.TIME and None in by_time:
            raise ValueError('cut "time" needs start, end, live_seconds and n_expected')
        if self.cut is WindowCut.COUNT and self.n_expected is not None:
            raise ValueError('cut "count" needs n_expected to be null: the number of events is fixed')
        self._check_counts()
        return self

    def _check_counts(self) -> None:
        if self.counts is None:
            return
        if self.version < VERSION:
            raise ValueError(f"counts needs version {VERSION}")
        if self.counts not in self.features:
            raise ValueError(f"counts names {self.counts}, which is not a feature")
        if len(self.features) < 2:
            raise ValueError("counts needs another feature: a row must say what it counts")

    def to_json(self) -> bytes:
        """Write frame 0. Version 1 has no `counts`."""
        return self.model_dump_json(exclude={"counts"} if self.counts is None else None).encode()


def header_of(window: Window) -> Header:
    """Make the header of a window.

    Parameters
    ----------
    window : Window
        Window to send.

    Returns
    -------
    Header
        Checked against every rule of the format.

    Raises
    ------
    InputError
        If the window breaks the format, for example by a character in a name or a number out of range.
    """
    try:
        return Header(
            version=VERSION if window.counts else _FIRST_VERSION,
            counts=window.counts or None,
            stream=window.stream,
            run=window.run,
            seq=window.seq,
            run_type=window.run_type,
            origin=window.origin,
            cut=window.cut,
            features=window.names,
            n_events=len(window.x),
            start=window.start,
            end=window.end,
            live_seconds=window.live_seconds,
            n_expected=window.n_expected,
            n_lost=window.n_lost,
            auxiliary=tuple(
                _Reading(name=m.name, value=m.value, sigma=m.sigma, time=m.time) for m in window.auxiliary
            ),
            conditions=dict(window.conditions),
        )
    except ValidationError as error:
        raise InputError(
            f"the window cannot be sent: {summarise_mistakes(error)}",
            where=_describe(window),
            fix="docs/wire-format.md lists what each field may hold",
        ) from error


def payload_of(window: Window) -> bytes:
    """Encode the events of a window as an Arrow IPC stream with one record batch.

    Parameters
    ----------
    window : Window
        Window to send.

    Returns
    -------
    bytes
        Frame 1.

    Raises
    ------
    InputError
        If `x` does not have one column for each name, or has infinity. The monitor decides on NaN.
    """
    if window.x.ndim != 2 or window.x.shape[1] != len(window.names):
        raise InputError(
            f"x has shape {window.x.shape} for {format_count(len(window.names), 'feature')}",
            where=_describe(window),
        )
    if np.isinf(window.x).any():
        raise InputError("x has infinity", where=_describe(window), fix="Drop such events in the source")
    weights = window.weights
    if weights is not None and not (weights >= 0.0).all():
        raise InputError(
            f"{window.counts} has {weights.min():g}",
            where=_describe(window),
            fix="Counts are 0 or more",
        )
    return write_columns(window.names, window.x)


def encode(window: Window) -> list[bytes]:
    """Encode a window.

    Parameters
    ----------
    window : Window
        Window to send.

    Returns
    -------
    list of bytes
        The two frames of the message: header and payload.

    Raises
    ------
    InputError
        If the window breaks the format, for example by a character in a name or by infinity in `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from dqm.events import Origin, Window, WindowCut
    >>> from dqm.stream import decode, encode
    >>> window = Window(
    ...     stream="chamber-1",
    ...     run=591,
    ...     seq=0,
    ...     run_type="cosmics",
    ...     origin=Origin.LIVE,
    ...     cut=WindowCut.COUNT,
    ...     names=("t_1", "theta"),
    ...     x=np.array([[120.0, -3.5], [310.0, 12.0]]),
    ... )
    >>> header, payload = encode(window)
    >>> header[:40]
    b'{"format":"dqm-window","version":1,"stre'
    >>> decode([header, payload]).x
    array([[120. ,  -3.5],
           [310. ,  12. ]])
    """
    return [header_of(window).to_json(), payload_of(window)]


def decode(
    frames: Sequence[bytes], limits: Limits | None = None, nan_shares: Mapping[str, float] | None = None
) -> Window:
    """Decode a message and check it against every rule of the format.

    Parameters
    ----------
    frames : sequence of bytes
        Header and payload, as received.
    limits : Limits, optional
        Largest message that is accepted.
    nan_shares : mapping of str to float, optional
        Streams in which a feature may be NaN, and in which share of the events.

    Returns
    -------
    Window
        `x` of shape ``(n_events, n_features)``, finite but for NaN where it is allowed.

    Raises
    ------
    PeerError
        If the message breaks the format; its reason is one of `Reason`.

    Examples
    --------
    >>> from dqm.errors import PeerError
    >>> from dqm.stream import decode
    >>> try:
    ...     decode([b"{}", b""])
    ... except PeerError as refusal:
    ...     print(refusal.reason)
    version
    """
    limits = limits or Limits()
    if len(frames) != 2:
        raise PeerError(
            Reason.FRAMES, f"a message has a header and a payload, got {format_count(len(frames), 'frame')}"
        )
    header = _read_header(frames[0], limits)
    _check_claims(header, len(frames[1]), limits)
    nan_share = (nan_shares or {}).get(header.stream, 0.0)
    x = read_columns(frames[1], header.features, header.n_events, nan_share=nan_share)
    window = _to_window(header, x)
    weights = window.weights
    if weights is not None and not (weights >= 0.0).all():
        raise PeerError(Reason.COUNTS, f"{header.counts} has {weights.min():g}; counts are 0 or more")
    return window


def claimed_identity(frames: Sequence[bytes], limits: Limits | None = None) -> Identity | None:
    """Read the identity in the header of a refused message.

    Parameters
    ----------
    frames : sequence of bytes
        Header and payload, as received.
    limits : Limits, optional
        Largest message that is accepted.

    Returns
    -------
    Identity or None
        Stream, run and seq; None if the header does not have them.
    """
    if not frames or len(frames[0]) > (limits or Limits()).max_header_bytes:
        return None
    try:
        claimed = _Identity.model_validate_json(frames[0], strict=True)
    except ValidationError:
        return None
    return claimed.stream, claimed.run, claimed.seq


def _read_header(frame: bytes, limits: Limits) -> Header:
    if len(frame) > limits.max_header_bytes:
        raise PeerError(
            Reason.HEADER_SIZE,
            f"header of {format_count(len(frame), 'byte')}, at most {limits.max_header_bytes} allowed",
        )
    try:
        _Envelope.model_validate_json(frame, strict=True)
    except ValidationError as error:
        broken = any(problem["type"] in {"json_invalid", "model_type"} for problem in error.errors())
        reason = Reason.HEADER_JSON if broken else Reason.VERSION
        raise PeerError(
            reason,
            f"not a {FORMAT} header of version {_FIRST_VERSION} or {VERSION}: {summarise_mistakes(error)}",
        ) from error
    try:
        header = Header.model_validate_json(frame, strict=True)
    except ValidationError as error:
        raise PeerError(Reason.HEADER_FIELD, summarise_mistakes(error)) from error
    refuse_doubles(frame)
    return header


def _check_claims(header: Header, payload_bytes: int, limits: Limits) -> None:
    """Compare the sizes in the header with the limits and with the size of the payload."""
    n_events = header.n_events
    n_features = len(header.features)
    if n_features > limits.max_features:
        raise PeerError(
            Reason.FEATURE_COUNT,
            f"{format_count(n_features, 'feature')}, at most {limits.max_features} allowed",
        )
    if n_events > limits.max_events:
        raise PeerError(
            Reason.EVENT_COUNT, f"{format_count(n_events, 'event')}, at most {limits.max_events} allowed"
        )
    least = 8 * n_events * n_features
    most = _EMPTY_PAYLOAD_BYTES + n_features * (8 * n_events + n_events // 8 + _COLUMN_BYTES)
    if not least <= payload_bytes <= min(most, limits.max_payload_bytes):
        raise PeerError(
            Reason.PAYLOAD_SIZE,
            f"payload of {format_count(payload_bytes, 'byte')} for {format_count(n_events, 'event')} with "
            f"{format_count(n_features, 'feature')}: expected {least} to {most}, and at most "
            f"{limits.max_payload_bytes}",
        )


def _to_window(header: Header, x: FloatArray) -> Window:
    return Window(
        stream=header.stream,
        run=header.run,
        seq=header.seq,
        run_type=header.run_type,
        origin=header.origin,
        cut=header.cut,
        names=header.features,
        x=x,
        start=header.start,
        end=header.end,
        live_seconds=header.live_seconds,
        n_expected=header.n_expected,
        n_lost=header.n_lost,
        auxiliary=tuple(Measurement(m.name, m.value, m.sigma, m.time) for m in header.auxiliary),
        conditions=header.conditions,
        digest=_digest((*header.features, "", header.counts) if header.counts else header.features, x),
        counts=header.counts or "",
    )


def _digest(names: Sequence[str], x: FloatArray) -> str:
    """Hash the events as they are tested, whatever their encoding was."""
    found = hashlib.blake2b("\0".join(names).encode(), digest_size=_DIGEST_BYTES)
    found.update(np.ascontiguousarray(x).data)
    return found.hexdigest()


def _describe(window: Window) -> str:
    return f"stream {window.stream}, run {window.run}, window {window.seq}"
