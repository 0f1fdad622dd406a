"""``dqm alarms``: see alarms and respond to them, through the API of a running daemon."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from dqm.alarm import RAISED, Cause, ChannelChoice, parse_numbers
from dqm.cli.daemon_client import AsJson, Daemon, Login, PasswordFile, User, act, ask
from dqm.cli.output import say
from dqm.cli.settings import LONGEST_HOURS, Hours, require_comment
from dqm.cli.tables import cell, print_table
from dqm.errors import format_count
from dqm.events.finite import utc_time

__all__ = ["app"]

app = typer.Typer(help="See alarms, acknowledge, shelve and mask them.", no_args_is_help=True)

_LONGEST_AGE_SECONDS = 1e11
_MOST_NAMES = 8

Stream = Annotated[str, typer.Argument(help="Stream of the alarm.")]
CauseName = Annotated[Cause, typer.Argument(help="What the alarm is raised for.")]
Comment = Annotated[
    str, typer.Option("--comment", "-c", callback=require_comment, help="Why, and what is being done.")
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why.")]
ChannelNumbers = Annotated[
    str,
    typer.Option(
        help="Only these channels, as in 17, 40-47: they count for nothing; no alarm is suppressed."
    ),
]


@app.command("list")
def list_alarms(
    daemon: Daemon,
    everything: Annotated[bool, typer.Option("--all", help="Also list alarms that are Normal.")] = False,
    each: Annotated[
        bool, typer.Option("--each", help="One line for each alarm, also where a group has many of a kind.")
    ] = False,
    as_json: AsJson = False,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """List alarms: what is seen, since when, what to do. Alarms of one kind in a group are one line."""
    answer = ask(daemon, "GET", "alarms", Login(user, password_file), as_json=as_json)
    alarms = [a for a in answer["alarms"] if a["state"] != "Normal"] if each else []
    normal = [a for a in answer["alarms"] if a["state"] == "Normal"] if everything else []
    lines = [] if each else answer["groups"]
    if not (alarms or normal or lines):
        say(f"all {len(answer['alarms'])} alarms are Normal")
        return
    table = _table("state", "priority", "stream", "cause", "for", "what is seen", "what to do")
    rows = [(line["alarm"], _name(line), line["priority"], line["since"]) for line in lines]
    rows += [(alarm, alarm["stream"], alarm["priority"], alarm["since"]) for alarm in [*alarms, *normal]]
    for alarm, name, priority, since in rows:
        seen = _seen(alarm, answer["explained"])
        if name != alarm["stream"] and alarm["text"]:
            seen = f"{alarm['stream']}: {seen}"
        _add_row(
            table, alarm["state"], priority, name, alarm["cause"],
            _age(answer["time"] - since), seen, _advice(alarm),
        )  # fmt: skip
    print_table(table)
    for line in lines:
        if len(line["streams"]) > 1:
            say(f"{line['name']} {line['cause']}: {_names(line['streams'])}")


@app.command()
def history(
    daemon: Daemon,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    hours: Hours = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Only this number of changes, the last ones.")
    ] = 50,
    as_json: AsJson = False,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Print what happened to alarms, the newest last."""
    since = None if hours is None else max(0.0, time.time() - 3600.0 * hours)
    query = {"limit": limit, "stream": stream, "since": since}
    answer = ask(daemon, "GET", "alarms/history", Login(user, password_file), query=query, as_json=as_json)
    if not answer["changes"]:
        say("no changes match")
        return
    table = _table("when (UTC)", "stream", "cause", "from", "to", "by", "what")
    for change in reversed(answer["changes"]):
        alarm = change["alarm"]
        _add_row(
            table, _moment(change["time"]), alarm["stream"], alarm["cause"], change["before"], alarm["state"],
            change["user"] or change["action"], change["comment"] or alarm["text"] or "-",
        )  # fmt: skip
    print_table(table)


@app.command()
def ack(
    daemon: Daemon,
    stream: Stream,
    cause: CauseName,
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Take an alarm over: it has been seen, and somebody acts."""
    alarm = act(daemon, f"alarms/{stream}/{cause}/acknowledge", Login(user, password_file), comment=comment)
    seen = alarm["acknowledged"]  # an alarm that was Latched has ended by this, and holds nothing more
    by = f" by {seen['user']}" if seen else ""
    say(f"{stream} {cause}: acknowledged{by}, {alarm['state']}")


@app.command("ack-group")
def ack_group(
    daemon: Daemon,
    group: Annotated[str, typer.Argument(help="Path of the group, as 'list' shows it; '' for all streams.")],
    cause: CauseName,
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Take the alarms of one cause over in all streams of a group, at once."""
    told = act(
        daemon, "alarms/groups/acknowledge", Login(user, password_file),
        group=group, cause=cause, comment=comment,
    )  # fmt: skip
    done, left = told["acknowledged"], told["left"]
    say(f"{group or 'all streams'} {cause}: acknowledged {format_count(len(done), 'alarm')}: {_names(done)}")
    if left:
        say(f"not acknowledged, raised meanwhile: {_names(left)}")


@app.command()
def shelve(
    daemon: Daemon,
    stream: Stream,
    cause: CauseName,
    reason: Reason,
    hours: Annotated[
        float | None, typer.Option(min=0, max=LONGEST_HOURS, help="For how long; needed unless --one-shot.")
    ] = None,
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="End it also when the condition has gone.")
    ] = False,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Put an alarm aside; it comes back by itself."""
    path = f"alarms/{stream}/{cause}/shelve"
    alarm = act(daemon, path, Login(user, password_file), reason=reason, hours=hours, one_shot=one_shot)
    ends = ["when the condition has gone"] if one_shot else []
    if alarm["shelf"]["until"] is not None:
        ends.insert(0, _moment(alarm["shelf"]["until"]) + " UTC")
    say(f"{stream} {cause}: shelved until {', or '.join(ends)}")


@app.command()
def unshelve(
    daemon: Daemon,
    stream: Stream,
    cause: CauseName,
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Take an alarm off its shelf."""
    alarm = act(daemon, f"alarms/{stream}/{cause}/unshelve", Login(user, password_file), comment=comment)
    say(f"{stream} {cause}: {alarm['state']}")


