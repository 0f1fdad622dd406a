"""``dqm compare --two``: two runs, or two chambers, against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from dqm.cli.output import say, say_json
from dqm.cli.parallel import open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import split_names
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError

if TYPE_CHECKING:
    from dqm.nplm import Setting
    from dqm.nplm.neural import NetworkSetting
    from dqm.reference import SampleComparison
    from dqm.reference.two_samples import Model

__all__ = ["MOST_PERMUTATIONS", "compare_two"]

MOST_PERMUTATIONS = 1_000_000

TOLD_P = 0.05
"""p below which it is said which features differ: above, the ranking is chance."""


def compare_two(
    files: Sequence[Path],
    *,
    chamber: str | None,
    features: str | None,
    counts: str | None,
    histogram: str | None,
    reading: Mapping[str, object],
    n_permutations: int,
    seed: int,
    as_json: bool,
    plot: Path | None,
    processes: int | None,
    model: Model = "kernel",
) -> None:
    """Compare two files; the parameters are the options of ``dqm compare --two``.

    Raises
    ------
    ConfigError
        If there are not two files, or options contradict each other.
    InputError
        If the files cannot be read, or have events in common, or no feature.
    """
    from dqm.cli.figures import check_figure, draw_maps
    from dqm.reference import compare_samples
    from dqm.service.offline.two_files import read_two

    if len(files) != 2:
        raise ConfigError(f"takes 2 files, got {len(files)}", where="--two", fix="Give two files")
    if histogram is not None and (counts is not None or chamber is not None):
        raise ConfigError(
            f"--{'chamber' if counts is None else 'counts'} with --histogram, which is of ROOT files",
            fix="Leave it out",
        )
    if plot is not None:
        check_figure(plot)
    read = read_two(
        (files[0], files[1]),
        split_names(features),
        _chambers(chamber),
        counts=counts,
        histogram=histogram,
        reading=reading,
    )
    with (
        open_workers(processes, None, ship=False) as workers,
        progress_bar("permutations", n_permutations) as progress,
    ):
        found = compare_samples(
            read.first,
            read.second,
            read.names,
            n_permutations=n_permutations,
            seed=seed,
            workers=workers,
            model=model,
            progress=progress,
        )
    labels = [f"A: {read.labels[0]}", f"B: {read.labels[1]}"]
    if plot is not None:
        draw_maps(plot, found.explanation, "; ".join(labels))
    if as_json:
        say_json(_as_json(found, read.labels, read.names, read.left_out, seed))
        return
    print_table(_table(found, read.labels))
    if read.left_out:
        say(f"not in both, so left out: {', '.join(read.left_out)}")
    if found.p < TOLD_P:
        say(found.explanation.text)


def _chambers(chamber: str | None) -> tuple[str | None, str | None]:
    """Read one chamber for both files, or one for each."""
    names = split_names(chamber)
    if names is None:
        return None, None
    if len(names) > 2:
        raise ConfigError(f"{len(names)} chambers", where="--chamber", fix="Give one, or one for each file")
    return names[0], names[-1]


def _as_json(
    found: SampleComparison,
    labels: tuple[str, str],
    names: Sequence[str],
    left_out: Sequence[str],
    seed: int,
) -> str:
    from pydantic import TypeAdapter

    from dqm.reference import SampleComparison

    values = TypeAdapter(SampleComparison).dump_python(found, mode="json")
    return json.dumps({
        "first": labels[0],
        "second": labels[1],
        "features": list(names),
        "left_out": list(left_out),
        "seed": seed,
        "t": found.t,
        **values,
    })  # fmt: skip


def _table(found: SampleComparison, labels: tuple[str, str]) -> Table:
    """Lay out the outcome: samples, p of all kernels, and each kernel alone."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value")
    rows = [
        ("A", f"{labels[0]}: {found.n_first} events"),
        ("B", f"{labels[1]}: {found.n_second} events"),
        ("p", f"{found.p:.4g} ({found.n_permutations} permutations)"),
        ("Z", "-" if found.z is None else f"{found.z:.2f}"),
        ("t", f"{found.t_first:.1f} of A + {found.t_second:.1f} of B = {found.t:.1f}"),
    ]
    rows += [
        (f"p, {_describe(setting)}", f"{p:.4g}{' (t and maps)' if place == found.place else ''}")
        for place, (setting, p) in enumerate(zip(found.settings, found.p_of_settings, strict=True))
    ]
    for what, value in rows:
        table.add_row(cell(what), cell(value))
    return table


def _describe(setting: Setting | NetworkSetting) -> str:
    from dqm.nplm.neural import NetworkSetting

    if isinstance(setting, NetworkSetting):
        return f"network of {' + '.join(map(str, setting.layers))} neurons"
    decorrelated = ", decorrelated" if setting.is_decorrelated else ""
    return f"kernel of width {setting.width:.3g}, penalty {setting.penalty:.0e}{decorrelated}"
