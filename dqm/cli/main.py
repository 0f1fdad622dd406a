"""``dqm``: all commands, and how an error ends the program."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from dqm.cli import alarms, check, dashboards, demo, keys, offline, online, reference, reports, store, users
from dqm.errors import DqmError

__all__ = ["app", "run"]

FAILURE = 2
"""Exit code of a command that could not do what it was asked. 1 is a negative answer: it did its work."""

app = typer.Typer(
    name="dqm",
    help="Online data-quality monitor for particle detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(reference.app, name="reference")
app.add_typer(alarms.app, name="alarms")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
app.add_typer(users.app, name="users")
app.command()(demo.demo)
app.command()(online.run)
app.command()(online.collect)
app.command()(check.check)
app.command()(online.history)
app.command()(offline.extract)
app.command()(offline.compare)
app.command()(reports.report)
app.command()(reports.flags)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"dqm {version('dqm')}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Online data-quality monitor for particle detectors."""


def run() -> None:
    """Run the program. An error of `dqm` ends it with a message and code 2, without a traceback."""
    try:
        app()
    except DqmError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(FAILURE)


if __name__ == "__main__":
    run()
