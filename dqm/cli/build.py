"""``dqm reference build``: a bundle from events of good data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dqm.cli.build_events import (
    check_run,
    choose_features,
    pointing_to_advice,
    read_conditions,
    read_histograms,
    read_kinds,
)
from dqm.cli.kept import check_recipe, check_sources, read_kept_run, renew
from dqm.cli.nuisances import LARGEST_WINDOW
from dqm.cli.output import say
from dqm.cli.progress import tuning_progress
from dqm.cli.settings import (
    Chamber,
    Features,
    Read,
    ReadAs,
    conflict,
    parse_reading,
    parse_runs,
    parse_settings,
)
from dqm.errors import ConfigError, format_count
from dqm.events import SMALLEST_WINDOW, WindowCut

if TYPE_CHECKING:
    from dqm.reference import NanRows, StoredBundle
    from dqm.service.offline.feature_files import RunEvents

__all__ = ["build"]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the events are: in files, or kept by a daemon with this configuration, stream and runs."""

    files: list[Path]
    kept: tuple[Path, str, str] | None
    chamber: str | None
    reading: Mapping[str, object]


def build(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Directory to create.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...", help="CSV, Parquet or ROOT files of features, patterns, directories."
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            min=SMALLEST_WINDOW,
            max=LARGEST_WINDOW,
            help="Events expected in a window, N(R_0); with --like left out.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CONFIG",
            help="Instead of files: Good windows that the daemon with this TOML file kept.",
        ),
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Stream of these windows.")] = None,
    runs: Annotated[
        str | None, typer.Option(metavar="RUNS", help="Runs of these windows, as in 10-12,15.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE", help="Bundle whose recipe is taken, and with which the events are compared."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --like: maps of the new events: .png, .pdf or .svg."),
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Reference events N_R; the rest is the pool for toys; default: those of ten windows, or "
            "half of a short run, or of histograms.",
        ),
    ] = None,
    features: Features = None,
    width: Annotated[
        float | None, typer.Option(max=1e6, help="Kernel width, in standard deviations; default: 2.5.")
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(help="Penalty lambda, in Falkon's normalisation; default: 1e-7.")
    ] = None,
    centers: Annotated[
        int | None,
        typer.Option(min=1, help="Kernel centres, drawn from the reference; default: 300, or all."),
    ] = None,
    loss: Annotated[
        Literal["logistic", "likelihood"] | None,
        typer.Option(help="Loss that is minimised; default: likelihood."),
    ] = None,
    statistic: Annotated[
        str | None,
        typer.Option(
            help="The test: several, which chooses its kernels itself; kernel, a single one; neural, "
            "one-step or falkon for cross-checks; a peer, such as energy; or a plugin; default: several, or "
            "kernel if a setting of it is given."
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the statistic, such as one of a plugin: power=1.5; repeatable.",
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=KIND",
            help="What a feature is: smooth, heavy, steps or categories, with special values after a colon, "
            "as in e=smooth:-999,0; default: build looks at it and says so. Repeatable.",
        ),
    ] = None,
    cut: Annotated[WindowCut, typer.Option(help="What closes the windows.")] = WindowCut.COUNT,
    chamber: Chamber = None,
    live_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1e11,
            help="Live time of these events, s; it gives the rate for windows cut by count.",
        ),
    ] = None,
    counts: Annotated[
        str | None,
        typer.Option(help="Column that says how many events a row stands for: rows are bins of a histogram."),
    ] = None,
    histogram: Annotated[
        str | None,
        typer.Option(
            help="The files are ROOT files, and this is a histogram in them; --features names its axes."
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Condition of the detector while these events were taken, or NAME=[LOW, HIGH]; trends show "
            "it beside runs. With --from it is known. Repeatable.",
        ),
    ] = None,
    drop_nan: Annotated[
        bool, typer.Option("--drop-nan", help="Drop events with NaN and keep their share in the bundle.")
    ] = False,
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split of the events and of the centres.")] = 1,
) -> None:
    """Build a bundle from events of good data, or from histograms of them."""
    from dqm.reference import Recipe, choose_reference_size, create_bundle

    check_sources(files, config, stream, runs, chamber=chamber)
    of_recipe = {
        "window": window,
        "events": events,
        "features": features,
        "width": width,
        "penalty": penalty,
        "centers": centers,
        "loss": loss,
        "statistic": statistic,
        "set": override,
        "feature": feature,
        "counts": counts,
        "histogram": histogram,
    }
    check_recipe(like, plot, of_recipe)
    kept = None if config is None else (config, stream or "", runs or "")
    source = _Source(files or [], kept, chamber, parse_reading(read, read_as))
    conditions = read_conditions(condition or [])
    if like is not None:
        renew(
            like,
            source.files,
            source.kept,
            output,
            chamber=chamber,
            live_seconds=live_seconds,
            plot=plot,
            reading=source.reading,
            conditions=conditions,
        )
        return
    if window is None:
        raise ConfigError(
            "it is not said how many events a window has",
            fix="Give --window, 'dqm reference advise FILE' says which, or --like BUNDLE",
        )
    chosen, settings = _choose_statistic(statistic, {"width": width, "penalty": penalty, "loss": loss})
    kinds = read_kinds(feature or [])
    names = choose_features(features, source.files)
    nan = None
    with pointing_to_advice(source.files if histogram is None else []):
        if counts is not None or histogram is not None:
            run = _read_bins(source, names, counts, histogram, drops_nan=drop_nan)
        else:
            run, nan = _read_events(source, names, chosen, kinds, drops_nan=drop_nan)
    given = parse_settings(override)
    recipe = Recipe(
        features=run.names,
        n_reference=events or choose_reference_size(run.n_events, window, in_bins=run.counts is not None),
        n_expected=window,
        centers=centers,
        seed=seed,
        cut=cut,
        statistic=chosen,
        rate_hz=None if live_seconds is None else (nan.n_rows if nan else run.n_events) / live_seconds,
        nan=nan,
        counts=run.column,
        kinds=kinds,
        settings=given,
        conditions={**run.conditions, **conditions},
        **settings,
    )
    with tuning_progress(chosen) as progress:
        bundle = create_bundle(run.x, recipe, output, run.sources, run.counts, progress=progress)
    _report(bundle, is_reference_given=events is not None, are_widths_given="width" in given)


