"""A demonstration on a user's own good run: a reference of its first part, then healthy and faulty windows.

Every stream gets windows of the second part, in their order. Each stream begins at another place, so that
they do not share a fluctuation. After a third of them its fault begins. If the events have times and their
rate is steady, windows are cut by time, and their number of events is tested as well.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dqm.demo.faults import EventFault, choose_faults
from dqm.demo.scenario import Injection, Scenario
from dqm.errors import InputError, format_count
from dqm.events import FloatArray, WindowCut
from dqm.reference import Recipe, calibrate, choose_reference_size, create_bundle, open_bundle, refuse_run
from dqm.reference.manifest import VERSION
from dqm.service.installation import choose_window
from dqm.service.offline.feature_files import Reading, list_inputs, read_features
from dqm.service.offline.run_advice import Budget

__all__ = ["HEALTHY", "OwnRun", "own_scenario", "prepare_own_reference", "read_own_run"]

HEALTHY = "healthy"

SHARE_OF_REFERENCE = 0.6
"""Share of the run that the reference is made of."""

FEWEST_WINDOWS = 8
"""Fewest windows of each stream."""

MOST_WINDOWS = 30
"""Most windows of each stream."""

HEALTHY_SHARE = 1 / 3
"""Share of the windows before the fault begins."""

LARGEST_WINDOW = 500.0
USUAL_LEAST = 50
"""Events from which on the shape is tested, as ``[quality] min_events``."""

LEAST_SHARE = 0.25
"""The same for a small window: this share of its events."""

STEADY_UNCERTAINTY = 0.02
"""Relative uncertainty of the expected number of events, as ``[quality] rate_uncertainty``."""

STEADY_Z = 4.0
"""Largest departure of the number in a window, in a run that counts as steady."""

EDGE_SECONDS = 1e-5
"""Least time between an event and the end of a window, s: float64 resolves 2.4e-7 s of today's Unix time."""

START_SECONDS = 5.0
"""Time until the collectors have started, s."""

N_TOYS = 1000
SEED = 7


@dataclass(frozen=True, slots=True, eq=False)
class OwnRun:
    """A good run, divided in time.

    Parameters
    ----------
    names : tuple of str
        Features.
    known : ndarray, shape (n, d)
        Events of the first part, which the reference is made of.
    windows : list of (ndarray, ndarray)
        Events of each window of the second part, shape (n_events, d), and their times within it, in [0, 1).
    window : float
        Events expected in a window.
    cut : WindowCut
        What closes the windows.
    remark : str
        Why the number of events is not tested; empty if it is.
    """

    names: tuple[str, ...]
    known: FloatArray
    windows: list[tuple[FloatArray, FloatArray]]
    window: float
    cut: WindowCut
    remark: str


def read_own_run(
    files: Sequence[Path],
    features: Sequence[str] | None = None,
    chamber: str | None = None,
    window: float | None = None,
    *,
    reading: Reading | None = None,
) -> OwnRun:
    """Read a good run and divide it.

    Parameters
    ----------
    files : sequence of Path
        Files of features in the order of time, patterns and directories.
    features : sequence of str, optional
        Those to use; all by default.
    chamber : str, optional
        The chamber; by default that with the most events.
    window : float, optional
        Events of a window; by default the largest that the run allows.
    reading : Reading, optional
        How the files are read, as of `dqm.service.offline.feature_files`.

    Raises
    ------
    InputError
        If a file cannot be used, or the run is too short; the message says how long it must be.
    """
    names, x, times = _read(files, features, chamber, reading)
    refuse_run(x, names, str(files[0]))
    n_known = round(SHARE_OF_REFERENCE * len(x))
    n_rest = len(x) - n_known
    if window is None:
        largest = min(LARGEST_WINDOW, n_rest / FEWEST_WINDOWS)
        threshold = Budget.of(1, 1.0, 60.0).thresholds.p_threshold
        window = choose_window(n_known, WindowCut.TIME, threshold, largest)
    if n_rest < FEWEST_WINDOWS * window:
        needed = math.ceil(FEWEST_WINDOWS * window / (1.0 - SHARE_OF_REFERENCE))
        raise InputError(
            f"{format_count(len(x), 'event')} are too few: {FEWEST_WINDOWS} windows of {window:g} beside the "
            f"reference need {needed}",
            where=str(files[0]),
            fix="Give a longer run, or smaller windows by --window",
        )
    remark = _why_unsteady(times, n_known, window)
    if remark:
        size = round(window)
        cuts = [x[at : at + size] for at in range(n_known, len(x) - size + 1, size)]
        windows = [(part, np.linspace(0.0, 1.0, len(part), endpoint=False)) for part in cuts]
        return OwnRun(names, x[:n_known], windows, float(size), WindowCut.COUNT, remark)
    windows = list(_cut_by_time(x, times, n_known, window)) if times is not None else []
    return OwnRun(names, x[:n_known], windows, window, WindowCut.TIME, "")


