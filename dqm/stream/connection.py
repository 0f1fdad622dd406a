"""One connection to the daemon after another: a new socket whenever the last one broke.

A socket that ZeroMQ reconnects by itself may send what is new before what was lost. Here a break is
seen first, and the next connection starts with an empty socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

import zmq
from zmq.utils.monitor import recv_monitor_message

from dqm.errors import ConfigError
from dqm.stream.sockets import set_options

__all__ = ["Connection", "ConnectionReport"]

_ANSWER_BYTES = 65_536
_QUEUE_MESSAGES = 4
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_REFUSALS = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
_BREAKS = _REFUSALS | zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
_EVENTS = _BREAKS | zmq.Event.HANDSHAKE_SUCCEEDED


class ConnectionReport(Enum):
    """What became of a connection."""

    OPEN = "open"
    BROKEN = "broken"
    REFUSED = "refused"
    """The daemon does not let this sender in: keys are missing, wrong or not expected."""


class Connection:
    """A socket connected to one daemon; to be used from one thread at a time.

    Parameters
    ----------
    address : str
        Where the daemon listens.
    prepare : callable, optional
        Told each new socket before it connects; sets its keys.
    monotonic : callable
        Seconds that never go back.

    Raises
    ------
    ConfigError
        If ZeroMQ cannot use the address.
    """

    def __init__(
        self,
        address: str,
        prepare: Callable[[zmq.Socket[bytes]], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._prepare, self._monotonic = address, prepare, monotonic
        self._context = zmq.Context()
        self._pause = _SHORTEST_PAUSE
        self._open_at: float | None = None
        try:
            self._open()
        except zmq.ZMQError as error:
            self.close(0.0)
            raise ConfigError(
                f"cannot connect to {address!r}: {error}", fix="use tcp://HOST:PORT or ipc://PATH"
            ) from error

    def check(self) -> ConnectionReport | None:
        """Say what happened since the last time, and open a new socket when it is time to."""
        if self._open_at is not None:
            if self._monotonic() >= self._open_at:
                self._open_at = None
                self._open()
            return None
        while self._monitor.poll(0):
            event = zmq.Event(recv_monitor_message(self._monitor)["event"])
            if event is zmq.Event.HANDSHAKE_SUCCEEDED:
                return ConnectionReport.OPEN
            if event & _BREAKS:
                self.renew()
                return ConnectionReport.REFUSED if event & _REFUSALS else ConnectionReport.BROKEN
        return None

    def renew(self) -> None:
        """Drop the socket with all it holds; the next one opens after a pause that grows."""
        self._close_socket(0.0)
        self._open_at = self._monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def trust(self) -> None:
        """Note that the daemon has answered: the next pause is short again."""
        self._pause = _SHORTEST_PAUSE

    def send(self, frames: list[bytes]) -> bool:
        """Send a message; False if the socket takes none now."""
        if self._open_at is not None:
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Give the next answer; None if there is none."""
        if self._open_at is not None:
            return None
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def wait(self, seconds: float, *, to_send: bool) -> None:
        """Wait until something happens.

        Parameters
        ----------
        seconds : float
            Longest wait.
        to_send : bool
            Whether room in the socket counts as something.
        """
        if self._open_at is not None:
            time.sleep(max(0.0, min(seconds, self._open_at - self._monotonic())))
            return
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN | (zmq.POLLOUT if to_send else 0))
        poller.poll(max(0, int(seconds * 1000)) + 1)

    def close(self, linger_seconds: float) -> None:
        """Close for good.

        Parameters
        ----------
        linger_seconds : float
            Longest wait for ZeroMQ to pass on what it has taken.
        """
        self._close_socket(linger_seconds)
        self._context.term()

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        set_options(self._socket, max_message_bytes=_ANSWER_BYTES, queue_messages=_QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a daemon that is not there
        self._socket.setsockopt(zmq.IPV6, "[" in self._address)
        if self._prepare is not None:
            self._prepare(self._socket)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._socket.connect(self._address)

    def _close_socket(self, linger_seconds: float) -> None:
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger_seconds * 1000))
