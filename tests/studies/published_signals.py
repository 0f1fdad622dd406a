"""The published comparison of tests of several kernel widths: an exponential reference and five signals.

``python -m tests.studies.published_signals OUTPUT`` makes the comparison of arXiv 2408.12296 with a tenth of
its reference and 300 centres; ``--full`` takes its N_R = 200 000 and 1000 centres. Either takes some
minutes. Power at Z = 2 and 3 of the statistic
``several`` and of single kernels fitted to convergence. The best single kernel of each signal is chosen with
half of the toys and measured with the other half. Called again, the study goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest
from dqm.reference.processes import one_thread

N_EXPECTED, PENALTY = 2000, 1e-6
SIGNALS = {
    "7 at 4 +- 0.01": (7, 4.0, 0.01),
    "18 at 4 +- 0.16": (18, 4.0, 0.16),
    "13 at 4 +- 0.64": (13, 4.0, 0.64),
    "90 at 1.6 +- 0.16": (90, 1.6, 0.16),
    "10 at 6.4 +- 0.16": (10, 6.4, 0.16),
}
"""Events expected, place and spread."""

WIDTHS = (0.1, 0.3, 0.7, 2.3)
"""Single kernels, in standard deviations."""

LEVELS = (2.0, 3.0)
CHUNK = 50


def draw(signal: str, rng: np.random.Generator) -> FloatArray:
    """Draw a window: a Poisson number of events of the reference, and of the signal."""
    x = rng.exponential(size=rng.poisson(N_EXPECTED))
    if signal in SIGNALS:
        n, place, spread = SIGNALS[signal]
        x = np.concatenate([x, rng.normal(place, spread, rng.poisson(n))])
    return x[:, None]


def make_tests(n_reference: int, n_centers: int) -> dict[str, KernelTest | SeveralTest]:
    """Set up all tests on the same reference and centres."""
    rng = np.random.default_rng(1)
    run = rng.exponential(size=(2 * n_reference, 1))
    reference, centers = run[:n_reference], run[:n_centers]
    settings = SeveralTest.tune(
        run,
        n_reference=n_reference,
        n_expected=N_EXPECTED,
        n_centers=n_centers,
        rng=rng,
        is_poisson=True,
    )
    tests: dict[str, KernelTest | SeveralTest] = {
        "several": SeveralTest(reference, n_expected=N_EXPECTED, centers=centers, **settings)
    }
    for width in WIDTHS:
        tests[f"width {width:g}"] = KernelTest(
            reference, n_expected=N_EXPECTED, width=width, penalty=PENALTY, centers=centers
        )
    return tests


def table(rows: list[dict[str, list[float]]], n_reference: int) -> str:
    """Summarise the toys so far."""
    lines = [
        f"| signal (N_R = {n_reference}, toys) | Z | several | best single in hindsight | which |",
        "|---|---|---|---|---|",
    ]
    t = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    names = [f"width {width:g}" for width in WIDTHS]
    n_healthy = len(t["several/healthy"])
    for signal in SIGNALS:
        for level in LEVELS:
            share = {
                name: t[f"{name}/{signal}"] > _limit(t[f"{name}/healthy"], level)
                for name in ("several", *names)
            }
            best = max(names, key=lambda name, share=share: share[name][::2].mean())
            n = len(share["several"])
            lines.append(
                f"| {signal} ({n} of {n_healthy} healthy) | {level:g} | {_with_error(share['several'])} | "
                f"{_with_error(share[best][1::2])} | {best} |"
            )
    return "\n".join(lines) + "\n"


def _limit(healthy: FloatArray, level: float) -> float:
    """Value that healthy windows exceed with the probability of Z: a shifted gamma where toys are too few."""
    if len(healthy) * stats.norm.sf(level) >= 5:
        return float(np.quantile(healthy, stats.norm.cdf(level)))
    return float(
        stats.pearson3.isf(stats.norm.sf(level), max(0.0, stats.skew(healthy)), healthy.mean(), healthy.std())
    )


def _with_error(seen: FloatArray) -> str:
    error = np.sqrt(seen.mean() * (1 - seen.mean()) / len(seen))
    return f"{seen.mean():.2f} +- {error:.2f}"


def main() -> None:
    """Throw toys in chunks; keep each, and write the table after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--full", action="store_true", help="the published size of the reference")
    parser.add_argument(
        "--toys", type=int, default=200, help="of each signal; five times as many healthy ones"
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    n_reference, n_centers = (200_000, 1000) if arguments.full else (20_000, 300)
    kept = arguments.output / f"published_signals_{n_reference}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    with one_thread():
        tests = make_tests(n_reference, n_centers)
        for chunk in range(len(rows), max(1, arguments.toys // CHUNK)):
            row: dict[str, list[float]] = {}
            for place, signal in enumerate(("healthy", *SIGNALS)):
                rng = np.random.default_rng([2, chunk, place])
                windows = [draw(signal, rng) for _ in range(CHUNK * (1 if place else 5))]
                for name, test in tests.items():
                    row[f"{name}/{signal}"] = [float(test.evaluate(x).t) for x in windows]
            rows.append(row)
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            (arguments.output / f"published_signals_{n_reference}.md").write_text(table(rows, n_reference))


if __name__ == "__main__":
    main()
