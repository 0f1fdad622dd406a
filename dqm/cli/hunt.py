"""``dqm hunt``: what happens at some place along a coordinate, or tells samples of known fractions apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dqm.cli.compare_two import MOST_PERMUTATIONS
from dqm.cli.output import say, say_json
from dqm.cli.parallel import ProcessesOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Chamber, Features, Read, ReadAs, parse_reading, refuse_given, split_names
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, format_count

if TYPE_CHECKING:
    from dqm.service.offline.hunting import HuntOutcome
    from dqm.service.offline.proportions import LearnedProportions

__all__ = ["hunt"]

ALONG = "time"
"""Coordinate, if none is given."""

POSITIONS = 20
"""Windows of the widest kind, if no number is given."""

PERMUTATIONS = 200
"""Permutations, if no number is given."""

MOST_POSITIONS = 1000


def hunt(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV, Parquet or ROOT files of features: of one run; with --fractions one for each sample.",
        ),
    ],
    along: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Coordinate to hunt along; default: time.")
    ] = None,
    features: Features = None,
    chamber: Chamber = None,
    read: Read = None,
    read_as: ReadAs = None,
    positions: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_POSITIONS, help="Windows of the widest kind beside each other; default: 20."
        ),
    ] = None,
    permutations: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_PERMUTATIONS, help="Hunts with permuted features; default: 200."),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            metavar="F,F...",
            help="Learn instead to separate a class; each file has this fraction of it, as in 0.1,0.3.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and permutations.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a figure: .png, .pdf or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    processes: ProcessesOption = None,
) -> None:
    """Hunt for events of another kind somewhere along a coordinate: a burst, a hot spot, a threshold."""
    from dqm.cli.figures import check_figure

    check_figure(plot)
    reading = parse_reading(read, read_as)
    if fractions is not None:
        of_hunt = {
            "along": along,
            "positions": positions,
            "permutations": permutations,
            "processes": processes,
        }
        refuse_given(of_hunt, "cannot be given with --fractions, which does not hunt along a coordinate")
        parts = _parse_fractions(fractions)
        _learn(files, parts, features, chamber, reading=reading, seed=seed, plot=plot, as_json=as_json)
        return
    from dqm.service.offline.hunting import hunt_along, read_along

    events = read_along(files, along or ALONG, split_names(features), chamber, reading=reading)
    n_permutations = permutations or PERMUTATIONS
    with (
        open_workers(processes, None, ship=False) as workers,
        progress_bar("permutations", n_permutations) as progress,
    ):
        found = hunt_along(
            events,
            n_positions=positions or POSITIONS,
            n_permutations=n_permutations,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    if plot is not None:
        from dqm.cli.hunt_figure import draw_hunt

        draw_hunt(plot, found)
    if as_json:
        say_json(_as_json(found, files, seed))
        return
    _print_found(found)


def _learn(
    files: Sequence[Path],
    fractions: Sequence[float],
    features: str | None,
    chamber: str | None,
    *,
    reading: Mapping[str, object],
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Learn from the proportions of samples."""
    from dqm.service.offline.proportions import learn_files

    learned = learn_files(files, fractions, split_names(features), chamber, seed=seed, reading=reading)
    if plot is not None:
        from dqm.cli.figures import draw_maps

        draw_maps(plot, learned.explanation, "the class over the rest")
    if as_json:
        say_json(_learned_as_json(learned, seed))
        return
    print_table(_table_of_samples(learned))
    say(
        f"area under the curve {learned.auc:.3f} +- {learned.auc_error:.3f}, of events held out; "
        f"0.5 is chance. {learned.explanation.text}"
    )


def _parse_fractions(text: str) -> tuple[float, ...]:
    """Read fractions with commas between them."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{text!r} are not numbers", where="--fractions", fix="Write 0.1,0.3") from error


def _print_found(found: HuntOutcome) -> None:
    """Print the windows that stand out, or say that none does."""
    if found.leading:
        print_table(_table_of_windows(found))
    permutations = format_count(found.n_permutations, "permutation")
    said = f"p = {found.p:.4g} of the whole hunt: {format_count(found.n_events, 'event')}, {permutations}"
    if not found.leading:
        best = found.best
        low, high = format_range(best.low, best.high)
        said += f"\nnothing stands out; the smallest p of one window is {best.leading.p:.2g}, {low} to {high}"
    say(said)
    if found.leading:
        say(found.explanation.text)


def _table_of_windows(found: HuntOutcome) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(found.along, no_wrap=True)
    for name in ("events", "selected of", "selected", "expected", "p here", "p of the hunt"):
        table.add_column(name, justify="right")
    for place in found.leading:
        one = found.windows[place]
        best = one.leading
        table.add_row(
            cell(" to ".join(format_range(one.low, one.high))),
            str(one.n_events),
            f"{best.share:.1%}",
            str(best.selected),
            f"{best.expected:.1f}",
            f"{best.p:.2g}",
            f"{one.p:.3g}",
        )
    return table


def format_range(low: float, high: float) -> tuple[str, str]:
    """Write the ends of a range with as many digits as tell them apart."""
    decimals = 6 if high == low else max(0, 2 - math.floor(math.log10(high - low)))
    first, last = (f"{value:.{decimals}f}" for value in (low, high))
    return (f"{low:g}", f"{high:g}") if high == low else (first, last)


def _as_json(found: HuntOutcome, files: Sequence[Path], seed: int) -> str:
    from pydantic import TypeAdapter

    from dqm.service.offline.hunting import HuntOutcome

    values = TypeAdapter(HuntOutcome).dump_python(found, mode="json")
    return json.dumps({"files": [str(path) for path in files], "seed": seed, **values})


def _learned_as_json(learned: LearnedProportions, seed: int) -> str:
    from pydantic import TypeAdapter

    from dqm.service.offline.proportions import LearnedProportions

    return json.dumps({"seed": seed, **TypeAdapter(LearnedProportions).dump_python(learned, mode="json")})


def _table_of_samples(learned: LearnedProportions) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sample", no_wrap=True)
    for name in ("events", "fraction", "mean score", "expected"):
        table.add_column(name, justify="right")
    for one in learned.samples:
        expected = "" if one.expected_score is None else f"{one.expected_score:.4f}"
        score = f"{one.mean_score:.4f} +- {one.score_error:.4f}"
        table.add_row(cell(one.label), str(one.n_events), f"{one.fraction:g}", score, expected)
    return table
