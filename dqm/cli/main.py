"""``dqm``: all commands, and what happens to errors.

A command's module is imported when the command is used: ``dqm --help`` loads none of them, and those of the
monitor need packages that a collector host does not have.
"""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import requires, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dqm.cli.entry import INTERRUPTED
from dqm.cli.output import ReaderGoneError, abandon_output, say
from dqm.errors import DqmError, FileError, NoEventsError

__all__ = ["COMMANDS", "app", "load_command", "run"]

NEGATIVE = 1
"""Exit code of a negative answer."""

FAILURE = 2
"""Exit code of a command that cannot do what it was asked."""

READER_GONE = 141
"""Exit code when the reader of the output has closed it: as a shell gives it."""

COMMANDS = {
    "init": "Make a first installation: configurations, references, units of systemd; say what comes next.",
    "demo": "Run simulated chambers, their collectors and the daemon; three chambers go wrong.",
    "run": "Run the daemon: receive windows, judge them, store and show the verdicts; SIGHUP reloads CONFIG.",
    "collect": "Run a collector: read a source, cut windows, send them to the daemon.",
    "check": "Report every mistake in a configuration at once, bundles and collector options included.",
    "doctor": "Look at a running installation: what is wrong in it, and what to do about it.",
    "history": "Print stored verdicts, the newest last.",
    "trend": "Show the runs of each stream side by side, which differ, and since when windows are worse.",
    "extract": "Write the features of a source to a file instead of sending them.",
    "compare": "Test files against a bundle; run numbers are their places, or those in their names.",
    "hunt": "Hunt for events of another kind somewhere along a coordinate: a burst, a hot spot, a threshold.",
    "report": "Write a run, or what a bundle is, as one HTML file that needs nothing else.",
    "flags": (
        "Print the quality flags of a run: which time of which stream is good, and which is not known to be."
    ),
    "plot": (
        "Draw the maps of a window, the windows of a stream in a run, or the quality of all streams in a run."
    ),
    "reference": 'Reference bundles: what "good" is.',
    "study": "Measure the tests: which test sees which fault.",
    "alarms": "See alarms, acknowledge, shelve and mask them.",
    "certify": "Amend flags, label faults, and sign runs; verdicts do not change.",
    "notify": "Try the targets that are told of alarms.",
    "dashboards": "Dashboards for Grafana, rules for Prometheus.",
    "run-control": "Tell the daemon that a run begins or ends.",
    "keys": "Make keys for collectors on other hosts.",
    "store": "Back up, restore and compact the store of verdicts.",
    "users": "Add, remove and list users of the page, and say what each may do.",
}
"""First paragraph of the help of each command, for the list of all."""


ELSEWHERE = {
    "export": (
        "Maps of a window as ROOT histograms: 'dqm plot CONFIG --stream S --run R --window N -o maps.root'; "
        "verdicts as a table: 'dqm history CONFIG -o verdicts.csv'; the sign-off of a run: 'dqm certify "
        "export'; features of a source: 'dqm extract'"
    )
}
"""Where to find what people look for under another name."""

A_TIME = "is no time: give a day, or a day and a time, as in 2026-11-28T18:00"
"""In the place of the formats of a library."""

UsageError: Any = typer.BadParameter.__base__
"""Typer has no public name for it."""


def load_command(name: str) -> Any:
    """Import a command and make it what Typer runs.

    Parameters
    ----------
    name : str
        One of `COMMANDS`.

    Returns
    -------
    typer.core.TyperCommand or typer.core.TyperGroup
        The command with its options, or the group with its commands.

    Raises
    ------
    ModuleNotFoundError
        If a package that it needs is not installed.
    """
    found = _import_command(name)
    holder = typer.Typer(add_completion=False, callback=lambda: None)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]


def _import_command(name: str) -> Any:
    """Import the function of a command, or the `typer.Typer` of a group of commands.

    Each import is written out, so that no name from outside can be one.
    """
    return _import_group(name) or _import_function(name)


def _import_function(name: str) -> Any:
    command: Any
    match name:
        case "init":
            from dqm.cli.init import init as command
        case "doctor":
            from dqm.cli.doctor import doctor as command
        case "demo":
            from dqm.cli.demo import demo as command
        case "run":
            from dqm.cli.run import run as command
        case "collect":
            from dqm.cli.collect import collect as command
        case "check":
            from dqm.cli.check import check as command
        case "history":
            from dqm.cli.history import history as command
        case "trend":
            from dqm.cli.trend import trend as command
        case "extract":
            from dqm.cli.extract import extract as command
        case "compare":
            from dqm.cli.compare import compare as command
        case "hunt":
            from dqm.cli.hunt import hunt as command
        case "report":
            from dqm.cli.reports import report as command
        case "flags":
            from dqm.cli.reports import flags as command
        case "plot":
            from dqm.cli.plot import plot as command
        case _:
            raise ValueError(f"no command is called {name!r}")
    return command


