"""Numbers and times that JSON, metrics or a calendar cannot hold.

A window with p = 1 has z = -infinity, a fit may give NaN, and a store may hold any number. JSON has neither,
and a calendar ends with the year 9999.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

__all__ = ["dump_json", "finite", "format_clock", "format_moment", "is_count", "utc_time"]

_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def finite(value: float | None) -> float | None:
    """Give the number, or None if it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def is_count(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which values are numbers of events: whole, finite and 0 or more."""
    return np.asarray(np.isfinite(values) & (values >= 0.0) & (values == np.rint(values)))


def dump_json(value: object, **options: object) -> str:
    """Write JSON; numbers that are NaN or infinite become null.

    Parameters
    ----------
    value : object
        Dicts, lists, strings, numbers.
    **options
        As of `json.dumps`.

    Returns
    -------
    str
        JSON.
    """
    with suppress(TypeError, ValueError):  # rare: a NaN, or text with half a character
        if not options:
            return to_json(value, inf_nan_mode="null").decode()  # in a quarter of the time of `json`
        return json.dumps(value, allow_nan=False, **options)  # type: ignore[arg-type]
    return json.dumps(_finite_values(value), allow_nan=False, **options)  # type: ignore[arg-type]


def utc_time(seconds: float) -> datetime:
    """Give the time in UTC; for a time beyond the calendar, its first or last moment.

    Parameters
    ----------
    seconds : float
        Any number, Unix seconds.

    Returns
    -------
    datetime
        From the year 1 to the year 9999; NaN is taken as the first moment.
    """
    known = min(seconds, _LAST) if seconds > _FIRST else _FIRST
    return datetime.fromtimestamp(known, UTC)


def format_moment(seconds: float) -> str:
    """Write a time for people: ``2026-11-28 18:00:00 UTC``."""
    return f"{utc_time(seconds).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def format_clock(seconds: float) -> str:
    """Write the time of the day: ``18:00 UTC``."""
    return utc_time(seconds).strftime("%H:%M UTC")


def _finite_values(value: object) -> object:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {key: _finite_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_values(part) for part in value]
    return value
