"""``dqm certify``: what people say about the data of runs, through the API of a running daemon."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dqm.cli.daemon_client import AsJson, Daemon, Login, PasswordFile, User, act, ask
from dqm.cli.output import say, say_json, writing_file
from dqm.cli.settings import TIMES, conflict, require_comment
from dqm.errors import LARGEST_INTEGER, ConfigError, InputError, format_count
from dqm.events import Quality
from dqm.events.finite import utc_time

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["app"]

app = typer.Typer(
    help="Amend flags, label faults, and sign runs; verdicts do not change.", no_args_is_help=True
)

_UNKNOWN = "Unknown Quality"


class Decided(StrEnum):
    """What a run may be used for, as the API names it."""

    GOOD = "good"
    WITHOUT = "good without"
    BAD = "bad"


Run = Annotated[int, typer.Option("--run", min=0, max=LARGEST_INTEGER, help="The run.")]
Stream = Annotated[str, typer.Option(help="Only this stream; default: all.")]
Windows = Annotated[
    str, typer.Option(metavar="N-M", help="Only these windows of the stream, by number, as in 3-5.")
]
Begin = Annotated[
    datetime | None,
    typer.Option(
        "--from", help="Only from this time on, UTC, as in 2026-11-28T18:00; needs --until.", formats=TIMES
    ),
]
End = Annotated[datetime | None, typer.Option("--until", help="Until this time.", formats=TIMES)]


Comment = Annotated[
    str, typer.Option("--comment", "-c", callback=require_comment, help="Why, and how you know.")
]
Known = Annotated[
    int,
    typer.Option(
        "--known",
        min=0,
        max=LARGEST_INTEGER,
        help="Number of the last entry of the run that you have seen in 'list --run'; what came later is not "
        "overruled.",
    ),
]


@app.command("list")
def list_runs(
    daemon: Daemon,
    run: Annotated[
        int | None,
        typer.Option(
            "--run",
            min=0,
            max=LARGEST_INTEGER,
            help="Show this run: streams, what is proposed, what people said.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Only this number of runs, the last ones.")
    ] = 50,
    as_json: AsJson = False,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """List runs with their sign-offs; or show the streams of one run, the proposal, and what was said."""
    login = Login(user, password_file)
    if run is not None:
        _show_run(ask(daemon, "GET", f"certification/{run}", login, as_json=as_json))
        return
    answer = ask(daemon, "GET", "certification", login, query={"limit": limit}, as_json=as_json)
    if not answer["runs"]:
        say("no run has windows")
        return
    table = _table("run", "sign-off", "by", "when (UTC)", "amended", "faults", "comment")
    for one in answer["runs"]:
        signed = _decision(one["decision"], one["without"]) if one["decision"] else "not signed"
        more = f" (+{format_count(one['n_since'], 'entry', 'entries')})" if one["n_since"] else ""
        when = "" if one["signed_at"] is None else _moment(one["signed_at"])
        _add_row(
            table, one["run"], signed + more, one["signed_by"], when, one["n_amendments"] or "",
            ", ".join(one["faults"]), one["comment"],
        )  # fmt: skip
    _print(table)


@app.command()
def amend(
    daemon: Daemon,
    quality: Annotated[
        Quality, typer.Argument(case_sensitive=False, help="The flag; Null is Unknown Quality.")
    ],
    run: Run,
    comment: Comment,
    stream: Stream = "",
    windows: Windows = "",
    begin: Begin = None,
    end: End = None,
    known: Known = 0,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Give windows of a run another flag: some, a stretch of time, or all; the verdicts stay as they are."""
    body = _scope(stream, windows, begin, end) | {"comment": comment, "known": known}
    made = act(daemon, f"certification/{run}/amend", Login(user, password_file), quality=quality, **body)
    say(f"entry {made['identifier']}: {made['what']}: {_flag(quality)}, was {_judged(made)}")


