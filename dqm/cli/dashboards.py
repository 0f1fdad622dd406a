"""``dqm dashboards``: upload the dashboards to Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.config import check_url, read_token
from dqm.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Dashboards for Grafana, rules for Prometheus.")


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Address of Grafana, without user and password.")],
    prometheus: Annotated[
        str | None, typer.Option(help="Address of Prometheus as seen from Grafana; default: unchanged.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a service-account token; default: the variable DQM_GRAFANA_TOKEN."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
) -> None:
    """Upload folder, data source and dashboards to Grafana; what is up to date is left alone."""
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
            typer.echo(f"{step.what}: {verb}{step.outcome.value}")
    if outcomes == {PushOutcome.UNCHANGED}:
        typer.echo("nothing to do: Grafana has all of it")


@app.command()
def path() -> None:
    """Print the directory of the dashboards, rules and runbook of this installation."""
    from dqm.export.grafana import dashboard_files

    typer.echo(dashboard_files())


def _check(option: str, address: str) -> None:
    try:
        check_url(address)
    except ValueError as error:
        raise ConfigError(str(error), where=option) from None
