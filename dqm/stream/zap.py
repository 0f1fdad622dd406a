"""Authentication of senders: answers the requests of ZeroMQ's authentication protocol (ZAP).

How it works:

1. ZeroMQ asks for every new connection. At a protected address only the mechanism CURVE with a known key is
   accepted; at the other addresses every peer is. ZeroMQ refuses peers with a wrong mechanism before it asks;
   these refusals are read from the socket's events.
2. The answer gives the connection a routing id of the daemon's own (the property ``Identity``). It replaces
   the one that the peer has announced. So two peers that announce the same id are two connections, and an
   answer to one key never goes to another.
3. The later of the two ids counts. With CURVE a peer announces its id before ZeroMQ asks. Without, both cross
   on their way: the answer waits a little. A peer that comes still later keeps the id that it has announced,
   and `RoutingIds.is_own` tells this.

ZeroMQ tells the address of a peer with its request, but not with a refusal of its own. For these the address
is asked of the connection when it is accepted. A peer that is refused at once may be gone by then; its
address is not known.

Requests are answered in a separate thread, so that handshakes do not time out while the daemon is busy.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket as tcp
import struct
import time
from collections import deque
from threading import Thread

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from dqm.errors import PeerError
from dqm.stream.acknowledgement import Reason
from dqm.stream.keys import KeyRing
from dqm.stream.turned_away import TurnedAwayPeers

__all__ = ["DOMAIN", "RoutingIds", "ZapAuthenticator"]

DOMAIN = b"dqm"
_OPEN_DOMAIN = b"dqm-open"
_ENDPOINT = "inproc://zeromq.zap.01"
_STOP = "inproc://dqm.zap.stop"
_VERSION = b"1.0"
_FRAMES = 6  # version, request, domain, address, identity, mechanism; with CURVE a key
_KEY_BYTES = 32
_NONCE_BYTES = 8
_ID_BYTES = 24
_DELAY_SECONDS = 0.05
_MAX_REFUSALS = 1000
_FAILURES = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
_CONNECTIONS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED
_STRANGER = "a peer without CURVE keys, or with a wrong key of the daemon"


class RoutingIds:
    """Routing ids of the daemon's own: each is new, and is recognised again without a list."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self) -> bytes:
        """Make an id that no peer can guess."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._sign(nonce)

    def is_own(self, routing_id: bytes) -> bool:
        """Whether `make` made an id."""
        nonce, signature = routing_id[:_NONCE_BYTES], routing_id[_NONCE_BYTES:]
        return hmac.compare_digest(signature, self._sign(nonce))

    def _sign(self, nonce: bytes) -> bytes:
        return hashlib.blake2b(nonce, key=self._secret, digest_size=_ID_BYTES - _NONCE_BYTES).digest()


class _Connections:
    """Addresses of the connections of a socket, and whose handshake has failed."""

    def __init__(self, peers: TurnedAwayPeers) -> None:
        self._peers = peers
        self._addresses: dict[int, str] = {}
        self._has_failed = False

    def take(self, event: int, descriptor: int) -> bool:
        """Take in an event of the socket; tell whether a handshake has failed.

        ZeroMQ tells of the end of the connection just after the failure; only this names the connection.
        """
        if event == zmq.Event.ACCEPTED:
            self._addresses[descriptor] = _address_of(descriptor)
        elif event == zmq.Event.DISCONNECTED:
            address = self._addresses.pop(descriptor, "")
            if self._has_failed:
                self._peers.add(address, _STRANGER)
            self._has_failed = False
        else:
            self._has_failed = True
            return True
        return False


def _address_of(descriptor: int) -> str:
    """Ask for the address of a connection that belongs to ZeroMQ; empty if it is closed already."""
    try:
        with tcp.socket(fileno=os.dup(descriptor)) as connection:
            name = connection.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else "this host"


class ZapAuthenticator:
    """Accepts peers, gives each connection a routing id, and keeps a list of refused peers.

    Parameters
    ----------
    context : zmq.Context
        Context of the protected socket; ZeroMQ sends its requests within the context.
    socket : zmq.Socket
        The socket, before it is bound.
    ring : KeyRing, optional
        Accepted keys; without it no address can be protected.

    Attributes
    ----------
    turned_away : TurnedAwayPeers
        Who was refused, by address.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], ring: KeyRing | None
    ) -> None:
        self.routing_ids = RoutingIds()
        self._ring = ring
        self._answers: deque[tuple[float, list[bytes]]] = deque()
        self._refusals: deque[PeerError] = deque(maxlen=_MAX_REFUSALS)
        self.turned_away = TurnedAwayPeers()
        self._connections = _Connections(self.turned_away)
        self._socket = socket
        self._monitor = socket.get_monitor_socket(_FAILURES | _CONNECTIONS if ring else 0)
        self._requests = context.socket(zmq.ROUTER)  # handshakes need not wait for each other's answers
        self._requests.linger = 0
        self._requests.bind(_ENDPOINT)
        self._stop_receiver = context.socket(zmq.PAIR)
        self._stop_receiver.bind(_STOP)
        self._stop_sender = context.socket(zmq.PAIR)
        self._stop_sender.connect(_STOP)
        self._thread = Thread(target=self._serve, name="zap", daemon=True)
        self._thread.start()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.zap_domain = _OPEN_DOMAIN

    def protect(self, ring: KeyRing) -> None:
        """Require the keys of a ring at the addresses that the socket binds from now on."""
        self._socket.curve_server = True
        self._socket.curve_secretkey = ring.own.secret.encode()
        self._socket.zap_domain = DOMAIN

    def next_refusal(self) -> PeerError | None:
        """Return the next refused peer; None if there is none."""
        return self._refusals.popleft() if self._refusals else None

    def close(self) -> None:
        """Stop answering; no peer is accepted any more."""
        self._stop_sender.send(b"")
        self._thread.join()
        self._socket.disable_monitor()
        for socket in (self._requests, self._monitor, self._stop_receiver, self._stop_sender):
            socket.close(linger=0)

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._requests, self._monitor, self._stop_receiver):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(self._send_answers()))
            if self._stop_receiver in ready:
                return
            if self._requests in ready:
                envelope, _, *request = self._requests.recv_multipart()
                answer = [envelope, b"", *self._answer(request)]
                self._answers.append((time.monotonic() + _DELAY_SECONDS, answer))
            if self._monitor in ready:
                event = recv_monitor_message(self._monitor)
                if self._connections.take(event["event"], event["value"]):
                    self.add_refusal(Reason.HANDSHAKE, _STRANGER)

    def _send_answers(self) -> int | None:
        """Send the answers that are due; give the milliseconds until the next one, None if there is none."""
        while self._answers:
            due_seconds = self._answers[0][0] - time.monotonic()
            if due_seconds > 0.0:
                return int(1000 * due_seconds) + 1
            self._requests.send_multipart(self._answers.popleft()[1])
        return None

    def _answer(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        if len(request) < _FRAMES or request[0] != _VERSION:
            return self._refuse(number, Reason.HANDSHAKE, "a peer that ZeroMQ does not describe")
        domain, address, mechanism, *credentials = request[2], ascii(request[3])[2:-1][:64], *request[5:]
        if (domain, mechanism) == (_OPEN_DOMAIN, b"NULL"):
            return self._accept(number, b"")
        if (domain, mechanism) != (DOMAIN, b"CURVE") or [len(key) for key in credentials] != [_KEY_BYTES]:
            self.turned_away.add(address, "a peer that does not use CURVE")
            return self._refuse(number, Reason.HANDSHAKE, f"a peer that does not use CURVE, from {address}")
        public = z85.encode(credentials[0])
        if self._ring is None or self._ring.find(public.decode()) is None:
            what = f"unknown key {public.decode()}"
            self.turned_away.add(address, what)
            return self._refuse(number, Reason.UNKNOWN_KEY, f"{what} from {address}")
        return self._accept(number, public)

    def _accept(self, number: bytes, user: bytes) -> list[bytes]:
        identity = _property(b"Identity", self.routing_ids.make())
        return [_VERSION, number, b"200", b"OK", user, identity]

    def _refuse(self, number: bytes, reason: Reason, what: str) -> list[bytes]:
        self.add_refusal(reason, what)
        return [_VERSION, number, b"400", b"refused", b"", b""]

    def add_refusal(self, reason: Reason, what: str) -> None:
        """Add a refused peer to the list; may be called from any thread."""
        self._refusals.append(PeerError(reason, what))


def _property(name: bytes, value: bytes) -> bytes:
    """Metadata of ZMTP."""
    return struct.pack("B", len(name)) + name + struct.pack(">I", len(value)) + value
