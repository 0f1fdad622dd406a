"""Authentication of senders: answers the requests of ZeroMQ's authentication protocol (ZAP).

Only the mechanism CURVE is accepted. ZeroMQ refuses peers with other mechanisms before it sends a request;
these refusals are read from the socket's events. Requests are answered in a separate thread, so that
handshakes do not time out while the daemon is busy.
"""

from __future__ import annotations

from collections import deque
from threading import Thread

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from dqm.errors import PeerError
from dqm.stream.acknowledgement import Reason
from dqm.stream.keys import KeyRing

__all__ = ["DOMAIN", "ZapAuthenticator"]

DOMAIN = b"dqm"
_ENDPOINT = "inproc://zeromq.zap.01"
_STOP = "inproc://dqm.zap.stop"
_VERSION = b"1.0"
_FRAMES = 7  # version, request, domain, address, identity, mechanism, key
_KEY_BYTES = 32
_MAX_REFUSALS = 1000
_FAILURES = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


class ZapAuthenticator:
    """Accepts the keys of a key ring, and keeps a list of refused peers.

    Parameters
    ----------
    context : zmq.Context
        Context of the protected socket; ZeroMQ sends its requests within the context.
    socket : zmq.Socket
        The protected socket, before it is bound.
    ring : KeyRing
        Accepted keys.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], ring: KeyRing
    ) -> None:
        self._ring = ring
        self._refusals: deque[PeerError] = deque(maxlen=_MAX_REFUSALS)
        self._socket = socket
        self._monitor = socket.get_monitor_socket(_FAILURES)
        self._requests = context.socket(zmq.REP)
        self._requests.linger = 0
        self._requests.bind(_ENDPOINT)
        self._stop_receiver = context.socket(zmq.PAIR)
        self._stop_receiver.bind(_STOP)
        self._stop_sender = context.socket(zmq.PAIR)
        self._stop_sender.connect(_STOP)
        self._thread = Thread(target=self._serve, name="zap", daemon=True)
        self._thread.start()

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Require keys at the addresses that a socket binds from now on."""
        socket.curve_server = True
        socket.curve_secretkey = self._ring.own.secret.encode()
        socket.zap_domain = DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

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
            ready = dict(poller.poll())
            if self._stop_receiver in ready:
                return
            if self._requests in ready:
                self._requests.send_multipart(self._answer(self._requests.recv_multipart()))
            if self._monitor in ready:
                recv_monitor_message(self._monitor)
                self._add_refusal(
                    Reason.HANDSHAKE, "a peer without CURVE keys, or with a wrong key of the daemon"
                )

    def _answer(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        if len(request) != _FRAMES or request[0] != _VERSION or request[5] != b"CURVE":
            return self._refuse(number, Reason.HANDSHAKE, "a peer that does not use CURVE")
        domain, address, key = request[2], request[3], request[6]
        if domain != DOMAIN or len(key) != _KEY_BYTES:
            return self._refuse(number, Reason.HANDSHAKE, "a peer of another domain")
        public = z85.encode(key)
        if self._ring.find(public.decode()) is None:
            what = f"unknown key {public.decode()} from {ascii(address)[2:-1][:64]}"
            return self._refuse(number, Reason.UNKNOWN_KEY, what)
        return [_VERSION, number, b"200", b"OK", public, b""]

    def _refuse(self, number: bytes, reason: Reason, what: str) -> list[bytes]:
        self._add_refusal(reason, what)
        return [_VERSION, number, b"400", b"refused", b"", b""]

    def _add_refusal(self, reason: Reason, what: str) -> None:
        self._refusals.append(PeerError(reason, what))
