"""The log of a process that runs for months: readable lines on a terminal, JSON where a machine reads.

Everything goes this way, in the daemon, in its workers and in collectors: our own lines, those of other
libraries (`logging`), warnings, and exceptions that nobody caught, in whatever thread.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import structlog
from structlog.types import Processor

from dqm.errors import escape_text

__all__ = ["is_json", "log_to_stderr"]

_Fields = MutableMapping[str, Any]


def log_to_stderr() -> None:
    """Send all that this process logs to standard error; lines that cannot be written are left out."""
    on_terminal = sys.stderr.isatty()
    first: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        _escape if on_terminal else _spell_infinity,
    ]
    render = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(_dump)
    structlog.configure(processors=[*first, *last, render], logger_factory=lambda *_: _Logger(sys.stderr))
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, render],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, _trace: _log_uncaught(error or kind())
    threading.excepthook = lambda args: _log_uncaught(args.exc_value or args.exc_type())
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_value or args.exc_type())


def is_json() -> bool:
    """Tell whether this process logs lines of JSON."""
    return structlog.is_configured() and not sys.stderr.isatty()


class _Logger(structlog.PrintLogger):
    """Drops lines that cannot be written: a log on a full disk must not end the work."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = msg


class _Handler(logging.StreamHandler[Any]):
    """Drops lines that cannot be written, as `_Logger` does."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Print nothing: a message would go to the stream that cannot be written."""


def _dump(fields: object, default: Callable[[Any], Any]) -> str:
    return _encoder(default).encode(fields)


@lru_cache(maxsize=1)
def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    """Make it once: `json.dumps` makes one for each line."""
    return json.JSONEncoder(default=default)


def _log_uncaught(error: BaseException) -> None:
    structlog.get_logger().critical("an exception that nobody caught", exc_info=error)


def _escape(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """Escape text that a terminal would obey; other values are written by `repr`, which does so as well."""
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = escape_text(value, keep="\n" if name == "exception" else "")
    return fields


def _spell_infinity(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """Write infinity and NaN as text: JSON has neither."""
    return {name: _spell(value) for name, value in fields.items()}


def _spell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _spell(part) for name, part in value.items()}
    return [_spell(part) for part in value] if isinstance(value, list | tuple) else value
