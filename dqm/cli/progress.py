"""The progress bar of commands that take more than a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dqm.cli.tables import open_console

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(what: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr while the block runs.

    Parameters
    ----------
    what : str
        What is counted.
    total : int or None
        How many there will be; None if this is not known.
    shown : bool
        Whether to show the bar.

    Yields
    ------
    callable
        Call it with the number that is done, and with the total if it was not known before.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # what a command prints meanwhile goes to stdout, not to stderr with the bar
    bar = Progress(*columns, console=open_console(stderr=True), redirect_stdout=False, disable=not shown)
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=total: bar.update(task, completed=done, total=total)
