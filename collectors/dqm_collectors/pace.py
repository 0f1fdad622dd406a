"""Handing out batches at the speed they are due; clock and sleep are arguments, so that tests never wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from dqm.events import EventBatch

__all__ = ["Clock", "Pacer", "Sleep", "at_speed"]

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""

Sleep = Callable[[float], None]
"""Waits for a number of seconds."""


class Pacer:
    """Waits until a moment counted from its making.

    Parameters
    ----------
    clock : callable
        Gives seconds; never goes back.
    sleep : callable
        Waits for a number of seconds.
    """

    def __init__(self, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._begin = clock()

    def wait(self, elapsed: float) -> None:
        """Return once `elapsed` seconds have passed since then; at once if they have already.

        A reader that fell behind is not slowed down until it has caught up.

        Parameters
        ----------
        elapsed : float
            Seconds, >= 0.
        """
        left = self._begin + elapsed - self._clock()
        if left > 0:
            self._sleep(left)


def at_speed(
    batches: Iterable[EventBatch], speed: float | None, clock: Clock, sleep: Sleep
) -> Iterator[EventBatch]:
    """Yield batches when their stretch of time is over on a clock that runs `speed` times faster than ours.

    Parameters
    ----------
    batches : iterable of EventBatch
        In order of time.
    speed : float or None
        1 is as recorded, > 0; None does not wait at all.
    clock, sleep : callable
        As for `Pacer`.

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
