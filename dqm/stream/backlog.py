"""Windows that are not answered yet: kept in order, within limits, and counted when dropped. No I/O."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dqm.errors import InputError
from dqm.stream.acknowledgement import Identity
from dqm.stream.wire import Header

__all__ = ["Backlog", "Message"]

MAX_IN_FLIGHT = 64
_MAX_BREAKS = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One window, ready to be sent.

    Parameters
    ----------
    header, payload : Header, bytes
        Frames of the message.
    was_sent : bool
        Whether it was handed to the socket before.
    is_restored : bool
        Whether an earlier process may have handed it to the socket.
    n_breaks : int
        Connections that broke, one after the other, while this was the only window in flight.
    put_back_at : int or None
        Windows that had been answered when it was put behind the others for that; None if it never was.
    """

    header: Header
    payload: bytes
    was_sent: bool = False
    is_restored: bool = False
    n_breaks: int = 0
    put_back_at: int | None = None

    @property
    def may_be_known(self) -> bool:
        """Whether the daemon may have it already."""
        return self.was_sent or self.is_restored

    @property
    def run_key(self) -> tuple[str, int]:
        """Stream and run."""
        return self.header.stream, self.header.run

    @property
    def identity(self) -> Identity:
        """Stream, run and seq."""
        return self.header.stream, self.header.run, self.header.seq


class Backlog:
    """Windows that a sender keeps until the daemon has answered.

    At most `MAX_IN_FLIGHT` windows are in flight. After a broken connection it is one at a time, and the
    number doubles with each answer. When the backlog is full, the oldest window that was never sent is
    dropped. Windows that were sent are dropped last, because the daemon may already have them. An earlier
    process may have sent the first `MAX_IN_FLIGHT` of those that it left in the spool.

    If a connection breaks five times while the same window is the only one in flight (the daemon closes the
    connection because of the window's size, or crashes), the window moves behind the others. If others are
    answered and the window then breaks five connections more, it is dropped. Fewer breaks are not evidence:
    where connections are short for another reason, healthy windows meet some of them.

    Parameters
    ----------
    max_windows, max_bytes : int
        Limits; a single window larger than `max_bytes` is kept nevertheless.

    Raises
    ------
    InputError
        If `max_windows` is below 1.
    """

    def __init__(self, max_windows: int, max_bytes: int) -> None:
        if max_windows < 1:
            raise InputError(f"buffer_windows must be at least 1, got {max_windows}")
        self._max_windows = max_windows
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[Identity, Message] = OrderedDict()
        self._in_flight: OrderedDict[Identity, Message] = OrderedDict()
        self._max_in_flight = min(MAX_IN_FLIGHT, max_windows)
        self._allowed_in_flight = self._max_in_flight
        self._unreported: Counter[tuple[str, int]] = Counter()
        self._n_bytes = 0
        self.n_lost = 0
        self.n_answered = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._waiting or identity in self._in_flight

    @property
    def n_waiting(self) -> int:
        """Windows to be sent, for the first time or again."""
        return len(self._waiting)

    @property
    def n_in_flight(self) -> int:
        """Windows that were sent and are not answered."""
        return len(self._in_flight)

    @property
    def in_flight(self) -> tuple[Identity, ...]:
        """Windows that were sent and are not answered, in order."""
        return tuple(self._in_flight)

    @property
    def last(self) -> Identity | None:
        """Window that was added last of those that are here; None if there is none."""
        return next(reversed(self._waiting or self._in_flight), None)

    def is_waiting(self, identity: Identity) -> bool:
        """Whether a window is to be sent, for the first time or again."""
        return identity in self._waiting

    @property
    def has_room(self) -> bool:
        """Whether a small window can be added without dropping another."""
        return len(self) < self._max_windows and self._n_bytes < self._max_bytes

    def add(self, message: Message) -> None:
        """Add the next window of its stream."""
        self._waiting[message.identity] = message
        self._n_bytes += len(message.payload)

    def restore(self, messages: Iterable[Message]) -> None:
        """Add what an earlier process left, in its order."""
        for n, message in enumerate(messages):
            self.add(replace(message, is_restored=n < MAX_IN_FLIGHT))

    def make_room(self) -> list[Identity]:
        """Drop the oldest windows until the others fit; return the dropped ones."""
        dropped = []
        while len(self) > self._max_windows or (self._n_bytes > self._max_bytes and len(self) > 1):
            unsent = (i for i, message in self._waiting.items() if not message.may_be_known)
            identity = next(unsent, None) or next(iter(self._waiting), None)
            if identity is None:  # everything is in flight
                break
            self._count_lost(self._waiting.pop(identity))
            dropped.append(identity)
        return dropped

    def next(self) -> Message | None:
        """Return the window to send now, with the number lost before it; None if none may be sent."""
        if not self._waiting or len(self._in_flight) >= self._allowed_in_flight:
            return None
        message = next(iter(self._waiting.values()))
        if message.may_be_known:  # what was lost since was lost after it
            return message
        n_unreported = self._unreported.get(message.run_key, 0)
        if not n_unreported:
            return message
        n_lost = message.header.n_lost + n_unreported
        return replace(message, header=message.header.model_copy(update={"n_lost": n_lost}))

    def mark_sent(self, message: Message) -> None:
        """Record that the window that `next` returned was sent."""
        del self._waiting[message.identity]
        if not message.may_be_known:
            del self._unreported[message.run_key]
        self._in_flight[message.identity] = replace(message, was_sent=True)

    def mark_answered(self, identity: Identity) -> bool:
        """Remove a window that was answered; False if it is not in the backlog."""
        message = self._in_flight.pop(identity, None) or self._waiting.pop(identity, None)
        if message is None:
            return False
        self._n_bytes -= len(message.payload)
        self.n_answered += 1
        self._allowed_in_flight = min(2 * self._allowed_in_flight, self._max_in_flight)
        return True

    def requeue(self, *, broken: bool) -> list[Identity]:
        """Put the windows in flight back into the queue, in order, to be sent again.

        Parameters
        ----------
        broken : bool
            True if the connection broke, False if the daemon was silent for too long.

        Returns
        -------
        list of Identity
            The window that was dropped because it breaks connections, if any.
        """
        unanswered = self._in_flight
        self._in_flight = OrderedDict()
        self._allowed_in_flight = 1
        if not broken or len(unanswered) != 1:
            self._waiting = OrderedDict(unanswered | self._waiting)
            return []
        (message,) = unanswered.values()
        message = replace(message, n_breaks=message.n_breaks + 1)
        if message.n_breaks < _MAX_BREAKS:
            self._waiting = OrderedDict({message.identity: message} | self._waiting)
        elif message.put_back_at is not None and self.n_answered > message.put_back_at:
            self._count_lost(message)
            return [message.identity]
        else:
            self._waiting[message.identity] = replace(message, n_breaks=0, put_back_at=self.n_answered)
        return []

    def _count_lost(self, message: Message) -> None:
        self._n_bytes -= len(message.payload)
        self._unreported[message.run_key] += 1 + message.header.n_lost
        self.n_lost += 1
