"""How numbers, times and states are written on pages and in reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from dqm.alarm import Activity, AlarmState, describe_p, describe_rate, write_numbers
from dqm.events import PMethod, Quality, write_p
from dqm.events.finite import format_moment, utc_time
from dqm.export.views import Recent

__all__ = ["FILTERS", "write_age", "write_number", "write_time"]

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_MOST_YEARS = 100
_GLYPHS = {Quality.NULL: "\u25cb", Quality.GOOD: "\u25cf", Quality.MEDIUM: "\u25b2", Quality.BAD: "\u25a0"}
_SHAPES: dict[str, str] = {
    Quality.NULL: "null",
    Quality.GOOD: "good",
    Quality.MEDIUM: "medium",
    Quality.BAD: "bad",
    Activity.IDLE: "masked",
    AlarmState.NORMAL: "normal",
    AlarmState.ON_DELAYED: "delayed",
    AlarmState.ACTIVE: "active",
    AlarmState.OFF_DELAYED: "delayed",
    AlarmState.LATCHED: "latched",
    AlarmState.SHELVED: "shelved",
    AlarmState.MASKED: "masked",
    AlarmState.FILTERED: "masked",
    AlarmState.DISABLED: "masked",
}


def write_age(seconds: float) -> str:
    """Write a duration in its two largest units, as ``page.js`` does: ``45 s``, ``3 h 05 min``."""
    if not seconds < _MOST_YEARS * 365 * _DAY:
        return f"more than {_MOST_YEARS} years"
    whole = int(max(0.0, seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def write_time(seconds: float | None) -> str:
    """Write a time in UTC, to the second; a dash for None."""
    return "-" if seconds is None else format_moment(seconds)


def write_iso(seconds: float) -> str:
    """Write a time for programs."""
    return utc_time(seconds).isoformat(timespec="milliseconds")


def write_number(value: float | None, digits: int = 3) -> str:
    """Write a number with `digits` significant digits; a dash for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def write_statistic(t: float | None, method: PMethod | None, digits: int = 3) -> str:
    """Write t or tau with `digits` significant digits; ``>`` marks a lower bound."""
    return f"{'> ' if method is PMethod.BOUND else ''}{write_number(t, digits)}"


def write_sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def tally(windows: Sequence[Recent]) -> str:
    """Count windows by quality: ``20 Good, 4 Bad``."""
    counts = Counter(window.quality for window in windows)
    return f"last {len(windows)}: " + ", ".join(f"{n} {quality}" for quality, n in counts.items())


def group_runs(windows: Sequence[Recent]) -> list[tuple[str, str]]:
    """Write windows as a row of shapes; neighbours of one quality are put together."""
    return [
        (_SHAPES[quality], _GLYPHS[quality] * len(list(run)))
        for quality, run in groupby(window.quality for window in windows)
    ]


FILTERS = {
    "age": write_age,
    "counted": describe_rate,
    "time": write_time,
    "iso": write_iso,
    "number": write_number,
    "numbers": write_numbers,
    "p": write_p,
    "runs": group_runs,
    "sentence": write_sentence,
    "stated_p": describe_p,
    "statistic": write_statistic,
    "shape": _SHAPES.__getitem__,
    "tally": tally,
}
"""Filters of the templates."""
