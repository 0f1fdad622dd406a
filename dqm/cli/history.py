"""``dqm history``: verdicts that are stored."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say, say_json
from dqm.cli.records import write_records
from dqm.cli.settings import TIMES, Hours, Runs, parse_runs
from dqm.errors import LARGEST_INTEGER, format_count
from dqm.events import Quality

__all__ = ["history"]

USUAL = 100
"""Verdicts that are printed if nothing says which."""


def history(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The daemon's TOML file, or a store.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    run_number: Annotated[
        int | None, typer.Option("--run", min=0, max=LARGEST_INTEGER, help="Only this run.")
    ] = None,
    runs: Runs = None,
    quality: Annotated[Quality | None, typer.Option(case_sensitive=False, help="Only this quality.")] = None,
    hours: Hours = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Only what was judged since then, UTC, as in 2026-11-28T18:00.", formats=TIMES),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_INTEGER,
            help="This number of verdicts, the last ones; default: 100; all in files and selected JSON.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write them to this .csv or .parquet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print stored verdicts, the newest last."""
    from dqm.cli.reports import open_store, require_stream
    from dqm.cli.tables import print_table
    from dqm.cli.verdicts import as_json_line, verdict_table

    begin = None if hours is None else time.time() - 3600.0 * hours
    if since is not None:
        begin = max(since.replace(tzinfo=UTC).timestamp(), begin or 0.0)
    wanted = parse_runs(runs)
    if run_number is not None:
        wanted = (run_number, *(wanted or ()))
    is_selected = wanted is not None or begin is not None
    is_usual = limit is None and output is None and not (as_json and is_selected)
    most = USUAL + 1 if is_usual else limit
    opened, configured = open_store(config)
    with opened as store:
        if stream is not None:
            require_stream(store, stream, configured)
        verdicts = list(store.select(stream=stream, runs=wanted, since=begin, quality=quality, limit=most))
    if is_usual and len(verdicts) > USUAL:
        del verdicts[0]
        say(f"the last {USUAL} verdicts; there are more: see --limit", err=True)
    if output is not None:
        write_records(output, [json.loads(as_json_line(verdict)) for verdict in verdicts])
        say(f"{format_count(len(verdicts), 'verdict')} written to {output}")
    elif as_json:
        for verdict in verdicts:
            say_json(as_json_line(verdict))
    elif verdicts:
        print_table(verdict_table(verdicts))
    else:
        say("no verdicts match")
