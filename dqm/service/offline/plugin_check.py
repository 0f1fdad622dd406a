"""Does a plugin keep its interface? It is loaded, made and tried, in a process of its own with a deadline.

A plugin may hang or end its process; then the answer says so. A statistic builds, calibrates and judges a
small generated sample. A collector reads a few events, if this is possible without its detector.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from dqm.config import (
    PLUGIN_GROUPS,
    find_plugin,
    installed_plugins,
    label_of,
    origin_of_plugin,
    plugin_errors,
)
from dqm.errors import ConfigError, DqmError, InputError, format_count, format_exit
from dqm.events import FloatArray
from dqm.service.collector.slow_control import GROUP as SLOW_CONTROL
from dqm.service.collector.slow_control import open_readings
from dqm.service.collector.sources import GROUP as COLLECTORS
from dqm.service.collector.sources import (
    CountingSource,
    EventSource,
    ResumableSource,
    checked_batches,
    counts_of,
    gives_runs,
    open_source,
)
from dqm.service.offline.batch_check import BatchCheck

if TYPE_CHECKING:
    import numpy as np

    from dqm.reference.statistic import PreparedStatistic

__all__ = ["Finding", "Level", "check_plugin"]

STATISTICS = "dqm.statistics"

N_EVENTS = 2000
"""Events of the sample on which a statistic is tried; they have two features."""

N_REFERENCE = 500
"""Events of its reference."""

N_WINDOW = 50
"""Events of its window."""

N_TOYS = 100
"""Toys of its null distribution."""

SHIFT = 2.0
"""Shift of one feature of the faulty window, in standard deviations."""

ENOUGH_EVENTS = 100
"""Events after which a collector has been read for long enough."""

ENOUGH_BATCHES = 20
"""Batches after which it has."""

ENOUGH_SECONDS = 5.0
"""Seconds after which it has."""

NAN_IN_DAEMON = (
    "The daemon refuses a window with NaN, unless its stream has largest_nan_share; then it tests the share "
    "of these events, and the shape of the others"
)

LEFT_OUT = {
    "evaluate_many": "windows are tested one by one",
    "evaluate_drawn": "toys are tested like other windows",
    "at": "the test is made anew for each size of windows",
    "stopping_above": "every test is carried to its end",
    "throw": "toys are drawn from the pool",
    "prepared": "the bundle keeps no arrays for it",
    "tune": "settings have their usual values unless they are given",
}


class Level(StrEnum):
    """What a line means."""

    HOLDS = "ok"
    NOTE = "note"
    UNTRIED = "untried"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the answer.

    Parameters
    ----------
    level : Level
        Whether it holds.
    text : str
        What was looked at, and what was found.
    """

    level: Level
    text: str


def check_plugin(name: str, settings: Mapping[str, object], longest_seconds: float) -> Iterator[Finding]:
    """Check all plugins of a name.

    Parameters
    ----------
    name : str
        Entry point of a group of `PLUGIN_GROUPS`.
    settings : mapping
        Settings of a statistic, or options of a collector or source of readings.
    longest_seconds : float
        A step that takes longer hangs.

    Raises
    ------
    ConfigError
        If no plugin has this name.
    """
    installed = {group: installed_plugins(group) for group in PLUGIN_GROUPS}
    groups = [group for group, names in installed.items() if name in names]
    if not groups:
        known = ", ".join(sorted({one for names in installed.values() for one in names}))
        raise ConfigError(
            f"unknown plugin {name!r}",
            where="--plugin",
            fix=f"Installed: {known}",
        )
    for group in groups:
        yield Finding(Level.NOTE, f"{label_of(group, name)} is {origin_of_plugin(group, name)}")
        yield from _in_process(group, name, settings, longest_seconds)


