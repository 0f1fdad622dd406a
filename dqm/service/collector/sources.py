"""Sources of events, found by the entry points of group ``dqm.collectors``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

from pydantic import BaseModel

from dqm.config import find_plugin, validate
from dqm.events import EventBatch, Origin

__all__ = ["EventSource", "EventSourceFactory", "open_source"]


class EventSource(Protocol):
    """What a collector is: batches of events, and where they come from."""

    origin: Origin

    def __iter__(self) -> Iterator[EventBatch]:
        """Give the batches in order of time; raises `InputError` where the source is unusable."""


class EventSourceFactory(Protocol):
    """A collector's class."""

    Options: type[BaseModel]
    """Model of its options."""

    def __call__(self, options: BaseModel, /) -> EventSource:
        """Open the source."""


def open_source(
    name: str, options: Mapping[str, object], where: str | None = None, base: Path | None = None
) -> EventSource:
    """Check a collector's options and open it.

    Parameters
    ----------
    name : str
        Name of the entry point.
    options : mapping of str to object
        Its options, unchecked.
    where : str, optional
        File and table they come from, for the messages; the collector's name by default.
    base : Path, optional
        Directory that relative paths start from; the working directory by default.

    Raises
    ------
    ConfigError
        If the collector is unknown or an option is; the text lists every mistake.
    """
    collector = cast(EventSourceFactory, find_plugin("dqm.collectors", name, where=where))
    return collector(
        validate(collector.Options, dict(options), where or f"collector {name}", base or Path.cwd())
    )
