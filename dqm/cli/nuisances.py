"""``dqm reference nuisance`` and ``validate``: what may change, and whether t depends on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dqm.cli.output import say
from dqm.cli.parallel import ProcessesOption, SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, escape_text
from dqm.events import FloatArray, WindowCut

if TYPE_CHECKING:
    from dqm.reference import Bundle, Check, Source, Validation, WindowKind

__all__ = ["LARGEST_WINDOW", "MOST_TOYS", "kind_of", "nuisance", "read_number", "validate"]

LARGEST_WINDOW, MOST_TOYS = 1e9 - 1, 10**8
"""Most events that a window of a bundle may expect, and most toys that options ask for."""

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of the bundle.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a figure: .png, .pdf or .svg.")]


def nuisance(
    path: BundlePath,
    name: Annotated[str, typer.Argument(help="Name of the parameter, and of its measurement in windows.")],
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Error of its measurement, in the parameter's unit; default: not measured, always free."
        ),
    ] = None,
    rate: Annotated[
        bool, typer.Option("--rate", help="It changes the expected number of events by exp(nu).")
    ] = False,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="NU=FILE", help="File of events taken at a value, CSV or Parquet; repeatable."),
    ] = None,
    yields: Annotated[
        list[str] | None,
        typer.Option(
            "--yield",
            metavar="NU=RATIO",
            help="Expected events at a value, divided by those at 0; repeatable.",
        ),
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(help="How it changes events: scale (by exp nu), shift (by nu) or a plugin."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="Features transformed, separated by commas.")] = None,
    points: Annotated[
        str | None, typer.Option(help="Values to transform to, as in 0.01,0.03; taken with both signs.")
    ] = None,
    order: Annotated[
        int, typer.Option(min=1, max=2, help="1: the linear term only; 2: the quadratic term as well.")
    ] = 2,
    method: Annotated[
        Literal["network", "kernel"], typer.Option(help="Method that learns log r.")
    ] = "network",
    seed: Annotated[int, typer.Option(min=0, help="Splits samples and seeds the training.")] = 1,
    plot: Plot = None,
) -> None:
    """Teach a bundle what may change without being a fault. Calibrate it again afterwards."""
    from dqm.cli.figures import check_figure
    from dqm.reference import Transform, add_normalisation, learn_shape, open_bundle

    check_figure(plot)
    if sum(map(bool, (rate, at, transform))) != 1:
        raise ConfigError(
            "what does the parameter change?", fix="Give one of --rate, --at NU=FILE and --transform NAME"
        )
    if sigma is not None and not 0 < sigma < float("inf"):
        raise ConfigError(f"--sigma is {sigma}", fix="Give a number above 0, or leave it out")
    bundle = open_bundle(path)
    if rate:
        changed = add_normalisation(bundle, name, sigma)
        say(f"{path}: bundle {changed.identifier}, not calibrated; only windows cut by time feel {name}")
        return
    samples: dict[float, FloatArray] | Transform
    sources: list[Source] = []
    if transform:
        if not on or not points:
            raise ConfigError("--transform alone", fix="Give --on FEATURES and --points VALUES as well")
        samples = Transform(name=transform, features=tuple(part.strip() for part in on.split(",")))
    else:
        samples, sources = _read_samples(bundle, _pairs(at or [], "--at"))
    wanted = [read_number(text, "--points") for text in (points or "").split(",") if text]
    with progress_bar("learning", None) as progress:
        changed, checks = learn_shape(
            bundle,
            name,
            sigma,
            samples,
            points=tuple(sorted({sign * nu for nu in wanted for sign in (-1, 1)})),
            yields={nu: read_number(text, "--yield") for nu, text in _pairs(yields or [], "--yield")},
            order=order,
            method=method,
            seed=seed,
            sources=tuple(sources),
            progress=progress,
        )
    print_table(_checks_table(bundle, checks))
    if plot:
        from dqm.cli.figures import draw_checks

        draw_checks(plot, name, bundle.manifest.features, checks)
    say(f"{path}: bundle {changed.identifier}, made from {bundle.identifier}, not calibrated. ", end="")
    say(f"Next: dqm reference calibrate {path} --toys 1000")


def validate(
    path: BundlePath,
    toys: Annotated[int, typer.Option(min=50, max=MOST_TOYS, help="Toys at each point.")] = 300,
    sigmas: Annotated[str, typer.Option(help="Distances from 0, in sigmas; taken with both signs.")] = "1,2",
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:NU=FILE", help="File of events taken at a value of a parameter; repeatable."
        ),
    ] = None,
    window: Annotated[
        float | None, typer.Option(min=10, max=LARGEST_WINDOW, help="Events expected; default: as built for.")
    ] = None,
    cut: Annotated[
        WindowCut | None, typer.Option(help="What closes the windows; default: as built for.")
    ] = None,
    free: Annotated[
        list[str] | None, typer.Option(help="Parameter that is not measured; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the toys.")] = 1000,
    processes: ProcessesOption = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
    plot: Plot = None,
) -> None:
    """Test windows with shifted nuisance parameters. t must not change; if it does, the exit code is 1."""
    from dqm.cli.figures import check_figure
    from dqm.reference import open_bundle
    from dqm.reference import validate as validate_bundle

    check_figure(plot)
    bundle = open_bundle(path)
    samples: dict[tuple[str, float], FloatArray] = {}
    for text in at or []:
        name, colon, rest = text.rpartition(":")
        if not colon:
            raise ConfigError(f"{text!r} is not NAME:NU=FILE", where="--at")
        read, _ = _read_samples(bundle, _pairs([rest], "--at"))
        samples |= {(name, nu): x for nu, x in read.items()}
    distances = [read_number(part, "--sigmas") for part in sigmas.split(",") if part]
    with open_workers(processes, scheduler, ship=ship) as workers, progress_bar("toys", None) as progress:
        validation = validate_bundle(
            bundle,
            toys,
            kind=kind_of(bundle, window, cut, free),
            seed=seed,
            sigmas=tuple(sorted({sign * distance for distance in distances for sign in (-1, 1)})),
            samples=samples,
            workers=workers,
            progress=progress,
        )
    print_table(_validation_table(validation))
    if plot:
        from dqm.cli.figures import draw_validation

        draw_validation(plot, validation)
    if validation.failed:
        places = ", ".join(f"{p.name} = {p.nu:g}" if p.name else "0" for p in validation.failed)
        say(
            f"failed: t is not distributed as in the null table at {places} (KS p < {validation.limit:.2g}). "
            "Learn the parameter from more events, take a larger reference, or a smaller sigma",
            err=True,
        )
        raise typer.Exit(1)
    say(f"{path}: t does not depend on the nuisance parameters, as far as {toys} toys can tell")


def kind_of(
    bundle: Bundle, window: float | None, cut: WindowCut | None, free: list[str] | None
) -> WindowKind:
    """Give the kind of window that options ask for; defaults are what the bundle was built for."""
    from dqm.reference import WindowKind

    m = bundle.manifest
    return WindowKind(
        cut=m.cut if cut is None else cut,
        n_expected=m.n_expected if window is None else window,
        free=tuple(free or ()),
    )


def _pairs(texts: list[str], option: str) -> list[tuple[float, str]]:
    found = []
    for text in texts:
        left, equals, right = text.partition("=")
        if not equals or not right:
            raise ConfigError(
                f"{text!r} is not VALUE=...", where=option, fix="Write it as in 0.01=run7.parquet"
            )
        found.append((read_number(left, option), right))
    return found


def read_number(text: str, option: str) -> float:
    """Read a number of an option; raises `ConfigError` that names it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{text!r} is not a number", where=option)
    return number


