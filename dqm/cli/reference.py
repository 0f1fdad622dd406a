"""``dqm reference``: build, calibrate and describe bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dqm.cli.advise import advise
from dqm.cli.build import build
from dqm.cli.certificate import USUAL_THRESHOLD, certificate_table, validate
from dqm.cli.channels import channels
from dqm.cli.nuisances import MOST_TOYS, kind_of, nuisance, read_number
from dqm.cli.output import say, say_json
from dqm.cli.parallel import ProcessesOption, SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import conflict
from dqm.cli.tables import cell, print_table
from dqm.cli.templates import templates, templates_table
from dqm.cli.tuning import tune
from dqm.config import load_daemon
from dqm.errors import ConfigError, format_count
from dqm.events import WindowCut

if TYPE_CHECKING:
    from dqm.reference import Bundle, Midpoint, NuisanceEntry, StoredBundle, WindowKind

__all__ = ["app"]

app = typer.Typer(help='Reference bundles: what "good" is.', no_args_is_help=True)
app.command()(nuisance)
app.command()(validate)
app.command()(advise)
app.command()(tune)
app.command()(templates)
app.command()(channels)
app.command()(build)

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of the bundle.")]


@app.command()
def calibrate(
    path: BundlePath,
    toys: Annotated[
        int | None,
        typer.Option(
            min=100,
            max=MOST_TOYS,
            help="Toys in the null table; default: what --for asks for, or 100 beyond p = 0.01, enough for a "
            "few streams. The daemon says if it needs more.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--for",
            metavar="CONFIG",
            help="Configuration of the daemon that the bundle is for: as many toys as its false-alarm budget "
            "asks for.",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="N or LOW:HIGH",
            help="Events expected, or the range of them; default: what the bundle was built for.",
        ),
    ] = None,
    cut: Annotated[
        WindowCut | None, typer.Option(help="What closes the windows; default: as built for.")
    ] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(help="Nuisance parameter that is not measured in these windows; repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the toys; default: the bundle's.")] = None,
    origin: Annotated[
        Literal["auto", "pool", "splits"],
        typer.Option(
            help="What toys are made of: windows from the pool, or fresh splits of all events, each with its "
            "own reference and a few toys; default: splits where the pool is small."
        ),
    ] = "auto",
    processes: ProcessesOption = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
) -> None:
    """Throw healthy toys and add their null table; continues after an interruption."""
    from dqm.reference import StoredBundle, WindowRange, calibrate_range, origin_of, origin_remark
    from dqm.reference import calibrate as calibrate_bundle
    from dqm.reference.splits import most_of_splits
    from dqm.reference.window_range import sizes_of

    bundle = StoredBundle.read(path)  # a `Bundle` could evaluate: that takes torch
    n_toys = _choose_toys(path, toys, config)
    low, high = _read_sizes(window)
    kind = kind_of(bundle, high, cut, free)
    window_range = None
    if low is not None:
        window_range = WindowRange(cut=kind.cut, low=low, high=kind.n_expected, free=kind.free)
        sizes_of(window_range)  # refuses one that is backwards before workers start
    midpoints: list[Midpoint] = []
    chosen = origin_of(bundle, kind.n_expected, origin)
    with (
        open_workers(processes, scheduler, ship=ship) as workers,
        progress_bar("toys", n_toys) as progress,
    ):
        say(f"{path}: {chosen.reason}")
        seed = bundle.manifest.seed if seed is None else seed
        if window_range is None:
            calibrated = calibrate_bundle(
                bundle,
                n_toys,
                kind=kind,
                seed=seed,
                origin=origin,
                most_of_splits=most_of_splits(n_toys) if toys is None else None,
                workers=workers,
                progress=progress,
            )
        else:
            calibrated, midpoints = calibrate_range(
                bundle,
                n_toys,
                window_range=window_range,
                seed=seed,
                origin=origin,
                workers=workers,
                progress=progress,
            )
    if midpoints:
        print_table(_midpoints(midpoints))
    say(f"{path}: bundle {calibrated.identifier}, calibrated from {bundle.identifier}")
    entry = calibrated.null_entry(kind)
    if window_range is None and entry is not None and entry.per_split:
        if not chosen.per_split:
            say(f"{path}: single events count for more than assumed: toys are of fresh splits of the run")
        if entry.toys.shape[0] < n_toys:
            say(f"{path}: {entry.toys.shape[0]} toys: fresh splits take longer; --toys {n_toys} throws all")
    if not bundle.manifest.is_of_channels:
        say(f"{path}: p uncertain by {_uncertainty(calibrated, kind):.2f} sigma because the run is finite")
    remark = origin_remark(calibrated, kind)
    if remark:
        say(f"warning: {path}: {remark}", err=True)


def _choose_toys(path: Path, toys: int | None, config: Path | None) -> int:
    """Give the number of toys: as asked for, or as the threshold of a daemon needs, or the usual one."""
    if toys is not None and config is not None:
        raise conflict("--toys", "--for")
    if toys is not None:
        return toys
    from dqm.alarm import ample_toys

    if config is None:
        toys = ample_toys(USUAL_THRESHOLD)
        say(f"{path}: {toys} toys, 100 beyond p = {USUAL_THRESHOLD:g}; --for CONFIG takes that of a daemon")
        return toys
    from dqm.service.monitor.resolved_config import find_threshold

    threshold = find_threshold(load_daemon(config), path)
    toys = ample_toys(threshold)
    say(f"{path}: {toys} toys, 100 beyond p = {threshold:.2g}, the threshold of {config}")
    return toys


def _uncertainty(bundle: StoredBundle, kind: WindowKind) -> float:
    """Give the uncertainty of p of the table of a kind."""
    from dqm.reference import uncertainty_of

    entry = bundle.null_entry(kind)
    return uncertainty_of(bundle.manifest, entry)[0] if entry else 0.0


def _read_sizes(text: str | None) -> tuple[float | None, float | None]:
    """Read ``N`` or ``LOW:HIGH``; a single number is the second of the result."""
    if text is None:
        return None, None
    numbers = [read_number(part, "--window") for part in text.split(":", 1)]
    for number in numbers:
        if not 10.0 <= number < 1e9:
            raise ConfigError(
                f"{number:g} events",
                where="--window",
                fix="Give 10 to 999999999: N, or LOW:HIGH for all between",
            )
    return (None, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _midpoints(midpoints: Sequence[Midpoint]) -> Table:
    columns = ("windows of", "toys", "KS p of their p", "share with p < 0.05", "95 % interval")
    table = Table(*columns, title="between the tables: sizes that were not calibrated")
    for m in midpoints:
        interval = f"{m.share_low:.3f} to {m.share_high:.3f}"
        table.add_row(f"{m.n_expected:.4g}", str(m.n_toys), f"{m.ks_p:.2g}", f"{m.share:.3f}", interval)
    return table


@app.command()
def show(
    path: BundlePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Verify the checksums of a bundle and describe it."""
    from dqm.reference import find_certificate, open_bundle

    bundle = open_bundle(path)
    if as_json:
        manifest = bundle.manifest.model_dump(mode="json")
        say_json(json.dumps({"identifier": bundle.identifier, **manifest}))
        return
    print_table(_description(bundle))
    print_table(_null_tables(bundle))
    if bundle.manifest.templates:
        print_table(templates_table(bundle.manifest.templates))
    status = find_certificate(path, bundle.manifest)
    if status.certificate is None:
        say(f"not certified: {status.why_none}. Run 'dqm reference validate {path}'")
    else:
        print_table(certificate_table(status.certificate))


