"""Commands around the running monitor: ``run``, ``collect``, ``check``, ``history``."""

from __future__ import annotations

import signal
import sys
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from dqm.cli.verdicts import as_json_line, verdict_table
from dqm.config import (
    SlowControlSection,
    find_problems,
    load_collector,
    load_daemon,
    parse_value,
    set_key,
    validate,
)
from dqm.errors import BundleError, ConfigError, DqmError
from dqm.events import Quality
from dqm.service.collecting import collect as run_collector
from dqm.service.slow_control import SlowControl, open_readings
from dqm.service.sources import open_source
from dqm.store import STORE_FILE, VerdictStore, sqlite_url

__all__ = ["check", "collect", "history", "run"]

WIDE = 160
"""Columns of a table that is written to a file."""

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a key, as in daemon.http=127.0.0.1:8080; repeatable."
    ),
]


def run(config: ConfigPath, override: Overrides = None) -> None:
    """Run the daemon: receive windows, judge them, store and show the verdicts."""
    from dqm.service.daemon import Daemon

    _log_to_stderr()
    settings = load_daemon(config, _parse_overrides(override))
    with Daemon(settings) as daemon:
        daemon.run(_stop_on_signals())


def collect(config: ConfigPath, override: Overrides = None) -> None:
    """Run a collector: read a source, cut windows, send them to the daemon."""
    _log_to_stderr()
    settings = load_collector(config, _parse_overrides(override))
    result = run_collector(settings, config.absolute().parent, _stop_on_signals())
    typer.echo(
        f"run {result.run}: {result.n_events} events, {result.n_windows} windows, {result.n_sent} sent, "
        f"{result.n_lost} lost; {result.n_left} events after the last window"
    )
    if result.n_lost:
        raise typer.Exit(1)


def check(config: ConfigPath, override: Overrides = None) -> None:
    """Report every mistake in a configuration at once, bundles and collector options included."""
    overrides = _parse_overrides(override)
    problems = [*find_problems(config, overrides), *_deep_problems(config, overrides)]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{config}: no mistakes found")


def history(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The daemon's TOML file, or a store.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    run_number: Annotated[int | None, typer.Option("--run", help="Only this run.")] = None,
    quality: Annotated[Quality | None, typer.Option(case_sensitive=False, help="Only this quality.")] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="Only the last so many hours.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The last so many verdicts.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print stored verdicts, the newest last."""
    file = config if config.suffix == ".sqlite" else load_daemon(config).daemon.data_dir / STORE_FILE
    since = None if hours is None else time.time() - 3600.0 * hours
    with VerdictStore(sqlite_url(file), create=False) as store:
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


def _parse_overrides(texts: list[str] | None) -> dict[str, object]:
    overrides: dict[str, object] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not KEY=VALUE", where="--set")
        overrides[key.strip()] = parse_value(value)
    return overrides


def _deep_problems(config: Path, overrides: dict[str, object]) -> list[str]:
    """Find the mistakes that show only when bundles are opened and collectors loaded."""
    try:
        data = tomllib.loads(config.read_text())
    except (OSError, ValueError):
        return []
    for key, value in overrides.items():
        set_key(data, key, value)
    base = config.absolute().parent
    checks: list[Callable[[], object]] = []
    match data:
        case {"collector": {"name": str(name)}}:
            checks = [partial(open_source, name, data.get("options", {}), "[options]", base)]
        case {"streams": list(streams)}:
            named = {stream.get("bundle") for stream in streams if isinstance(stream, dict)}
            checks = [partial(_check_bundle, base / name) for name in named if isinstance(name, str)]
    match data:
        case {"slow_control": {"source": str()} as table}:
            checks.append(partial(_check_slow_control, table, base))
    problems = []
    for attempt in checks:
        try:
            attempt()
        except DqmError as error:
            problems.append(f"{config}: {error}")
    return problems


def _check_slow_control(table: dict[str, Any], base: Path) -> None:
    try:
        section = validate(SlowControlSection, table, "[slow_control]")
    except ConfigError:  # told by `find_problems`
        open_readings(table["source"], table.get("options", {}), base)
    else:
        SlowControl(section, base)


def _check_bundle(path: Path) -> None:
    from dqm.reference import open_bundle

    if not open_bundle(path).manifest.null:
        raise BundleError(
            "has no null table: every window would be Null",
            where=str(path),
            fix=f"Run 'dqm reference calibrate {path} --toys 1000'",
        )


def _stop_on_signals() -> Event:
    """Set on SIGTERM and SIGINT; a second one ends the program at once."""
    stop = Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _log_to_stderr() -> None:
    """Readable lines on a terminal, JSON where a machine reads."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
