"""Windows of later good runs, tested with a bundle as in the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, Measurement, Origin, Window, WindowCut
from dqm.reference.constraints import ReadingPolicy
from dqm.reference.evaluator import Evaluator
from dqm.reference.manifest import WindowKind
from dqm.reference.processes import Workers, one_thread
from dqm.reference.stored_bundle import StoredBundle

__all__ = ["LaterOutcome", "LaterRun", "LaterWork", "count_later", "evaluate_later"]

MOST_WINDOWS = 300
"""Most windows of a run that are tested, spread over it."""

AT_ONCE = 10

SHOWN_P = 0.01
"""p below which the place of the departure is given."""


@dataclass(frozen=True, slots=True, eq=False)
class LaterRun:
    """Events of a later run.

    Parameters
    ----------
    name : str
        What people call it, such as its file.
    x : ndarray, shape (n_events, d)
        Events in the features of the bundle, in the order of time.
    measured : tuple of Measurement
        Nuisance parameters, as slow control measured them.
    """

    name: str
    x: FloatArray
    measured: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LaterOutcome:
    """Results of a later run.

    Parameters
    ----------
    name : str
        The run.
    p : ndarray, shape (n_windows,)
        p-values of its windows.
    seen : str
        Where the window with the smallest p departs; empty if no p is small.
    """

    name: str
    p: FloatArray
    seen: str


@dataclass(frozen=True, slots=True)
class LaterWork:
    """Task of `Workers`: windows in; p out, or the reason why there is none.

    Parameters
    ----------
    bundle : Path
        The bundle.
    identifier : str
        Its identifier.
    policy : ReadingPolicy
        What to do without a measurement of a nuisance parameter.
    """

    bundle: Path
    identifier: str
    policy: ReadingPolicy

    def prepare(self, path: Path) -> Callable[[Sequence[Window]], list[tuple[float, str]]]:
        """Open the bundle; raises `BundleError` if it is another one."""
        bundle = StoredBundle.read(path)
        bundle.check_identifier(self.identifier)
        evaluator = Evaluator(bundle, self.policy)
        return lambda windows: [_test(evaluator, window) for window in windows]


def count_later(run: LaterRun, kind: WindowKind) -> int:
    """Count the windows of a run that will be tested, approximately."""
    return min(MOST_WINDOWS, int(len(run.x) // kind.n_expected))


def evaluate_later(
    bundle: StoredBundle,
    run: LaterRun,
    *,
    kind: WindowKind,
    workers: Workers,
    progress: Callable[[int, int], None],
) -> LaterOutcome:
    """Test windows of a later run.

    Parameters
    ----------
    bundle : StoredBundle
        Calibrated for `kind`.
    run : LaterRun
        The run.
    kind : WindowKind
        The windows that are cut from it.
    workers : Workers
        Who does it.
    progress : callable
        Told the windows done and the total.

    Raises
    ------
    InputError
        If it has too few events for a window, or a window cannot be tested.
    WorkerError
        If the workers are lost.
    """
    windows = _cut(run, kind, bundle.manifest.features)
    policy = ReadingPolicy(unmeasured="free" if kind.free else "null")
    items = [windows[first : first + AT_ONCE] for first in range(0, len(windows), AT_ONCE)]
    found: list[list[tuple[float, str]]] = [[] for _ in items]
    progress(0, len(windows))
    for place, results in workers.run(LaterWork(bundle.path, bundle.identifier, policy), items):
        found[place] = results
        progress(sum(map(len, found)), len(windows))
    results = [result for part in found for result in part]
    reasons = [reason for _, reason in results if reason]
    if reasons:
        raise InputError(
            f"{format_count(len(reasons), 'window')} of {len(results)} cannot be tested: {reasons[0]}",
            where=run.name,
            fix="Give what slow control measured with --measured NAME=VALUE, or --free NAME",
        )
    p = np.array([p for p, _ in results])
    worst = int(p.argmin())
    seen = _look(bundle, policy, windows[worst]) if p[worst] < SHOWN_P else ""
    return LaterOutcome(run.name, p, seen)


def _cut(run: LaterRun, kind: WindowKind, names: tuple[str, ...]) -> list[Window]:
    """Cut consecutive events into windows; those cut by time have a random number of events, as toys have."""
    rng = np.random.default_rng(0)
    cuts = []
    first = 0
    is_timed = kind.cut is WindowCut.TIME
    while True:
        n = max(1, int(rng.poisson(kind.n_expected))) if is_timed else round(kind.n_expected)
        if first + n > len(run.x):
            break
        cuts.append(run.x[first : first + n])
        first += n
    if not cuts:
        raise InputError(
            f"{format_count(len(run.x), 'event')} are fewer than a window of {kind.n_expected:g}",
            where=run.name,
            fix="Give a longer run",
        )
    chosen = np.unique(np.linspace(0, len(cuts) - 1, min(MOST_WINDOWS, len(cuts))).round().astype(int))
    return [
        Window(
            stream="",
            run=0,
            seq=int(seq),
            run_type="",
            origin=Origin.REPLAYED,
            cut=kind.cut,
            names=names,
            x=cuts[seq],
            n_expected=kind.n_expected if is_timed else None,
            auxiliary=run.measured,
        )
        for seq in chosen
    ]


def _test(evaluator: Evaluator, window: Window) -> tuple[float, str]:
    evaluation = evaluator.evaluate(window)
    return (1.0, evaluation.reason) if evaluation.p is None else (evaluation.p, "")


def _look(bundle: StoredBundle, policy: ReadingPolicy, window: Window) -> str:
    """Say where one window departs; this takes longer than its test."""
    with one_thread():
        found = Evaluator(bundle, policy).evaluate(window).find_explanation()
    return found.text if found else ""
