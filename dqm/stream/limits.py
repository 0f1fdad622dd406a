"""What a message may claim, and the words under which it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Limits", "Reason"]


class Reason(StrEnum):
    """Why a message was refused; a closed set, because it is a metric label."""

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
    HANDSHAKE = "handshake"
    """A connection, not a message: a peer without keys, or with a wrong public key of the daemon."""
    UNKNOWN_KEY = "unknown-key"
    """The key of the connection is in none of the daemon's files, or not any more."""
    STREAM_NOT_ALLOWED = "stream-not-allowed"
    """The key that the message came with may not send this stream."""
    UNKNOWN_STREAM = "unknown-stream"
    """This and what follows is given by the daemon: the stream is not in its configuration."""
    ORIGIN = "origin"
    """The run holds windows of another origin: nothing is replayed into a live run."""
    IDENTITY = "identity"
    """Another window had the same stream, run and seq."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one message may claim.

    Parameters
    ----------
    max_header_bytes, max_payload_bytes : int
        Largest frames accepted, bytes.
    max_events, max_features : int
        Largest window accepted.
    """

    max_header_bytes: int = 65_536
    max_payload_bytes: int = 67_108_864
    max_events: int = 100_000
    max_features: int = 64