def _read_samples(
    bundle: Bundle, pairs: list[tuple[float, str]]
) -> tuple[dict[float, FloatArray], list[Source]]:
    """Read the files of each nu, with the bundle's features."""
    from dqm.service.offline.feature_files import read_events

    samples, sources = {}, []
    for nu in sorted({nu for nu, _ in pairs}):
        files = [Path(file) for other, file in pairs if other == nu]
        samples[nu], _, read = read_events(files, bundle.manifest.features)
        sources += read
    return samples, sources


def _checks_table(bundle: Bundle, checks: list[Check]) -> Table:
    features = map(escape_text, bundle.manifest.features)
    table = Table("nu", "loss saved", *features, title="learned log r, held-out events")
    table.caption = "chi2 per bin of learned against binned log ratio: about 1 is good"
    for check in checks:
        ratios = [f"{chi2 / max(n, 1):.2f}" for chi2, n in (ratio.chi2 for ratio in check.ratios)]
        table.add_row(f"{check.nu:+g}", f"{check.gain:.3%}", *ratios)
    return table


def _validation_table(validation: Validation) -> Table:
    table = Table(title=f"windows of {validation.kind}", box=None, pad_edge=False)
    for name in ("parameter", "nu", "events", "mean t", "KS p: t", "tau", "p < 0.01 (95 %)"):
        table.add_column(name, no_wrap=True)
    for point in validation.points:
        mark = " ✗" if point in validation.failed else ""
        table.add_row(
            cell(point.name or "-"),
            f"{point.nu:+g}",
            cell(point.source),
            f"{point.t.mean():.2f}",
            f"{point.ks_t:.3g}{mark}",
            f"{point.ks_tau:.2g}",
            f"{point.share:.3f} ({point.share_low:.3f} to {point.share_high:.3f})",
        )
    null = validation.null_t
    table.caption = f"null table: {len(null)} toys, mean t {null.mean():.2f}"
    return table
