"""``dqm demo``: everything on one machine, with faults."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.nuisances import LARGEST_WINDOW
from dqm.cli.settings import Features, Read, ReadAs, parse_reading, refuse_given, split_names
from dqm.config import removing_if_empty
from dqm.events import SMALLEST_WINDOW

__all__ = ["demo"]


def demo(
    duration: Annotated[
        float | None,
        typer.Option(
            min=20, help="Seconds to scale the timeline to and to end after; default: 180, without end."
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where configurations, logs and verdicts go; default: the state directory."),
    ] = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Instead of simulated chambers: your own good run, with faults on top of it; repeatable.",
        ),
    ] = None,
    features: Features = None,
    chamber: Annotated[
        str | None, typer.Option(help="With --real: this chamber; default: that with the most events.")
    ] = None,
    read: Read = None,
    read_as: ReadAs = None,
    window: Annotated[
        float | None,
        typer.Option(
            min=SMALLEST_WINDOW,
            max=LARGEST_WINDOW,
            help="With --real: events in a window; default: by the run.",
        ),
    ] = None,
) -> None:
    """Run simulated chambers, their collectors and the daemon; three chambers go wrong.

    With --real FILE the events are those of your own run: the reference is made of its first part, and faults
    are put on top of the rest. Ends with 0 if every fault raised its alarm and no healthy stream raised any,
    with 1 otherwise.
    """
    from dqm.cli.demo_screen import show_demonstration, show_own_run

    if not real:
        options = {
            "features": features, "chamber": chamber, "read": read, "read-as": read_as, "window": window,
        }  # fmt: skip
        refuse_given(options, "needs --real", fix="Give the files of a good run with --real")
    with removing_if_empty(directory) if directory else nullcontext():
        if not real:
            as_expected = show_demonstration(duration, directory)
        else:
            as_expected = show_own_run(
                real,
                features=split_names(features),
                chamber=chamber,
                reading=parse_reading(read, read_as),
                window=window,
                duration=duration,
                directory=directory,
            )
    if not as_expected:
        raise typer.Exit(1)
