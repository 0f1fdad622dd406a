"""``dqm plot``: a window, a stream or a run as a figure, and the maps of a window as ROOT histograms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dqm.cli.drawn_references import read_references
from dqm.cli.output import say, writing_file
from dqm.cli.reports import RunNumber, Where, last_run, open_store, require_stream, select_flags
from dqm.errors import LARGEST_INTEGER, ConfigError, FileError, InputError, format_count

if TYPE_CHECKING:
    from dqm.events import FloatArray, RatioMap, Verdict
    from dqm.store import VerdictStore

__all__ = ["plot"]

ROOT_SUFFIX = ".root"

WINDOW_PATH = re.compile(r"(?:.*/windows/)?([^/]+)/(\d+)/(\d+)")
"""How the page names a window."""

MOST_WINDOWS = 10_000
"""Most windows of a stream in one figure; of a longer run the last ones are drawn."""


def plot(
    store: Where,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write: .pdf, .png or .svg; .root for a window."
        ),
    ],
    stream: Annotated[str | None, typer.Option(help="Draw this stream; default: the flags of all.")] = None,
    run: RunNumber = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_INTEGER, help="Draw the maps of the window with this number in the run."
        ),
    ] = None,
) -> None:
    """Draw the maps of a window, the windows of a stream in a run, or the quality of all streams in a run."""
    from dqm.cli.figures import SUFFIXES, check_figure, draw_flags, draw_windows

    if window is not None and stream is None:
        raise ConfigError("a window needs its stream", where="--window", fix="Add --stream NAME")
    if output.suffix.lower() == ROOT_SUFFIX and window is None:
        raise ConfigError(
            "a ROOT file holds the maps of a window", where=str(output),
            fix=f"Add --window N, or choose one of {', '.join(SUFFIXES)}",
        )  # fmt: skip
    if output.suffix.lower() != ROOT_SUFFIX:
        check_figure(output, () if window is None else (ROOT_SUFFIX,))
    if (path := WINDOW_PATH.fullmatch(str(store))) and not store.exists():
        raise ConfigError(
            "is a window, and no store", where=str(store),
            fix="Write 'dqm plot CONFIG --stream {} --run {} --window {}'".format(*path.groups()),
        )  # fmt: skip
    opened, streams = open_store(store)
    with opened:
        if stream is not None:
            require_stream(opened, stream)
        number = last_run(opened, stream) if run is None else run
        if stream is None:
            flags = select_flags(opened, streams, number, where=str(store), by_judgement=True)
            draw_flags(output, f"run {number}", flags)
            said = format_count(len({flag.stream for flag in flags}), "stream")
        elif window is None:
            verdicts = list(opened.select(stream=stream, run=number, limit=MOST_WINDOWS))
            if not verdicts:
                raise InputError(f"run {number} has no windows", where=stream, fix="See 'dqm history'")
            draw_windows(output, f"{stream}, run {number}", verdicts, _usual_t(store, stream, verdicts))
            said = ("the last " if len(verdicts) == MOST_WINDOWS else "") + format_count(
                len(verdicts), "window"
            )
        else:
            _write_maps(output, _find(opened, stream, number, window))
            said = f"{stream}, run {number}, window {window}"
    say(f"{output}: {said}")


def _usual_t(config: Path, stream: str, verdicts: Sequence[Verdict]) -> FloatArray:
    """Give the range of t of two of three windows like the reference, shape (n, 2).

    The null table is that for windows of the most similar size. NaN where the configuration, the bundle that
    judged a window or its table is not known.
    """
    import numpy as np

    from dqm.cli.figures import ONE_SIGMA
    from dqm.config import load_daemon

    usual = np.full((len(verdicts), 2), np.nan)
    if config.suffix == ".sqlite":
        return usual
    bundles = read_references(one for one in load_daemon(config).streams if one.name == stream)
    tables = {name: bundle.manifest.null for name, bundle in bundles.items()}
    ranges: dict[tuple[str, int], FloatArray] = {}
    for place, verdict in enumerate(verdicts):
        sizes = [
            abs(one.kind.n_expected - verdict.result.n_expected) for one in tables.get(verdict.bundle, ())
        ]
        if sizes:
            key = verdict.bundle, int(np.argmin(sizes))
            if key not in ranges:
                t = bundles[verdict.bundle].toys(tables[verdict.bundle][key[1]])[:, 0]
                ranges[key] = np.nanquantile(t, ONE_SIGMA)
            usual[place] = ranges[key]
    return usual


def _find(store: VerdictStore, stream: str, run: int, window: int) -> Verdict:
    found = store.find(stream, run, window)
    if found is None:
        raise InputError(f"no window {window} of run {run}", where=stream, fix="See 'dqm history --stream'")
    return found


def _write_maps(path: Path, verdict: Verdict) -> None:
    explanation = verdict.explanation
    if explanation is None or not explanation.maps:
        raise InputError(
            f"no maps are kept of window {verdict.window.seq} of run {verdict.window.run}",
            where=verdict.window.stream,
            fix="The store keeps them of windows that are Medium or Bad"
            if not verdict.result.why_no_maps
            else f"When it was judged: {verdict.result.why_no_maps}",
        )
    if path.suffix.lower() == ROOT_SUFFIX:
        occupancy = [explanation.occupancy] if explanation.occupancy else []
        _write_root(path, [*explanation.maps, *explanation.pairs, *occupancy])
        return
    from dqm.cli.figures import draw_maps

    window = verdict.window
    p = verdict.result.p
    title = f"{window.stream}, run {window.run}, window {window.seq}"
    draw_maps(path, explanation, title if p is None else f"{title}: p = {p:.3g}")


def _write_root(path: Path, maps: Iterable[RatioMap]) -> None:
    """Write three histograms for each map, in a directory that is named after its features."""
    try:
        import uproot

        from dqm.reference.plots import map_histograms
    except ImportError as error:
        raise FileError(
            "no ROOT file without uproot and hist", where=str(path), fix="pip install '.[root,plots]'"
        ) from error
    with writing_file(path) as scratch, scratch.open("w+b") as raw, uproot.recreate(raw) as file:
        for one in maps:
            made = map_histograms(one)
            for name in ("window", "reference", "fitted"):
                file[f"{'-'.join(one.features)}/{name}"] = getattr(made, name)
