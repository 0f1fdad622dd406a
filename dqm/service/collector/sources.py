"""Sources of events: the collectors, found as entry points of the group ``dqm.collectors``.

A collector is a class. It may have ``Options``, a pydantic model of its options; then it is called with one
of these, and otherwise without arguments. The object is an `EventSource`. It may also be a `CountingSource`
and a `ResumableSource`.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Protocol, cast, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from dqm.config import (
    check_call,
    check_members,
    check_packages_of,
    find_plugin,
    label_of,
    place_of,
    plugin_errors,
    validate,
)
from dqm.errors import FileError, PluginError
from dqm.events import EventBatch, Origin

__all__ = [
    "CountingSource",
    "EventSource",
    "EventSourceFactory",
    "ResumableSource",
    "checked_batches",
    "counts_of",
    "describe_selection",
    "gives_runs",
    "missing_inputs",
    "open_source",
    "paths_of",
    "refuse_missing_inputs",
]

GROUP = "dqm.collectors"

_END = object()


class EventSource(Protocol):
    """A collector: batches of events, and their origin."""

    origin: Annotated[Origin, "dqm.events.Origin.LIVE, REPLAYED or SIMULATED: where the events come from"]

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches in the order of time; raises `InputError` if the source fails."""


@runtime_checkable
class CountingSource(Protocol):
    """A collector that counts what it reads and what it leaves out."""

    def counts(self) -> Mapping[str, int]:
        """Return the counts since the start by name; it may be called from another thread."""


def counts_of(source: EventSource) -> dict[str, int]:
    """Return what a source has read and left out; empty if it does not count.

    Raises
    ------
    PluginError
        If its `counts` raises, or gives something else than whole numbers by name.
    """
    if not isinstance(source, CountingSource):
        return {}
    label = _label(source)
    with plugin_errors(label):
        found: object = source.counts()
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and _is_whole(n) for name, n in found.items()
    ):
        raise PluginError(
            f"{label} gave {found!r:.80} in 'counts'{place_of(source.counts)}",
            fix="It must give a dict: a whole number for each name",
        )
    return {name: int(n) for name, n in found.items()}


def paths_of(source: EventSource) -> list[Path]:
    """Return the files, directories and patterns that the options of a source name."""
    options = getattr(source, "options", None)
    return list(_paths_in(options.model_dump())) if isinstance(options, BaseModel) else []


def missing_inputs(source: EventSource) -> list[Path]:
    """Return the inputs of a source that are not there: files, directories, patterns that match nothing."""
    options = getattr(source, "options", None)
    inputs = getattr(options, "inputs", ())
    takes_patterns = hasattr(options, "name_pattern")
    return [
        path
        for path in _paths_in(inputs)
        if not path.exists() and not (takes_patterns and glob.glob(str(path)))  # noqa: PTH207 - absolute
    ]


def refuse_missing_inputs(source: EventSource, where: str) -> None:
    """Refuse a source that would end at once, because an input is not there; a live one waits for files.

    Parameters
    ----------
    source : EventSource
        As of `open_source`.
    where : str
        Option of the inputs, for the message.

    Raises
    ------
    FileError
        If inputs are missing; the message names each.
    """
    if source.origin is Origin.LIVE:
        return
    if missing := missing_inputs(source):
        raise FileError(
            f"there is no {', no '.join(map(str, missing))}",
            where=where,
            fix="Correct the path, or make it first: a named pipe by 'mkfifo'",
        )
    if isinstance(source, _ListingSource):
        source.files()


@runtime_checkable
class _ListingSource(Protocol):
    """A collector that lists its files before it reads them; raises `FileError` if there are none."""

    def files(self) -> object: ...


