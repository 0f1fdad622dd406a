"""The sending end: keeps every window until the daemon has stored its verdict, and never waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from types import TracebackType
from typing import Self

from dqm.errors import FileError
from dqm.events import Window
from dqm.stream.acknowledgement import Identity, decode_answer, identity_of
from dqm.stream.backlog import Backlog, Message
from dqm.stream.connection import Connection, ConnectionReport
from dqm.stream.keys import Sending
from dqm.stream.spool import Spool
from dqm.stream.wire import header_of, payload_of

__all__ = ["Sender"]

_LINGER_SECONDS = 5.0
_BUFFER_BYTES = 2**28
_LONGEST_PATIENCE = 300.0
_SLICE_SECONDS = 0.1  # other threads have their turn in between


class Sender:
    """Sends windows to one daemon and keeps each until it is answered.

    After a break of the connection, or when no answer comes for a while, all that is not answered is sent
    again, in order. When there is no room for another window the oldest is dropped, and the next one of its
    stream and run that leaves says how many were lost. The methods may be called from several threads.

    Parameters
    ----------
    address : str
        Where the daemon listens, such as ``tcp://127.0.0.1:5565``; it need not listen yet.
    buffer_windows : int
        Windows that may be kept, at least 1.
    buffer_bytes : int
        The same in bytes of their payloads.
    spool : Spool, optional
        Where they are kept besides, so that they survive the end of this process; what it holds is sent
        first. It stays the caller's to close.
    keys : Sending, optional
        Keys, if the daemon asks for them.
    patience_seconds : float
        Without any answer for so long, everything is sent again; the time doubles, up to 300 s, until one
        comes.
    monotonic : callable
        Seconds that never go back.

    Raises
    ------
    ConfigError
        If ZeroMQ cannot use the address.
    InputError
        If the buffer has no room for a window.
    FileError
        If the spool cannot be read.
    """

    def __init__(
        self,
        address: str,
        buffer_windows: int = 1000,
        *,
        buffer_bytes: int = _BUFFER_BYTES,
        spool: Spool | None = None,
        keys: Sending | None = None,
        patience_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = Backlog(buffer_windows, buffer_bytes)
        self._spool = spool
        self._monotonic = monotonic
        self._shortest_patience = self._patience = patience_seconds
        self._answered = monotonic()
        self._lock = RLock()
        self._n_sent = self._n_repeated = 0
        self._refusals: Counter[str] = Counter()
        self._is_open = False
        self._problem = self._spool_problem = ""
        for message in spool.load() if spool else ():
            self._backlog.add(message)
        self._forget(self._backlog.make_room())
        self._connection = Connection(address, keys.prepare if keys else None, monotonic)

    @property
    def n_waiting(self) -> int:
        """Windows that are to be sent, for the first time or again."""
        return self._backlog.n_waiting

    @property
    def n_unconfirmed(self) -> int:
        """Windows handed to ZeroMQ that the daemon has not answered."""
        return self._backlog.n_in_flight

    @property
    def n_kept(self) -> int:
        """Windows in the buffer, both of these."""
        return len(self._backlog)

    @property
    def n_lost(self) -> int:
        """Windows dropped since the start because the buffer was full, or because no connection bore them."""
        return self._backlog.n_lost

    @property
    def n_sent(self) -> int:
        """Windows handed to ZeroMQ since the start, each counted once."""
        return self._n_sent

    @property
    def n_repeated(self) -> int:
        """Times a window was handed to ZeroMQ again."""
        return self._n_repeated

    @property
    def refusals(self) -> dict[str, int]:
        """Windows the daemon refused since the start, by its reason; they are not sent again."""
        return dict(self._refusals)

    @property
    def has_room(self) -> bool:
        """Whether another window could be taken and nothing dropped."""
        return self._backlog.has_room

    @property
    def is_connected(self) -> bool:
        """Whether a daemon is there."""
        return self._is_open

    @property
    def problem(self) -> str:
        """What is wrong with connection or spool at the moment; empty if nothing is."""
        return "; ".join(filter(None, [self._problem, self._spool_problem]))

    def send(self, window: Window) -> None:
        """Take a window and send what can be sent, without ever waiting.

        Parameters
        ----------
        window : Window
            Next window of its stream; one that is in the buffer already is not taken twice.

        Raises
        ------
        InputError
            If the window breaks the wire format; the buffer is as before.
        """
        message = Message(header_of(window), payload_of(window))
        with self._lock:
            if identity_of(window) not in self._backlog:
                self._backlog.add(message)
                if self._spool is not None:
                    self._spool_problem = _complaint(partial(self._spool.add, message))
            self.pump()
            self._forget(self._backlog.make_room())

    def pump(self) -> None:
        """Send what can be sent now, and read what the daemon has answered."""
        with self._lock:
            self._check_connection()
            self._read_answers()
            self._check_patience()
            while (message := self._backlog.next()) is not None:
                frames = [message.header.model_dump_json().encode(), message.payload]
                if not self._connection.send(frames):
                    break
                if self._backlog.n_in_flight == 0:
                    self._answered = self._monotonic()  # patience begins with the first one
                self._n_repeated += message.was_sent
                self._n_sent += not message.was_sent
                self._backlog.mark_sent(message)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until ZeroMQ has taken every window.

        Parameters
        ----------
        timeout_seconds : float
            Longest wait.

        Returns
        -------
        bool
            True if nothing waits to be sent.
        """
        deadline = self._monotonic() + timeout_seconds
        self._work_until(lambda: not self.n_waiting or self._monotonic() >= deadline, lambda: deadline)
        return not self.n_waiting

    def confirm(self, patience_seconds: float) -> bool:
        """Wait until the daemon has answered for every window.

        Parameters
        ----------
        patience_seconds : float
            Longest wait for the next answer.

        Returns
        -------
        bool
            True if nothing is kept any more.
        """
        n_settled, deadline = -1, 0.0

        def patience_ends() -> bool:
            nonlocal n_settled, deadline
            if self._backlog.n_settled != n_settled:
                n_settled, deadline = self._backlog.n_settled, self._monotonic() + patience_seconds
            return not self.n_kept or self._monotonic() >= deadline

        self._work_until(patience_ends, lambda: deadline)
        return not self.n_kept

    def close(self, linger_seconds: float = _LINGER_SECONDS) -> None:
        """Close the connection; what is still in the buffer is given up unless it is spooled.

        Parameters
        ----------
        linger_seconds : float
            Longest wait for ZeroMQ to pass on what it has taken.
        """
        with self._lock:
            self._connection.close(linger_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0.0 if error else _LINGER_SECONDS)

    def _work_until(self, done: Callable[[], bool], deadline: Callable[[], float]) -> None:
        self.pump()
        while True:
            with self._lock:  # around the question too: another thread may read the answer waited for
                if done():
                    return
                left_seconds = max(0.0, deadline() - self._monotonic())
                to_send = self._is_open and self._backlog.next() is not None
                self._connection.wait(min(left_seconds, _SLICE_SECONDS), to_send=to_send)
                self.pump()

    def _check_connection(self) -> None:
        while (news := self._connection.check()) is not None:
            self._is_open = news is ConnectionReport.OPEN
            self._problem = "" if self._is_open else self._problem
            if news is ConnectionReport.REFUSED:
                self._problem = "the daemon does not let this collector in: check the keys of both"
            if news is not ConnectionReport.OPEN:
                self._forget(self._backlog.take_back(broken=True))

    def _read_answers(self) -> None:
        """Take what the daemon has sent; answers of an unknown kind are dropped."""
        settled = []
        while (frames := self._connection.receive()) is not None:
            answer = decode_answer(frames)
            if answer is None or not self._backlog.settle(answer.identity):
                continue
            settled.append(answer.identity)
            if answer.reason:
                self._refusals[answer.reason] += 1
        if settled:
            self._answered, self._patience = self._monotonic(), self._shortest_patience
            self._connection.trust()
            self._forget(settled)

    def _check_patience(self) -> None:
        """Send everything again over a new connection if the daemon has been silent for too long."""
        if self._backlog.n_in_flight and self._monotonic() - self._answered > self._patience:
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
            self._is_open = False
            self._connection.renew()
            self._backlog.take_back(broken=False)

    def _forget(self, identities: Sequence[Identity]) -> None:
        if self._spool is not None and identities:
            self._spool_problem = _complaint(partial(self._spool.remove, identities)) or self._spool_problem


def _complaint(action: Callable[[], None]) -> str:
    """Work on the spool; what it fails to take is in memory all the same, so the failure is only told."""
    try:
        action()
    except FileError as error:
        return str(error)
    return ""
