"""``dqm compare``: the same test on files, or two files against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dqm.cli.compare_channels import ChannelFiles
from dqm.cli.compare_two import MOST_PERMUTATIONS, TwoOptions, compare_kept_two, compare_two, parse_model
from dqm.cli.output import say_json, writing
from dqm.cli.parallel import SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.readings import parse_measured
from dqm.cli.settings import Read, ReadAs, parse_reading, refuse_given
from dqm.cli.tables import open_console, print_table
from dqm.cli.verdicts import QUALITY_STYLE, as_json_line, verdict_table
from dqm.errors import BundleError, ConfigError
from dqm.events import Measurement, Quality, Verdict, Window

if TYPE_CHECKING:
    from dqm.reference import Bundle, ReadingPolicy, Workers

__all__ = ["compare"]

MOST_ROLLING = 100
"""Most windows that a window is compared with beside its bundle."""


def compare(
    bundle: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="Calibrated reference bundle; with --two the first file."),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="CSV, Parquet or ROOT files of features, patterns or directories, or files of hits by "
            "channel; "
            "with --two the second.",
        ),
    ] = None,
    two: Annotated[
        bool,
        typer.Option("--two", help="Compare two files with each other instead: p is exact, by permutations."),
    ] = False,
    kept_by: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CONFIG",
            help="With --two: windows this daemon kept, STREAM:RUNS or STREAM:RUN:WINDOW for each file.",
        ),
    ] = None,
    kept: Annotated[
        str | None,
        typer.Option(
            metavar="fair|good|anomalous",
            help="With --from: which kept windows; default: fair, the same share of each quality.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Cut into windows of this number of events; default: a file is one window."),
    ] = None,
    chamber: Annotated[
        str | None,
        typer.Option(help="Only events with this value of 'chamber'; with --two also A,B for both files."),
    ] = None,
    histogram: Annotated[
        str | None,
        typer.Option(help="The files are ROOT files, and this is a histogram in them."),
    ] = None,
    bad_channels: Annotated[
        str | None,
        typer.Option(help="Channels that are known to be bad, as in 17, 40-47: they count for nothing."),
    ] = None,
    measured: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What slow control measured of a nuisance parameter; repeatable."
        ),
    ] = None,
    free: Annotated[
        bool,
        typer.Option("--free", help="Fit a parameter without a measurement freely, instead of giving up."),
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(help="With --two: columns to use, separated by commas; default: all that both have."),
    ] = None,
    counts: Annotated[
        str | None, typer.Option(help="With --two: column that says how many events a row stands for.")
    ] = None,
    rolling: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            max=MOST_ROLLING,
            help="Compare each window also with the last K good ones before it.",
        ),
    ] = None,
    read: Read = None,
    read_as: ReadAs = None,
    permutations: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_PERMUTATIONS,
            help="With --two or --rolling: their number; default: 1000, or 200.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --two: seed of the permutations; default: 1.")
    ] = None,
    statistic: Annotated[
        str | None,
        typer.Option(
            metavar="kernel|neural",
            help="With --two: kernels of several widths, or a small network; default: kernel.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --two: write the maps: .png, .pdf or .svg.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a line for each window; with channels, then one for each file."
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Parallel processes; default: none, with --two one for each core."),
    ] = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
) -> None:
    """Test files against a bundle; run numbers are their places, or those in their names."""
    reading = parse_reading(read, read_as)
    if two:
        of_bundle = {"window": window, "measured": measured, "free": free, "scheduler": scheduler}
        of_bundle |= {"bad-channels": bad_channels, "rolling": rolling, "ship": ship}
        refuse_given(of_bundle, "cannot be given with --two, which has no bundle")
        options = TwoOptions(
            features=features,
            n_permutations=permutations or 1000,
            seed=1 if seed is None else seed,
            as_json=as_json,
            plot=plot,
            processes=processes,
            model=parse_model(statistic),
        )
        sides = (bundle, *(files or []))
        if kept_by is not None:
            of_files = {"chamber": chamber, "counts": counts, "histogram": histogram, "read": reading or None}
            refuse_given(of_files, "cannot be given with --from, which has no files")
            compare_kept_two(kept_by, sides, options, kept)
            return
        refuse_given({"kept": kept}, "needs --from")
        compare_two(sides, options, chamber=chamber, counts=counts, histogram=histogram, reading=reading)
        return
    of_two = {"features": features, "counts": counts, "seed": seed, "plot": plot, "statistic": statistic}
    of_two |= {"from": kept_by, "kept": kept}
    refuse_given(of_two, "needs --two")
    if rolling is None:
        refuse_given({"permutations": permutations}, "needs --two or --rolling")
    if not files:
        raise ConfigError("no file to test", where="FILE", fix="Give files of events after the bundle")
    from dqm.reference import ReadingPolicy, open_bundle

    opened = open_bundle(bundle)
    _check_bundle(opened, window, histogram)
    readings = parse_measured(measured or [], opened)
    masked = _parse_bad_channels(opened, bad_channels or "")
    by_run = _number_files(files, reading, histogram)
    by_channel = ChannelFiles(opened, chamber, masked, reading) if opened.manifest.is_of_channels else None
    if by_channel is not None:
        windows = by_channel.cut(by_run)
    else:
        windows = _cut_files(
            opened,
            by_run,
            readings,
            n_window=window,
            chamber=chamber,
            histogram=histogram,
            reading=reading,
        )
    policy = ReadingPolicy(unmeasured="free" if free else "null")
    is_parallel = processes is not None or scheduler is not None
    with open_workers(processes if is_parallel else 1, scheduler, ship=ship) as workers:
        verdicts = _judge(opened, policy, masked, windows, workers, is_parallel=is_parallel)
        if rolling is not None:
            verdicts = _compare_rolling(opened, verdicts, rolling, permutations, by_run)
        _print_verdicts((verdict for _, verdict in verdicts), as_json=as_json)
    if by_channel is not None:
        by_channel.report(as_json=as_json)


def _number_files(
    files: Sequence[Path], reading: Mapping[str, object], histogram: str | None
) -> dict[int, Path]:
    """Give the files by run number: that of their names if each has its own, otherwise their places."""
    if histogram is not None:
        refuse_given({"read": reading or None}, "cannot be given with --histogram, which names what is read")
        return dict(enumerate(files))
    from dqm.service.offline.feature_files import list_inputs

    listed = list_inputs(files, reading)
    runs = [file.run for file in listed if file.run is not None]
    numbers = runs if len(set(runs)) == len(listed) else range(len(listed))
    return {run: file.path for run, file in zip(numbers, listed, strict=True)}


def _cut_files(
    bundle: Bundle,
    files: Mapping[int, Path],
    readings: tuple[Measurement, ...],
    *,
    n_window: int | None,
    chamber: str | None,
    histogram: str | None,
    reading: Mapping[str, object],
) -> Iterator[Window]:
    """Yield the windows of files, which are given by run."""
    from dqm.service.offline.comparison import cut_file

    for run, file in files.items():
        yield from cut_file(
            file,
            bundle.manifest.features,
            run=run,
            n_window=n_window,
            chamber=chamber,
            auxiliary=readings,
            counts=bundle.manifest.counts,
            histogram=histogram,
            reading=reading,
        )


def _judge(
    bundle: Bundle,
    policy: ReadingPolicy,
    masked: tuple[int, ...],
    windows: Iterable[Window],
    workers: Workers,
    *,
    is_parallel: bool,
) -> Iterator[tuple[Window, Verdict]]:
    """Test windows against a bundle."""
    from dqm.alarm.quality import COMPARISON_LIMITS
    from dqm.service.offline.comparison import ComparisonTask
    from dqm.service.offline.comparison import compare as compare_windows

    task = ComparisonTask(bundle.path, bundle.identifier, COMPARISON_LIMITS, policy, masked)
    windows, tested = tee(windows)
    with progress_bar("windows", None, shown=is_parallel) as progress:
        verdicts = compare_windows(task, tested, workers)
        for done, pair in enumerate(zip(windows, verdicts, strict=True), 1):
            progress(done)
            yield pair


def _compare_rolling(
    bundle: Bundle,
    pairs: Iterable[tuple[Window, Verdict]],
    n_windows: int,
    n_permutations: int | None,
    files: Mapping[int, Path],
) -> Iterator[tuple[Window, Verdict]]:
    """Test windows against those before them as well."""
    from dqm.reference import RollingEvaluator
    from dqm.service.offline.rolling_comparison import (
        FEWEST_PERMUTATIONS,
        USUAL_PERMUTATIONS,
        compare_rolling,
    )

    n = USUAL_PERMUTATIONS if n_permutations is None else n_permutations
    if n < FEWEST_PERMUTATIONS:
        raise ConfigError(
            f"{n} permutations are too few with --rolling",
            where="--permutations",
            fix=f"Give {FEWEST_PERMUTATIONS} or more",
        )
    return compare_rolling(RollingEvaluator(bundle, n), pairs, n_windows, files)


def _print_verdicts(verdicts: Iterable[Verdict], *, as_json: bool) -> None:
    """Print verdicts as they come, or as a table with the number of each quality."""
    if as_json:
        for verdict in verdicts:
            say_json(as_json_line(verdict, explained=True))
        return
    found = list(verdicts)
    print_table(verdict_table(found, live=False))
    counts = Counter(verdict.quality for verdict in found)
    parts = [Text(f"{counts[q]} {q}", style=QUALITY_STYLE[q]) for q in Quality if counts[q]]
    with writing():
        open_console().print(Text(", ").join(parts))


def _parse_bad_channels(bundle: Bundle, text: str) -> tuple[int, ...]:
    """Read the channels that are known to be bad; the bundle must have them."""
    from dqm.alarm import parse_numbers
    from dqm.reference import check_bad_channels

    numbers = parse_numbers(text)
    check_bad_channels(bundle, numbers, where="--bad-channels")
    return numbers


def _check_bundle(bundle: Bundle, window: int | None, histogram: str | None) -> None:
    """Refuse options that do not go with its windows, and a bundle that gives no p."""
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
    if not bundle.manifest.null:
        raise BundleError(
            "has no null table, so no p-value can be given",
            where=str(bundle.path),
            fix=f"Run 'dqm reference calibrate {bundle.path} --toys 1000'",
        )