def _description(bundle: Bundle) -> Table:
    m = bundle.manifest
    table = Table(show_header=False, box=None)
    rows = {
        "bundle": bundle.identifier,
        "made from": m.parent or "-",
        "features": ", ".join(m.features),
        "windows": f"{m.n_expected:g} events, cut by {m.cut}",
        "rate": "not known: the time of windows cut by count is not tested"
        if m.rate_hz is None
        else f"{m.rate_hz:.4g} Hz",
        "statistic": f"{m.statistic}: " + ", ".join(f"{k} {v}" for k, v in m.settings_in_words.items()),
        **_samples(bundle),
        "nuisances": "\n".join(map(_nuisance, m.nuisances)) or "-",
        "conditions": ", ".join(f"{name} {_ends(*ends)}" for name, ends in m.conditions.items()) or "-",
        "sources": "\n".join(
            f"{s.name} ({format_count(s.n_events, 'event')}, sha256 {s.sha256[:12]})" for s in m.sources
        ),
        "made with": ", ".join(f"{k} {v}" for k, v in m.software.items()),
    }
    for key, value in rows.items():
        table.add_row(key, cell(value))
    return table


def _samples(bundle: Bundle) -> dict[str, str]:
    m = bundle.manifest
    if m.is_of_channels:
        n_channels = bundle.reference.shape[1]
        n_windows = format_count(len(bundle.reference), "window")
        return {"reference": f"{m.counts} of {format_count(n_channels, 'channel')} in {n_windows}"}
    in_bins = ""
    if bundle.bins is not None:
        in_bins = f" in {format_count(len(bundle.bins), 'bin')}, counted by {m.counts}"
    n_centers = format_count(len(bundle.centers), "centre")
    n_windows = format_count(round(m.n_pool / m.n_expected), "window")
    return {
        "reference": f"{format_count(m.n_reference, 'event')}{in_bins}, {n_centers}",
        "pool": f"{format_count(m.n_pool, 'event')}, {n_windows}",
    }


def _ends(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _nuisance(entry: NuisanceEntry) -> str:
    sigma = "not measured" if entry.sigma is None else f"sigma {entry.sigma:g}"
    learned = ""
    if entry.kind == "shape":
        origin = "samples" if entry.transform is None else f"{entry.transform.name} of the reference"
        learned = f", order {entry.settings['order']}, {entry.settings['method']} learned from {origin}"
    return f"{entry.name}: {entry.kind}, {sigma}{learned}"


def _null_tables(bundle: Bundle) -> Table:
    from dqm.reference import uncertainty_of

    columns = ("windows of", "toys", "t min", "t mean", "t max", "p uncertain by")
    table = Table(*columns, title=f"null tables: windows of {bundle.manifest.judged} are judged")
    for column in bundle.manifest.null:
        t = bundle.toys(column)[:, 0]
        values = [f"{value:.4g}" for value in (t.min(), t.mean(), t.max())]
        if bundle.manifest.is_of_channels:
            uncertain = "-"
        else:
            offset, source = uncertainty_of(bundle.manifest, column)
            uncertain = f"{offset:.2f} sigma ({source})"
        toys = f"{len(t)}, fresh splits" if column.per_split else str(len(t))
        table.add_row(cell(column.kind), toys, *values, uncertain)
    if not bundle.manifest.null:
        table.caption = "none: run 'dqm reference calibrate'"
    return table
