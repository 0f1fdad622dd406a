"""``dqm dashboards``: bring the dashboards to a Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Dashboards for Grafana, rules for Prometheus.")


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Address of Grafana, without user and password.")],
    prometheus: Annotated[
        str | None, typer.Option(help="Address of Prometheus as Grafana sees it; default: as it is there.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a service-account token; default: the variable DQM_GRAFANA_TOKEN."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
) -> None:
    """Upload folder, data source and dashboards to Grafana; what is up to date stays untouched."""
    from dqm.config import read_token
    from dqm.export.grafana import Grafana, PushOutcome
    from dqm.export.grafana import push as push_everything

    for option, address in (("--url", url), ("--prometheus", prometheus)):
        if address is not None:
            _check(option, address)
    outcomes = set()
    with Grafana(url, read_token(token_file)) as grafana:
        for step in push_everything(grafana, prometheus, dry_run=dry_run):
            outcomes.add(step.outcome)
            verb = "" if step.outcome is PushOutcome.UNCHANGED or not dry_run else "would be "
            say(f"{step.what}: {verb}{step.outcome.value}")
    if outcomes == {PushOutcome.UNCHANGED}:
        say("nothing to do: Grafana has all of it")


@app.command()
def path() -> None:
    """Print where dashboards, rules and runbook of this installation are."""
    from dqm.export.grafana import dashboard_files

    say(str(dashboard_files()))


def _check(option: str, address: str) -> None:
    from dqm.config import check_url

    try:
        check_url(address)
    except ValueError as error:
        raise ConfigError(str(error), where=option) from None
