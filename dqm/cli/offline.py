"""Commands that work on files: ``extract`` and ``compare``."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dqm.cli.parallel import SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import parse_settings
from dqm.cli.verdicts import QUALITY_STYLE, as_json_line, verdict_table
from dqm.errors import BundleError, ConfigError
from dqm.events import Measurement, Quality, Verdict

if TYPE_CHECKING:
    from dqm.reference import Bundle

__all__ = ["compare", "extract"]

COMPARED_MEDIUM_P, COMPARED_BAD_P = 0.01, 0.001
"""Limits of the qualities offline, where there is no shift and so no false-alarm budget."""


def extract(
    collector: Annotated[str, typer.Argument(help="Collector: tdc, beam, replay, simulate or a plugin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[INPUT]...", help="Input files of the collector.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Option of the collector, value as in TOML; repeatable."
        ),
    ] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    chamber: Annotated[str | None, typer.Option(help="Only this chamber.")] = None,
) -> None:
    """Write the features of a source to a file instead of sending them."""
    from dqm.service.collector.sources import open_source
    from dqm.service.offline.extraction import extract as extract_features

    options: dict[str, object] = {"inputs": inputs} if inputs else {}
    options |= parse_settings(option)
    source = open_source(collector, options)
    with progress_bar("events", events) as progress:
        n = extract_features(source, output, n_events=events, chamber=chamber, progress=progress)
    typer.echo(f"{output}: {n} events")


def compare(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Calibrated reference bundle.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV or Parquet files of features.")],
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Cut files into windows of so many events; default: a file is one window."),
    ] = None,
    chamber: Annotated[str | None, typer.Option(help="Only events with this value of 'chamber'.")] = None,
    measured: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Measured value of a nuisance parameter; repeatable."),
    ] = None,
    free: Annotated[
        bool,
        typer.Option(
            "--free", help="Fit parameters that are not measured freely; default: such windows are Null."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each window.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Parallel processes; default: none.")] = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
) -> None:
    """Test files against a bundle; the position of a file in the command line is its run number."""
    from dqm.alarm import QualityLimits
    from dqm.reference import ReadingPolicy, open_bundle
    from dqm.service.offline.comparison import Assessment, cut_file
    from dqm.service.offline.comparison import compare as compare_windows

    opened = open_bundle(bundle)
    if not opened.manifest.null:
        raise BundleError(
            "has no null table, so no p-value can be given",
            where=str(bundle),
            fix=f"Run 'dqm reference calibrate {bundle} --toys 1000'",
        )
    limits = QualityLimits(COMPARED_MEDIUM_P, COMPARED_BAD_P, min_events=1)
    policy = ReadingPolicy(unmeasured="free" if free else "null")
    assessment = Assessment(bundle, opened.identifier, limits, policy)
    readings = _parse_measured(measured or [], opened)
    features = opened.manifest.features
    windows = chain.from_iterable(
        cut_file(file, features, run=run, n_window=window, chamber=chamber, auxiliary=readings)
        for run, file in enumerate(files)
    )
    is_parallel = processes is not None or scheduler is not None
    verdicts: list[Verdict] = []
    with (
        open_workers(processes if is_parallel else 1, scheduler, ship=ship) as workers,
        progress_bar("windows", None, shown=is_parallel) as progress,
    ):
        for done, verdict in enumerate(compare_windows(assessment, windows, workers), 1):
            progress(done)
            if as_json:
                typer.echo(as_json_line(verdict))
            else:
                verdicts.append(verdict)
    if not as_json:
        console = Console()
        console.print(verdict_table(verdicts, live=False))
        counts = Counter(verdict.quality for verdict in verdicts)
        console.print(", ".join(f"[{QUALITY_STYLE[q]}]{counts[q]} {q}[/]" for q in Quality if counts[q]))


def _parse_measured(texts: list[str], bundle: Bundle) -> tuple[Measurement, ...]:
    """Read measurements; their errors are those that the bundle was made for."""
    entries = {entry.name: entry for entry in bundle.manifest.nuisances if entry.sigma is not None}
    found = []
    for text in texts:
        name, _, value = text.partition("=")
        entry = entries.get(name)
        if entry is None or entry.sigma is None:
            raise ConfigError(
                f"the bundle has no measured nuisance parameter {name!r}",
                where="--measured",
                fix=f"Give one of: {', '.join(entries) or 'none'}",
            )
        try:
            found.append(Measurement(name, float(value), entry.sigma, 0.0))
        except ValueError:
            raise ConfigError(f"{text!r} is not NAME=NUMBER", where="--measured") from None
    return tuple(found)
