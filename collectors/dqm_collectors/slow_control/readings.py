"""Readings from text, the history that sources keep of them, and account of the lines that are none."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from operator import attrgetter
from threading import Lock
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dqm.errors import InputError
from dqm.events import Reading

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_NAMES",
    "HistorySource",
    "ReadingHistory",
    "ReadingName",
    "Refusals",
    "parse_json",
    "parse_row",
]

MAX_LINE_BYTES = 4096
MAX_NAMES = 32
"""Different readings of one source; a window's header holds 64 facts in all."""

MAX_KEPT = 20_000
"""Readings kept of each name: five hours at one a second, so that chambers of a replay may lag."""

_LATEST_TIME = 1e11  # Unix seconds that a window's header can hold

log = structlog.get_logger(__name__)

# as every name in a window's header
ReadingName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]


class _Entry(BaseModel):
    """One reading as it is written; `time` may be left out where the arrival counts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ReadingName
    value: float
    sigma: float | None = Field(None, gt=0)
    time: float | None = Field(None, ge=0, le=_LATEST_TIME)

    def at(self, arrival: float | None) -> Reading:
        time = arrival if self.time is None else self.time
        if time is None:
            raise InputError("time: must be given")
        return Reading(self.name, self.value, self.sigma, time)


def parse_json(line: bytes, arrival: float | None = None) -> Reading:
    """Read ``{"time": ..., "name": "pressure", "value": 963.2, "sigma": 0.4}``.

    Parameters
    ----------
    line : bytes
        One JSON object of at most `MAX_LINE_BYTES`; ``sigma`` may be left out or null.
    arrival : float, optional
        Unix time in seconds for a reading without ``time``; without it, such a reading is refused.

    Raises
    ------
    InputError
        If it is anything else; the message lists all that is wrong.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InputError(f"the line has more than {MAX_LINE_BYTES} bytes")
    try:
        return _Entry.model_validate_json(line).at(arrival)
    except ValidationError as error:
        raise InputError(_summarise(error)) from error


def parse_row(row: Mapping[str, str | None]) -> Reading:
    """Read a row of a table with the columns ``time``, ``name``, ``value`` and, if known, ``sigma``.

    Raises
    ------
    InputError
        If a cell is missing or not what it should be.
    """
    cells: dict[str, Any] = {key: cell for key, cell in row.items() if cell is not None and cell != ""}
    try:
        return _Entry.model_validate(cells).at(None)
    except ValidationError as error:
        raise InputError(_summarise(error)) from error


def _summarise(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        place = ".".join(map(str, problem["loc"]))
        problems.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return "; ".join(problems)


class ReadingHistory:
    """What a source has read so far: the last `MAX_KEPT` readings of at most `MAX_NAMES` names.

    One thread may add while another asks.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, list[Reading]] = {}

    def add(self, reading: Reading) -> None:
        """Keep a reading; among those of the same moment the last to come counts.

        Raises
        ------
        InputError
            If there are `MAX_NAMES` other names already.
        """
        with self._lock:
            if reading.name not in self._kept and len(self._kept) >= MAX_NAMES:
                raise InputError(f"name: {reading.name!r} is one too many, {MAX_NAMES} names are taken")
            kept = self._kept.setdefault(reading.name, [])
            place = bisect.bisect_left(kept, reading.time, key=attrgetter("time"))
            same = place < len(kept) and kept[place].time == reading.time
            kept[place : place + same] = [reading]
            if len(kept) > MAX_KEPT:
                del kept[0]

    def latest(self, until: float | None = None) -> dict[str, Reading]:
        """Newest reading of each name taken at or before `until`, Unix seconds; None: of all."""
        found = {}
        with self._lock:
            for name, kept in self._kept.items():
                n = len(kept) if until is None else bisect.bisect_right(kept, until, key=attrgetter("time"))
                if n:
                    found[name] = kept[n - 1]
        return found


class Refusals:
    """Counts what a source refuses and logs the 1st, 2nd, 4th, 8th, ...: a flood of mistakes floods no log.

    Parameters
    ----------
    source : str
        File or address, for the log.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.n = 0

    def add(self, reason: object, **where: object) -> None:
        """Count one; `where` says more of its place, such as ``line=5``."""
        self.n += 1
        if self.n & (self.n - 1) == 0:
            log.warning("reading refused", source=self.source, **where, reason=str(reason), refused=self.n)


class HistorySource:
    """What sources have in common: the history they keep and the account of what they refuse.

    Parameters
    ----------
    name : str
        File or address, for the log.
    """

    announced: Mapping[str, float | None] | None = None
    """Readings it will give, with their errors; None: that shows only as they come."""

    def __init__(self, name: str) -> None:
        self._refused = Refusals(name)
        self._history = ReadingHistory()

    @property
    def n_refused(self) -> int:
        """Lines, connections and values that were refused."""
        return self._refused.n

    def latest(self, until: float | None) -> dict[str, Reading]:
        """Newest reading of each name at or before `until`, Unix seconds; None: the newest there is."""
        return self._history.latest(until)
