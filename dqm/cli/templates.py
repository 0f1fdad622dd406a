"""``dqm reference templates``: what known faults look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Chamber, Read, ReadAs, parse_reading
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError

if TYPE_CHECKING:
    from dqm.reference import TemplateEntry

__all__ = ["templates", "templates_table"]


def templates(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of the bundle.")],
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="File of events under a fault, CSV or Parquet; repeatable. One name may have several files.",
        ),
    ] = None,
    chamber: Chamber = None,
    read: Read = None,
    read_as: ReadAs = None,
    width: Annotated[
        float | None, typer.Option(min=0.1, max=1e6, help="Kernel width; default: that of the bundle's test.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split of the samples.")] = 1,
) -> None:
    """Learn known faults from labelled runs, so that anomalous windows get their names."""
    from dqm.reference import LabelledSample, learn_templates, open_bundle
    from dqm.service.offline.feature_files import read_events

    if not fault:
        raise ConfigError("no fault is given", fix='Give --fault "lowered cathode voltage=run12.parquet"')
    bundle = open_bundle(path)
    reading = parse_reading(read, read_as)
    samples = []
    for text in fault:
        name, equals, file = text.partition("=")
        if not equals or not name.strip() or not file:
            raise ConfigError(f"{text!r} is not NAME=FILE", where="--fault")
        x, _, sources = read_events([Path(file)], bundle.manifest.features, chamber, reading=reading)
        samples.append(LabelledSample(name.strip(), x, tuple(sources)))
    with progress_bar("learning", len(samples)) as progress:
        learned = learn_templates(
            bundle, samples, width=width, seed=seed, progress=lambda done, _total: progress(done)
        )
    print_table(templates_table(learned.manifest.templates))
    say(f"{path}: bundle {learned.identifier}, made from {bundle.identifier}")


def templates_table(entries: tuple[TemplateEntry, ...]) -> Table:
    """Lay out the templates of a bundle."""
    table = Table("fault", "learned from", "gain per event", title="templates of known faults")
    for entry in entries:
        sources = ", ".join(f"{source.name} ({source.n_events} events)" for source in entry.sources)
        table.add_row(cell(entry.fault), cell(sources or "-"), f"{entry.gain:.3g}")
    table.caption = "twice the log likelihood ratio to the reference, of events that were held out"
    return table
