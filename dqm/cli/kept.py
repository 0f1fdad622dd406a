"""Good windows that the daemon kept, as the events of a run from which a reference is made."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from dqm.cli.output import say
from dqm.cli.progress import progress_bar, tuning_progress
from dqm.cli.settings import conflict, parse_runs
from dqm.errors import ConfigError, InputError, format_count, format_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from dqm.config import DaemonConfig
    from dqm.events import Condition
    from dqm.reference import Source
    from dqm.service.offline.feature_files import RunEvents
    from dqm.store import KeptWindow

__all__ = ["check_recipe", "check_sources", "load_with_stream", "read_kept_run", "renew"]


MOST_LISTED = 20
"""Runs that a message lists."""


def check_sources(
    files: Sequence[Path] | None,
    config: Path | None,
    stream: str | None,
    runs: str | None,
    *,
    chamber: str | None,
) -> None:
    """Refuse options that do not say where the events come from; raises `ConfigError`."""
    if config is not None and chamber is not None:
        raise conflict("--chamber", "--from", fix="Leave it out: a stream is of one chamber")
    if config is None and not files:
        raise ConfigError(
            "no events are given", where="FILE", fix="Give files, or --from CONFIG --stream S --runs 10-12"
        )
    if config is not None and files:
        raise conflict("--from", "files of events")
    if config is not None and (stream is None or runs is None):
        raise ConfigError("--from needs --stream and --runs", fix="Give them as well")
    if config is None and (stream is not None or runs is not None):
        raise ConfigError("--stream and --runs need --from", fix="Give the daemon's TOML file with --from")


def check_recipe(like: Path | None, plot: Path | None, given: Mapping[str, object]) -> None:
    """Refuse options that contradict ``--like`` or need it; raises `ConfigError`."""
    if like is None and plot is not None:
        raise ConfigError("--plot needs --like", fix="Leave it out, or name the bundle to compare with")
    named = [name for name, value in given.items() if value is not None]
    if like is not None and named:
        raise conflict(f"--{named[0]}", "--like, whose recipe has it already", fix="Leave one of them out")


def renew(
    like: Path,
    files: Sequence[Path],
    kept: tuple[Path, str, str] | None,
    output: Path,
    *,
    chamber: str | None,
    live_seconds: float | None,
    plot: Path | None,
    reading: Mapping[str, object],
    conditions: Mapping[str, tuple[float, float]],
) -> None:
    """Build a bundle by the recipe of another, and compare the two.

    Parameters
    ----------
    like : Path
        The other bundle.
    files : sequence of Path
        Files of events.
    kept : tuple of (Path, str, str), or None
        Instead of files: configuration, stream and runs.
    output, chamber, live_seconds, plot
        As the options of ``dqm reference build``.
    reading : mapping of str to object
        How the files are read.
    conditions : mapping of str to (float, float)
        Conditions that are given.

    Raises
    ------
    typer.Exit
        With code 1 if the new events differ from the reference.
    """
    from dqm.cli.figures import check_figure, draw_maps
    from dqm.reference import (
        Light,
        Processes,
        compare_with_old,
        create_bundle,
        drop_nan,
        open_bundle,
        recipe_like,
    )
    from dqm.service.offline.feature_files import read_run

    check_figure(plot)
    old = open_bundle(like)
    old.refuse_counted("other events")
    features = old.manifest.features
    if kept is None:
        run = read_run(files, features, chamber, keep_nan=True, reading=reading)
        name = ", ".join(map(str, files))
    else:
        config, stream, runs = kept
        run = read_kept_run(config, stream, parse_runs(runs) or (), features)
        name = f"runs {runs} of {stream}"
    x, nan = drop_nan(run.x, features)
    recipe = recipe_like(old, len(x), None if live_seconds is None else len(run.x) / live_seconds, nan)
    recipe = replace(recipe, conditions={**run.conditions, **conditions})
    with progress_bar("windows compared", None) as progress:
        renewal = compare_with_old(old, x, name, workers=Processes(1), progress=progress)
    with tuning_progress(recipe.statistic) as progress:
        bundle = create_bundle(x, recipe, output, run.sources, progress=progress)
    say(
        f"{output}: bundle {bundle.identifier}, {len(bundle.reference)} reference events, "
        f"{len(bundle.pool)} in the pool. Next: dqm reference calibrate {output}"
    )
    if old.manifest.nuisances:
        names = ", ".join(entry.name for entry in old.manifest.nuisances)
        say(f"warning: it does not have {names}: add them with 'dqm reference nuisance'", err=True)
    line = renewal.line
    where = "" if line.light is Light.GREEN else f"; {renewal.maps.text}"
    say(f"{line.light}: against {like}: {line.found}. {line.meaning}{where}")
    if plot:
        draw_maps(plot, renewal.maps, f"{output.name} against {like.name}")
    if line.light is Light.RED:
        say(f"red: the new reference differs from {like}. {line.action}", err=True)
        raise typer.Exit(1)


def load_with_stream(config: Path, stream: str) -> DaemonConfig:
    """Read the configuration of a daemon that has a stream; raises `ConfigError` if it has not."""
    from dqm.config import load_daemon

    daemon = load_daemon(config)
    names = [one.name for one in daemon.streams]
    if stream not in names:
        raise ConfigError(
            f"no stream {stream!r} in {config}", where="--stream", fix=f"Choose one of {', '.join(names)}"
        )
    return daemon


def read_kept_run(
    config: Path, stream: str, runs: Collection[int], features: Sequence[str] | None
) -> RunEvents:
    """Read the Good windows of some runs that a daemon kept, and say how many there are.

    Parameters
    ----------
    config : Path
        The daemon's TOML file.
    stream : str
        One of its streams.
    runs : collection of int
        Runs to take.
    features : sequence of str, optional
        Columns to use; all by default.

    Raises
    ------
    ConfigError
        If there is no such stream.
    InputError
        If no window of these runs was kept, or windows have different features.
    StoreError
        If the windows or the verdicts cannot be read.
    """
    from dqm.events import Quality
    from dqm.service.offline.feature_files import RunEvents
    from dqm.store import GOOD_WINDOWS, VerdictStore, list_kept_runs, read_kept, store_url

    daemon = load_with_stream(config, stream)
    folder = daemon.daemon.data_dir / GOOD_WINDOWS
    kept = read_kept(folder, stream, set(runs))
    if not kept:
        others = list_kept_runs(folder, stream)
        fix = "Set [keep] good_share, such as 0.05, reload the daemon and take later runs"
        if others:
            listed = format_names(list(map(str, others)), MOST_LISTED)
            fix = f"Windows are kept of the runs {listed}: take these with --runs"
        what = f"no Good window of these runs was kept of stream {stream}"
        raise InputError(what, where=str(config), fix=fix)
    with VerdictStore(store_url(daemon.daemon), create=False) as store:
        good = [
            verdict.window
            for run in {window.run for window in kept}
            for verdict in store.select(stream=stream, run=run, quality=Quality.GOOD)
        ]
    columns = _common_features(kept, features)
    x = np.concatenate([window.x[:, [window.names.index(name) for name in columns]] for window in kept])
    counts = {run: sum(window.run == run for window in kept) for run in sorted({w.run for w in kept})}
    told = ", ".join(f"run {run}: {count}" for run, count in counts.items())
    say(
        f"{stream}: took {format_count(len(kept), 'kept window')} of {len(good)} Good ones ({told}), "
        f"{format_count(len(x), 'event')}"
    )
    origins = sorted({window.origin for window in kept} - {"live"})
    if origins:
        say(f"warning: some of these events are {' and '.join(origins)}", err=True)
    places = {(window.run, window.seq) for window in kept}
    conditions = _range_conditions(w.conditions for w in good if (w.run, w.seq) in places)
    return RunEvents(x, columns, [_source(stream, run, kept) for run in counts], conditions=conditions)


def _range_conditions(told: Iterable[Mapping[str, Condition]]) -> dict[str, tuple[float, float]]:
    """Give the smallest and the largest value of each condition that is a number."""
    ranges: dict[str, tuple[float, float]] = {}
    for conditions in told:
        for name, value in conditions.items():
            if not isinstance(value, str):
                low, high = ranges.get(name, (value, value))
                ranges[name] = (min(low, value), max(high, value))
    return ranges


def _source(stream: str, run: int, kept: Sequence[KeptWindow]) -> Source:
    """Describe all windows of a run as one source, with the checksum of all their events."""
    from dqm.reference import Source

    events = [np.ascontiguousarray(window.x) for window in kept if window.run == run]
    digest = hashlib.sha256(b"".join(x.tobytes() for x in events))
    return Source(name=f"{stream}, run {run}", sha256=digest.hexdigest(), n_events=sum(map(len, events)))


def _common_features(kept: Sequence[KeptWindow], features: Sequence[str] | None) -> tuple[str, ...]:
    """Give the columns to use; windows with others are refused."""
    first = kept[0]
    wanted = tuple(features or first.names)
    for window in kept:
        missing = [name for name in wanted if name not in window.names]
        if missing or (features is None and set(window.names) != set(first.names)):
            raise InputError(
                f"run {window.run} window {window.seq} has the features {', '.join(window.names)}, but run "
                f"{first.run} window {first.seq} has {', '.join(first.names)}",
                where=str(window.path),
                fix="Choose features that all have with --features, or runs with the same ones with --runs",
            )
    return wanted
