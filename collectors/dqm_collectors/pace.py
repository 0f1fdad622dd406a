"""Yield batches at a given speed; clock and sleep are arguments, so that tests do not wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from dqm.events import EventBatch

__all__ = ["Clock", "Pacer", "Sleep", "at_speed"]

Clock = Callable[[], float]
"""Monotonic clock, s."""

Sleep = Callable[[float], None]
"""Waits for a number of seconds."""


class Pacer:
    """Waits until a time after its creation.

    Parameters
    ----------
    clock : callable
        Monotonic clock, s.
    sleep : callable
        Waits for a number of seconds.
    """

    def __init__(self, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._begin = clock()

    def wait(self, elapsed: float) -> None:
        """Return when `elapsed` seconds have passed since the creation of this object.

        If they have already passed it returns at once, so that a slow reader can catch up.

        Parameters
        ----------
        elapsed : float
            Time since the creation, s, >= 0.
        """
        left = self._begin + elapsed - self._clock()
        if left > 0:
            self._sleep(left)


def at_speed(
    batches: Iterable[EventBatch], speed: float | None, clock: Clock, sleep: Sleep
) -> Iterator[EventBatch]:
    """Yield each batch when its stretch of time has ended, `speed` times faster than it was recorded.

    Parameters
    ----------
    batches : iterable of EventBatch
        Batches in order of time.
    speed : float or None
        1: as recorded, > 0; None: without waiting.
    clock, sleep : callable
        As in `Pacer`.

    Yields
    ------
    EventBatch
    """
    pacer = Pacer(clock, sleep)
    first: float | None = None
    for batch in batches:
        if speed is not None and batch.start is not None and batch.end is not None:
            first = batch.start if first is None else first
            pacer.wait((batch.end - first) / speed)
        yield batch
