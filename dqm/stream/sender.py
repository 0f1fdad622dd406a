"""The sending end: a bounded buffer before a socket, so that the detector never waits for the monitor."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from dqm.errors import ConfigError, InputError
from dqm.events import Window
from dqm.stream.acknowledgement import Identity, decode_acknowledgement
from dqm.stream.sockets import set_options
from dqm.stream.wire import Header, header_of, payload_of

__all__ = ["Sender"]

_ANSWER_BYTES = 65_536
_LINGER_SECONDS = 5.0
_QUEUE_MESSAGES = 4  # beyond these the buffer holds what waits: only there is a loss counted


@dataclass(frozen=True, slots=True)
class _Message:
    header: Header
    payload: bytes

    @property
    def lane(self) -> tuple[str, int]:
        return self.header.stream, self.header.run

    @property
    def identity(self) -> Identity:
        return self.header.stream, self.header.run, self.header.seq


class Sender:
    """Sends windows to one daemon.

    What the socket cannot take waits in a buffer. When the buffer is full the oldest window is dropped, and
    the next one of its stream and run that leaves says how many were lost.

    Use it from one thread.

    Parameters
    ----------
    address : str
        Where the daemon listens, such as ``tcp://127.0.0.1:5565``; it need not listen yet.
    buffer_windows : int
        Windows that may wait, at least 1.

    Raises
    ------
    ConfigError
        If ZeroMQ cannot use the address.
    InputError
        If the buffer has no room for a window.
    """

    def __init__(self, address: str, buffer_windows: int = 1000) -> None:
        if buffer_windows < 1:
            raise InputError(f"buffer_windows must be at least 1, got {buffer_windows}")
        self._waiting: deque[_Message] = deque()
        self._room = buffer_windows
        self._unreported: Counter[tuple[str, int]] = Counter()
        self._n_lost = 0
        self._n_sent = 0
        self._unconfirmed: set[Identity] = set()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        set_options(self._socket, max_message_bytes=_ANSWER_BYTES, queue_messages=_QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a daemon that is not there
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close(0.0)
            raise ConfigError(
                f"cannot connect to {address!r}: {error}", fix="use tcp://HOST:PORT or ipc://PATH"
            ) from error

    @property
    def n_waiting(self) -> int:
        """Windows in the buffer."""
        return len(self._waiting)

    @property
    def n_lost(self) -> int:
        """Windows dropped since the start because the buffer was full."""
        return self._n_lost

    @property
    def n_sent(self) -> int:
        """Windows handed to ZeroMQ since the start."""
        return self._n_sent

    @property
    def n_unconfirmed(self) -> int:
        """Windows handed to ZeroMQ whose verdict the daemon has not acknowledged."""
        return len(self._unconfirmed)

    def send(self, window: Window) -> None:
        """Take a window and send what can be sent, without ever waiting.

        Parameters
        ----------
        window : Window
            Next window of its stream.

        Raises
        ------
        InputError
            If the window breaks the wire format; the buffer is as before.
        """
        message = _Message(header_of(window), payload_of(window))
        self._waiting.append(message)
        self.pump()
        while len(self._waiting) > self._room:
            dropped = self._waiting.popleft()
            self._unreported[dropped.lane] += 1 + dropped.header.n_lost
            self._n_lost += 1

    def pump(self) -> None:
        """Send what can be sent now and read what the daemon has acknowledged."""
        self._read_answers()
        while self._waiting and self._try_send(self._waiting[0]):
            self._waiting.popleft()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the buffer is empty.

        Parameters
        ----------
        timeout_seconds : float
            Longest wait.

        Returns
        -------
        bool
            True if ZeroMQ has taken every window.
        """
        deadline = time.monotonic() + timeout_seconds
        self.pump()
        while self._waiting and (left_seconds := deadline - time.monotonic()) > 0:
            self._socket.poll(int(left_seconds * 1000) + 1, zmq.POLLOUT)
            self.pump()
        return not self._waiting

    def confirm(self, patience_seconds: float) -> bool:
        """Wait until the daemon has stored a verdict for every window sent.

        Parameters
        ----------
        patience_seconds : float
            Longest wait for the next acknowledgement.

        Returns
        -------
        bool
            True if all are acknowledged.
        """
        while self._unconfirmed and self._socket.poll(int(patience_seconds * 1000), zmq.POLLIN):
            self._read_answers()
        return not self._unconfirmed

    def close(self, linger_seconds: float = _LINGER_SECONDS) -> None:
        """Close the socket; windows still in the buffer are given up, so `flush` first.

        Parameters
        ----------
        linger_seconds : float
            Longest wait for ZeroMQ to pass on what it has taken.
        """
        self._socket.close(linger=int(linger_seconds * 1000))
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0.0 if error else _LINGER_SECONDS)

    def _try_send(self, message: _Message) -> bool:
        lost = self._unreported[message.lane]
        header = message.header.model_copy(update={"n_lost": message.header.n_lost + lost})
        try:
            self._socket.send_multipart([header.model_dump_json().encode(), message.payload], zmq.NOBLOCK)
        except zmq.Again:
            return False
        del self._unreported[message.lane]
        self._n_sent += 1
        self._unconfirmed.add(message.identity)
        return True

    def _read_answers(self) -> None:
        """Take what the daemon has sent; answers of an unknown kind are dropped."""
        try:
            while True:
                answer = decode_acknowledgement(self._socket.recv_multipart(zmq.NOBLOCK))
                if answer is not None:
                    self._unconfirmed.discard(answer)
        except zmq.Again:
            return
