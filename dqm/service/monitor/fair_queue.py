"""Windows that wait for their test: fair between streams, bounded, and it says what it cannot hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from dqm.events import Window

__all__ = ["FairQueue"]


class FairQueue:
    """Queue of each stream, emptied in turn.

    A full queue makes the senders wait: a burst is worked off in order. If it stays full for too long, the
    daemon cannot keep up: then the oldest windows are given up, so that what is tested is news.

    Parameters
    ----------
    room : int
        Windows it holds in all, at least 1.
    patience_seconds : float
        How long it may be full before windows are given up.
    """

    def __init__(self, room: int, patience_seconds: float) -> None:
        self._room = room
        self._patience = patience_seconds
        self._waiting: dict[str, deque[Window]] = {}
        self._n = 0
        self._full_since: float | None = None
        self._overloaded = False

    def __len__(self) -> int:
        return self._n

    @property
    def is_overloaded(self) -> bool:
        """Whether windows are being given up, until half of the queue is empty again."""
        return self._overloaded

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of its places are taken: what may be left out should be."""
        return 2 * self._n > self._room

    @property
    def room(self) -> int:
        """Windows it can take."""
        return self._room - self._n

    def resize(self, room: int) -> None:
        """Change the most windows that it holds in all; those that are there stay."""
        self._room = room

    def withdraw(self, stream: str) -> list[Window]:
        """Give all windows of a stream, the oldest first; they wait no longer."""
        mine = list(self._waiting.pop(stream, ()))
        self._n -= len(mine)
        return mine

    def put(self, window: Window) -> None:
        """Take a window; the caller has asked for room."""
        self._waiting.setdefault(window.stream, deque()).append(window)
        self._n += 1

    def can_give(self, busy: Collection[str] = ()) -> bool:
        """Whether a window waits of a stream that is not busy."""
        return any(stream not in busy for stream in self._waiting)

    def take(self, busy: Collection[str] = ()) -> Window | None:
        """Give the oldest window of the stream whose turn it is and which is not busy; None if none waits."""
        stream = next((stream for stream in self._waiting if stream not in busy), None)
        if stream is None:
            return None
        mine = self._waiting.pop(stream)
        window = mine.popleft()
        if mine:
            self._waiting[stream] = mine  # to the end of the row
        self._n -= 1
        return window

    def give_up(self, now: float) -> list[Window]:
        """Look at the clock: give what has become old news.

        Parameters
        ----------
        now : float
            Seconds that never go back.

        Returns
        -------
        list of Window
            No longer waiting, oldest first: all but the newest of each stream, once the queue has been full
            for too long and as often as it is full again before half of it was empty.
        """
        if self._n < self._room:
            self._full_since = None
            self._overloaded = self._overloaded and self._n > self._room // 2
            return []
        if self._full_since is None:
            self._full_since = now
        self._overloaded = self._overloaded or now - self._full_since > self._patience
        if not self._overloaded:
            return []
        old = []
        for mine in self._waiting.values():
            while len(mine) > 1:
                old.append(mine.popleft())
        self._n -= len(old)
        return old
