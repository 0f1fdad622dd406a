"""``dqm run-control``: tell the daemon that a run begins or ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.output import say
from dqm.errors import LARGEST_INTEGER, DqmError

if TYPE_CHECKING:
    from dqm.events import RunNotice

__all__ = ["app"]

app = typer.Typer(help="Tell the daemon that a run begins or ends.", no_args_is_help=True)

LONGEST_WAIT_SECONDS = 3600.0

RunNumber = Annotated[int, typer.Option("--run", min=0, max=LARGEST_INTEGER, help="Run number.")]
RunType = Annotated[str, typer.Option("--type", help="What the run is for: physics, cosmics, ...")]
Streams = Annotated[
    str, typer.Option("--stream", help="Stream, or a pattern with * (any characters) and ? (one character).")
]
Why = Annotated[str, typer.Option(help="Why, up to 256 characters.")]
Moment = Annotated[float | None, typer.Option("--time", min=0, help="When, Unix seconds; default: now.")]
Address = Annotated[str, typer.Option("--connect", help="ZeroMQ address of the daemon.")]
Key = Annotated[
    Path | None, typer.Option(help="Secret key; required if the daemon is on another host or asks for it.")
]
DaemonKey = Annotated[Path | None, typer.Option(help="Public key of the daemon; required with --key.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0.1, max=LONGEST_WAIT_SECONDS, help="Longest wait for the answer, s.")
]


@app.callback()
def main() -> None:
    """Tell the daemon that a run begins or ends."""


@app.command()
def begin(
    run: RunNumber,
    run_type: RunType,
    streams: Streams = "*",
    why: Why = "",
    moment: Moment = None,
    connect: Address = "tcp://127.0.0.1:5565",
    key: Key = None,
    daemon_key: DaemonKey = None,
    wait: Wait = 10.0,
) -> None:
    """Begin a run: from now on windows are expected."""
    from dqm.events import RunEvent, RunNotice

    notice = RunNotice(streams, run, run_type, RunEvent.BEGIN, time.time() if moment is None else moment, why)
    _send(notice, connect, key, daemon_key, wait)


@app.command()
def end(
    run: RunNumber,
    run_type: RunType,
    streams: Streams = "*",
    why: Why = "",
    moment: Moment = None,
    connect: Address = "tcp://127.0.0.1:5565",
    key: Key = None,
    daemon_key: DaemonKey = None,
    wait: Wait = 10.0,
) -> None:
    """End a run: its streams are idle, and nobody waits for their windows."""
    from dqm.events import RunEvent, RunNotice

    notice = RunNotice(streams, run, run_type, RunEvent.END, time.time() if moment is None else moment, why)
    _send(notice, connect, key, daemon_key, wait)


def _send(
    notice: RunNotice, connect: str, key: Path | None, daemon_key: Path | None, wait_seconds: float
) -> None:
    """Send a notice and wait until it is stored; code 1 if the daemon refuses it."""
    from dqm.config import CollectorSection, validate
    from dqm.stream import Sender, read_sender_keys

    given = {"name": "run-control", "connect": connect, "key": key, "daemon_key": daemon_key}
    section = validate(CollectorSection, given, "command line")
    with Sender(section.connect, keys=read_sender_keys(section)) as sender:
        sender.announce(notice)
        is_answered = sender.confirm(wait_seconds)
        refusals = sender.run_refusals
        problem = sender.problem
        if not is_answered:
            sender.close(0.0)
    what = f"the {notice.event} of run {notice.run}"
    if not is_answered:
        raise DqmError(
            f"{what} has no answer after {wait_seconds:g} s{f': {problem}' if problem else ''}",
            where=section.connect,
            fix="Check that the daemon runs and listens there; versions before 0.3 know no borders of runs",
        )
    for refusal in refusals:
        say(f"{what} is refused ({refusal.reason}): {refusal.what}", err=True)
        raise typer.Exit(1)
    say(f"{what} of {notice.streams} is stored")
