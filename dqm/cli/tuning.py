"""``dqm reference tune``: how the settings of a test were chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from dqm.cli.build_events import choose_features, pointing_to_advice
from dqm.cli.nuisances import LARGEST_WINDOW
from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Features, Figure, Read, ReadAs, parse_reading
from dqm.cli.tables import print_table
from dqm.errors import ConfigError, FileError
from dqm.events import SMALLEST_WINDOW

__all__ = ["tune"]


def tune(
    source: Annotated[
        Path, typer.Argument(metavar="FILE|BUNDLE", help="Events of a run, CSV or Parquet; or a bundle.")
    ],
    window: Annotated[
        float | None,
        typer.Option(
            min=SMALLEST_WINDOW, max=LARGEST_WINDOW, help="Events of a window; default: those of the bundle."
        ),
    ] = None,
    features: Features = None,
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split of the events.")] = 1,
    plot: Figure = None,
) -> None:
    """Show how the settings of a test were chosen; nothing is changed."""
    from dqm.cli.figures import check_figure, draw_tuning
    from dqm.reference import choose_reference_size, look_at_settings, one_thread, open_bundle, refuse_run
    from dqm.service.offline.feature_files import read_run

    check_figure(plot)
    if not source.exists():
        raise FileError(
            "no such file or bundle",
            where=str(source),
            fix="Give a file of features or the directory of a bundle",
        )
    if source.is_dir():
        bundle = open_bundle(source)
        bundle.refuse_counted("tuning")
        x = np.concatenate([bundle.reference, bundle.pool])
        manifest = bundle.manifest
        of_events = manifest.features
        n_expected = window or manifest.n_expected
        n_reference = len(bundle.reference)
    else:
        if window is None:
            raise ConfigError(
                "it is not said how many events a window has",
                where="--window",
                fix=f"Give it; 'dqm reference advise {source}' shows which windows the run allows",
            )
        names = choose_features(features, [source])
        with pointing_to_advice([source]):
            run = read_run([source], names, reading=parse_reading(read, read_as))
            refuse_run(run.x, run.names, str(source))
        x = run.x
        manifest = None
        of_events = run.names
        n_expected = window
        n_reference = choose_reference_size(len(x), n_expected)
    with progress_bar("settings", None) as progress, one_thread():
        found = look_at_settings(
            x,
            of_events,
            n_reference=n_reference,
            n_expected=n_expected,
            seed=seed,
            manifest=manifest,
            progress=progress,
        )
    title = f"the test {found.statistic}, windows of {n_expected:g}"
    table = Table(
        "", "value", "t of healthy windows", "spread", "agrees with chosen", "ms a window", title=title
    )
    for point in found.points:
        mark = " (chosen)" if point.is_chosen else ""
        table.add_row(
            point.knob,
            f"{point.value:g}{mark}",
            f"{point.mean_t:.4g}",
            f"{point.spread_t:.2g}",
            f"{point.agreement:.2f}",
            f"{point.milliseconds:.2g}",
        )
    print_table(table)
    for sentence in found.words:
        say(sentence)
    if plot:
        draw_tuning(plot, found)