def _in_process(
    group: str, name: str, settings: Mapping[str, object], longest_seconds: float
) -> Iterator[Finding]:
    """Look in a process of its own; the time limit is for each line."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_work, args=(theirs, group, name, dict(settings)), name="dqm-check", daemon=True
    )
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(longest_seconds):
                yield Finding(Level.WRONG, f"the next step took longer than {longest_seconds:g} s: it hangs")
                return
            try:
                found: Finding | None = ours.recv()
            except EOFError:
                process.join(longest_seconds)
                yield Finding(Level.WRONG, f"it ended its process {format_exit(process.exitcode)}")
                return
            if found is None:
                return
            yield found
    finally:
        process.kill()
        process.join()


def _work(connection: Connection, group: str, name: str, settings: dict[str, object]) -> None:
    looks = {
        STATISTICS: _look_at_statistic,
        COLLECTORS: _look_at_collector,
        SLOW_CONTROL: _look_at_readings,
    }
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, and this process with it
    label = label_of(group, name)
    try:
        with plugin_errors(f"{label} cannot be used: what it gave"):
            for found in looks.get(group, _look_at_transformation)(name, settings):
                connection.send(found)
    except DqmError as error:
        connection.send(Finding(Level.WRONG, str(error)))
    except KeyboardInterrupt:
        connection.send(Finding(Level.WRONG, f"{label} raised KeyboardInterrupt"))
    connection.send(None)


def _look_at_statistic(name: str, settings: dict[str, object]) -> Iterator[Finding]:
    import numpy as np

    from dqm.reference import Recipe, calibrate, create_bundle
    from dqm.reference.processes import Processes, one_thread
    from dqm.reference.statistic import find_statistic, prepare_statistic

    plugin = find_statistic(name)
    chosen = {} if plugin.is_tunable else plugin.choose_settings(settings)
    listed = ", ".join(f"{key} {value}" for key, value in chosen.items())
    yield Finding(Level.HOLDS, f"its class takes a reference; settings: {listed or 'its own choice'}")
    for argument in ("nuisances", "counts"):
        if not plugin.takes(argument):
            yield Finding(Level.NOTE, f"argument {argument!r} left out: such bundles are refused with it")
    yield from _describe_left_out(plugin.factory)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N_EVENTS, 2)) @ [[1.0, 0.5], [0.0, 1.0]]
    recipe = Recipe(("a", "b"), N_REFERENCE, N_WINDOW, centers=100, statistic=name, settings=settings)
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        try:
            bundle = create_bundle(x, recipe, Path(scratch) / "bundle")
        except InputError as error:
            yield Finding(
                Level.UNTRIED,
                f"not tried: it refuses the generated events of two features: {error}. Give settings with "
                "--set NAME=VALUE, or build a bundle of your own events",
            )
            return
        yield Finding(Level.HOLDS, f"built from {N_REFERENCE} reference events of two features")
        kind = bundle.manifest.kind
        test = prepare_statistic(bundle, kind)
        found = _look_at_repetition(lambda window: test.evaluate(window).t, x[-N_WINDOW:])
        yield found
        if found.level is Level.WRONG:
            return
        yield from _look_at_members(test, x[-N_WINDOW:], rng)
        bundle = calibrate(bundle, N_TOYS, kind=kind, seed=1, origin="pool", workers=Processes(1))
        t = np.sort(bundle.toys(bundle.manifest.null[0])[:, 0])
        yield Finding(Level.HOLDS, f"calibrated with {N_TOYS} toys: t from {t[0]:.4g} to {t[-1]:.4g}")
        yield from _judge(bundle.path, x[-N_WINDOW:])


def _describe_left_out(factory: object) -> Iterator[Finding]:
    for member, meaning in LEFT_OUT.items():
        if hasattr(factory, member):
            yield Finding(Level.HOLDS, f"has {member!r}")
        else:
            yield Finding(Level.NOTE, f"{member!r} left out: {meaning}")


def _look_at_repetition(evaluate: Callable[[FloatArray], float], window: FloatArray) -> Finding:
    """See whether a window has one value, and how long it takes."""
    begin = time.perf_counter()
    first = evaluate(window)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    second = evaluate(window)
    if first != second and not (math.isnan(first) and math.isnan(second)):
        return Finding(Level.WRONG, f"t of one window is {first!r}, and {second!r} at the second time")
    return Finding(Level.HOLDS, f"a window has the same t again; it takes {milliseconds:.2g} ms")


def _look_at_members(
    test: PreparedStatistic, window: FloatArray, rng: np.random.Generator
) -> Iterator[Finding]:
    """Call those members that neither the toys nor the windows of the sample need."""
    from dqm.reference.parallel import AGREEMENT

    resized = test.at(float(len(window)))
    if resized is not None:
        alone, again = test.evaluate(window).t, resized.evaluate(window).t
        if abs(alone - again) > AGREEMENT * abs(alone):
            yield Finding(
                Level.WRONG,
                f"t of one window is {alone!r}, and {again!r} by the test that 'at' gives for its size",
            )
    if test.throws_toys:
        test.throw(rng)
        yield Finding(Level.HOLDS, "'throw' gives rows and counts")


def _judge(path: Path, healthy: FloatArray) -> Iterator[Finding]:
    """Judge a window and a faulty one as the daemon does."""
    import numpy as np

    from dqm.events import Origin, Window, WindowCut
    from dqm.reference import Evaluator, open_bundle

    evaluator = Evaluator(open_bundle(path))
    for what, x in (("healthy", healthy), (f"one moved by {SHIFT:g} sigma", np.add(healthy, [0.0, SHIFT]))):
        window = Window("check", 1, 0, "check", Origin.SIMULATED, WindowCut.COUNT, ("a", "b"), x)
        evaluation = evaluator.evaluate(window)
        if evaluation.p is None:
            yield Finding(Level.WRONG, f"window ({what}): not judged: {evaluation.reason}")
            continue
        yield Finding(Level.HOLDS, f"window ({what}): {evaluation}")
        evaluation.find_explanation()


def _look_at_collector(name: str, options: dict[str, object]) -> Iterator[Finding]:
    factory = find_plugin(COLLECTORS, name)
    model = getattr(factory, "Options", None)
    keys = ", ".join(model.model_fields) if model is not None and hasattr(model, "model_fields") else ""
    try:
        source = open_source(name, options)
    except ConfigError as error:
        yield Finding(
            Level.NOTE, f"options: {keys}; give one by --set KEY=VALUE" if keys else "options: none"
        )
        yield Finding(Level.UNTRIED, f"not tried: {error}")
        return
    yield Finding(Level.HOLDS, f"made; options: {keys or 'none'}; origin: {source.origin}")
    is_counting = isinstance(source, CountingSource)
    is_resumable = isinstance(source, ResumableSource)
    if not is_counting:
        yield Finding(Level.NOTE, "'counts' left out: it counts nothing")
    yield Finding(
        Level.NOTE,
        "goes on where acknowledged windows end"
        if is_resumable
        else "'open', 'seek', 'commit', 'close' left out: it begins anew at each start",
    )
    if not is_resumable:
        yield from _read(source)
    if is_counting:
        counts = ", ".join(f"{one} {n}" for one, n in counts_of(source).items())
        yield Finding(Level.HOLDS, f"'counts' gives {counts or 'nothing yet'}")


def _read(source: EventSource) -> Iterator[Finding]:
    """Read a few events."""
    import numpy as np

    until = time.monotonic() + ENOUGH_SECONDS
    n_events = n_batches = n_nan = 0
    check = BatchCheck(gives_runs(source))
    names: tuple[str, ...] = ()
    try:
        for batch in checked_batches(source):
            n_events = n_events + batch.n_events
            n_batches = n_batches + 1
            n_nan = n_nan + int(np.isnan(batch.x).any(axis=1).sum())
            names = batch.names
            fault = check.find_fault(batch)
            if fault:
                yield Finding(Level.WRONG, f"batch {n_batches}: {fault}")
                return
            if n_events >= ENOUGH_EVENTS or n_batches >= ENOUGH_BATCHES or time.monotonic() > until:
                break
    except InputError as error:
        yield Finding(Level.NOTE, f"not read, because its source cannot be: {error}")
        return
    if not n_events:
        of = f" in {format_count(n_batches, 'batch', 'batches')}" if n_batches else ""
        yield Finding(Level.NOTE, f"its source has no events{of}")
        return
    read = f"{format_count(n_events, 'event')} in {format_count(n_batches, 'batch', 'batches')}"
    yield Finding(Level.HOLDS, f"read {read}; features: {', '.join(names)}")
    if n_nan:
        yield Finding(Level.NOTE, f"{n_nan} of {format_count(n_events, 'event')} have NaN. {NAN_IN_DAEMON}")


def _look_at_readings(name: str, options: dict[str, object]) -> Iterator[Finding]:
    try:
        open_readings(name, options, Path.cwd())
    except ConfigError as error:
        yield Finding(Level.UNTRIED, f"not tried: {error}. Options are given by --set KEY=VALUE")
        return
    yield Finding(Level.HOLDS, "made; nothing is opened before a collector runs")


def _look_at_transformation(name: str, _options: dict[str, object]) -> Iterator[Finding]:
    import numpy as np

    from dqm.reference.manifest import Transform
    from dqm.reference.nuisances import find_transformation

    change = find_transformation(Transform(name=name, features=("a",)), ("a", "b"))
    x = np.random.default_rng(1).normal(size=(10, 2))
    for nu in (0.0, 0.1):
        change(x, nu)
    yield Finding(Level.HOLDS, "gives events for events")