@app.command()
def label(
    daemon: Daemon,
    fault: Annotated[str, typer.Argument(help="Name of the fault, new or as before.")],
    run: Run,
    comment: Comment,
    stream: Stream = "",
    windows: Windows = "",
    begin: Begin = None,
    end: End = None,
    known: Known = 0,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Say which fault windows of a run show; 'dqm reference templates --from' learns from it."""
    body = _scope(stream, windows, begin, end) | {"comment": comment, "known": known}
    made = act(daemon, f"certification/{run}/label", Login(user, password_file), fault=fault, **body)
    say(f"entry {made['identifier']}: {made['what']}: {made['fault']!r}, windows {_judged(made)}")


@app.command()
def withdraw(
    daemon: Daemon,
    identifier: Annotated[int, typer.Argument(min=0, max=LARGEST_INTEGER, help="Number of the entry.")],
    run: Run,
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """End an amendment or a label; what it overruled counts again."""
    made = act(
        daemon, f"certification/{run}/withdraw", Login(user, password_file),
        identifier=identifier, comment=comment,
    )  # fmt: skip
    say(f"entry {made['identifier']} withdraws {made['what']}")


@app.command()
def sign(
    daemon: Daemon,
    run: Run,
    comment: Comment,
    decision: Annotated[
        Decided | None, typer.Argument(help="Whether it may be used; default: as the program proposes.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="STREAM", help="Leave out this stream; repeatable.")
    ] = None,
    known: Known = 0,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Sign a run: good, good without some streams, or bad."""
    login = Login(user, password_file)
    left_out = list(without or [])
    if decision is None:
        if left_out:
            decision = Decided.WITHOUT
        else:
            proposed = ask(daemon, "GET", f"certification/{run}", login)
            if proposed["proposed"] is None:
                raise ConfigError(
                    "nothing is proposed: its windows are deleted",
                    where=f"run {run}",
                    fix="Give a decision, such as good or bad",
                )
            decision = Decided(proposed["proposed"])
            left_out = proposed["proposed_without"]
    made = act(
        daemon, f"certification/{run}/sign", login,
        decision=decision, without=left_out, comment=comment, known=known,
    )  # fmt: skip
    say(f"entry {made['identifier']}: {made['what']}, signed by {made['user']}")


@app.command()
def export(
    daemon: Daemon,
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to this .json.")
    ] = None,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Print the sign-off of a run as JSON, as a run registry gets it."""
    if output is not None and output.suffix != ".json":
        raise ConfigError(
            f"the sign-off is JSON, and the ending is {output.suffix!r}",
            where=str(output),
            fix="Choose a name with the ending .json",
        )
    record = ask(daemon, "GET", f"certification/{run}/record", Login(user, password_file))
    text = json.dumps(record, indent=1)
    if output is None:
        say_json(text)
        return
    with writing_file(output) as scratch:
        scratch.write_text(text + "\n", encoding="utf-8")
    n_flags = format_count(len(record["flags"]), "flag")
    say(f"{output}: {_decision(record['decision'], record['without'])}, {n_flags}")


def _scope(stream: str, windows: str, begin: datetime | None, end: datetime | None) -> dict[str, Any]:
    """Give what the API wants to know of a stretch; raises `ConfigError` if it is not a range."""
    scope: dict[str, Any] = {"stream": stream}
    if windows and (begin or end):
        raise conflict("--windows", "--from or --until")
    if (begin is None) != (end is None):
        given, missing = ("--from", "--until") if end is None else ("--until", "--from")
        raise ConfigError("a stretch of time has two ends", where=given, fix=f"Add {missing} TIME")
    if windows:
        from dqm.alarm import parse_windows

        try:
            scope["first"], scope["last"] = parse_windows(windows)
        except InputError as error:
            raise ConfigError(error.what, where="--windows", fix=error.fix) from error
    if windows and not stream:
        raise ConfigError("windows are numbered within a stream", where="--windows", fix="Add --stream NAME")
    for name, moment in (("start", begin), ("end", end)):
        if moment is not None:
            scope[name] = moment.replace(tzinfo=UTC).timestamp()
    return scope


def _show_run(page: dict[str, Any]) -> None:
    line = page["line"]
    table = _table("stream", "Good", "Medium", "Bad", "Unknown", "rules")
    for one in page["streams"]:
        shares = [f"{100 * one['shares'][q]:.1f} %" for q in ("Good", "Medium", "Bad", "Null")]
        _add_row(table, one["stream"], *shares, "kept" if one["keeps_rules"] else one["reason"])
    _print(table)
    if page["proposed"]:
        say(f"proposed: {_decision(page['proposed'], page['proposed_without'])}: {page['reason']}")
    if line["decision"]:
        when = _moment(line["signed_at"])
        signed = _decision(line["decision"], line["without"])
        say(f"signed: {signed} by {line['signed_by']} at {when} UTC: {line['comment']}")
        for n, what in ((page["n_later"], "came"), (page["n_deleted"], "were deleted")):
            if n:
                say(f"since then {format_count(n, 'window')} {what}")
    else:
        say("signed: by nobody")
    if not page["entries"]:
        return
    table = _table("entry", "when (UTC)", "by", "what", "of", "judged", "why")
    for entry in reversed(page["entries"]):
        what = _flag(entry["quality"]) if entry["quality"] else entry["fault"] or entry["action"]
        gone = " (withdrawn)" if entry["is_withdrawn"] else ""
        _add_row(
            table, entry["identifier"], _moment(entry["time"]), entry["user"], what + gone, entry["what"],
            _judged(entry), entry["comment"],
        )  # fmt: skip
    _print(table)


def _judged(entry: dict[str, Any]) -> str:
    return ", ".join(f"{n} {quality}" for quality, n in entry["judged"].items())


def _flag(quality: str) -> str:
    return _UNKNOWN if quality == Quality.NULL else str(quality)


def _decision(decision: str, without: list[str]) -> str:
    return f"{decision} {', '.join(without)}" if without else decision


def _table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name not in ("comment", "rules", "why"))
    return table


def _add_row(table: Table, *values: object) -> None:
    from dqm.cli.tables import cell

    table.add_row(*map(cell, values))


def _print(table: Table) -> None:
    from dqm.cli.tables import print_table

    print_table(table)


def _moment(seconds: float) -> str:
    return utc_time(seconds).strftime("%Y-%m-%d %H:%M:%S")
