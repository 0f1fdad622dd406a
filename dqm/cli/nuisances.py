"""``dqm reference nuisance``: what may change without being a fault."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Figure, Read, ReadAs, parse_reading
from dqm.cli.tables import print_table
from dqm.errors import ConfigError, escape_text
from dqm.events import FloatArray, WindowCut

if TYPE_CHECKING:
    from dqm.reference import Bundle, Check, Source, StoredBundle, WindowKind

__all__ = ["LARGEST_WINDOW", "MOST_TOYS", "kind_of", "nuisance", "read_number", "read_pairs", "read_samples"]

LARGEST_WINDOW = 1e9 - 1
"""Most events that a window of a bundle may expect."""

MOST_TOYS = 10**8
"""Most toys that options may ask for."""

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of the bundle.")]


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
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Splits samples and seeds the training.")] = 1,
    plot: Figure = None,
) -> None:
    """Add to a bundle what may change without being a fault. Calibrate it again afterwards."""
    from dqm.cli.figures import check_figure
    from dqm.reference import Transform, add_normalisation, learn_shape, open_bundle

    check_figure(plot)
    if sum(map(bool, (rate, at, transform))) != 1:
        raise ConfigError(
            "it is not said what the parameter changes",
            fix="Give one of --rate, --at NU=FILE and --transform NAME",
        )
    if sigma is not None and not 0 < sigma < float("inf"):
        raise ConfigError(f"--sigma is {sigma}", fix="Give a number above 0, or leave it out")
    bundle = open_bundle(path)
    if rate:
        changed = add_normalisation(bundle, name, sigma)
        say(f"{path}: bundle {changed.identifier}, not calibrated; only windows cut by time depend on {name}")
        return
    samples: dict[float, FloatArray] | Transform
    sources: list[Source] = []
    if transform:
        if not on or not points:
            raise ConfigError("--transform needs --on FEATURES and --points VALUES", fix="Give them as well")
        samples = Transform(name=transform, features=tuple(part.strip() for part in on.split(",")))
    else:
        reading = parse_reading(read, read_as)
        samples, sources = read_samples(bundle, read_pairs(at or [], "--at"), reading)
    wanted = [read_number(text, "--points") for text in (points or "").split(",") if text]
    with progress_bar("learning", None) as progress:
        changed, checks = learn_shape(
            bundle,
            name,
            sigma,
            samples,
            points=tuple(sorted({sign * nu for nu in wanted for sign in (-1, 1)})),
            yields={nu: read_number(text, "--yield") for nu, text in read_pairs(yields or [], "--yield")},
            order=order,
            method=method,
            seed=seed,
            sources=tuple(sources),
            progress=progress,
        )
    _say_what_is_no_number(bundle)
    print_table(_checks_table(bundle, checks))
    if plot:
        from dqm.cli.figures import draw_checks

        draw_checks(plot, name, bundle.manifest.features, checks)
    say(f"{path}: bundle {changed.identifier}, made from {bundle.identifier}, not calibrated. ", end="")
    say(f"Next: dqm reference calibrate {path} --toys 1000")


def _say_what_is_no_number(bundle: Bundle) -> None:
    """Name the features of which a log ratio that is smooth in all of them may be wrong."""
    kinds = {name: kind for name, kind in bundle.manifest.kinds_of_features.items() if kind != "smooth"}
    if kinds:
        named = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        say(
            f"note: log r is learned as a smooth function of all features, also of {named}. Where their "
            "columns of the table are far from 1, this parameter explains too little or too much there",
            err=True,
        )


def kind_of(
    bundle: StoredBundle, window: float | None, cut: WindowCut | None, free: list[str] | None
) -> WindowKind:
    """Give the kind of window that options ask for; defaults are what the bundle was built for."""
    from dqm.reference import WindowKind

    m = bundle.manifest
    return WindowKind(
        cut=m.cut if cut is None else cut,
        n_expected=m.n_expected if window is None else window,
        free=tuple(free or ()),
    )


def read_pairs(texts: list[str], option: str) -> list[tuple[float, str]]:
    """Read options ``NU=TEXT``; raises `ConfigError` that names the option."""
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
        raise ConfigError(f"{text!r} is not a number", where=option, fix="Give a number such as 0.02")
    return number


def read_samples(
    bundle: Bundle, pairs: list[tuple[float, str]], reading: Mapping[str, object]
) -> tuple[dict[float, FloatArray], list[Source]]:
    """Read the files of each nu, with the bundle's features; raises `FileError`."""
    from dqm.service.offline.feature_files import read_events

    samples = {}
    sources = []
    for nu in sorted({nu for nu, _ in pairs}):
        files = [Path(file) for other, file in pairs if other == nu]
        samples[nu], _, of_nu = read_events(files, bundle.manifest.features, reading=reading)
        sources += of_nu
    return samples, sources


def _checks_table(bundle: Bundle, checks: list[Check]) -> Table:
    features = map(escape_text, bundle.manifest.features)
    table = Table("nu", "loss saved", *features, title="learned log r, held-out events")
    table.caption = "chi2 per bin of learned against binned log ratio: about 1 is good"
    for check in checks:
        ratios = [f"{chi2 / max(n, 1):.2f}" for chi2, n in (ratio.chi2 for ratio in check.ratios)]
        table.add_row(f"{check.nu:+g}", f"{check.gain:.3%}", *ratios)
    return table
