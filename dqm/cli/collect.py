"""``dqm collect``: a collector."""

from __future__ import annotations

import typer

from dqm.cli.output import say
from dqm.cli.process import stop_on_signals
from dqm.cli.settings import ConfigPath, Overrides, parse_overrides
from dqm.errors import format_count

__all__ = ["collect"]


def collect(config: ConfigPath, override: Overrides = None) -> None:
    """Run a collector: read a source, cut windows, send them to the daemon."""
    from dqm.config import load_collector
    from dqm.service.collector.collect import collect as run_collector
    from dqm.service.process_log import log_to_stderr
    from dqm.service.sd_notify import Notifier

    log_to_stderr()
    settings = load_collector(config, parse_overrides(override))
    result = run_collector(settings, config.absolute().parent, stop_on_signals(), notifier=Notifier())
    events, windows = format_count(result.n_events, "event"), format_count(result.n_windows, "window")
    left = format_count(result.n_left, "event")
    say(
        f"run {result.run}: {events}, {windows}, {result.n_sent} sent, {result.n_lost} lost; "
        f"{left} after the last window"
    )
    if result.n_spooled:
        spooled = format_count(result.n_spooled, "window")
        say(f"{spooled} not judged yet: the next start sends what is kept")
    if result.n_refused:
        say(f"{format_count(result.n_refused, 'window')} refused by the daemon: the log says why")
    if result.n_lost or result.n_refused:
        raise typer.Exit(1)
