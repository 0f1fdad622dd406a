"""A daemon that forgets one window in ten and goes away now and then, with all that it has received."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np

from dqm.events import Window
from dqm.stream import Receiver

__all__ = ["receiving"]


@contextmanager
def receiving(
    address: str, chance: np.random.Generator, seconds: tuple[float, float] = (0.5, 2.0)
) -> Iterator[list[Window]]:
    """Give the windows that were acknowledged; between `seconds` it goes away."""
    received: list[Window] = []
    stop = Event()

    def receive() -> None:
        while not stop.is_set():
            with Receiver([address]) as receiver:
                ends_at = time.monotonic() + chance.uniform(*seconds)
                while time.monotonic() < ends_at and not stop.is_set():
                    window = receiver.receive(20)
                    if isinstance(window, Window) and chance.random() < 0.9:
                        received.append(window)
                        receiver.acknowledge(window)

    thread = Thread(target=receive)
    thread.start()
    try:
        yield received
    finally:
        stop.set()
        thread.join()
