"""Readings from text, the history of readings, and the count of refused lines."""

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
"""Most names of readings of one source; a window's header has at most 64 conditions in all."""

MAX_KEPT = 20_000
"""Readings kept of each name: five hours at 1 Hz, so that a chamber of a replay may be behind the others."""

_LATEST_TIME = 1e11  # largest Unix time in a window's header, s

log = structlog.get_logger(__name__)

# the same pattern as for all names in a window's header
ReadingName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]


class _Entry(BaseModel):
    """One reading as text; without `time`, the time of arrival is used if there is one."""

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
    """Parse ``{"time": ..., "name": "pressure", "value": 963.2, "sigma": 0.4}``.

    Parameters
    ----------
    line : bytes
        One JSON object of at most `MAX_LINE_BYTES`; ``sigma`` may be missing or null.
    arrival : float, optional
        Unix time in seconds of a reading without ``time``; by default such a reading is refused.

    Raises
    ------
    InputError
        If the line is not a reading; the message lists all mistakes.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InputError(f"the line has more than {MAX_LINE_BYTES} bytes")
    try:
        return _Entry.model_validate_json(line).at(arrival)
    except ValidationError as error:
        raise InputError(_summarise(error)) from error


def parse_row(row: Mapping[str, str | None]) -> Reading:
    """Parse a row of a table with the columns ``time``, ``name``, ``value`` and, optionally, ``sigma``.

    Raises
    ------
    InputError
        If a cell is missing or wrong.
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
    """Readings of a source: the last `MAX_KEPT` readings of each of at most `MAX_NAMES` names.

    One thread may add readings while another reads them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, list[Reading]] = {}

    def add(self, reading: Reading) -> None:
        """Add a reading; it replaces an earlier one of the same name and time.

        Raises
        ------
        InputError
            If there are already `MAX_NAMES` other names.
        """
        with self._lock:
            if reading.name not in self._kept and len(self._kept) >= MAX_NAMES:
                raise InputError(
                    f"name: {reading.name!r} is refused: {MAX_NAMES} other names have readings already"
                )
            kept = self._kept.setdefault(reading.name, [])
            index = bisect.bisect_left(kept, reading.time, key=attrgetter("time"))
            is_same_time = index < len(kept) and kept[index].time == reading.time
            kept[index : index + is_same_time] = [reading]
            if len(kept) > MAX_KEPT:
                del kept[0]

    def latest(self, until: float | None = None) -> dict[str, Reading]:
        """Return the newest reading of each name at or before `until` (Unix s; None: of all)."""
        found = {}
        with self._lock:
            for name, kept in self._kept.items():
                n = len(kept) if until is None else bisect.bisect_right(kept, until, key=attrgetter("time"))
                if n:
                    found[name] = kept[n - 1]
        return found


class Refusals:
    """Counts what a source refuses and logs the 1st, 2nd, 4th, 8th, ..., to limit the number of log lines.

    Parameters
    ----------
    source : str
        File or address, for the log.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.n = 0

    def add(self, reason: object, **where: object) -> None:
        """Count a refusal; `where` gives its place for the log, such as ``line=5``."""
        self.n += 1
        if self.n & (self.n - 1) == 0:
            log.warning("reading refused", source=self.source, **where, reason=str(reason), refused=self.n)


class HistorySource:
    """Base class of sources: it keeps their history and counts what they refuse.

    Parameters
    ----------
    name : str
        File or address, for the log.
    """

    announced: Mapping[str, float | None] | None = None
    """Names of the readings that will come, with their errors; None: not known in advance."""

    def __init__(self, name: str) -> None:
        self._refused = Refusals(name)
        self._history = ReadingHistory()

    @property
    def n_refused(self) -> int:
        """Lines, connections and values that were refused."""
        return self._refused.n

    def latest(self, until: float | None) -> dict[str, Reading]:
        """Return the newest reading of each name at or before `until` (Unix s; None: of all)."""
        return self._history.latest(until)
