"""The sending end: keeps every window until the daemon has answered, and never makes the detector wait.

How it works:

1. `Sender.send` adds a window to the `Backlog`, writes it to the `Spool` if there is one, and sends what can
   be sent now. It does not wait for the daemon.
2. The daemon answers each window when its verdict is stored (acknowledged) or when it is refused. Only then
   the window is removed from backlog and spool. So a crash of the daemon, of the collector or of the network
   loses no window; a window that is sent twice is recognised by the daemon.
3. After a break of the connection, or without any answer for `ack_timeout_seconds`, a new socket is opened
   and all unanswered windows are sent again, in order. The old socket is closed first: its queue could
   otherwise send new windows before lost ones.
4. When the backlog is full, the oldest window is dropped and counted, and the next window of its stream and
   run carries the number of lost windows to the daemon.
5. Messages about runs (`Sender.announce`) are kept beside the windows, in the `RunBacklog`, and on disk as
   well. Each is sent after the windows that came before it, and again after a break.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from types import TracebackType
from typing import Self

from dqm.errors import FileError
from dqm.events import RunEvent, RunNotice, Window
from dqm.stream.acknowledgement import Identity, RunAnswer, RunIdentity, decode_answer, identity_of
from dqm.stream.backlog import Backlog, Message
from dqm.stream.connection import Connection, ConnectionEvent
from dqm.stream.keys import SenderKeys
from dqm.stream.run_backlog import RunBacklog
from dqm.stream.run_message import encode_run, run_identity_of
from dqm.stream.spool import Spool
from dqm.stream.wire import header_of, payload_of

__all__ = ["Sender"]

_LINGER_SECONDS = 5.0
_BUFFER_BYTES = 2**28
_LONGEST_ACK_TIMEOUT_SECONDS = 300.0
_WAIT_SECONDS = 0.1  # the lock is held while waiting; other threads get it in between


class Sender:
    """Sends windows to one daemon and keeps each until it is answered.

    The module's text explains how. The methods may be called from several threads.

    Parameters
    ----------
    address : str
        Address of the daemon, such as ``tcp://127.0.0.1:5565``; the daemon may start later.
    buffer_windows : int
        Most windows that are kept, at least 1.
    buffer_bytes : int
        Most bytes of payload that are kept.
    spool : Spool, optional
        Keeps the windows on disk as well, so that they survive the end of this process. Windows in it are
        sent first. The caller closes it.
    keys : SenderKeys, optional
        Keys, if the daemon requires them.
    ack_timeout_seconds : float
        Without any answer for this time, all unanswered windows are sent again. The time doubles, up to
        300 s, until an answer comes.
    monotonic : callable
        Monotonic clock, s.

    Raises
    ------
    ConfigError
        If ZeroMQ cannot use the address.
    InputError
        If `buffer_windows` is below 1.
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
        keys: SenderKeys | None = None,
        ack_timeout_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = Backlog(buffer_windows, buffer_bytes)
        self._runs = RunBacklog()
        self._spool = spool
        self._monotonic = monotonic
        self._shortest_ack_timeout = ack_timeout_seconds
        self._ack_timeout = ack_timeout_seconds
        self._answered_at = monotonic()
        self._lock = RLock()
        self._n_sent = 0
        self._n_repeated = 0
        self._refusals: Counter[str] = Counter()
        self._run_refusals: list[RunAnswer] = []
        self._given_up: list[Identity] = []
        self._is_open = False
        self._connection_problem = ""
        self._spool_problem = ""
        self._backlog.restore(spool.load() if spool else ())
        self._remove_from_spool(self._backlog.make_room())
        for notice in spool.load_runs() if spool else ():
            self._runs.add(notice, self._backlog.last if notice.event is RunEvent.END else None)
        self._connection = Connection(address, keys.set_on if keys else None, monotonic)

    @property
    def n_waiting(self) -> int:
        """Windows to be sent, for the first time or again."""
        with self._lock:
            return self._backlog.n_waiting

    @property
    def n_unconfirmed(self) -> int:
        """Windows that were sent and are not answered."""
        with self._lock:
            return self._backlog.n_in_flight

    @property
    def n_kept(self) -> int:
        """Windows in the buffer: `n_waiting` and `n_unconfirmed`."""
        with self._lock:  # while another thread moves a window it is in neither part
            return len(self._backlog)

    @property
    def n_announced(self) -> int:
        """Messages about runs that are not answered."""
        with self._lock:
            return len(self._runs)

    @property
    def run_refusals(self) -> tuple[RunAnswer, ...]:
        """Messages about runs that the daemon refused since the start, with its reasons."""
        return tuple(self._run_refusals)

    @property
    def n_lost(self) -> int:
        """Windows dropped since the start: the buffer was full, or they broke every connection."""
        with self._lock:
            return self._backlog.n_lost

    @property
    def given_up(self) -> tuple[Identity, ...]:
        """Those of the lost windows that broke every connection, in order."""
        return tuple(self._given_up)

    @property
    def n_sent(self) -> int:
        """Windows sent since the start, each counted once."""
        return self._n_sent

    @property
    def n_repeated(self) -> int:
        """Number of times that a window was sent again."""
        return self._n_repeated

    @property
    def refusals(self) -> dict[str, int]:
        """Windows that the daemon refused since the start, by reason; they are not sent again."""
        return dict(self._refusals)

    @property
    def has_room(self) -> bool:
        """Whether another window can be added without dropping one."""
        with self._lock:
            return self._backlog.has_room

    @property
    def is_connected(self) -> bool:
        """Whether the connection to a daemon is open."""
        return self._is_open

    @property
    def problem(self) -> str:
        """Current problem of the connection or the spool; empty if there is none."""
        return "; ".join(filter(None, [self._connection_problem, self._spool_problem]))

    def keeps(self, identity: Identity) -> bool:
        """Whether a window is in the buffer: the daemon has not answered it."""
        with self._lock:
            return identity in self._backlog

    def send(self, window: Window) -> None:
        """Add a window to the buffer and send what can be sent now; never waits for the daemon.

        Parameters
        ----------
        window : Window
            Next window of its stream; a window that is already in the buffer is ignored.

        Raises
        ------
        InputError
            If the window breaks the wire format; the buffer is then not changed.
        """
        message = Message(header_of(window), payload_of(window))
        with self._lock:
            if identity_of(window) not in self._backlog:
                self._backlog.add(message)
                if self._spool is not None:
                    self._spool_problem = _problem_of(partial(self._spool.add, message))
            self.pump()
            self._remove_from_spool(self._backlog.make_room())

    def announce(self, notice: RunNotice) -> None:
        """Say that a run begins or ends, after all windows that were sent before; never waits.

        Parameters
        ----------
        notice : RunNotice
            What begins or ends; one that is not answered yet is not added twice.

        Raises
        ------
        InputError
            If the notice breaks the wire format.
        """
        frame = encode_run(notice)
        with self._lock:
            if self._runs.add(notice, self._backlog.last) and self._spool is not None:
                self._spool_problem = _problem_of(
                    partial(self._spool.add_run, run_identity_of(notice), frame)
                )
            self.pump()

    def pump(self) -> None:
        """Read the answers of the daemon, and send what can be sent now; never waits."""
        with self._lock:
            self._check_connection()
            self._read_answers()
            self._check_ack_timeout()
            self._send_windows()
            self._send_notices()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every window is handed to ZeroMQ.

        Parameters
        ----------
        timeout_seconds : float
            Longest wait, s.

        Returns
        -------
        bool
            True if no window is left to be sent.
        """
        deadline = self._monotonic() + timeout_seconds
        self._work_until(lambda: not self.n_waiting or self._monotonic() >= deadline, lambda: deadline)
        return not self.n_waiting

    def confirm(self, timeout_seconds: float) -> bool:
        """Wait until the daemon has answered every window and every message about a run.

        Parameters
        ----------
        timeout_seconds : float
            Longest wait for the next answer, s; it starts again with each answer.

        Returns
        -------
        bool
            True if nothing is left to be answered.
        """
        n_answered = -1
        deadline = 0.0

        def is_done() -> bool:
            nonlocal n_answered, deadline
            if (n_now := self._backlog.n_answered + self._runs.n_answered) != n_answered:
                n_answered = n_now
                deadline = self._monotonic() + timeout_seconds
            return not (self.n_kept or self.n_announced) or self._monotonic() >= deadline

        self._work_until(is_done, lambda: deadline)
        return not (self.n_kept or self.n_announced)

    def close(self, linger_seconds: float = _LINGER_SECONDS) -> None:
        """Close the connection; windows in the buffer are lost unless they are in the spool.

        Parameters
        ----------
        linger_seconds : float
            Longest wait for ZeroMQ to send the messages in its queue, s.
        """
        with self._lock:
            self._connection.close(linger_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0.0 if error else _LINGER_SECONDS)

    def _work_until(self, is_done: Callable[[], bool], deadline: Callable[[], float]) -> None:
        self.pump()
        while True:
            with self._lock:  # held for the check as well: another thread may read the answer in between
                if is_done():
                    return
                left_seconds = max(0.0, deadline() - self._monotonic())
                to_send = self._is_open and self._has_something_to_send()
                self._connection.wait(min(left_seconds, _WAIT_SECONDS), to_send=to_send)
                self.pump()

    def _has_something_to_send(self) -> bool:
        return self._backlog.next() is not None or self._runs.next(self._backlog.is_waiting) is not None

    def _send_notices(self) -> None:
        """Send the messages about runs whose turn it is."""
        while (notice := self._runs.next(self._backlog.is_waiting)) is not None:
            if not self._connection.send([encode_run(notice)]):
                return
            self._runs.mark_sent(notice, self._backlog.in_flight)

    def _send_windows(self) -> None:
        """Send the windows that may be sent now, and between them the messages about runs."""
        self._send_notices()
        while (message := self._backlog.next()) is not None:
            frames = [message.header.to_json(), message.payload]
            if not self._connection.send(frames):
                break
            if self._backlog.n_in_flight == 0:
                self._answered_at = self._monotonic()  # the time-out starts with the first window
            self._n_repeated += message.was_sent
            self._n_sent += not message.was_sent
            self._backlog.mark_sent(message)
            self._send_notices()

    def _check_connection(self) -> None:
        while (event := self._connection.check()) is not None:
            self._is_open = event is ConnectionEvent.OPEN
            if event is ConnectionEvent.OPEN:
                self._connection_problem = ""
                continue
            if event is ConnectionEvent.REFUSED:
                self._connection_problem = "the daemon refuses this collector: check the keys of both"
            given_up = self._backlog.requeue(broken=True)
            self._given_up += given_up
            self._remove_from_spool(given_up)
            self._runs.requeue()

    def _read_answers(self) -> None:
        """Read the answers of the daemon; answers of an unknown kind are ignored."""
        answered = []
        answered_runs = []
        while (frames := self._connection.receive()) is not None:
            answer = decode_answer(frames)
            if isinstance(answer, RunAnswer):
                if self._runs.mark_answered(answer.identity):
                    answered_runs.append(answer.identity)
                    self._run_refusals += [answer] if answer.reason else []
                continue
            if answer is None or not self._backlog.mark_answered(answer.identity):
                continue
            answered.append(answer.identity)
            if answer.reason:
                self._refusals[answer.reason] += 1
            else:
                answered_runs += self._runs.forget_before(answer.identity)
        if answered or answered_runs:
            self._answered_at = self._monotonic()
            self._ack_timeout = self._shortest_ack_timeout
            self._connection.reset_pause()
            self._remove_from_spool(answered)
            self._remove_runs_from_spool(answered_runs)

    def _check_ack_timeout(self) -> None:
        """Send all unanswered windows again over a new connection if no answer came for too long."""
        if self._backlog.n_in_flight and self._monotonic() - self._answered_at > self._ack_timeout:
            self._ack_timeout = min(2 * self._ack_timeout, _LONGEST_ACK_TIMEOUT_SECONDS)
            self._is_open = False
            self._connection.reconnect()
            self._backlog.requeue(broken=False)
            self._runs.requeue()

    def _remove_from_spool(self, identities: Sequence[Identity]) -> None:
        if self._spool is not None and identities:
            self._spool_problem = _problem_of(partial(self._spool.remove, identities)) or self._spool_problem

    def _remove_runs_from_spool(self, keys: Sequence[RunIdentity]) -> None:
        if self._spool is not None and keys:
            self._spool_problem = _problem_of(partial(self._spool.remove_runs, keys)) or self._spool_problem


def _problem_of(action: Callable[[], None]) -> str:
    """Change the spool and return what went wrong; the windows are in memory, so sending continues."""
    try:
        action()
    except FileError as error:
        return str(error)
    return ""
