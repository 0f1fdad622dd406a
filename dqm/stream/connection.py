"""The sender's connection, with a new socket after each break; and the socket options of both ends.

ZeroMQ can reconnect a socket by itself, but such a socket may send new messages before lost ones are sent
again. Here a break is detected, the socket is closed, and the next connection starts with an empty socket.

Two things end the process of libzmq 4.3.5 by an assertion, so neither end may do them:

*  Send heartbeats (`ZMQ_HEARTBEAT_IVL`). A socket whose receive queue is full stops reading. When its peer
   closes then, the next heartbeat of either side meets a connection that is half closed. Dead peers are found
   by the kernel instead: `ZMQ_TCP_KEEPALIVE`, and `ZMQ_TCP_MAXRT` for what was sent.
*  Let the receive queue become full, for the same reason with a peer that sends heartbeats. It has room for
   more than a sender may have in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

import zmq
from zmq.utils.monitor import recv_monitor_message

from dqm.errors import ConfigError
from dqm.stream.backlog import MAX_IN_FLIGHT

__all__ = ["Connection", "ConnectionEvent", "set_options"]

_KEEPALIVE_IDLE_SECONDS = 10
_KEEPALIVE_PROBE_SECONDS = 5
_KEEPALIVE_PROBES = 2
_SILENCE_MS = 20_000  # a peer that does not confirm what was sent for this time is disconnected
_HANDSHAKE_MS = 10_000
_RECONNECT_MS = 100
_RECONNECT_MOST_MS = 5_000
_ANSWER_BYTES = 65_536
_MOST_UNSENT = 4  # windows; the backlog keeps the others in order
_MOST_UNREAD = 4 * MAX_IN_FLIGHT  # ZeroMQ counts what was read in steps of half the limit
_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_REFUSALS = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
_BREAKS = _REFUSALS | zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
_EVENTS = _BREAKS | zmq.Event.HANDSHAKE_SUCCEEDED


def set_options(socket: zmq.Socket[bytes], *, max_message_bytes: int, most_unsent: int) -> None:
    """Set limits and time-outs of a socket of either end; no important option keeps its default.

    The socket disconnects dead peers, limits its queues, and does not delay the end of the process. The
    module's text says why it has no heartbeats.

    Parameters
    ----------
    socket : zmq.Socket
        Before it is bound or connected.
    max_message_bytes : int
        Largest frame accepted; a peer that sends a larger one is disconnected.
    most_unsent : int
        Most messages held for each peer that are to be sent.
    """
    options = {
        zmq.MAXMSGSIZE: max_message_bytes,
        zmq.SNDHWM: most_unsent,
        zmq.RCVHWM: _MOST_UNREAD,
        zmq.LINGER: 0,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: _KEEPALIVE_IDLE_SECONDS,
        zmq.TCP_KEEPALIVE_INTVL: _KEEPALIVE_PROBE_SECONDS,
        zmq.TCP_KEEPALIVE_CNT: _KEEPALIVE_PROBES,
        zmq.TCP_MAXRT: _SILENCE_MS,
        zmq.HANDSHAKE_IVL: _HANDSHAKE_MS,
        zmq.RECONNECT_IVL: _RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: _RECONNECT_MOST_MS,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)


class ConnectionEvent(Enum):
    """Change of the state of a connection."""

    OPEN = "open"
    BROKEN = "broken"
    REFUSED = "refused"
    """The daemon refused the sender: keys are missing, wrong or not expected."""


class Connection:
    """A socket connected to one daemon; to be used from one thread at a time.

    Parameters
    ----------
    address : str
        Address of the daemon.
    set_keys : callable, optional
        Called with each new socket before it connects, to set its keys.
    monotonic : callable
        Monotonic clock, s.

    Raises
    ------
    ConfigError
        If ZeroMQ cannot use the address.
    """

    def __init__(
        self,
        address: str,
        set_keys: Callable[[zmq.Socket[bytes]], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._set_keys = set_keys
        self._monotonic = monotonic
        self._context = zmq.Context()
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._open_at: float | None = None  # None: the socket is open
        try:
            self._open()
        except zmq.ZMQError as error:
            self.close(0.0)
            raise ConfigError(
                f"cannot connect to {address!r}: {error}", fix="Use tcp://HOST:PORT or ipc://PATH"
            ) from error

    def check(self) -> ConnectionEvent | None:
        """Return the next change of the connection, if any; open a new socket when the pause is over."""
        if self._open_at is not None:
            if self._monotonic() >= self._open_at:
                self._open_at = None
                self._open()
            return None
        while self._monitor.poll(0):
            event = zmq.Event(recv_monitor_message(self._monitor)["event"])
            if event is zmq.Event.HANDSHAKE_SUCCEEDED:
                return ConnectionEvent.OPEN
            if event & _BREAKS:
                self.reconnect()
                return ConnectionEvent.REFUSED if event & _REFUSALS else ConnectionEvent.BROKEN
        return None

    def reconnect(self) -> None:
        """Close the socket and its queue; the next one opens after a pause, which doubles each time."""
        self._close_socket(0.0)
        self._open_at = self._monotonic() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def reset_pause(self) -> None:
        """Make the next pause short again; called when the daemon has answered."""
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS

    def send(self, frames: list[bytes]) -> bool:
        """Send a message without waiting; False if the socket accepts none now."""
        if self._open_at is not None:
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer without waiting; None if there is none."""
        if self._open_at is not None:
            return None
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def wait(self, seconds: float, *, to_send: bool) -> None:
        """Wait until an answer arrives or the connection changes.

        Parameters
        ----------
        seconds : float
            Longest wait, s.
        to_send : bool
            Whether to stop waiting also when the socket accepts a message.
        """
        if self._open_at is not None:
            time.sleep(max(0.0, min(seconds, self._open_at - self._monotonic())))
            return
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN | (zmq.POLLOUT if to_send else 0))
        poller.poll(max(0, int(seconds * 1000)) + 1)

    def close(self, linger_seconds: float) -> None:
        """Close the socket and end the connection.

        Parameters
        ----------
        linger_seconds : float
            Longest wait for ZeroMQ to send the messages in its queue, s.
        """
        self._close_socket(linger_seconds)
        self._context.term()

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        set_options(self._socket, max_message_bytes=_ANSWER_BYTES, most_unsent=_MOST_UNSENT)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing before the connection is open
        self._socket.setsockopt(zmq.IPV6, "[" in self._address)
        if self._set_keys is not None:
            self._set_keys(self._socket)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._socket.connect(self._address)

    def _close_socket(self, linger_seconds: float) -> None:
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger_seconds * 1000))
