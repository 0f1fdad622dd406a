"""Connections of the HTTP server: how many there may be, and for how long a peer may keep one waiting.

A peer that says nothing, sends half a request or does not read its answer costs a connection, and memory. Two
rules limit both.

Deadlines. A connection is always in one `Phase`. In all phases but ``ANSWERING`` the server waits for the
peer, and each of these phases has a deadline that more bytes do not prolong. After it the connection is
closed.

Room. The number of connections is limited in all, from one address, and from other hosts, which leaves room
for this host. Where a limit is reached, a new connection takes the place of the one that has kept
the server waiting for the longest time, among those under the same limit. So silent peers do not exclude
others: a request that comes at once is answered. A new connection is refused only if all others are being
answered. The wait decides, not the order, because a program on this host and a proxy have one address for
many clients; these two have no limit of their own.

A large body is sent in pieces (`send_in_pieces`): the transport holds one piece, not a whole file.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import h11
import structlog
from starlette.types import Message, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["ConnectionLimits", "ConnectionRoom", "LimitedProtocol", "Network", "Phase", "send_in_pieces"]

log = structlog.get_logger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PIECE_BYTES = 65_536
_PART_BYTES = 16_384
_CLOSING_SECONDS = 5.0
_LOG_SECONDS = 60.0
_LOOPBACK = "loopback"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "the next request"
    REQUEST = "the rest of a request"
    ANSWERING = "the application"
    BLOCKED = "the peer to read its answer"
    CLOSING = "the peer to read the end of its answer"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for peers.

    Parameters
    ----------
    most : int
        Connections in all.
    most_of_address : int
        Connections of one address, or of one IPv6 network of /64; not for this host and proxies.
    most_blocked : int
        Connections whose peers do not read. Each holds its answer in memory.
    kept_for_loopback : int
        Connections that other hosts leave free for this host.
    most_ahead_bytes : int
        Requests sent before the answer to the one before.
    idle_seconds : float
        Time without a request, s.
    request_seconds : float
        Time from the first to the last byte of a request, s.
    read_seconds : float
        Time in which a peer must read a piece of its answer, s.
    """

    most: int = 256
    most_of_address: int = 64
    most_blocked: int = 64
    kept_for_loopback: int = 64
    most_ahead_bytes: int = 65_536
    idle_seconds: float = 5.0
    request_seconds: float = 10.0
    read_seconds: float = 20.0

    def seconds(self, phase: Phase) -> float | None:
        """Longest time in a phase, s; None without limit."""
        return {
            Phase.IDLE: self.idle_seconds,
            Phase.REQUEST: self.request_seconds,
            Phase.BLOCKED: self.read_seconds,
            Phase.CLOSING: _CLOSING_SECONDS,
        }.get(phase)


