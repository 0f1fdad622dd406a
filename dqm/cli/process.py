"""What a command that runs for months does with signals."""

from __future__ import annotations

import signal
import sys
from threading import Event
from types import FrameType

__all__ = ["stop_on_signals"]


def stop_on_signals() -> Event:
    """Set on SIGTERM and SIGINT; a second one ends the program at once."""
    stop = Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
