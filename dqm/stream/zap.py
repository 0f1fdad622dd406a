"""The door of the daemon: answers ZeroMQ's own question (ZAP) whether a key may come in.

Only CURVE is let in here. ZeroMQ turns away peers of other mechanisms by itself, before it asks; these are
seen in the socket's events. A thread of its own answers, so that a busy daemon does not make handshakes time
out.
"""

from __future__ import annotations

from collections import deque
from threading import Thread

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from dqm.errors import PeerError
from dqm.stream.keys import KeyRing
from dqm.stream.limits import Reason

__all__ = ["DOMAIN", "ZapAuthenticator"]

DOMAIN = b"dqm"
_ENDPOINT = "inproc://zeromq.zap.01"
_STOP = "inproc://dqm.gate.stop"
_VERSION = b"1.0"
_FRAMES = 7  # version, request, domain, address, identity, mechanism, key
_KEY_BYTES = 32
_MOST_REFUSALS = 1000
_FAILURES = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


class ZapAuthenticator:
    """Lets in the keys of a ring, and remembers whom it did not.

    Parameters
    ----------
    context : zmq.Context
        Of the socket that is guarded; ZeroMQ asks within a context.
    socket : zmq.Socket
        That socket, before it is bound.
    ring : KeyRing
        Who may come in.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], ring: KeyRing
    ) -> None:
        self._ring = ring
        self._refusals: deque[PeerError] = deque(maxlen=_MOST_REFUSALS)
        self._socket = socket
        self._monitor = socket.get_monitor_socket(_FAILURES)
        self._questions = context.socket(zmq.REP)
        self._questions.linger = 0
        self._questions.bind(_ENDPOINT)
        self._inner, self._outer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        self._inner.bind(_STOP)
        self._outer.connect(_STOP)
        self._thread = Thread(target=self._work, name="gate", daemon=True)
        self._thread.start()

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Make what a socket binds from now on ask for keys."""
        socket.curve_server = True
        socket.curve_secretkey = self._ring.own.secret.encode()
        socket.zap_domain = DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def next_refusal(self) -> PeerError | None:
        """Give the next peer that was turned away; None if there is none."""
        return self._refusals.popleft() if self._refusals else None

    def close(self) -> None:
        """Stop answering: nobody is let in any more."""
        self._outer.send(b"")
        self._thread.join()
        self._socket.disable_monitor()
        for socket in (self._questions, self._monitor, self._inner, self._outer):
            socket.close(linger=0)

    def _work(self) -> None:
        poller = zmq.Poller()
        for socket in (self._questions, self._monitor, self._inner):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._inner in ready:
                return
            if self._questions in ready:
                self._questions.send_multipart(self._answer(self._questions.recv_multipart()))
            if self._monitor in ready:
                recv_monitor_message(self._monitor)
                self._refuse(
                    Reason.HANDSHAKE, "a peer without CURVE keys, or with the wrong key of the daemon"
                )

    def _answer(self, question: list[bytes]) -> list[bytes]:
        request = question[1] if len(question) > 1 else b""
        if len(question) != _FRAMES or question[0] != _VERSION or question[5] != b"CURVE":
            return self._turn_away(request, Reason.HANDSHAKE, "a peer that does not speak CURVE")
        domain, address, key = question[2], question[3], question[6]
        if domain != DOMAIN or len(key) != _KEY_BYTES:
            return self._turn_away(request, Reason.HANDSHAKE, "a peer of another domain")
        public = z85.encode(key)
        if self._ring.find(public.decode()) is None:
            what = f"unknown key {public.decode()} from {ascii(address)[2:-1][:64]}"
            return self._turn_away(request, Reason.UNKNOWN_KEY, what)
        return [_VERSION, request, b"200", b"OK", public, b""]

    def _turn_away(self, request: bytes, reason: Reason, what: str) -> list[bytes]:
        self._refuse(reason, what)
        return [_VERSION, request, b"400", b"refused", b"", b""]

    def _refuse(self, reason: Reason, what: str) -> None:
        self._refusals.append(PeerError(reason, what))
