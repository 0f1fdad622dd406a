"""Sources of events: the collectors, found as entry points of the group ``dqm.collectors``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from pydantic import BaseModel

from dqm.config import find_plugin, validate
from dqm.events import EventBatch, Origin

__all__ = [
    "CountingSource",
    "EventSource",
    "EventSourceFactory",
    "ResumableSource",
    "counts_of",
    "open_source",
]


class EventSource(Protocol):
    """A collector: batches of events, and their origin."""

    origin: Origin

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches in the order of time; raises `InputError` if the source fails."""


@runtime_checkable
class CountingSource(Protocol):
    """A collector that counts what it reads and what it leaves out."""

    def counts(self) -> Mapping[str, int]:
        """Return the counts since the start by name; it may be called from another thread."""


def counts_of(source: EventSource) -> dict[str, int]:
    """Return what a source has read and left out; empty if it does not count."""
    return dict(source.counts()) if isinstance(source, CountingSource) else {}


@runtime_checkable
class ResumableSource(CountingSource, Protocol):
    """A collector whose source keeps its data: it goes on where the acknowledged windows end.

    Its batches have a position. It may be kept waiting.
    """

    origin: Origin

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches until the source is told to stop; raises `InputError` if the source fails."""

    def open(self, is_stopped: Callable[[], bool]) -> str:
        """Connect, and return the note of the last commit, or nothing; raises `InputError` if this fails.

        `is_stopped` is called between two readings, in the thread that iterates: it commits what is
        acknowledged and says whether to end.
        """

    def seek(self, position: str) -> None:
        """Go on at the position of a batch."""

    def commit(self, position: str, note: str, *, wait: bool = False) -> None:
        """Keep a position and a note for the next start; it logs what fails."""

    def close(self) -> None:
        """Close the connection."""


class EventSourceFactory(Protocol):
    """Class of a collector."""

    Options: type[BaseModel]
    """Model of its options."""

    def __call__(self, options: BaseModel, /) -> EventSource:
        """Make the source."""


def open_source(
    name: str, options: Mapping[str, object], where: str | None = None, base: Path | None = None
) -> EventSource:
    """Check the options of a collector and make it.

    Parameters
    ----------
    name : str
        Name of the entry point.
    options : mapping of str to object
        Its options, unchecked.
    where : str, optional
        File and table of the options, for the messages; the name of the collector by default.
    base : Path, optional
        Directory from which relative paths start; the working directory by default.

    Raises
    ------
    ConfigError
        If the collector is unknown or an option is wrong; the message lists every mistake.
    """
    collector = cast(EventSourceFactory, find_plugin("dqm.collectors", name, where=where))
    return collector(
        validate(collector.Options, dict(options), where or f"collector {name}", base or Path.cwd())
    )