def _import_group(name: str) -> typer.Typer | None:
    match name:
        case "reference":
            from dqm.cli.reference import app as group
        case "study":
            from dqm.cli.study import app as group
        case "alarms":
            from dqm.cli.alarms import app as group
        case "certify":
            from dqm.cli.certify import app as group
        case "notify":
            from dqm.cli.notify import app as group
        case "dashboards":
            from dqm.cli.dashboards import app as group
        case "run-control":
            from dqm.cli.run_control import app as group
        case "keys":
            from dqm.cli.keys import app as group
        case "store":
            from dqm.cli.store import app as group
        case "users":
            from dqm.cli.users import app as group
        case _:
            return None
    return group


@contextmanager
def _in_own_words() -> Iterator[None]:
    """Answer Ctrl-C and values that cannot be used in our own words, before Typer answers in other words."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except typer.BadParameter as error:
        words = _describe_nan(error) or error.message.removeprefix("Value error, ")
        error.message = re.sub(r"does not match the formats .*", A_TIME, words, flags=re.DOTALL)
        raise
    except UsageError as error:
        if hasattr(error, "option_name") and not getattr(error, "possibilities", True):  # of no such option
            names = [name for each in error.ctx.command.params for name in each.opts]
            error.possibilities = [name for name in names if name.startswith("--")]
        raise


def _describe_nan(error: typer.BadParameter) -> str:
    """Say of NaN that it is no number, where the library says that it is beyond a limit; else nothing."""
    for found in getattr(error.__cause__, "errors", list)():
        try:
            if math.isnan(float(found["input"])):
                return f"{found['input']!r} is not a number"
        except (TypeError, ValueError):
            continue
    return ""


class LazyGroup(TyperGroup):
    """Lists commands by their summaries, and loads the one that is used."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, as Typer does, and load it."""
        if args and args[0] in ELSEWHERE:
            ctx.fail(f"No such command '{args[0]}'. {ELSEWHERE[args[0]]}")
        name, summary, rest = super().resolve_command(ctx, args)
        return name, summary if name is None else load_command(name), rest

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments as Typer does, or say that it was interrupted."""
        with _in_own_words():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command to the last line of its output, or say that it was interrupted."""
        with _in_own_words():
            result = super().invoke(ctx)
            say("", end="")  # flushed here, where it may fail
            return result


app = typer.Typer(
    cls=LazyGroup,
    name="dqm",
    help="Online data-quality monitor for particle detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _loaded_when_used() -> None:
    """Stand for a command in the list."""


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(_loaded_when_used)


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
    """Run the program: our own errors end it with a message and code 1 or 2, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ReaderGoneError:
        abandon_output()
        sys.exit(READER_GONE)
    except DqmError as error:
        _end(str(error), NEGATIVE if isinstance(error, NoEventsError) else FAILURE)
    except OSError as error:  # of the system; what is known to fail has a better message
        place = f"{error.filename}: " if error.filename else ""
        _end(f"{place}{error.strerror or error}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not _is_of_monitor(package):
            raise
        _end(
            f"the package {package} is not installed. The daemon, its configuration and what computes "
            "need it: install dqm with its extra 'monitor', in its source by pip install '.[monitor]'"
        )


def _end(why: str, code: int = FAILURE) -> NoReturn:
    """End the program with a message, as a line of JSON where the log is JSON."""
    log = sys.modules.get("dqm.service.process_log")
    if log is not None and log.is_json():
        import structlog

        structlog.get_logger().critical("ended by an error", why=why)
    else:
        with suppress(FileError, ReaderGoneError):
            say(f"error: {why}", err=True)
    try:
        sys.stdout.flush()
    except OSError:
        abandon_output()
    sys.exit(code)


def _is_of_monitor(package: str) -> bool:
    """Whether an importable package comes with the extra ``monitor``, as argon2 comes with argon2-cffi."""
    requirements = [line for line in requires("dqm") or [] if line.endswith("extra == 'monitor'")]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0].replace("-", "_") for line in requirements}
    return any(package in (name, name.partition("_")[0]) for name in names)
