"""Changes of means, widths and correlations of normal features: `several` beside single kernels and rivals.

``python -m tests.studies.smooth_changes OUTPUT`` draws 1, 2, 5 and 12 features, correlated by 0.5. Share of
faulty windows above the 95 % quantile of healthy ones of the same reference: of `several`, of `several`
without its smooth kernels, of the best single kernel of many widths and penalties (chosen with one half of
the windows and measured with the other), of the energy distance, and of Kolmogorov and Smirnov. Finished
references are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dqm.events import FloatArray
from dqm.nplm import SeveralTest
from dqm.nplm.peers import EnergyTest, KolmogorovTest
from tests.studies.feature_faults import SINGLES, best_in_hindsight
from tests.studies.kept_rows import complete, show

FEATURES = (1, 2, 5, 12)
CORRELATION = 0.5
SIZES = ((2000, 100, 0.22), (2000, 200, 0.17), (5000, 500, 0.1))
"""Events of the reference and of a window, and the size of a change: of all means, in standard deviations."""

N_CENTERS = 300
PER_REFERENCE = 10
"""Events of the run for each of the reference."""

Draw = Callable[[int, np.random.Generator], FloatArray]
"""Draws some events, shape (n, d)."""


def draw(n_features: int, n: int, rng: np.random.Generator, correlation: float = CORRELATION) -> FloatArray:
    """Draw normal events, shape (n, n_features), of variance 1."""
    common = rng.normal(size=(n, 1))
    return np.sqrt(correlation) * common + np.sqrt(1.0 - correlation) * rng.normal(size=(n, n_features))


def faults(n_features: int, size: float) -> dict[str, Draw]:
    """Give what may go wrong; with an only feature, one mean is all of them."""
    one = np.eye(n_features)[0]
    made = {
        "one mean": lambda n, rng: draw(n_features, n, rng) + 1.6 * size * one,
        "one width": lambda n, rng: draw(n_features, n, rng) * (1.0 + 1.3 * size * one),
    }
    if n_features > 1:
        made |= {
            "all means": lambda n, rng: draw(n_features, n, rng) + size,
            "all widths": lambda n, rng: draw(n_features, n, rng) * (1.0 + 0.7 * size),
            "correlation": lambda n, rng: draw(n_features, n, rng, CORRELATION - 1.1 * size),
        }
    return made


def judge(n_features: int, place: int, number: int, n_windows: int) -> dict[str, Any]:
    """Give the statistics of all tests for healthy and faulty windows of one reference."""
    n_reference, size, change = SIZES[place]
    rng = np.random.default_rng([n_features, place, number])

    def healthy(n: int, rng: np.random.Generator) -> FloatArray:
        return draw(n_features, n, rng)

    return {"t": measure_windows(n_reference, size, healthy, faults(n_features, change), n_windows, rng)}


def measure_windows(
    n_reference: int,
    size: int,
    healthy: Draw,
    faulty: Mapping[str, Draw],
    n_windows: int,
    rng: np.random.Generator,
) -> dict[str, list[list[float]]]:
    """Test windows of each fault and four times as many healthy ones against one reference.

    Returns
    -------
    dict
        For each condition a list of windows, of each t of `several`, of `several` without smooth kernels, of
        the energy distance, of Kolmogorov and Smirnov, and of all single kernels.
    """
    run = healthy(PER_REFERENCE * n_reference, rng)
    reference, centers = run[:n_reference], run[:N_CENTERS]
    settings = SeveralTest.tune(run, n_reference=n_reference, n_expected=size, n_centers=N_CENTERS, rng=rng)
    several = SeveralTest(reference, n_expected=size, centers=centers, **settings)
    others = [k for k, one in enumerate(several.settings) if not one.is_smooth]
    widths, penalties = zip(*SINGLES, strict=True)
    singles = SeveralTest(
        reference, n_expected=size, centers=centers, width=widths, penalty=penalties, feature_width=()
    )
    rivals = [EnergyTest(reference), KolmogorovTest(reference)]
    t: dict[str, list[list[float]]] = {}
    for condition, events in {"healthy": healthy, **faulty}.items():
        for _ in range(4 * n_windows if condition == "healthy" else n_windows):
            x = events(size, rng)
            log_p = several.evaluate(x).log_p
            found = [-log_p.min(), -log_p[others].min(), *(one.evaluate(x) for one in rivals)]
            found += (-singles.evaluate(x).log_p[: len(SINGLES)]).tolist()
            t.setdefault(condition, []).append([float(value) for value in found])
    return t


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Give the lines of what was found so far: of the windows above the 95 % quantile of their reference."""
    tests = "`several` | without smooth kernels | best single | energy | Kolmogorov-Smirnov"
    yield f"| features | N_R, window | references | change | {tests} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for what, place in sorted({(row["part"][0], row["part"][1]) for row in rows}):
        n_reference, size, _ = SIZES[place]
        mine = [row["t"] for row in rows if row["part"][:2] == [what, place]]
        limits = [np.quantile(t["healthy"], 0.95, axis=0) for t in mine]
        for fault in mine[0]:
            if fault == "healthy":
                continue
            seen = np.concatenate([t[fault] > limit for t, limit in zip(mine, limits, strict=True)])
            several, without, energy, kolmogorov = seen[:, :4].mean(axis=0)
            yield (
                f"| {what} | {n_reference}, {size} | {len(mine)} | {fault} | {several:.2f} | {without:.2f} | "
                f"{best_in_hindsight(seen[:, 4:]):.2f} | {energy:.2f} | {kolmogorov:.2f} |"
            )


def main() -> None:
    """Go through references, sizes and numbers of features, but for those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--references", type=int, default=4, help="of each size and number of features")
    parser.add_argument("--windows", type=int, default=40, help="of each fault; four times as many healthy")
    arguments = parser.parse_args()
    parts = [(d, p, n) for n in range(arguments.references) for p in range(len(SIZES)) for d in FEATURES]
    kept = arguments.output / "smooth_changes.jsonl"
    show(complete(kept, parts, partial(judge, n_windows=arguments.windows), table))


if __name__ == "__main__":
    main()
