"""A thread that works when it is woken or after some time; and how long it waits after failures."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["RetryPause", "WokenThread"]

_STOP_SECONDS = 2.0


class RetryPause:
    """Pauses between tries that fail: the first takes 5 s, each further one twice as long, up to 5 min."""

    FIRST_SECONDS = 5.0
    LONGEST_SECONDS = 300.0

    def __init__(self) -> None:
        self.seconds = self.FIRST_SECONDS
        """The next pause."""

    def note_failure(self) -> float:
        """Give the pause after a failure, s; the next one is longer."""
        pause = self.seconds
        self.seconds = min(self.LONGEST_SECONDS, 2.0 * pause)
        return pause

    def note_success(self) -> None:
        """Begin anew."""
        self.seconds = self.FIRST_SECONDS


class WokenThread:
    """A thread of the daemon that waits for news.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        What it does; it returns when `sleep` has returned False.
    note_end : callable
        Called when `work` ends before it should, by an error of ours, which the log has.
    """

    def __init__(self, name: str, work: Callable[[], None], note_end: Callable[[], None]) -> None:
        self._work = work
        self._note_end = note_end
        self._news = threading.Condition()
        self._is_awake = False
        self.is_stopping = False
        """Whether the thread must end."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def wake(self) -> None:
        """End a sleep; returns at once and may be called from any thread."""
        with self._news:
            self._is_awake = True
            self._news.notify()

    def stop(self) -> None:
        """Let it end, and wait for that two seconds at most."""
        with self._news:
            self.is_stopping = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def sleep(self, seconds: float, *, until_woken: bool = True) -> bool:
        """Wait, in the thread itself; return False if it must end.

        Parameters
        ----------
        seconds : float
            Longest pause, s; less than 0 is 0.
        until_woken : bool
            Whether `wake` ends it.
        """
        with self._news:
            self._news.wait_for(
                lambda: self.is_stopping or (until_woken and self._is_awake), max(0.0, seconds)
            )
            if until_woken:
                self._is_awake = False
            return not self.is_stopping

    def _run(self) -> None:
        try:
            self._work()
        finally:
            if not self.is_stopping:
                self._note_end()
