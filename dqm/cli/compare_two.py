"""``dqm compare --two``: two runs, two windows or two chambers, against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from dqm.cli.drawn_references import read_references
from dqm.cli.output import say, say_json
from dqm.cli.parallel import open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import conflict, parse_runs, split_names
from dqm.cli.tables import cell, print_table
from dqm.errors import ConfigError, format_count

if TYPE_CHECKING:
    from dqm.events import ReferenceCurve
    from dqm.reference import SampleComparison
    from dqm.reference.sample_comparison import Model
    from dqm.service.offline.kept_selection import KeptPlace
    from dqm.store import KeptChoice

__all__ = ["MOST_PERMUTATIONS", "TwoOptions", "compare_kept_two", "compare_two", "parse_model"]

MOST_PERMUTATIONS = 1_000_000

SIDE = "STREAM:RUNS, as in chamber-1:10-12, or STREAM:RUN:WINDOW"


@dataclass(frozen=True, slots=True)
class TwoOptions:
    """Options of ``dqm compare --two`` that do not say where the events are."""

    features: str | None
    n_permutations: int
    seed: int
    as_json: bool
    plot: Path | None
    processes: int | None
    model: Model = "kernel"


@dataclass(frozen=True, slots=True)
class _Compared:
    """What was compared, and what was found."""

    found: SampleComparison
    labels: tuple[str, str]
    names: Sequence[str]
    left_out: Sequence[str]
    told: tuple[str, str] = ("", "")
    references: tuple[ReferenceCurve, ...] = ()


def compare_two(
    files: Sequence[Path],
    options: TwoOptions,
    *,
    chamber: str | None,
    counts: str | None,
    histogram: str | None,
    reading: Mapping[str, object],
) -> None:
    """Compare two files; the parameters are the options of ``dqm compare --two``.

    Raises
    ------
    ConfigError
        If there are not two files, or options contradict each other.
    InputError
        If the files cannot be read, or have events in common, or no feature.
    """
    from dqm.reference import compare_samples
    from dqm.service.offline.two_files import read_two

    first, second = _two(files)
    if histogram is not None and (counts is not None or chamber is not None):
        raise conflict(
            f"--{'chamber' if counts is None else 'counts'}",
            "--histogram, which is of ROOT files",
            fix="Leave it out",
        )
    _check_plot(options)
    read = read_two(
        (first, second),
        split_names(options.features),
        _chambers(chamber),
        counts=counts,
        histogram=histogram,
        reading=reading,
    )
    with (
        open_workers(options.processes, None, ship=False) as workers,
        progress_bar("permutations", options.n_permutations) as progress,
    ):
        found = compare_samples(
            read.first,
            read.second,
            read.names,
            n_permutations=options.n_permutations,
            seed=options.seed,
            workers=workers,
            model=options.model,
            progress=progress,
        )
    _report(_Compared(found, read.labels, read.names, read.left_out), options)


def compare_kept_two(config: Path, sides: Sequence[Path], options: TwoOptions, kept: str | None) -> None:
    """Compare kept windows of a daemon; the parameters are the options of ``dqm compare --two --from``.

    Raises
    ------
    ConfigError
        If there are not two sides, or one does not belong to this daemon.
    InputError
        If nothing is kept, or the events cannot be compared.
    StoreError
        If windows or verdicts cannot be read.
    """
    from dqm.service.offline.kept_comparison import compare_kept
    from dqm.service.offline.kept_selection import select_kept
    from dqm.store import VerdictStore

    texts = _two(sides)
    _check_plot(options)
    place, url, streams = _find_place(config)
    first, second = (_parse_side(str(text), kept, streams) for text in texts)
    with VerdictStore(url, create=False) as store:
        chosen = select_kept(first, place, store), select_kept(second, place, store)
    with (
        open_workers(options.processes, None, ship=False) as workers,
        progress_bar("permutations", options.n_permutations) as progress,
    ):
        made = compare_kept(
            chosen,
            place.bundles,
            n_permutations=options.n_permutations,
            seed=options.seed,
            workers=workers,
            progress=progress,
            features=split_names(options.features),
            model=options.model,
        )
    _report(
        _Compared(made.found, made.labels, made.names, made.left_out, made.told, made.references), options
    )


def parse_model(name: str | None) -> Model:
    """Read what describes the samples; raises `ConfigError` for what is neither kernels nor a network."""
    if name in {None, "kernel"}:
        return "kernel"
    if name == "neural":
        return "neural"
    raise ConfigError(
        f"no {name!r} with --two",
        where="--statistic",
        fix="Choose kernel or neural. Other statistics need a bundle ('dqm reference build --statistic'), "
        "and 'dqm study power' compares what they see",
    )


def _two(given: Sequence[Path]) -> tuple[Path, Path]:
    if len(given) != 2:
        raise ConfigError(
            f"needs two files to compare with each other, got {len(given)}: {', '.join(map(str, given))}",
            where="--two",
            fix="Give A and B; two chambers of one file are FILE FILE --chamber 1,2",
        )
    return given[0], given[1]


def _check_plot(options: TwoOptions) -> None:
    from dqm.cli.figures import check_figure

    check_figure(options.plot)


def _find_place(config: Path) -> tuple[KeptPlace, str, tuple[str, ...]]:
    """Say where a daemon keeps windows and verdicts, and of which streams."""
    from dqm.config import load_daemon
    from dqm.service.offline.kept_selection import KeptPlace
    from dqm.store import store_url

    daemon = load_daemon(config)
    bundles = {name: bundle.path for name, bundle in read_references(daemon.streams).items()}
    return (
        KeptPlace.of(daemon, bundles),
        store_url(daemon.daemon),
        tuple(stream.name for stream in daemon.streams),
    )


def _parse_side(text: str, kept: str | None, streams: Sequence[str]) -> KeptChoice:
    """Read one side, as `SIDE` says."""
    from dqm.store import KeptChoice, Taken

    stream, *numbers = text.split(":")
    window = numbers[1:]
    if (
        not stream
        or len(numbers) not in {1, 2}
        or (window and not (window[0].isascii() and window[0].isdigit()))
    ):
        raise ConfigError(f"{text!r} names no kept windows", where="--from", fix=f"Write {SIDE}")
    if stream not in streams:
        raise ConfigError(f"no stream {stream!r}", where="--from", fix=f"Choose one of {', '.join(streams)}")
    if kept is not None and kept not in set(Taken):
        raise ConfigError(f"no choice {kept!r}", where="--kept", fix=f"Choose one of {', '.join(Taken)}")
    taken = Taken.FAIR if kept is None else Taken(kept)
    return KeptChoice(stream, parse_runs(numbers[0]) or (), int(window[0]) if window else None, taken)


def _chambers(chamber: str | None) -> tuple[str | None, str | None]:
    """Read one chamber for both files, or one for each."""
    names = split_names(chamber)
    if names is None:
        return None, None
    if len(names) > 2:
        raise ConfigError(f"{len(names)} chambers", where="--chamber", fix="Give one, or one for each file")
    return names[0], names[-1]


def _report(made: _Compared, options: TwoOptions) -> None:
    """Write the figure, then print what was found."""
    from dqm.cli.figures import draw_maps

    labels = [f"A: {made.labels[0]}", f"B: {made.labels[1]}"]
    if options.plot is not None:
        draw_maps(options.plot, made.found.explanation, "; ".join(labels), ("A", "B"), made.references)
    if options.as_json:
        say_json(_as_json(made, options.seed))
        return
    print_table(_table(made))
    if made.left_out:
        say(f"not in both, so left out: {', '.join(made.left_out)}")
    if made.found.is_told:
        say(made.found.explanation.text)
    if made.found.remark:
        say(f"note: {made.found.remark}", err=True)


def _as_json(made: _Compared, seed: int) -> str:
    from pydantic import TypeAdapter

    from dqm.reference import SampleComparison

    values = TypeAdapter(SampleComparison).dump_python(made.found, mode="json")
    taken = {"taken": list(made.told)} if any(made.told) else {}
    return json.dumps({
        "first": made.labels[0],
        "second": made.labels[1],
        "features": list(made.names),
        "left_out": list(made.left_out),
        "seed": seed,
        "t": made.found.t,
        "remark": made.found.remark,
        **taken,
        **values,
    })  # fmt: skip


def _table(made: _Compared) -> Table:
    """Lay out the outcome: samples, p of all kernels, and each kernel alone."""
    found = made.found
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value")
    events = [
        f"{label}: {n} events{f' of {told}' if told else ''}"
        for label, n, told in zip(made.labels, (found.n_first, found.n_second), made.told, strict=True)
    ]
    rows = [
        ("A", events[0]),
        ("B", events[1]),
        ("p", f"{found.p:.4g} ({format_count(found.n_permutations, 'permutation')})"),
        ("Z", "-" if found.z is None else f"{found.z:.2f}"),
        ("t", f"{found.t_first:.1f} of A + {found.t_second:.1f} of B = {found.t:.1f}"),
    ]
    rows += [
        (f"p, {setting}", f"{p:.4g}{' (t and maps)' if place == found.place else ''}")
        for place, (setting, p) in enumerate(zip(found.settings_in_words, found.p_of_settings, strict=True))
    ]
    for what, value in rows:
        table.add_row(cell(what), cell(value))
    return table
