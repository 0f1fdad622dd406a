"""What a command that runs for months does with its process: signals and the log."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from threading import Event
from types import FrameType

import structlog

__all__ = ["log_to_stderr", "stop_on_signals"]


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


class _Logger(structlog.PrintLogger):
    """Gives up lines that cannot be written: a log on a full disk must not end the work."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    debug = info = warning = error = msg


def log_to_stderr() -> None:
    """Readable lines on a terminal, JSON where a machine reads."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: _Logger(sys.stderr),
    )
