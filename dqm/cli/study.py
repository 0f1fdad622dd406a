"""``dqm study``: measurements of the tests themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.output import say, writing_file
from dqm.cli.parallel import ProcessesOption
from dqm.cli.progress import progress_bar
from dqm.cli.settings import (
    Chamber,
    Features,
    Read,
    ReadAs,
    parse_reading,
    parse_settings,
    split_names,
)
from dqm.config import removing_if_empty
from dqm.errors import ConfigError, FileError
from dqm.events import SMALLEST_WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dqm.nplm.neural import ClippingChoice, ClippingTrial
    from dqm.service.offline.power_study import PowerRow

__all__ = ["app"]

app = typer.Typer(help="Measure the tests: which test sees which fault.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make `app` a group, also with one command."""


@app.command()
def power(
    output: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="For table, figure and finished parts; it is created.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="One size and few windows: minutes instead of an hour.")
    ] = False,
    statistic: Annotated[
        list[str] | None,
        typer.Option(
            help="Statistic to measure, also a plugin; repeatable; default: several, kernel, channels, "
            "energy, mmd, mmd-nystroem, mmd-fuse, kolmogorov, chi-squared, boosted-trees, neural-classifier, "
            "isolation-forest, autoencoder. Not by default: symmetrised, one-step, falkon, neural."
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N_R,N",
            help="Events of reference and window; repeatable; default: 2000,100, 2000,200 and 5000,500.",
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="Kind of events, as in the table's first column; repeatable; default: all."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all events.")] = 1,
    processes: ProcessesOption = None,
) -> None:
    """Measure the power of statistics against faults; continues after an interruption.

    Every statistic tests the same windows. The threshold is the 95 % quantile of healthy windows. Rows in
    which a peer is ahead come first.
    """
    from dqm.service.offline.power_study import STATISTICS, PowerPlan, compare_power

    names = tuple(statistic) if statistic else STATISTICS
    plan = PowerPlan.quick(names, seed) if quick else PowerPlan(names, seed=seed)
    if size:
        plan = replace(plan, sizes=tuple(map(_parse_size, size)))
    if family:
        unknown = [name for name in family if name not in plan.families]
        if unknown:
            raise ConfigError(
                f"no kind of events {unknown[0]!r}",
                where="--family",
                fix=f"There are: {', '.join(plan.families)}",
            )
        plan = replace(plan, families=tuple(family))
    with _folder(output), progress_bar("parts", len(plan.units)) as progress:
        rows, milliseconds, refused = compare_power(
            plan, output / "power.jsonl", n_processes=processes, progress=progress
        )
    table = _as_markdown(rows, milliseconds, names)
    with writing_file(output / "power.md") as scratch:
        scratch.write_text(table)
    say(table)
    for (name, why), families in refused.items():
        say(f"note: {name} was not measured with {', '.join(sorted(families))}: {why}", err=True)
    if find_spec("matplotlib") is not None:
        from dqm.cli.figures import draw_power

        draw_power(output / "power.png", rows, names)


def _parse_size(given: str) -> tuple[int, int]:
    """Read the events of reference and window."""
    n_reference, n_window = map(int, given.split(",")) if re.fullmatch(r"\d+,\d+", given) else (0, 0)
    if not SMALLEST_WINDOW <= n_window <= n_reference:
        raise ConfigError(
            f"{given!r} is not a size",
            where="--size",
            fix="Give events of the reference and of a window, such as 2000,200; a window has "
            f"at least {SMALLEST_WINDOW}, and not more than the reference",
        )
    return n_reference, n_window


@app.command()
def clipping(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Healthy run: CSV or Parquet.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="For table and figure; it is created.")
    ],
    window: Annotated[int, typer.Option(min=SMALLEST_WINDOW, help="Events of a window.")],
    events: Annotated[
        int | None, typer.Option(min=2, help="Reference events; default: as 'dqm reference build'.")
    ] = None,
    features: Features = None,
    chamber: Chamber = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Setting, such as layers=[5,5]; repeatable."),
    ] = None,
    windows: Annotated[int, typer.Option(min=10, help="Healthy windows.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Draws reference and windows.")] = 1,
    read: Read = None,
    read_as: ReadAs = None,
) -> None:
    """Choose the weight clipping of the statistic neural, and show how.

    t of healthy windows must follow a chi-square distribution with as many degrees of freedom as the network
    has parameters. 'dqm reference build --statistic neural' makes the same choice with fewer windows.
    """
    import numpy as np

    from dqm.nplm.neural import NeuralTest
    from dqm.nplm.samples import Sample
    from dqm.reference import choose_reference_size, one_thread
    from dqm.service.offline.feature_files import read_run

    settings = parse_settings(override)
    unknown = [name for name in settings if name not in NeuralTest.usual_settings or name == "clipping"]
    if unknown:
        raise ConfigError(f"no setting {unknown[0]!r} here", where="--set", fix="Give layers, starts or seed")
    run = read_run(files, split_names(features), chamber, reading=parse_reading(read, read_as))
    with _folder(output), progress_bar("clippings", None) as progress, one_thread():
        tried: list[ClippingTrial] = []

        def tell(trial: ClippingTrial) -> None:
            tried.append(trial)
            progress(len(tried))

        choice = NeuralTest.choose_clipping(
            Sample(run.x),
            n_reference=events or choose_reference_size(run.n_events, window),
            n_expected=window,
            n_windows=windows,
            rng=np.random.default_rng(seed),
            settings=settings,
            progress=tell,
        )
    table = _clipping_table(choice)
    with writing_file(output / "clipping.md") as scratch:
        scratch.write_text(table)
    say(table)
    say(f"chosen: clipping {choice.best.clipping:.3g}")
    if find_spec("matplotlib") is not None:
        from dqm.cli.figures import draw_clipping

        draw_clipping(output / "clipping.png", choice)


@contextmanager
def _folder(output: Path) -> Iterator[None]:
    """Make the folder before hours of work; remove it again if they fail."""
    with removing_if_empty(output):
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"cannot be created: {error.strerror}",
                where=str(output),
                fix="Choose another directory, or change its rights",
            ) from error
        yield


def _clipping_table(choice: ClippingChoice) -> str:
    """Write what was tried, as table 1 of the paper; the chosen clipping in bold."""
    lines = [
        f"| clipping | windows | mean t - {choice.best.n_parameters} | KS p with chi-square |",
        "|---|---|---|---|",
    ]
    for one in choice.trials:
        mark = "**" if one is choice.best else ""
        lines.append(
            f"| {mark}{one.clipping:.3g}{mark} | {len(one.t)} | {one.excess:.1f} +- {one.error:.1f} "
            f"| {one.p:.2g} |"
        )
    return "\n".join(lines) + "\n"


def _as_markdown(rows: Sequence[PowerRow], milliseconds: dict[str, float], names: Sequence[str]) -> str:
    """Write the table: a row for each fault, a column for each statistic, the best in bold."""
    head = ["events", "N_R, window", "fault", *names]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        best = max(row.power.values())
        cells = [_cell(row.power.get(name), best) for name in names]
        place = [row.family, f"{row.n_reference}, {row.n_window}", row.fault]
        lines.append(f"| {' | '.join([*place, *cells])} |")
    times = [f"{milliseconds[name]:.2g}" if name in milliseconds else "-" for name in names]
    lines.append(f"| {' | '.join(['', '', 'ms a window', *times])} |")
    return "\n".join(lines) + "\n"


def _cell(share: float | None, best: float) -> str:
    if share is None:
        return "-"
    return f"**{share:.2f}**" if share == best else f"{share:.2f}"