def _read(
    files: Sequence[Path], features: Sequence[str] | None, chamber: str | None, reading: Reading | None
) -> tuple[tuple[str, ...], FloatArray, FloatArray | None]:
    """Read features and times of the chamber that is wanted, or of the one with the most events."""
    parts: dict[str, list[FloatArray]] = {}
    times: dict[str, list[FloatArray]] = {}
    names: tuple[str, ...] = ()
    paths = [file.path for file in list_inputs(files, reading)]
    for path in paths:
        for batch in read_features(path, features, chamber, reading=reading):
            key = batch.chamber if len(paths) == 1 or chamber else ""
            names = batch.names
            parts.setdefault(key, []).append(batch.x)
            if batch.times is not None:
                times.setdefault(key, []).append(batch.times)
    if not parts:
        raise InputError(
            f"no events of chamber {chamber}" if chamber else "no events",
            where=str(files[0]),
            fix="Give other files, or another chamber with --chamber",
        )
    largest = max(parts, key=lambda key: sum(map(len, parts[key])))
    found = np.concatenate(times[largest]) if largest in times else None
    return names, np.concatenate(parts[largest]), found


def _why_unsteady(times: FloatArray | None, n_known: int, window: float) -> str:
    """Say why the number of events cannot be tested; empty if it can."""
    if times is None:
        return "the file has no column time, so the number of events is not tested"
    if np.any(np.diff(times) < 0) or times[n_known - 1] <= times[0]:
        return "the times of the files do not follow each other, so the number of events is not tested"
    seconds = window * (times[n_known - 1] - times[0]) / (n_known - 1)
    edges = np.arange(times[0], times[-1], seconds)
    counts = np.histogram(times, edges)[0]
    z = (counts - window) / math.hypot(math.sqrt(window), STEADY_UNCERTAINTY * window)
    drift = z.mean() * math.sqrt(len(z)) if len(z) else 0.0
    if np.abs(z).max(initial=0.0) > STEADY_Z or abs(drift) > STEADY_Z:
        low, high = counts.min() / window, counts.max() / window
        return (
            f"the rate of this run is not steady ({low:.0%} to {high:.0%} of its mean in windows of "
            f"{seconds:.3g} s), so the number of events is not tested"
        )
    return ""


def _cut_by_time(
    x: FloatArray, times: FloatArray, n_known: int, window: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    seconds = window * (times[n_known - 1] - times[0]) / (n_known - 1)
    first = times[n_known]
    for place in range(int((times[-1] - first) / seconds)):
        begin = first + place * seconds
        low, high = np.searchsorted(times, [begin, begin + seconds])
        yield x[low:high], (times[low:high] - begin) / seconds


def prepare_own_reference(run: OwnRun, cache: Path, progress: Callable[[int, int], None]) -> Path:
    """Make the calibrated bundle of the first part, if it is not in the cache.

    Parameters
    ----------
    run : OwnRun
        The run.
    cache : Path
        Directory of the bundle.
    progress : callable
        Called with the number of finished toys and the total.
    """
    recipe = Recipe(
        features=run.names,
        n_reference=choose_reference_size(len(run.known), run.window),
        n_expected=run.window,
        seed=SEED,
        cut=run.cut,
        statistic="several",
    )
    content = f"{VERSION}{recipe}".encode() + run.known.tobytes()
    path = cache / f"own-{hashlib.sha256(content).hexdigest()[:12]}.dqmref"
    bundle = open_bundle(path) if path.exists() else create_bundle(run.known, recipe, path)
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, progress=progress)
    return path


