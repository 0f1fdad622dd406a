"""Messages about runs that are not answered yet: each is sent after the windows that came before it. No I/O.

They are kept apart from the windows: they are few and small, so they are never dropped, take no place in the
buffer, and delay no window. A daemon that speaks version 1 of the wire never answers them. So an unanswered
one is not a reason to open a new connection, and it is forgotten when a window is acknowledged that was sent
after it over the same connection: a daemon that knows such messages has stored it by then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dqm.events import RunNotice
from dqm.stream.acknowledgement import Identity, RunIdentity
from dqm.stream.run_message import run_identity_of

__all__ = ["RunBacklog"]


@dataclass(slots=True)
class _Entry:
    notice: RunNotice
    after: Identity | None
    is_sent: bool = False
    sent_before: frozenset[Identity] = frozenset()


class RunBacklog:
    """Notices that a sender keeps until the daemon has answered, in order."""

    def __init__(self) -> None:
        self._entries: OrderedDict[RunIdentity, _Entry] = OrderedDict()
        self.n_answered = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, notice: RunNotice, after: Identity | None) -> bool:
        """Add a notice, to be sent when the window `after` was sent; False if it is there already."""
        key = run_identity_of(notice)
        if key in self._entries:
            return False
        self._entries[key] = _Entry(notice, after)
        return True

    def next(self, is_waiting: Callable[[Identity], bool]) -> RunNotice | None:
        """Give the notice to be sent now; None if there is none, or windows must be sent before it."""
        for entry in self._entries.values():
            if not entry.is_sent:
                return None if entry.after is not None and is_waiting(entry.after) else entry.notice
        return None

    def mark_sent(self, notice: RunNotice, in_flight: Iterable[Identity]) -> None:
        """Record that a notice was sent, after the windows that are in flight."""
        entry = self._entries[run_identity_of(notice)]
        entry.is_sent = True
        entry.sent_before = frozenset(in_flight)

    def mark_answered(self, key: RunIdentity) -> bool:
        """Remove a notice that was answered; False if it is not here."""
        if self._entries.pop(key, None) is None:
            return False
        self.n_answered += 1
        return True

    def forget_before(self, window: Identity) -> list[RunIdentity]:
        """Remove and return what was sent before a window that is acknowledged now."""
        known = [
            key for key, entry in self._entries.items() if entry.is_sent and window not in entry.sent_before
        ]
        for key in known:
            del self._entries[key]
        return known

    def requeue(self) -> None:
        """Send all again, over a new connection."""
        for entry in self._entries.values():
            entry.is_sent = False
