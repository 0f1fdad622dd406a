"""``dqm reference validate``: the certificate of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dqm.cli.nuisances import LARGEST_WINDOW, MOST_TOYS, kind_of, read_number, read_pairs, read_samples
from dqm.cli.output import say
from dqm.cli.parallel import ProcessesOption, SchedulerOption, ShipOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.readings import parse_measured
from dqm.cli.settings import Figure, Read, ReadAs, parse_reading
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError
from dqm.events import SMALLEST_WINDOW, FloatArray, WindowCut

if TYPE_CHECKING:
    from dqm.reference import Bundle, Certificate, LaterRun, Validation, WindowKind

__all__ = ["USUAL_THRESHOLD", "certificate_table", "validate"]

USUAL_THRESHOLD = 0.01
"""p below which windows of a few streams count, with the usual budget of false alarms."""

LIGHT_STYLES = {"green": "green", "amber": "yellow", "red": "bold red"}


def validate(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of the bundle.")],
    toys: Annotated[int, typer.Option(min=50, max=MOST_TOYS, help="Toys at each point.")] = 300,
    sigmas: Annotated[str, typer.Option(help="Distances from 0, in sigmas; taken with both signs.")] = "1,2",
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:NU=FILE", help="File of events taken at a value of a parameter; repeatable."
        ),
    ] = None,
    later: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Events of a later good run, CSV or Parquet; repeatable."),
    ] = None,
    drop_later: Annotated[
        bool,
        typer.Option(
            "--drop-later", help="Drop the lines of later runs that are not given; default: they are kept."
        ),
    ] = False,
    measured: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What slow control measured in the later runs; repeatable."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=1e-12, max=0.5, help="p below which a window counts for an alarm.")
    ] = USUAL_THRESHOLD,
    window: Annotated[
        float | None,
        typer.Option(min=SMALLEST_WINDOW, max=LARGEST_WINDOW, help="Events expected; default: as built for."),
    ] = None,
    cut: Annotated[
        WindowCut | None, typer.Option(help="What closes the windows; default: as built for.")
    ] = None,
    free: Annotated[
        list[str] | None, typer.Option(help="Parameter that is not measured; repeatable.")
    ] = None,
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the toys.")] = 1000,
    processes: ProcessesOption = None,
    scheduler: SchedulerOption = None,
    ship: ShipOption = False,
    plot: Figure = None,
) -> None:
    """Certify a bundle: what its p-values are worth. If a line is red, the exit code is 1."""
    from dqm.cli.figures import check_figure
    from dqm.reference import Light, certify, find_certificate, open_bundle, write_certificate

    check_figure(plot)
    bundle = open_bundle(path)
    reading = parse_reading(read, read_as)
    later_runs = _read_later(bundle, later or [], measured or [], reading)
    samples: dict[tuple[str, float], FloatArray] = {}
    for text in at or []:
        name, colon, rest = text.rpartition(":")
        if not colon:
            raise ConfigError(
                f"{text!r} is not NAME:NU=FILE", where="--at", fix="Write it as in --at gas:0.02=file.parquet"
            )
        found_at, _ = read_samples(bundle, read_pairs([rest], "--at"), reading)
        samples |= {(name, nu): x for nu, x in found_at.items()}
    distances = [read_number(part, "--sigmas") for part in sigmas.split(",") if part]
    with (
        open_workers(processes, scheduler, ship=ship) as workers,
        progress_bar("windows and toys", None) as progress,
    ):
        found = certify(
            bundle,
            toys,
            kind=_kind(bundle, window, cut, free),
            seed=seed,
            sigmas=tuple(sorted({sign * distance for distance in distances for sign in (-1, 1)})),
            samples=samples,
            later=later_runs,
            threshold=threshold,
            workers=workers,
            progress=progress,
        )
    before = None if drop_later else find_certificate(path, bundle.manifest).certificate
    certificate = found.certificate.with_later_of(before, [run.name for run in later_runs])
    write_certificate(path, certificate)
    if len(found.validation.points) > 1:
        print_table(_validation_table(found.validation))
    if plot:
        from dqm.cli.figures import draw_validation

        draw_validation(plot, found.validation)
    print_table(certificate_table(certificate))
    for line in certificate.lines[len(found.certificate.lines) :]:
        told = line.found.partition(": ")[0]
        say(f"kept from the certificate before: {line.light}, later run {told}; --drop-later drops it")
    for line in certificate.lines_of(Light.RED):
        say(f"failed: {line.name}: {line.meaning}. {line.action}", err=True)
    if certificate.light is Light.RED:
        raise typer.Exit(1)
    say(f"{path}: certified, {certificate.light}")


def _kind(bundle: Bundle, window: float | None, cut: WindowCut | None, free: list[str] | None) -> WindowKind:
    """Give the windows to test. Default: those of the bundle, or the nearest that have a table."""
    kind = kind_of(bundle, window, cut, free)
    if window is not None or bundle.null_entry(kind) is not None:
        return kind
    alike = [entry.kind for entry in bundle.manifest.null if entry.kind.cut is kind.cut]
    alike = [one for one in alike if set(one.free) == set(kind.free)]
    return min(alike, key=lambda one: abs(one.n_expected - kind.n_expected), default=kind)


def certificate_table(certificate: Certificate) -> Table:
    """Show a certificate, the worst lines first."""
    table = Table(
        "", "what", "found", "meaning", "do", title=f"certificate for windows of {certificate.windows}"
    )
    for line in sorted(certificate.lines, key=lambda line: -list(LIGHT_STYLES).index(line.light)):
        table.add_row(
            cell(line.light, LIGHT_STYLES[line.light]),
            cell(line.name),
            cell(line.found),
            cell(line.meaning),
            cell(line.action or "-"),
        )
    return table


def _read_later(
    bundle: Bundle, files: list[Path], measured: list[str], reading: Mapping[str, object]
) -> list[LaterRun]:
    from dqm.reference import LaterRun
    from dqm.service.offline.feature_files import read_events

    if measured and not files:
        raise ConfigError("--measured needs --later", fix="Give the later runs in which it was measured")
    readings = parse_measured(measured, bundle)
    runs = []
    for file in files:
        bundle.refuse_counted("later runs")
        x, _, _ = read_events([file], bundle.manifest.features, reading=reading)
        runs.append(LaterRun(file.name, x, readings))
    return runs


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