def own_scenario(run: OwnRun, bundle: Path, directory: Path, seconds: float) -> Scenario:
    """Write what each stream replays, and say what will be wrong with it.

    Parameters
    ----------
    run : OwnRun
        The run.
    bundle : Path
        Its reference.
    directory : Path
        Where the files go; replaced if they are there.
    seconds : float
        Length of the timeline, s.

    Returns
    -------
    Scenario
        To be run at once: the times of the events begin now.
    """
    faults = choose_faults(run.known, run.names, counts_events=run.cut is WindowCut.TIME)
    n_windows = min(MOST_WINDOWS, len(run.windows))
    length = seconds / n_windows
    n_healthy = math.ceil(HEALTHY_SHARE * n_windows)
    begin = time.time() + START_SECONDS
    streams: list[EventFault | None] = [None, *faults]
    collectors = {}
    for place, fault in enumerate(streams):
        name = HEALTHY if fault is None else fault.name
        first = place * len(run.windows) // len(streams)
        chosen = [run.windows[(first + k) % len(run.windows)] for k in range(n_windows)]
        file = directory / f"{name}.parquet"
        _write(file, run.names, _replay(chosen, fault, n_healthy, length), begin=begin, length=length)
        collectors[name] = _collector_config(name, file, run, length)
    return Scenario(
        bundles=dict.fromkeys(collectors, bundle),
        collectors=collectors,
        faults=tuple(Injection(one.name, n_healthy * length, one.label, one.cause) for one in faults),
        seconds=seconds + 2.0 * length,  # until the last windows are judged
        windows_per_hour=3600.0 / length,
        min_events=min(USUAL_LEAST, round(LEAST_SHARE * run.window)),
    )


def _replay(
    windows: Sequence[tuple[FloatArray, FloatArray]], fault: EventFault | None, n_healthy: int, length: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield events and times, in s after the begin, of each window; from `n_healthy` on with the fault."""
    rng = np.random.default_rng(SEED)
    for place, (x, within) in enumerate(windows):
        rows = np.column_stack([x, within])
        if fault is not None and place >= n_healthy:
            changed = fault.change(x, rng)
            moments = np.sort(rng.uniform(0.0, 1.0, len(changed)))
            rows = np.column_stack([changed[rng.permutation(len(changed))], moments])
        yield rows[:, :-1], length * (place + np.minimum(rows[:, -1], np.nextafter(1.0, 0.0)))


def _write(
    path: Path,
    names: Sequence[str],
    parts: Iterator[tuple[FloatArray, FloatArray]],
    *,
    begin: float,
    length: float,
) -> None:
    events, times = zip(*parts, strict=True)
    x = np.concatenate(events)
    moments = np.concatenate(times)
    # a collector is live from its first event to its last one: so all windows are live as a whole
    moments[0], moments[-1] = 0.0, math.ceil(moments[-1] / length) * length - EDGE_SECONDS
    columns = {"time": begin + moments} | {name: x[:, k] for k, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)


def _collector_config(name: str, file: Path, run: OwnRun, length: float) -> str:
    if run.cut is WindowCut.COUNT:
        window = f"events = {run.window:.0f}"
    else:
        window = f"seconds = {length}\nexpected_rate_hz = {run.window / length}"
    return f"""[collector]
name = "replay"
run = 1
run_type = "demo"
connect = "ipc://windows.ipc"

[window]
{window}

[options]
inputs = ["{file.name}"]
speed = 1.0

[streams]
0 = "{name}"
"""
