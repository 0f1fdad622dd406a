"""``dqm doctor``: what is wrong with an installation, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from dqm.cli.output import say, say_json
from dqm.cli.settings import ConfigPath, Overrides, parse_overrides
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, format_count

__all__ = ["doctor"]

NOBODY = "none"
STYLES = {"green": "green", "amber": "yellow", "red": "bold red"}


def doctor(
    config: ConfigPath,
    override: Overrides = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            envvar="DQM_PROMETHEUS",
            help="Address of Prometheus, or 'none'; default: http://localhost:9090, if it answers.",
        ),
    ] = None,
    ntp: Annotated[
        str | None, typer.Option(metavar="HOST", help="Time server to compare the clock with; default: none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all findings.")] = False,
) -> None:
    """Look at a running installation: what is wrong in it, and what to do about it.

    Nothing is changed, and nobody is sent a message. CONFIG is that of a daemon or of a collector. If
    something is red, the exit code is 1.
    """
    from dqm.reference import Light
    from dqm.service.doctor import DoctorOptions, examine

    if prometheus not in (None, NOBODY):
        _check_address(prometheus)
    wanted = DoctorOptions(
        prometheus=None if prometheus == NOBODY else prometheus and prometheus.rstrip("/"),
        has_prometheus=prometheus != NOBODY,
        time_server=ntp,
    )
    findings = list(examine(config, parse_overrides(override), wanted))
    worst = Light.worst([one.light for one in findings])
    if as_json:
        told = {"config": str(config), "light": worst, "findings": [asdict(one) for one in findings]}
        say_json(json.dumps(told))
    else:
        table = Table("", "what", "found", "do", box=None, pad_edge=False)
        for one in findings:
            table.add_row(
                cell(one.light, STYLES[one.light]), cell(one.name), cell(one.found), cell(one.action or "-")
            )
        print_table(table)
        counts = {light: sum(one.light is light for one in findings) for light in Light}
        say(f"{format_count(counts[Light.RED], 'thing')} to correct, {counts[Light.AMBER]} to note")
    if worst is Light.RED:
        raise typer.Exit(1)


def _check_address(url: str | None) -> None:
    from dqm.config import check_url

    try:
        check_url(url or "")
    except ValueError as error:
        raise ConfigError(str(error), where="--prometheus") from None
