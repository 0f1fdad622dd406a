"""``dqm extract``: features of a source in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import parse_settings
from dqm.errors import format_count

__all__ = ["extract"]


def extract(
    collector: Annotated[str, typer.Argument(help="Collector: tdc, beam, replay, simulate or another.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[INPUT]...", help="Its input files.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Option of the collector, value as in TOML; repeatable."
        ),
    ] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Stop after this number of events.")] = None,
    chamber: Annotated[str | None, typer.Option(help="Only this chamber.")] = None,
) -> None:
    """Write the features of a source to a file instead of sending them."""
    from dqm.service.collector.sources import counts_of, open_source
    from dqm.service.offline.extraction import extract as extract_features

    options: dict[str, object] = {"inputs": inputs} if inputs else {}
    options |= parse_settings(option)
    source = open_source(collector, options)
    with progress_bar("events", events) as progress:
        n = extract_features(
            source,
            output,
            n_events=events,
            chamber=chamber,
            where=", ".join(map(str, inputs or [])),
            progress=progress,
        )
    say(f"{output}: {format_count(n, 'event')}")
    if counts := counts_of(source):
        say("read: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()))
