"""The good run of a new installation: its events by chamber, and what windows they can fill."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dqm.errors import ConfigError, InputError
from dqm.reference import refuse_run
from dqm.service.collector.sources import open_source
from dqm.service.installation.detector import FIX_COUNTS, REPLAY, Detector
from dqm.service.offline.extraction import extract
from dqm.service.offline.feature_files import Reading, RunEvents, read_run

__all__ = ["EXTRACTED", "ChamberRun", "GoodRun", "read_good_run", "try_good_run"]

EXTRACTED = "good-run.parquet"
"""Features of the good run, where the collector had to make them."""

MOST_CHAMBERS = 64

_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")


@dataclass(frozen=True, slots=True, eq=False)
class ChamberRun:
    """Events of one chamber.

    Parameters
    ----------
    chamber : str
        Its name in the source.
    events : RunEvents
        Its events, all features.
    """

    chamber: str
    events: RunEvents

    @property
    def rate_hz(self) -> float | None:
        """Events per second; None if they have no times."""
        return None if not self.events.seconds else self.events.n_events / self.events.seconds


@dataclass(frozen=True, slots=True, eq=False)
class GoodRun:
    """A good run.

    Parameters
    ----------
    chambers : tuple of ChamberRun
        One for each chamber, by name.
    """

    chambers: tuple[ChamberRun, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Features that the events have."""
        return self.chambers[0].events.names

    @property
    def fewest_events(self) -> int:
        """Events of the chamber that has the fewest."""
        return min(one.events.n_events for one in self.chambers)


def try_good_run(detector: Detector) -> None:
    """Read the first events of a good run, to find what is wrong with its files before the work begins.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    if detector.run_is_of_features:
        source = open_source(REPLAY, {**detector.reading, "inputs": list(detector.run_files)})
    else:
        source = open_source(detector.collector, detector.options_for_run())
    if next(iter(source), None) is None:
        raise InputError("no events", where=str(detector.run[0]), fix="Give a file with a row for each event")


def read_good_run(
    detector: Detector,
    folder: Path,
    features: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda _n: None,
) -> GoodRun:
    """Read the good run of a detector; if its features do not exist yet, the collector makes them first.

    Parameters
    ----------
    detector : Detector
        Collector and files.
    folder : Path
        Where the features go that the collector makes.
    features : sequence of str, optional
        Those to read, in this order; all by default.
    progress : callable
        Told the events that the collector has made.

    Returns
    -------
    GoodRun

    Raises
    ------
    InputError
        If a file cannot be used, or no reference can be made from it.
    ConfigError
        If the name of a chamber cannot be the name of a stream.
    """
    files = detector.run_files
    reading = detector.reading
    if not detector.run_is_of_features:
        files = (folder / EXTRACTED,)
        if not files[0].exists():
            _extract(detector, files[0], progress)
    default = str(detector.options.get("chamber", "0"))
    names = _find_chambers(files, features, {**reading, "chamber": default})
    runs = []
    for name in names:
        run = read_run(files, features, None if len(names) == 1 else name, reading=reading)
        refuse_run(run.x, run.names, f"{files[0]}, chamber {name}")
        runs.append(ChamberRun(name, run))
    return GoodRun(tuple(runs))


def _extract(detector: Detector, path: Path, progress: Callable[[int], None]) -> None:
    source = open_source(detector.collector, detector.options_for_run())
    first = next(iter(source), None)
    if first is not None and first.is_whole:
        raise InputError("histograms, not events", where=str(detector.run[0]), fix=FIX_COUNTS)
    source = open_source(detector.collector, detector.options_for_run())
    extract(source, path, where=", ".join(map(str, detector.run)), progress=progress)


def _find_chambers(files: Sequence[Path], features: Sequence[str] | None, reading: Reading) -> list[str]:
    """Find the chambers of files of features; a file without such a column has one with the default name."""
    options: dict[str, object] = {**reading, "inputs": list(files)}
    if features is not None:
        options["features"] = list(features)
    found = set()
    for batch in open_source(REPLAY, options):
        found.add(batch.chamber)
    if not found:
        raise InputError("no events", where=str(files[0]), fix="Give a file with a row for each event")
    if len(found) > MOST_CHAMBERS:
        raise InputError(
            f"{len(found)} chambers, at most {MOST_CHAMBERS} get a reference at once",
            where=str(files[0]),
            fix="Give a run of fewer, and add streams to the configuration later",
        )
    for name in found:
        if _NAME.fullmatch(name) is None:
            raise ConfigError(
                f"the chamber {name!r} cannot be in the name of a stream",
                where=str(files[0]),
                fix="Use letters, digits, '.', '_' and '-' in the column 'chamber'",
            )
    return sorted(found)
