"""The wire of ZeroMQ (ZMTP 3, without keys) spoken by hand, for peers that do what no library does."""

from __future__ import annotations

import socket
import struct

__all__ = ["GREETING", "connect", "end_handshake", "frames_of"]

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)


def connect(address: str) -> socket.socket:
    """Open a connection to an address of ZeroMQ."""
    way, _, where = address.partition("://")
    opened = socket.socket(socket.AF_INET if way == "tcp" else socket.AF_UNIX)
    opened.settimeout(60.0)
    host, _, port = where.rpartition(":")
    opened.connect((host, int(port)) if way == "tcp" else where)
    return opened


def end_handshake(opened: socket.socket, routing_id: bytes) -> None:
    """Wait until the other side is ready, and announce a routing id only then."""
    n_read = 0
    while n_read <= len(GREETING) and (piece := opened.recv(4096)):
        n_read += len(piece)
    ready = b"\x05READY" + _metadata(b"Socket-Type", b"DEALER") + _metadata(b"Identity", routing_id)
    opened.sendall(b"\x04" + bytes([len(ready)]) + ready)


def frames_of(frames: list[bytes]) -> list[bytes]:
    """Give a message as it goes over the wire."""
    return [
        struct.pack(">BQ", 2 | (n < len(frames)), len(frame)) + frame for n, frame in enumerate(frames, 1)
    ]


def _metadata(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
