"""Commands that hand a run on: ``report`` and ``flags``."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Collection
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.output import say, say_json, writing, writing_file
from dqm.cli.settings import conflict
from dqm.config import refuse_input
from dqm.errors import LARGEST_INTEGER, ConfigError, InputError, escape_text, format_names
from dqm.events.finite import utc_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from dqm.export.flags import Flag
    from dqm.store import VerdictStore

__all__ = [
    "RunNumber",
    "Where",
    "flags",
    "last_run",
    "open_store",
    "report",
    "require_stream",
    "select_flags",
]

_MANIFEST = "manifest.json"
SUFFIXES = ("", ".html", ".htm")
"""Endings of reports."""

RunNumber = Annotated[
    int | None,
    typer.Option("--run", min=0, max=LARGEST_INTEGER, help="Run number; default: that of the last verdict."),
]
Where = Annotated[Path, typer.Argument(metavar="CONFIG|STORE", help="The daemon's TOML file, or a store.")]


class Format(StrEnum):
    """How flags are written for programs."""

    JSON = "json"
    CSV = "csv"


def report(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|STORE|BUNDLE", help="The daemon's TOML file or a store, or a reference bundle."
        ),
    ],
    run: RunNumber = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: in this directory.")
    ] = None,
) -> None:
    """Write a run, or what a bundle is, as one HTML file that needs nothing else."""
    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"no report has the ending {output.suffix!r}",
            where=str(output),
            fix=f"Choose one of {', '.join(SUFFIXES[1:])}",
        )
    if output is not None:
        refuse_input(output, [subject])
    from dqm.export.report import report_bundle, report_run
    from dqm.store import AlarmStore

    if (subject / _MANIFEST).exists():
        from dqm.reference import open_bundle

        text = report_bundle(open_bundle(subject), version=version("dqm"), now=time.time())
        path = output or Path(f"{subject.resolve().stem}.html")
    else:
        store, streams = open_store(subject)
        with store:
            number = last_run(store) if run is None else run
            text = report_run(
                store,
                AlarmStore(store.database),
                number,
                version=version("dqm"),
                now=time.time(),
                streams=streams,
            )
        path = output or Path(f"run-{number}.html")
    with writing_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
    say(f"{path}: {len(text) / 1e6:.1f} MB")


def flags(
    store: Where,
    run: RunNumber = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="For programs: one JSON array, or CSV; default: a table."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    by_judgement: Annotated[
        bool,
        typer.Option(
            "--by-judgement", help="Windows without times cover the time from the verdict before to theirs."
        ),
    ] = False,
) -> None:
    """Print the quality flags of a run: which time of which stream is good, and which is not known to be."""
    if as_json and form is not None:
        raise conflict("--json", "--format")
    opened, streams = open_store(store)
    with opened:
        number = last_run(opened) if run is None else run
        found = select_flags(opened, streams, number, where=str(store), by_judgement=by_judgement)
    rows = [flag.as_row(f"dqm {version('dqm')}") for flag in found]
    if as_json:
        for row in rows:
            say_json(json.dumps(row, allow_nan=False))
    elif form is Format.JSON:
        say(json.dumps(rows, indent=1, allow_nan=False))
    elif form is Format.CSV:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        with writing():
            writer.writeheader()
            writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    else:
        from dqm.cli.tables import print_table

        print_table(_table(found, number))


def _table(found: Sequence[Flag], run: int) -> Table:
    """Lay out flags; the columns of what people said are left out if nobody said anything."""
    from rich.table import Table

    from dqm.cli.tables import cell
    from dqm.cli.verdicts import flag_text
    from dqm.export.flags import describe_state

    said = any(flag.amended or flag.fault for flag in found)
    table = Table(title=f"run {run}", box=None, pad_edge=False, title_justify="left")
    for name in ("stream", "from (UTC)", "to (UTC)", "flag", "run is"):
        table.add_column(name, no_wrap=True)
    for name in ("why", *(("fault", "amended by") if said else ())):
        table.add_column(name)
    for flag in found:
        by = f"{flag.amended.user}: it was {flag.original_flag}" if flag.amended else ""
        table.add_row(
            cell(flag.stream),
            *(utc_time(moment).strftime("%Y-%m-%d %H:%M:%S") for moment in (flag.start, flag.end)),
            flag_text(flag.flag),
            describe_state(flag.run),
            cell(flag.comment),
            *([cell(flag.fault), cell(by)] if said else []),
        )
    return table


def select_flags(
    store: VerdictStore, streams: Sequence[str], run: int, *, where: str, by_judgement: bool
) -> list[Flag]:
    """Flag a run of a store.

    Parameters
    ----------
    store : VerdictStore
        Where its verdicts are.
    streams : sequence of str
        Streams that should be there.
    run : int
        Number of the run.
    where : str
        What a message names as the store.
    by_judgement : bool
        As for `take_spans`.

    Raises
    ------
    InputError
        If the run has no windows, and as `take_spans` does.
    """
    from dqm.export.run_windows import read_run_windows

    windows = read_run_windows(store, run, streams, by_judgement=by_judgement)
    windows.refuse_empty(where)
    return windows.flag()


def _plain(value: object) -> object:
    return escape_text(value) if isinstance(value, str) else value


def open_store(path: Path) -> tuple[VerdictStore, tuple[str, ...]]:
    """Open a store for reading; with it the streams that should be there, as far as they are known."""
    from dqm.config import load_daemon
    from dqm.store import VerdictStore, sqlite_url, store_url

    if path.suffix == ".sqlite":
        return VerdictStore(sqlite_url(path), create=False), ()
    config = load_daemon(path)
    names = tuple(stream.name for stream in config.streams)
    return VerdictStore(store_url(config.daemon), create=False), names


def require_stream(store: VerdictStore, stream: str, configured: Collection[str] = ()) -> None:
    """Refuse a stream of which no window is stored, unless it is configured; raises `InputError`."""
    if stream in configured or store.latest(stream):
        return
    known = format_names(store.summaries.streams())
    fix = f"Streams with windows: {known}" if known else "Wait for the first window"
    raise InputError(f"no window of stream {stream!r} is stored", fix=fix)


def last_run(store: VerdictStore, stream: str | None = None) -> int:
    """Return the run of the last verdict, of a stream or of all; raises `InputError` if there is none."""
    if stream:
        require_stream(store, stream)
    found = store.latest(stream)
    if not found:
        raise InputError("no window is stored", fix="Wait for the first window")
    return found[0].window.run
