"""Options that say where the work of a command is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.settings import conflict
from dqm.errors import ConfigError

if TYPE_CHECKING:
    from dqm.reference import Workers

__all__ = ["ProcessesOption", "SchedulerOption", "ShipOption", "open_workers"]

ProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="Parallel processes; default: one for each core.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do the work, as in tcp://host:8786."),
]
ShipOption = Annotated[
    bool,
    typer.Option("--ship", help="Send the bundle to the workers; needed if they do not see it at its path."),
]


@contextmanager
def open_workers(processes: int | None, scheduler: str | None, *, ship: bool) -> Iterator[Workers]:
    """Open the workers that options ask for; raises `ConfigError` if options contradict each other."""
    from dqm.reference import Processes, open_cluster

    if scheduler is None:
        if ship:
            raise ConfigError(
                "--ship needs --scheduler", fix="Leave it out: processes on this host read the bundle itself"
            )
        yield Processes(processes)
        return
    if processes is not None:
        raise conflict(
            "--processes", "--scheduler", fix="Give one of them: the scheduler's workers do all the work"
        )
    with open_cluster(scheduler, ship=ship) as cluster:
        yield cluster
