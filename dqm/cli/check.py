"""``dqm check``: every mistake in a configuration, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.cli.settings import Overrides, conflict, parse_overrides
from dqm.errors import ConfigError, DqmError
from dqm.service.configuration_check import (
    describe_awaited,
    describe_judged,
    find_all_problems,
    find_notes,
    is_of_daemon,
)

__all__ = ["check"]


def check(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="TOML file.")] = None,
    override: Overrides = None,
    plugin: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of CONFIG: load this statistic, collector or other plugin, try it, and say line "
            "by line what holds; --set gives its settings or options.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=86_400.0, help="With --plugin: a step that takes longer hangs.")
    ] = 60.0,
) -> None:
    """Report every mistake in a configuration at once, bundles and collector options included.

    The configuration of a daemon can be checked where the extra "monitor" is installed, that of a collector
    everywhere. With --plugin a plugin is checked instead.
    """
    overrides = parse_overrides(override)
    if plugin is not None:
        if config is not None:
            raise conflict("--plugin", "CONFIG")
        _check_plugin(plugin, overrides, seconds)
        return
    if config is None:
        raise ConfigError("nothing to check", where="CONFIG", fix="Give a TOML file, or --plugin NAME")
    problems = find_all_problems(config, overrides)
    for problem in problems:
        say(problem, err=True)
    if problems:
        raise typer.Exit(1)
    is_daemon = is_of_daemon(config)
    judged = _describe_judged(config, overrides) if is_daemon else []
    say(f"{config}: no mistakes found")
    for line in judged:
        say(line)
    for note in find_notes(config, overrides) if is_daemon else describe_awaited(config, overrides):
        say(f"note: {note}", err=True)


def _describe_judged(config: Path, overrides: dict[str, object]) -> list[str]:
    """Say what is judged; what stops the daemon all the same is a mistake."""
    from dqm.service.process_log import log_to_stderr

    log_to_stderr()
    try:
        return list(describe_judged(config, overrides))
    except DqmError as error:
        say(f"{config}: {error}", err=True)
        raise typer.Exit(1) from error


def _check_plugin(name: str, settings: dict[str, object], seconds: float) -> None:
    from dqm.service.offline.plugin_check import Level, check_plugin

    levels = set()
    for found in check_plugin(name, settings, seconds):
        say(f"{found.level:5} {found.text}", err=found.level in {Level.WRONG, Level.UNTRIED})
        levels.add(found.level)
    if Level.UNTRIED in levels:
        say(f"{name}: not tried, so nothing is known of it", err=True)
    if levels & {Level.WRONG, Level.UNTRIED}:
        raise typer.Exit(1)
    say(f"{name}: no mistakes found")