def _choose_statistic(statistic: str | None, of_kernel: Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """Give the statistic, and the settings of a single kernel that are given."""
    settings = {name: value for name, value in of_kernel.items() if value is not None}
    chosen = ("kernel" if settings else "several") if statistic is None else statistic
    if chosen == "several" and settings:
        raise conflict(
            f"--{next(iter(settings))}",
            "--statistic several, which chooses its kernels itself",
            fix="Leave it out, or give --statistic kernel",
        )
    return chosen, settings


def _read_bins(
    source: _Source,
    names: tuple[str, ...] | None,
    counts: str | None,
    histogram: str | None,
    *,
    drops_nan: bool,
) -> RunEvents:
    """Read histograms."""
    if source.kept is not None:
        raise conflict("--from", "histograms, which come from files", fix="Give files")
    if drops_nan:
        raise conflict("--drop-nan", "histograms, whose bins have no NaN", fix="Leave it out")
    return read_histograms(
        source.files, names, source.chamber, counts=counts, histogram=histogram, reading=source.reading
    )


def _read_events(
    source: _Source,
    names: tuple[str, ...] | None,
    statistic: str,
    kinds: Mapping[str, str],
    *,
    drops_nan: bool,
) -> tuple[RunEvents, NanRows | None]:
    """Read events; also gives what is known of those with NaN, which are left out."""
    from dqm.service.offline.feature_files import read_run

    if source.kept is not None:
        config, stream, runs = source.kept
        run = read_kept_run(config, stream, parse_runs(runs) or (), names)
        return check_run(run, statistic, kinds, where=str(config))
    run = read_run(source.files, names, source.chamber, keep_nan=drops_nan, reading=source.reading)
    return check_run(run, statistic, kinds, where=str(source.files[0]))


def _report(bundle: StoredBundle, *, is_reference_given: bool, are_widths_given: bool) -> None:
    """Say what was built, what was chosen, and what comes next."""
    m = bundle.manifest
    path = bundle.path
    in_bins = "" if bundle.bins is None else f" in {format_count(len(bundle.bins), 'bin')}"
    say(
        f"{path}: bundle {bundle.identifier}, {format_count(m.n_reference, 'reference event')}{in_bins}, ",
        end="",
    )
    say(f"{m.n_pool} in the pool. {_expected_uncertainty(bundle)}. Next: dqm reference calibrate {path}")
    if m.statistic == "several":
        choices = _choices(bundle, is_reference_given=is_reference_given, are_widths_given=are_widths_given)
        say(f"{path}: {choices}")


def _choices(bundle: StoredBundle, *, is_reference_given: bool, are_widths_given: bool) -> str:
    """Say what was chosen where nothing was given, and why."""
    from dqm.reference.splits import WINDOWS_IN_REFERENCE

    m = bundle.manifest
    found = []
    if not is_reference_given:
        of_windows = m.n_reference == round(WINDOWS_IN_REFERENCE * m.n_expected)
        why = f"those of {WINDOWS_IN_REFERENCE} windows" if of_windows else "half of the run"
        found.append(f"{m.n_reference} reference events ({why})")
    widths = m.settings.get("width")
    penalties = m.settings.get("penalty")
    single = m.settings.get("feature_width")
    if isinstance(widths, tuple) and isinstance(penalties, tuple) and isinstance(single, tuple):
        listed = ", ".join(f"{width:.2g}" for width in widths)
        origin = "as given" if are_widths_given else "quantiles of the distances of two events"
        found.append(f"kernels of the widths {listed} ({origin})")
        found.append(f"their penalties {', '.join(f'{penalty:.2g}' for penalty in penalties)}")
        if single:
            found.append(f"{format_count(len(single), 'kernel')} of single features")
    return f"chosen: {'; '.join(found)}. 'dqm reference tune {bundle.path}' shows how"


def _expected_uncertainty(bundle: StoredBundle) -> str:
    from dqm.reference import origin_of

    origin = origin_of(bundle, bundle.manifest.n_expected)
    made = "fresh splits of all events" if origin.per_split else "the pool"
    return f"With toys from {made}, p will be uncertain by {origin.offset:.2f} sigma"