class LimitedProtocol(H11Protocol):
    """One connection of uvicorn's HTTP server, with deadlines and within a `ConnectionRoom`.

    Parameters
    ----------
    room : ConnectionRoom
        Shared by all connections of a server.
    **uvicorn
        What uvicorn gives its protocols.

    Attributes
    ----------
    phase : Phase
        What it waits for.
    waits_since : float
        Since when, in the time of the event loop.
    """

    def __init__(self, room: ConnectionRoom, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.phase: Phase | None = None
        self.waits_since = 0.0
        self._room = room
        self._timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """Address of the peer; empty if it is not known."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin, if there is room."""
        super().connection_made(transport)
        if not self._room.admit(self):
            transport.write(_REFUSAL)
            transport.close()
        self._review()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the room."""
        if self._timer is not None:
            self._timer.cancel()
        self._room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        for begin in range(0, len(data), _PART_BYTES):  # h11 compares its limit with what is incomplete
            if not self.transport.is_closing():
                super().data_received(data[begin : begin + _PART_BYTES])
        n_ahead = len(self.conn.trailing_data[0])
        if self.phase is Phase.ANSWERING and n_ahead > self._room.limits.most_ahead_bytes:
            self.give_up("requests sent ahead")
        self._review()

    def send_400_response(self, msg: str) -> None:
        """Say that a request is not valid, unless its answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        super().on_response_complete()
        self._review()

    def pause_writing(self) -> None:
        """Wait for the peer to read."""
        super().pause_writing()
        self._review()
        self._room.bound_blocked()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        self._review()

    def give_up(self, reason: str) -> None:
        """Close at once; what the peer has not read is lost."""
        self._room.note(reason, self.address)
        self.transport.abort()

    def _review(self) -> None:
        """Find the phase; a new one has a deadline of its own."""
        phase = self._find_phase()
        if phase is self.phase:
            return
        self.phase = phase
        self.waits_since = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        seconds = self._room.limits.seconds(phase)
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _find_phase(self) -> Phase:
        theirs = self.conn.their_state
        if self.transport.is_closing():
            return Phase.CLOSING
        if self.flow.write_paused:
            return Phase.BLOCKED
        if theirs is h11.SEND_BODY or (theirs is h11.IDLE and self.conn.trailing_data[0]):
            return Phase.REQUEST
        return Phase.IDLE if theirs is h11.IDLE else Phase.ANSWERING

    def _end(self) -> None:
        if self.phase is Phase.IDLE:  # usual: a browser that needs nothing more
            self.transport.abort()
        else:
            self.give_up(f"too long: waited for {self.phase.value if self.phase else 'nothing'}")


class ConnectionRoom:
    """The connections of a server, within its limits; used from the server's thread alone.

    Parameters
    ----------
    limits : ConnectionLimits
        How many there may be.
    proxies : sequence of networks
        Addresses of reverse proxies.
    """

    def __init__(self, limits: ConnectionLimits, proxies: Sequence[Network] = ()) -> None:
        self.limits = limits
        self._proxies = proxies
        self._open: dict[LimitedProtocol, str] = {}
        self._closed: Counter[str] = Counter()
        self._told_at = float("-inf")

    def admit(self, new: LimitedProtocol) -> bool:
        """Accept a new connection, if necessary in the place of another; False if there is no room.

        Parameters
        ----------
        new : LimitedProtocol
            The connection.

        Returns
        -------
        bool
            Whether it may stay.
        """
        limits = self.limits
        origin, is_shared = self._origin(new.address)
        same = [one for one, other in self._open.items() if other == origin]
        remote = [one for one, other in self._open.items() if other != _LOOPBACK]
        has_room = is_shared or self._make_room(same, limits.most_of_address)
        if origin != _LOOPBACK:
            has_room = has_room and self._make_room(remote, limits.most - limits.kept_for_loopback)
        has_room = has_room and self._make_room(self._open, limits.most)
        if has_room:
            self._open[new] = origin
        else:
            self.note("refused: no room", new.address)
        return has_room

    def leave(self, one: LimitedProtocol) -> None:
        """Forget a connection that is closed."""
        self._open.pop(one, None)

    def bound_blocked(self) -> None:
        """Close a connection if the peers of too many do not read."""
        self._make_room(
            [one for one in self._open if one.phase is Phase.BLOCKED], self.limits.most_blocked + 1
        )

    def note(self, reason: str, address: str) -> None:
        """Count a connection that was closed early, and tell the log, once a minute at most."""
        self._closed[reason] += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= _LOG_SECONDS:
            self._told_at = now
            log.warning("HTTP connections closed", reasons=dict(self._closed), last_address=address)
            self._closed.clear()

    def _make_room(self, among: Collection[LimitedProtocol], most: int) -> bool:
        """Close the one that has kept the server waiting the longest, if there are too many for another."""
        among = [one for one in among if one in self._open]
        if len(among) < most:
            return True
        waiting = [one for one in among if one.phase is not Phase.ANSWERING]
        if not waiting:
            return False
        longest = min(waiting, key=lambda one: one.waits_since)
        self.leave(longest)
        longest.give_up("closed to make room for another")
        return True

    def _origin(self, address: str) -> tuple[str, bool]:
        """Say under which limit an address counts, and whether many clients share it."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:  # it has closed already
            return address, False
        if isinstance(found, ipaddress.IPv6Address):
            found = found.ipv4_mapped or found
        if found.is_loopback:
            return _LOOPBACK, True
        is_proxy = any(found in network for network in self._proxies)
        if is_proxy or found.version == 4:
            return str(found), is_proxy
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64))), False


def send_in_pieces(send: Send) -> Send:
    """Make a function that sends large bodies piece by piece, and waits for the peer in between.

    Parameters
    ----------
    send : callable
        Sends a message of an ASGI application.

    Returns
    -------
    callable
        The same, with pieces of at most 64 KiB; they are not copied.
    """

    async def send_pieces(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or len(body) <= _PIECE_BYTES:
            await send(message)
            return
        rest = memoryview(body)
        while rest:
            piece, rest = rest[:_PIECE_BYTES], rest[_PIECE_BYTES:]
            is_more = bool(rest) or message.get("more_body", False)
            await send({"type": "http.response.body", "body": piece, "more_body": is_more})

    return send_pieces
