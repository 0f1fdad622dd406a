"""Commands around the running monitor: ``run``, ``collect``, ``history``."""

from __future__ import annotations

import resource
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated

import structlog
import typer
from rich.console import Console

from dqm.cli.settings import ConfigPath, Overrides, parse_settings
from dqm.cli.verdicts import as_json_line, verdict_table
from dqm.config import load_collector, load_daemon
from dqm.events import Quality
from dqm.service.collector.collect import collect as run_collector
from dqm.service.sd_notify import Notifier
from dqm.store import VerdictStore, sqlite_url, store_url

__all__ = ["collect", "history", "run"]

MOST_DESCRIPTORS = 65_536
"""Files that a daemon may have open, if the system allows it: a worker takes ten for each bundle."""

WIDE = 160
"""Columns of a table that is written to a file."""


def run(config: ConfigPath, override: Overrides = None) -> None:
    """Run the daemon: receive windows, judge them, store and show the verdicts. SIGHUP reloads CONFIG."""
    from dqm.service.monitor.daemon import Daemon

    _log_to_stderr()
    _raise_descriptor_limit()
    read = partial(load_daemon, config, parse_settings(override))
    stop, reload = _stop_on_signals(), Event()
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload.set())
    with Daemon(read(), notifier=Notifier(), read_again=read, reload=reload) as daemon:
        daemon.run(stop)


def collect(config: ConfigPath, override: Overrides = None) -> None:
    """Run a collector: read a source, cut windows, send them to the daemon."""
    _log_to_stderr()
    settings = load_collector(config, parse_settings(override))
    result = run_collector(settings, config.absolute().parent, _stop_on_signals(), notifier=Notifier())
    typer.echo(
        f"run {result.run}: {result.n_events} events, {result.n_windows} windows, {result.n_sent} sent, "
        f"{result.n_lost} lost; {result.n_left} events after the last window"
    )
    if result.n_spooled:
        typer.echo(f"{result.n_spooled} windows are not judged yet: the next start sends them from the spool")
    if result.n_refused:
        typer.echo(f"{result.n_refused} windows were refused by the daemon: the log says why")
    if result.n_lost or result.n_refused:
        raise typer.Exit(1)


def history(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The daemon's TOML file, or a store.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    run_number: Annotated[int | None, typer.Option("--run", help="Only this run.")] = None,
    quality: Annotated[Quality | None, typer.Option(case_sensitive=False, help="Only this quality.")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Only verdicts of at most this age, in hours.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Print at most so many verdicts, the last ones.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each verdict.")] = False,
) -> None:
    """Print stored verdicts, the newest last."""
    url = sqlite_url(config) if config.suffix == ".sqlite" else store_url(load_daemon(config).daemon)
    since = None if hours is None else time.time() - 3600.0 * hours
    with VerdictStore(url, create=False) as store:
        verdicts = list(
            store.select(stream=stream, run=run_number, since=since, quality=quality, limit=limit)
        )
    if as_json:
        for verdict in verdicts:
            typer.echo(as_json_line(verdict))
    elif verdicts:
        console = Console()
        console = console if console.is_terminal else Console(width=WIDE)
        console.print(verdict_table(verdicts))
    else:
        typer.echo("no verdicts match")


def _stop_on_signals() -> Event:
    """Give an event that SIGTERM and SIGINT set; a second signal ends the program at once."""
    stop = Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one: it is 1024 on most systems, and workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Logger(structlog.PrintLogger):
    """Leaves out lines that cannot be written: a log on a full disk must not end the work."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    debug = info = warning = error = msg


def _log_to_stderr() -> None:
    """Log readable lines on a terminal, and JSON elsewhere."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: _Logger(sys.stderr),
    )
