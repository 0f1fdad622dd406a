"""``dqm notify``: try the targets that are told of alarms."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.cli.settings import ConfigPath, Overrides, parse_overrides
from dqm.config import load_daemon
from dqm.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(help="Try the targets that are told of alarms.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Try the targets that are told of alarms."""


@app.command("test")
def send_test(
    config: ConfigPath,
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target; repeatable; default: all.")
    ] = None,
    override: Overrides = None,
) -> None:
    """Send a test message to the targets of a daemon's configuration, and say what became of each.

    The exit code is 1 if one of them did not take it.
    """
    from dqm.config import read_target_url
    from dqm.errors import NoticeError
    from dqm.export.notice_sender import send_within
    from dqm.export.notice_target import NoticeTarget
    from dqm.service.monitor.notice_service import make_writer

    section = load_daemon(config, parse_overrides(override)).notify
    if section is None:
        raise ConfigError("nobody is told of alarms", where=str(config), fix="Add a table [notify]")
    unknown = sorted(set(target or ()) - set(section.targets))
    if unknown:
        known = ", ".join(section.targets)
        raise ConfigError(
            f"no target {unknown[0]!r}", where=f"{config}: notify.targets", fix=f"There are {known}"
        )
    failed = False
    for name in target or section.targets:
        message = make_writer(section).test(name, getpass.getuser(), time.time())
        try:
            receiver = NoticeTarget(name, read_target_url(name, section.targets[name]))
            send_within(receiver, message, section.deadline_seconds)
        except (NoticeError, ConfigError) as error:
            failed = True
            say(f"{name}: not sent: {error}")
        else:
            say(f"{name}: sent")
    if failed:
        raise typer.Exit(1)
