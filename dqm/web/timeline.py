"""Quality of every stream over the last hours, on one axis of time: the worst of each two minutes.

It is kept in memory, so that a page which shows all streams reads nothing from the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from dqm.alarm import BEST_TO_WORST
from dqm.events import Quality

__all__ = ["HOURS", "N_COLUMNS", "SLOT_SECONDS", "Timeline"]

SLOT_SECONDS = 120
N_COLUMNS = 30
"""Columns that are shown, whatever time they cover."""

HOURS = 8
"""How far back it goes: a shift."""

_N_SLOTS = HOURS * 3600 // SLOT_SECONDS


class Timeline:
    """The worst quality of each stream in each slot of time; its methods may be called from any thread.

    Attributes
    ----------
    known_since : float or None
        Before this time not everything is known, Unix seconds; None if nothing is missing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._streams: dict[str, dict[int, int]] = {}  # place in BEST_TO_WORST, by stream and slot
        self.known_since: float | None = None

    def note(self, stream: str, judged_at: float, quality: Quality) -> None:
        """Take a window in, in any order."""
        slot = int(judged_at // SLOT_SECONDS)
        rank = BEST_TO_WORST.index(quality)
        with self._lock:
            slots = self._streams.setdefault(stream, {})
            slots[slot] = max(rank, slots.get(slot, rank))
            if len(slots) > _N_SLOTS:
                del slots[min(slots)]

    def recall(self, windows: Iterable[tuple[str, float, Quality]], most: int) -> None:
        """Take in windows from before the start: stream, time of the verdict and quality, the newest first.

        Parameters
        ----------
        windows : iterable of (str, float, Quality)
            Of the last hours.
        most : int
            Most that were read: with this number of them, there may be more that are not known.
        """
        oldest = None
        n = 0
        for stream, judged_at, quality in windows:
            self.note(stream, judged_at, quality)
            oldest = judged_at
            n = n + 1
        self.known_since = oldest if n >= most else None

    def follow(self, streams: Iterable[str]) -> None:
        """Forget the streams that are not among these."""
        with self._lock:
            for name in self._streams.keys() - set(streams):
                del self._streams[name]

    def columns(self, stream: str, now: float, hours: int) -> list[Quality | None]:
        """Give the worst quality in each column, the newest last; None where there was no window.

        Parameters
        ----------
        stream : str
            Its name.
        now : float
            Unix seconds; the last column has this moment.
        hours : float
            What all columns cover, 1 to `HOURS`.
        """
        width = column_seconds(hours) // SLOT_SECONDS
        first = int(now // (width * SLOT_SECONDS)) - N_COLUMNS + 1
        with self._lock:
            slots = dict(self._streams.get(stream, {}))
        worst = [-1] * N_COLUMNS
        for slot, rank in slots.items():
            column = slot // width - first
            if 0 <= column < N_COLUMNS and rank > worst[column]:
                worst[column] = rank
        return [None if rank < 0 else BEST_TO_WORST[rank] for rank in worst]


def column_seconds(hours: int) -> int:
    """Give the time that a column covers, s."""
    return hours * 3600 // N_COLUMNS
