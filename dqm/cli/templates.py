"""``dqm reference templates``: what known faults look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dqm.cli.kept import load_with_stream
from dqm.cli.output import say
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Chamber, Read, ReadAs, conflict, parse_reading
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dqm.reference import LabelledSample, TemplateEntry

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
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CONFIG",
            help="Instead of files: windows that this daemon kept and people labelled (dqm certify label).",
        ),
    ] = None,
    stream: Annotated[str | None, typer.Option(help="With --from: windows of this stream.")] = None,
    chamber: Chamber = None,
    read: Read = None,
    read_as: ReadAs = None,
    width: Annotated[
        float | None, typer.Option(min=0.1, max=1e6, help="Kernel width; default: that of the bundle's test.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split of the samples.")] = 1,
) -> None:
    """Learn known faults from labelled runs, so that anomalous windows get their names."""
    from dqm.reference import learn_templates, open_bundle

    of_files = {"--fault": fault, "--chamber": chamber, "--read": read, "--read-as": read_as}
    _check_sources(source, stream, [name for name, value in of_files.items() if value])
    bundle = open_bundle(path)
    if source is not None and stream is not None:
        samples = _labelled_samples(source, stream, bundle.manifest.features)
    else:
        reading = parse_reading(read, read_as)
        samples = [_sample(text, bundle.manifest.features, chamber, reading) for text in fault or []]
    with progress_bar("learning", len(samples)) as progress:
        learned = learn_templates(
            bundle, samples, width=width, seed=seed, progress=lambda done, _total: progress(done)
        )
    print_table(templates_table(learned.manifest.templates))
    say(f"{path}: bundle {learned.identifier}, made from {bundle.identifier}")


def _check_sources(source: Path | None, stream: str | None, of_files: Sequence[str]) -> None:
    """Refuse options that do not say where the events come from; raises `ConfigError`."""
    if source is None and stream is not None:
        raise ConfigError("--stream needs --from", fix="Give the daemon's TOML file with --from")
    if source is None and "--fault" not in of_files:
        raise ConfigError(
            "no fault is given",
            fix='Give --fault "lowered cathode voltage=run12.parquet", or --from CONFIG --stream S',
        )
    if source is not None and of_files:
        raise conflict("--from", of_files[0])
    if source is not None and stream is None:
        raise ConfigError("--from needs --stream", fix="Give the stream as well")


def _sample(
    text: str, features: Sequence[str], chamber: str | None, reading: Mapping[str, object]
) -> LabelledSample:
    """Read the sample that ``NAME=FILE`` names."""
    from dqm.reference import LabelledSample
    from dqm.service.offline.feature_files import read_events

    name, equals, file = text.partition("=")
    if not equals or not name.strip() or not file:
        raise ConfigError(
            f"{text!r} is not NAME=FILE",
            where="--fault",
            fix='Write it as in --fault "late trigger=run12.parquet"',
        )
    x, _, sources = read_events([Path(file)], features, chamber, reading=reading)
    return LabelledSample(name.strip(), x, tuple(sources))


def _labelled_samples(config: Path, stream: str, features: Sequence[str]) -> list[LabelledSample]:
    """Read the labelled windows of a stream that were kept, and say how many there are."""
    from dqm.service.offline.labelled_windows import find_labelled, make_sample

    found = find_labelled(load_with_stream(config, stream), stream)
    samples = [make_sample(stream, fault, windows, features) for fault, windows in found.items()]
    for sample, windows in zip(samples, found.values(), strict=True):
        runs = ", ".join(str(run) for run in sorted({window.run for window in windows}))
        n_windows, n_events = format_count(len(windows), "kept window"), format_count(len(sample.x), "event")
        say(f"{sample.fault}: took {n_windows} of runs {runs}, {n_events}")
    return samples


def templates_table(entries: tuple[TemplateEntry, ...]) -> Table:
    """Lay out the templates of a bundle."""
    table = Table("fault", "learned from", "gain per event", title="templates of known faults")
    for entry in entries:
        sources = ", ".join(f"{source.name} ({source.n_events} events)" for source in entry.sources)
        table.add_row(cell(entry.fault), cell(sources or "-"), f"{entry.gain:.3g}")
    table.caption = "twice the log likelihood ratio to the reference, of events that were held out"
    return table
