"""``dqm reference advise``: which windows a run allows, before a reference is made of it."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dqm.cli.build_events import choose_features
from dqm.cli.nuisances import read_number
from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Chamber, Features, Figure, Read, ReadAs, parse_reading
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, format_count
from dqm.events import WindowCut

if TYPE_CHECKING:
    from dqm.reference import DetectionTime, PenaltyAdvice, WindowAdvice
    from dqm.service.offline.run_advice import Advice

__all__ = ["advise"]

LIGHTS = {"green": "yes", "amber": "yes, but p is uncertain", "red": "no"}


def advise(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV or Parquet files of one run.")],
    window: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Sizes of windows that are wanted; default: the usual ones."),
    ] = None,
    features: Features = None,
    chamber: Chamber = None,
    cut: Annotated[WindowCut, typer.Option(help="What closes the windows.")] = WindowCut.COUNT,
    streams: Annotated[int, typer.Option(min=1, max=10_000, help="Streams that share the budget.")] = 1,
    false_alarms: Annotated[
        float,
        typer.Option("--false-alarms", min=1e-6, max=1000.0, help="False alarms in a shift of 8 hours."),
    ] = 1.0,
    windows_per_hour: Annotated[
        float, typer.Option(min=0.01, max=1e6, help="Windows of a stream in an hour.")
    ] = 60.0,
    live_seconds: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e11, help="Live time of these events, s; default: by their times."),
    ] = None,
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the events that are drawn.")] = 1,
    plot: Figure = None,
) -> None:
    """Say what a run allows: windows, toys, penalties, and how soon faults are seen."""
    from dqm.cli.figures import check_figure
    from dqm.reference import one_thread, refuse_run
    from dqm.service.offline.feature_files import read_run
    from dqm.service.offline.run_advice import Budget, advise

    check_figure(plot)
    names = choose_features(features, files)
    run = read_run(files, names, chamber, reading=parse_reading(read, read_as))
    refuse_run(run.x, run.names, str(files[0]))
    for note in run.notes:
        say(f"note: {note}", err=True)
    budget = Budget.of(streams, false_alarms, windows_per_hour)
    with progress_bar("windows", None) as progress, one_thread():
        found = advise(
            run.x,
            run.names,
            wanted=_read_sizes(window),
            cut=cut,
            budget=budget,
            seed=seed,
            progress=progress,
        )
    seconds = live_seconds or run.seconds
    rate = len(run.x) / seconds if seconds else None
    told = f" in {seconds:.4g} s ({rate:.4g} Hz)" if seconds and rate else ""
    say(f"{format_count(len(run.x), 'event')}{told}, {format_count(len(run.names), 'feature')}")
    if found.constant:
        say(f"constant and of no use, so left out here: {', '.join(found.constant)}")
    say(f"budget: {budget.text}")
    print_table(_window_table(found.windows, rate))
    if found.detections:
        print_table(_detection_table(found, rate))
        print_table(_penalty_table(found.penalties, found.best))
    kept = [name for name in run.names if name not in found.constant] if found.constant else names
    given: dict[str, object] = {
        "--features": None if kept is None else ",".join(kept),
        "--chamber": chamber,
        "--read-as": read_as,
    }
    given |= {"--cut": None if cut is WindowCut.COUNT else cut, "--live-seconds": live_seconds}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--read={one}" for one in read or []]
    say(_conclusion(found, [*map(str, files), *options], rate))
    if plot:
        from dqm.cli.figures import draw_advice

        draw_advice(plot, found, len(run.x), cut)


def _read_sizes(text: str | None) -> list[float]:
    if text is None:
        return []
    sizes = [read_number(part, "--window") for part in text.split(",") if part.strip()]
    for size in sizes:
        if not 10.0 <= size < 1e9:
            raise ConfigError(f"{size:g} events", where="--window", fix="Give 10 or more")
    return sizes


def _window_table(windows: tuple[WindowAdvice, ...], rate: float | None) -> Table:
    table = Table("windows of", "possible", "why", "reference", "toys", "needs a run of", title="windows")
    for one in windows:
        needed = (
            "no longer one"
            if one.light == "green"
            else f"{one.n_needed} events{_duration(one.n_needed, rate)}"
        )
        table.add_row(
            f"{one.n_expected:g}",
            LIGHTS[one.light],
            cell(one.reason),
            "-" if one.light == "red" else str(one.n_reference),
            "-" if one.light == "red" else str(one.n_toys),
            needed,
        )
    return table


def _detection_table(found: Advice, rate: float | None) -> Table:
    table = Table("fault", "windows of", "share with small p", "alarm after", "by", title="time to detect")
    for one in found.detections:
        table.add_row(
            cell(one.fault), f"{one.n_expected:g}", f"{one.share:.2f}", _describe(one, rate), one.cause or "-"
        )
    tried = found.detections[0].n_tried
    untried = ""
    if found.untried:
        sizes = ", ".join(f"{size:g}" for size in found.untried)
        untried = f"; windows of {sizes} were not tried, to save time: give one with --window"
    table.caption = (
        f"{found.faults}; in brackets: within one standard error of {format_count(tried, 'window')} tried "
        f"for each{untried}; by differs: several of the last windows have a small p; by drift: small "
        "departures add up"
    )
    return table


def _describe(one: DetectionTime, rate: float | None) -> str:
    soon, late = one.between
    if not math.isfinite(one.n_windows):
        perhaps = f", or after {soon:.0f}" if math.isfinite(soon) else ""
        return f"not seen in {format_count(one.n_tried, 'window')}{perhaps}"
    until = f"to {late:.1f}" if math.isfinite(late) else "or more"
    return f"{one.n_windows:.1f} windows ({soon:.1f} {until})" + (
        f", {one.n_windows * one.n_expected / rate:.3g} s" if rate else ""
    )


def _penalty_table(penalties: tuple[PenaltyAdvice, ...], best: WindowAdvice | None) -> Table:
    size = f"{best.n_expected:g}" if best else "-"
    table = Table("penalty", "t of healthy windows", "possible", title=f"a single kernel, windows of {size}")
    for one in penalties:
        table.add_row(
            f"{one.penalty:g}", f"{one.mean_t:.4g}", "yes" if one.is_plausible else "no: the fit is wild"
        )
    table.caption = "for --statistic kernel only: without it, build chooses kernels itself"
    return table


def _duration(n_events: float, rate: float | None) -> str:
    return f" ({n_events / rate:.3g} s)" if rate else ""


def _conclusion(found: Advice, arguments: list[str], rate: float | None) -> str:
    """Say which commands to run; `arguments` are the files and the options that describe them."""
    best = found.best
    if best is None:
        least = min(found.windows, key=lambda one: one.n_needed)
        return (
            f"this run allows none of these windows: windows of {least.n_expected:g} need "
            f"{least.n_needed} events{_duration(least.n_needed, rate)}"
        )
    return (
        f"advice: windows of {best.n_expected:g}, {best.n_toys} toys:\n"
        f"  dqm reference build {shlex.join(arguments)} -o NAME.dqmref --window {best.n_expected:g}\n"
        f"  dqm reference calibrate NAME.dqmref --toys {best.n_toys}\n"
        f"  dqm reference validate NAME.dqmref"
    )