def _paths_in(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _paths_in(one)


def describe_selection(select: object) -> str:
    """Say at the end of a message that rows were left out on purpose; empty if none were."""
    return f" with select = {select!r}" if select else ""


def gives_runs(source: EventSource) -> bool:
    """Tell whether the batches of a source say which run they belong to: it has a true ``gives_runs``."""
    return bool(getattr(source, "gives_runs", False))


@runtime_checkable
class ResumableSource(CountingSource, Protocol):
    """A collector whose source keeps its data: it continues where the acknowledged windows end.

    Its batches have a position. It can wait.
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
        """Continue at the position of a batch."""

    def commit(self, position: str, note: str, *, wait: bool = False) -> None:
        """Keep a position and a note for the next start; it logs what fails."""

    def close(self) -> None:
        """Close the connection."""


class EventSourceFactory(Protocol):
    """Class of a collector."""

    Options: Annotated[type[BaseModel], "a class: the pydantic model of its options"]

    def __call__(self, options: BaseModel, /) -> EventSource:
        """Make the source."""


class _NoOptions(BaseModel):
    """Options of a collector that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        If the collector is unknown or an option is wrong; the message lists every mistake. If a package is
        not installed that it needs with these options.
    PluginError
        If it lacks what `EventSource` asks for, or raises; the message names what is missing.
    """
    label = label_of(GROUP, name)
    factory = find_plugin(GROUP, name, where=where)
    has_options = hasattr(factory, "Options")
    if has_options:
        check_members(label, factory, EventSourceFactory)
    check_call(label, factory, "CLASS(options)" if has_options else "CLASS()", int(has_options))
    model = cast(EventSourceFactory, factory).Options if has_options else _NoOptions
    checked = validate(model, dict(options), where or f"collector {name}", base or Path.cwd())
    with plugin_errors(label):
        source = factory(checked) if has_options else factory()
    check_members(label, source, EventSource)
    if any(hasattr(source, one) for one in ("open", "seek", "commit")):
        check_members(label, source, ResumableSource)
    check_packages_of(label, source, where)
    return cast(EventSource, source)


def checked_batches(source: EventSource) -> Iterator[EventBatch]:
    """Iterate over a source, and refuse what is not a batch.

    Parameters
    ----------
    source : EventSource
        As of `open_source`.

    Raises
    ------
    PluginError
        If it yields something else, or raises an error that is not of `dqm`.
    """
    label = _label(source)
    with plugin_errors(label):
        batches: object = source.__iter__()
    if not isinstance(batches, Iterator):
        gave = f"an object of type {type(batches).__name__}"
        raise PluginError(
            f"{label} gave {gave} in '__iter__'{place_of(source.__iter__)}",
            fix="It must yield batches, or give an iterator of them",
        )
    while True:
        with plugin_errors(label):
            batch: Any = next(batches, _END)
        if batch is _END:
            return
        fault = _find_fault(batch)
        if fault:
            raise PluginError(f"{label} yielded {fault}", fix="docs/plugins.md says what a batch must be")
        yield batch


def _label(source: EventSource) -> str:
    return f"the collector {type(source).__name__}"


def _find_fault(batch: object) -> str:
    """Say what is wrong with a batch; empty if nothing is."""
    if not isinstance(batch, EventBatch):
        return f"an object of type {type(batch).__name__}, which must be a dqm.events.EventBatch"
    return _find_label_fault(batch) or _find_row_fault(batch)


def _find_label_fault(batch: EventBatch) -> str:
    names = batch.names
    if not isinstance(batch.chamber, str) or not (
        isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    ):
        return f"a batch whose chamber {batch.chamber!r} is no text, or names {names!r} no tuple of texts"
    odd = [name for name in (batch.chamber, *names) if not (name and name.isprintable())]
    if odd:
        return f"a batch with the name {odd[0]!r}, which is empty or not of printable characters"
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        return f"a batch with two columns named {twice[0]!r}"
    if not (batch.run is None or _is_whole(batch.run)):
        return f"a batch whose run is {batch.run!r}, which must be a whole number or None"
    for what, value in (("start", batch.start), ("end", batch.end)):
        if not (value is None or _is_finite(value)):
            return f"a batch whose {what} is {value!r}, which must be a finite number or None"
    return ""


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _find_row_fault(batch: EventBatch) -> str:
    x = batch.x
    n_names = len(batch.names)
    if not isinstance(x, np.ndarray) or x.dtype != np.float64 or x.ndim != 2 or x.shape[1] != n_names:
        what = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        return (
            f"a batch whose x is {what}, which must be float64 of shape (n_events, {n_names}), as its names"
        )
    times = batch.times
    if times is None:
        return ""
    if not isinstance(times, np.ndarray) or times.shape != (len(x),):
        return (
            f"a batch whose times have shape {np.shape(times)}, which must be ({len(x)},), one for each row"
        )
    if len(times) and not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        return "a batch whose times are not finite and ascending"
    return ""
