"""What a demonstration shows: streams with their references, sources with their faults, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dqm.alarm import Cause

__all__ = ["Injection", "Scenario"]


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault of the demonstration.

    Parameters
    ----------
    stream : str
        Stream that must see it.
    seconds : float
        Time of the change after the start, s.
    label : str
        Description for people.
    cause : Cause
        Alarm that must see it.
    channel : int or None
        Channel that must be named as the worst.
    """

    stream: str
    seconds: float
    label: str
    cause: Cause
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A demonstration, ready to be run.

    Parameters
    ----------
    bundles : mapping of str to Path
        Calibrated bundle of each stream, in the order in which they are shown.
    collectors : mapping of str to str
        Configuration of each collector as TOML, by a name for its files.
    faults : tuple of Injection
        In the order of time; the last of a stream is what is wrong with it in the end.
    seconds : float
        Length of the timeline, s.
    windows_per_hour : float
        Windows of a stream in an hour.
    min_events : int
        Events from which on the shape of a window is tested.
    groups : mapping of str to str
        Group of a stream, if it has one.
    """

    bundles: Mapping[str, Path]
    collectors: Mapping[str, str]
    faults: tuple[Injection, ...]
    seconds: float
    windows_per_hour: float
    min_events: int = 50
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams, in the order in which they are shown."""
        return tuple(self.bundles)

    def last_fault(self, stream: str, seconds: float = math.inf) -> Injection | None:
        """Give what is wrong with a stream this time after the start, or in the end."""
        return next((f for f in reversed(self.faults) if f.stream == stream and f.seconds <= seconds), None)

    def next_fault(self, seconds: float) -> Injection | None:
        """Give what will go wrong next."""
        return min((f for f in self.faults if f.seconds > seconds), key=lambda f: f.seconds, default=None)
