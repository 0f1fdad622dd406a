"""``dqm demo``: everything on one machine, with faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Run simulated chambers, their collectors and the daemon; three chambers go wrong.

    Ends with 0 if every fault raised its alarm and no healthy chamber raised any, with 1 otherwise.
    """
    from dqm.cli.demo_screen import show_demonstration

    if not show_demonstration(duration, directory):
        raise typer.Exit(1)
