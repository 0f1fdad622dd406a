"""The progress of commands that take more than a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dqm.cli.tables import open_console

__all__ = ["progress_bar", "tuning_progress"]

LINE_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""

EARLY_SHARE = 0.05
"""No time left is given before this share is done: the first steps are not typical."""

EARLY_SECONDS = 60.0
"""After this time it is given in any case."""


@contextmanager
def progress_bar(what: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show on stderr how far the block is: a bar on a terminal, elsewhere a line from time to time.

    Parameters
    ----------
    what : str
        What is counted.
    total : int or None
        How many there will be; None if this is not known.
    shown : bool
        Whether to show anything.

    Yields
    ------
    callable
        Call it with the number that is done, and with the total if it was not known before.
    """
    console = open_console(stderr=True)
    if shown and not console.is_terminal:
        lines = _Lines(what, total, console)
        yield lines.show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # what a command prints meanwhile goes to stdout, not to stderr with the bar
    with Progress(*columns, console=console, redirect_stdout=False, disable=not shown) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=total: bar.update(task, completed=done, total=total)


@contextmanager
def tuning_progress(statistic: str) -> Iterator[Callable[..., None]]:
    """Show how far a statistic is with choosing its settings; nothing if it has its usual ones."""
    from dqm.reference.statistic import find_statistic

    is_tunable = find_statistic(statistic).is_tunable
    with progress_bar("choosing the test", None, shown=is_tunable) as show:
        yield show


class _Lines:
    """Progress in a log file: nothing for work that is done at once."""

    def __init__(self, what: str, total: int | None, console: Console) -> None:
        self._what = what
        self._total = total
        self._console = console
        self._begin = time.monotonic()
        self._first: int | None = None  # done before: a calibration goes on where it was interrupted
        self._next = self._begin + LINE_SECONDS

    def show(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now < self._next:
            return
        self._next = now + LINE_SECONDS
        self._console.print(self._line(done, total or self._total, now - self._begin), soft_wrap=True)

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        if total is None:
            return f"{self._what}: {done} after {_clock(seconds)}"
        line = f"{self._what}: {done} of {total} ({done / total:.0%}) after {_clock(seconds)}"
        first = self._first or 0
        gained = done - first
        is_early = gained < EARLY_SHARE * (total - first) and seconds < EARLY_SECONDS
        if gained <= 0 or is_early:
            return line
        return f"{line}, {_clock(seconds * (total - done) / gained)} left"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
