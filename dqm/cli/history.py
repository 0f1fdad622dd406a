"""``dqm history``: verdicts that are stored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say, say_json
from dqm.cli.settings import LARGEST, Hours
from dqm.events import Quality

__all__ = ["history"]


def history(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The daemon's TOML file, or a store.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    run_number: Annotated[
        int | None, typer.Option("--run", min=0, max=LARGEST, help="Only this run.")
    ] = None,
    quality: Annotated[Quality | None, typer.Option(case_sensitive=False, help="Only this quality.")] = None,
    hours: Hours = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="The last so many verdicts.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print stored verdicts, the newest last."""
    from dqm.cli.tables import print_table
    from dqm.cli.verdicts import as_json_line, verdict_table
    from dqm.config import load_daemon
    from dqm.store import VerdictStore, sqlite_url, store_url

    url = sqlite_url(config) if config.suffix == ".sqlite" else store_url(load_daemon(config).daemon)
    since = None if hours is None else time.time() - 3600.0 * hours
    with VerdictStore(url, create=False) as store:
        verdicts = list(
            store.select(stream=stream, run=run_number, since=since, quality=quality, limit=limit)
        )
    if as_json:
        for verdict in verdicts:
            say_json(as_json_line(verdict))
    elif verdicts:
        print_table(verdict_table(verdicts))
    else:
        say("no verdicts match")