@app.command()
def accept(
    daemon: Daemon,
    stream: Annotated[str, typer.Argument(help="Stream with a rolling reference.")],
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Take the state after a sudden change as the usual one, also if the stream is masked or shelved."""
    alarm = act(daemon, f"alarms/{stream}/changed/accept", Login(user, password_file), comment=comment)
    say(f"{stream} changed: accepted, {alarm['state']}; its rolling reference begins anew")


@app.command()
def masks(
    daemon: Daemon, as_json: AsJson = False, user: User = None, password_file: PasswordFile = None
) -> None:
    """List masks in force or to come."""
    answer = ask(daemon, "GET", "masks", Login(user, password_file), as_json=as_json)
    if not answer["masks"]:
        say("no mask: no alarm is suppressed")
        return
    table = _table("mask", "streams", "what", "in runs of", "from (UTC)", "until (UTC)", "by", "why")
    for mask in answer["masks"]:
        start, until = mask["start"], mask["until"]
        _add_row(
            table, mask["identifier"], mask["streams"], _masked(mask),
            ", ".join(mask["run_types"]) or "all types",
            _moment(mask["time"] if start is None else start),
            "it is removed" if until is None else _moment(until),
            mask["user"], mask["reason"],
        )  # fmt: skip
    print_table(table)


@app.command()
def mask(
    daemon: Daemon,
    streams: Annotated[str, typer.Argument(help="Streams, by name or group/name, with * and ?.")],
    reason: Reason,
    hours: Annotated[
        float | None, typer.Option(min=0, max=LONGEST_HOURS, help="For how long; default: until removed.")
    ] = None,
    begin: Annotated[
        float | None,
        typer.Option(min=0, max=LONGEST_HOURS, help="Hours until it begins; default: now."),
    ] = None,
    run_type: Annotated[
        list[str] | None, typer.Option(help="Only in runs of this type; repeatable; default: in all.")
    ] = None,
    channels: ChannelNumbers = "",
    layers: Annotated[str, typer.Option(help="All channels of these layers, as in 1, 3-4.")] = "",
    cards: Annotated[str, typer.Option(help="All channels of these front-end cards.")] = "",
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Suppress the alarms of streams, or leave out channels: a known problem, work on the detector."""
    start = time.time() + 3600.0 * (begin or 0.0)
    until = None if hours is None else start + 3600.0 * hours
    given = {"channels": channels, "layers": layers, "cards": cards}
    chosen = {kind: parse_numbers(text) for kind, text in given.items()}
    made = act(
        daemon,
        "masks",
        Login(user, password_file),
        streams=streams,
        reason=reason,
        start=start if begin else None,
        until=until,
        run_types=run_type or [],
        channels=chosen if any(chosen.values()) else None,
    )
    what = f"{streams}, {_masked(made)}" if made["channels"] else streams
    end = "it is removed" if until is None else f"{_moment(until)} UTC"
    say(f"mask {made['identifier']}: {what} {f'from {_moment(start)} UTC ' if begin else ''}until {end}")


@app.command()
def unmask(
    daemon: Daemon,
    identifier: Annotated[str, typer.Argument(help="The mask, as 'dqm alarms masks' names it.")],
    comment: Comment,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """End a mask."""
    answer = act(daemon, f"masks/{identifier}/remove", Login(user, password_file), comment=comment)
    say(f"mask {identifier} ended; {len(answer['masks'])} left")


def _seen(alarm: dict[str, Any], explained: dict[str, str]) -> str:
    """Say what an alarm sees. If windows differ, also name the known fault that the last one looks like."""
    looks = explained.get(alarm["stream"]) if alarm["cause"] == Cause.DIFFERS and alarm["text"] else None
    return "; ".join(filter(None, (alarm["text"], looks))) or "-"


def _masked(mask: dict[str, Any]) -> str:
    return "all alarms" if mask["channels"] is None else str(ChannelChoice(**mask["channels"]))


def _name(line: dict[str, Any]) -> str:
    n = len(line["streams"])
    return str(line["name"]) if n == 1 else f"{line['name']}: {n} streams"


def _names(streams: list[str]) -> str:
    """Write names, the first few of many."""
    first = ", ".join(streams[:_MOST_NAMES])
    more = len(streams) - _MOST_NAMES
    return f"{first} and {more} more ('list --each' has all)" if more > 0 else first


def _advice(alarm: dict[str, Any]) -> str:
    if alarm["acknowledged"]:
        return f"seen by {alarm['acknowledged']['user']}: {alarm['acknowledged']['comment']}"
    if alarm["shelf"]:
        return f"shelved by {alarm['shelf']['user']}: {alarm['shelf']['reason']}"
    if alarm["state"] in RAISED:
        return f"{alarm['guidance']['action']} Call {alarm['guidance']['contact']}."
    return "-"


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name not in ("what is seen", "what to do", "what", "why"))
    return table


def _add_row(table: Table, *values: str) -> None:
    table.add_row(*map(cell, values))


def _moment(seconds: float) -> str:
    return utc_time(seconds).strftime("%m-%d %H:%M:%S")


def _age(seconds: float) -> str:
    return str(timedelta(seconds=int(min(max(0.0, seconds), _LONGEST_AGE_SECONDS))))
