"""``dqm compare``: the same test on files."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dqm.cli.compare_channels import ChannelFiles
from dqm.cli.output import say_json, writing
from dqm.cli.parallel import SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.readings import parse_measured
from dqm.cli.settings import Chamber
from dqm.cli.tables import open_console, print_table
from dqm.cli.verdicts import QUALITY_STYLE, as_json_line, verdict_table
from dqm.errors import BundleError, ConfigError
from dqm.events import Quality, Verdict

if TYPE_CHECKING:
    from dqm.reference import Bundle

__all__ = ["compare"]

COMPARED_MEDIUM_P, COMPARED_BAD_P = 0.01, 0.001
"""What p-values mean where there is no shift, so no budget."""


def compare(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Calibrated reference bundle.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="CSV or Parquet files of features, or of hits by channel."),
    ],
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Cut into windows of so many events; default: a file is one window."),
    ] = None,
    chamber: Chamber = None,
    histogram: Annotated[
        str | None,
        typer.Option(help="The files are ROOT files, and this is a histogram in them."),
    ] = None,
    measured: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What slow control measured of a nuisance parameter; repeatable."
        ),
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="Fit without measurement what has none, instead of giving up.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a line for each window; with channels, then one for each file."
        ),
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Parallel processes; default: none.")] = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
) -> None:
    """Test files against a bundle; the file's place in the command line is the run number."""
    from dqm.alarm import QualityLimits
    from dqm.reference import ReadingPolicy, open_bundle
    from dqm.service.offline.comparison import ComparisonTask, cut_file
    from dqm.service.offline.comparison import compare as compare_windows

    opened = open_bundle(bundle)
    _check_counted(opened, window, histogram)
    if not opened.manifest.null:
        raise BundleError(
            "has no null table, so no p-value can be given",
            where=str(bundle),
            fix=f"Run 'dqm reference calibrate {bundle} --toys 1000'",
        )
    limits = QualityLimits(COMPARED_MEDIUM_P, COMPARED_BAD_P, min_events=1)
    policy = ReadingPolicy(unmeasured="free" if free else "null")
    assessment = ComparisonTask(bundle, opened.identifier, limits, policy)
    readings = parse_measured(measured or [], opened)
    by_channel = ChannelFiles(opened, chamber) if opened.manifest.is_of_channels else None
    windows = (
        by_channel.cut(files)
        if by_channel is not None
        else chain.from_iterable(
            cut_file(
                file,
                opened.manifest.features,
                run=run,
                n_window=window,
                chamber=chamber,
                auxiliary=readings,
                counts=opened.manifest.counts,
                histogram=histogram,
            )
            for run, file in enumerate(files)
        )
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
                say_json(as_json_line(verdict))
            else:
                verdicts.append(verdict)
    if not as_json:
        print_table(verdict_table(verdicts, live=False))
        counts = Counter(verdict.quality for verdict in verdicts)
        parts = [Text(f"{counts[q]} {q}", style=QUALITY_STYLE[q]) for q in Quality if counts[q]]
        with writing():
            open_console().print(Text(", ").join(parts))
    if by_channel is not None:
        by_channel.report(as_json=as_json)


def _check_counted(bundle: Bundle, window: int | None, histogram: str | None) -> None:
    """Refuse options that do not go with histograms, or without."""
    if bundle.manifest.is_of_channels and (window is not None or histogram is not None):
        raise ConfigError(
            "windows of channels are as long as those of the reference",
            where="--window" if window is not None else "--histogram",
            fix="Leave it out, and give tables of hits by channel and time, as 'dqm extract' writes them",
        )
    if bundle.manifest.counts is None and histogram is not None:
        raise ConfigError(
            "the bundle is of single events", where="--histogram", fix="Build one with 'dqm reference build'"
        )
    if bundle.manifest.counts is not None and window is not None:
        raise ConfigError("a histogram is one window", where="--window", fix="Leave it out")
