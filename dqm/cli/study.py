"""``dqm study``: measurements of the tests themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.output import say, writing_file
from dqm.cli.parallel import ProcessesOption
from dqm.cli.progress import progress_bar
from dqm.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dqm.service.offline.power_study import PowerRow

__all__ = ["app"]

app = typer.Typer(help="Measure the tests: which of them sees which fault.", no_args_is_help=True)


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
        typer.Option(help="Statistic to measure, also a plugin; repeatable; default: all built-in ones."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all events.")] = 1,
    processes: ProcessesOption = None,
) -> None:
    """Measure the power of all statistics against faults; continues after an interruption.

    Every statistic tests the same windows. The threshold is the 95 % quantile of healthy windows. Rows in
    which a test that is not NPLM is ahead come first.
    """
    from importlib.util import find_spec

    from dqm.service.offline.power_study import NPLM, PEERS, PowerPlan, compare_power

    names = tuple(statistic) if statistic else (*NPLM, *PEERS)
    plan = PowerPlan.quick(names, seed) if quick else PowerPlan(names, seed=seed)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot be created: {error.strerror}", where=str(output)) from error
    with progress_bar("parts", len(plan.units)) as progress:
        rows, milliseconds, refused = compare_power(
            plan, output / "power.jsonl", n_processes=processes, progress=progress
        )
    table = _as_markdown(rows, milliseconds, names)
    with writing_file(output / "power.md") as scratch:
        scratch.write_text(table)
    say(table)
    for what, why in refused.items():
        say(f"note: {what}: {why}", err=True)
    if find_spec("matplotlib") is not None:
        from dqm.cli.figures import draw_power

        draw_power(output / "power.png", rows, names)


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
