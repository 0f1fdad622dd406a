"""Changes of means, widths and correlations of normal features: `several` beside single kernels and rivals.

``python -m tests.studies.smooth_changes OUTPUT`` draws 1, 2, 5 and 12 features, correlated by 0.5. Share of
faulty windows above the 95 % quantile of healthy ones of the same reference: of `several`, of `several`
without its smooth kernels, of the best single kernel of many widths and penalties (chosen with one half of
the windows and measured with the other), of the energy distance, and of Kolmogorov and Smirnov. Finished
references are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dqm.events import FloatArray
from dqm.nplm import SeveralTest
from dqm.nplm.peers import EnergyTest, KolmogorovTest
from dqm.reference.processes import one_thread
from tests.studies.feature_faults import SINGLES, best_in_hindsight

FEATURES = (1, 2, 5, 12)
CORRELATION = 0.5
SIZES = ((2000, 100, 0.22), (2000, 200, 0.17), (5000, 500, 0.1))
"""Events of the reference and of a window, and the size of a change: of all means, in standard deviations."""

N_CENTERS = 300
PER_REFERENCE = 10
"""Events of the run for each of the reference."""


def draw(n_features: int, n: int, rng: np.random.Generator, correlation: float = CORRELATION) -> FloatArray:
    """Draw normal events, shape (n, n_features), of variance 1."""
    common = rng.normal(size=(n, 1))
    return np.sqrt(correlation) * common + np.sqrt(1.0 - correlation) * rng.normal(size=(n, n_features))


def faults(n_features: int, size: float) -> dict[str, Callable[[int, np.random.Generator], FloatArray]]:
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
    run = draw(n_features, PER_REFERENCE * n_reference, rng)
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

    def healthy(n: int, rng: np.random.Generator) -> FloatArray:
        return draw(n_features, n, rng)

    for condition, events in {"healthy": healthy, **faults(n_features, change)}.items():
        for _ in range(4 * n_windows if condition == "healthy" else n_windows):
            x = events(size, rng)
            log_p = several.evaluate(x).log_p
            found = [-log_p.min(), -log_p[others].min(), *(one.evaluate(x) for one in rivals)]
            found += (-singles.evaluate(x).log_p[: len(SINGLES)]).tolist()
            t.setdefault(condition, []).append([float(value) for value in found])
    return {"features": n_features, "place": place, "number": number, "t": t}


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Give the lines of what was found so far."""
    tests = "`several` | without smooth kernels | best single | energy | Kolmogorov-Smirnov"
    yield f"| features | N_R, window | change | {tests} |"
    yield "|---|---|---|---|---|---|---|---|"
    for place, (n_reference, size, _) in enumerate(SIZES):
        for n_features in FEATURES:
            mine = [row["t"] for row in rows if (row["features"], row["place"]) == (n_features, place)]
            if not mine:
                continue
            limits = [np.quantile(t["healthy"], 0.95, axis=0) for t in mine]
            for fault in mine[0]:
                if fault == "healthy":
                    continue
                seen = np.concatenate([t[fault] > limit for t, limit in zip(mine, limits, strict=True)])
                best = best_in_hindsight(seen[:, 4:])
                several, without, energy, kolmogorov = seen[:, :4].mean(axis=0)
                yield (
                    f"| {n_features} | {n_reference}, {size} | {fault} | {several:.2f} | {without:.2f} | "
                    f"{best:.2f} | {energy:.2f} | {kolmogorov:.2f} |"
                )


def main() -> None:
    """Go through references, sizes and numbers of features, but for those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--references", type=int, default=4, help="of each size and number of features")
    parser.add_argument("--windows", type=int, default=40, help="of each fault; four times as many healthy")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "smooth_changes.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(row["features"], row["place"], row["number"]) for row in rows}
    parts = [(d, p, n) for n in range(arguments.references) for p in range(len(SIZES)) for d in FEATURES]
    for place, part in enumerate(parts):
        if part in known:
            continue
        with one_thread():
            rows.append(judge(*part, arguments.windows))
        with kept.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        (arguments.output / "smooth_changes.md").write_text("\n".join(table(rows)) + "\n")
        sys.stdout.write(f"{place + 1} of {len(parts)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
