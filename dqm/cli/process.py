"""Signals of a command that runs for months."""

from __future__ import annotations

import signal
import sys
from threading import Event
from types import FrameType

__all__ = ["stop_on_signals"]


def stop_on_signals() -> Event:
    """Return an event that SIGTERM and SIGINT set; a second signal ends the program at once."""
    stop = Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
