"""Windows that are not acknowledged yet: in order, bounded, what is dropped counted. Pure logic."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from dqm.errors import InputError
from dqm.stream.acknowledgement import Identity
from dqm.stream.wire import Header

__all__ = ["Backlog", "Message"]

MOST_IN_FLIGHT = 64
_MOST_BREAKS = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One window, ready to be sent.

    Parameters
    ----------
    header, payload : Header, bytes
        Frames of the message.
    was_sent : bool
        Whether it has been handed to the socket before.
    n_breaks : int
        Connections that broke while nothing else was on them.
    n_settled : int
        Windows that had been answered when the first of them broke.
    """

    header: Header
    payload: bytes
    was_sent: bool = False
    n_breaks: int = 0
    n_settled: int = 0

    @property
    def lane(self) -> tuple[str, int]:
        """Stream and run."""
        return self.header.stream, self.header.run

    @property
    def identity(self) -> Identity:
        """Stream, run and seq."""
        return self.header.stream, self.header.run, self.header.seq


class Backlog:
    """What a sender keeps until the daemon has answered.

    At most `MOST_IN_FLIGHT` windows are in flight at once, and one at a time after the connection broke,
    until the answers come again. When there is no room, the oldest window that was never sent is dropped:
    whether one that was sent is lost is not known, so these are the last to go.

    A window that breaks every connection it is alone on (the daemon closes it because of its size, or dies of
    it) steps behind the others; if those come through and it breaks connections again, it is given up.

    Parameters
    ----------
    most_windows, most_bytes : int
        Room; a single window larger than `most_bytes` is kept all the same.

    Raises
    ------
    InputError
        If there is no room for a window.
    """

    def __init__(self, most_windows: int, most_bytes: int) -> None:
        if most_windows < 1:
            raise InputError(f"buffer_windows must be at least 1, got {most_windows}")
        self._most_windows, self._most_bytes = most_windows, most_bytes
        self._waiting: OrderedDict[Identity, Message] = OrderedDict()
        self._in_flight: OrderedDict[Identity, Message] = OrderedDict()
        self._allowance = self._most_in_flight = min(MOST_IN_FLIGHT, most_windows)
        self._unreported: Counter[tuple[str, int]] = Counter()
        self._n_bytes = 0
        self.n_lost = 0
        self.n_settled = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._waiting or identity in self._in_flight

    @property
    def n_waiting(self) -> int:
        """Windows that are to be sent."""
        return len(self._waiting)

    @property
    def n_in_flight(self) -> int:
        """Windows that were sent and not answered."""
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether a small window could be added and nothing dropped."""
        return len(self) < self._most_windows and self._n_bytes < self._most_bytes

    def add(self, message: Message) -> None:
        """Take the next window of its stream."""
        self._waiting[message.identity] = message
        self._n_bytes += len(message.payload)

    def make_room(self) -> list[Identity]:
        """Drop the oldest windows until the rest fits; gives what was dropped."""
        dropped = []
        while len(self) > self._most_windows or (self._n_bytes > self._most_bytes and len(self) > 1):
            unsent = (identity for identity, message in self._waiting.items() if not message.was_sent)
            identity = next(unsent, None) or next(iter(self._waiting), None)
            if identity is None:  # everything is in flight
                break
            self._lose(self._waiting.pop(identity))
            dropped.append(identity)
        return dropped

    def next(self) -> Message | None:
        """Give the window to be sent now, its losses told; None if none may be sent."""
        if not self._waiting or len(self._in_flight) >= self._allowance:
            return None
        message = next(iter(self._waiting.values()))
        if message.was_sent:
            return message
        n_lost = message.header.n_lost + self._unreported[message.lane]
        return replace(message, header=message.header.model_copy(update={"n_lost": n_lost}))

    def mark_sent(self, message: Message) -> None:
        """Note that the window that `next` gave is on its way."""
        del self._waiting[message.identity]
        if not message.was_sent:
            del self._unreported[message.lane]
        self._in_flight[message.identity] = replace(message, was_sent=True)

    def settle(self, identity: Identity) -> bool:
        """Forget a window that was answered; False if it was forgotten before."""
        message = self._in_flight.pop(identity, None) or self._waiting.pop(identity, None)
        if message is None:
            return False
        self._n_bytes -= len(message.payload)
        self.n_settled += 1
        self._allowance = min(2 * self._allowance, self._most_in_flight)
        return True

    def take_back(self, *, broken: bool) -> list[Identity]:
        """Send again, in order, all that is in flight.

        Parameters
        ----------
        broken : bool
            Whether the connection broke, rather than merely stayed silent.

        Returns
        -------
        list of Identity
            The window given up, if it came to that.
        """
        back, self._in_flight = self._in_flight, OrderedDict()
        self._allowance = 1
        if not broken or len(back) != 1:
            self._waiting = OrderedDict(back | self._waiting)
            return []
        (message,) = back.values()
        first = message.n_breaks == 0
        message = replace(
            message, n_breaks=message.n_breaks + 1, n_settled=self.n_settled if first else message.n_settled
        )
        if message.n_breaks < _MOST_BREAKS:
            self._waiting = OrderedDict({message.identity: message} | self._waiting)
        elif self.n_settled > message.n_settled:
            self._lose(message)
            return [message.identity]
        else:
            self._waiting[message.identity] = message
        return []

    def _lose(self, message: Message) -> None:
        self._n_bytes -= len(message.payload)
        self._unreported[message.lane] += 1 + message.header.n_lost
        self.n_lost += 1
