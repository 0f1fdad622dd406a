"""Two and three features whose events fill little of the space: `several` beside single kernels and rivals.

``python -m tests.studies.structured_features OUTPUT`` is `tests.studies.smooth_changes` with other events:
skewed features, a ring (hits around a pipe) and a narrow band (energy and range). What goes wrong is large in
small windows and small in large ones. Finished references are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dqm.events import FloatArray
from tests.studies.kept_rows import complete, show
from tests.studies.smooth_changes import SIZES, Draw, measure_windows, table


def skewed(n: int, rng: np.random.Generator) -> FloatArray:
    """An exponential, a second one that follows it in part, and a uniform one."""
    first = rng.exponential(size=n)
    return np.column_stack([first, 0.5 * first + rng.gamma(2.0, 0.5, n), rng.uniform(-1.0, 1.0, n)])


def ring(n: int, rng: np.random.Generator) -> FloatArray:
    """A circle with a width of 15 %, and an energy with two peaks."""
    angle, radius = rng.uniform(0.0, 2.0 * np.pi, n), rng.normal(1.0, 0.15, n)
    energy = np.where(rng.random(n) < 0.5, rng.normal(1.0, 0.1, n), rng.normal(2.0, 0.3, n))
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), energy])


def band(n: int, rng: np.random.Generator) -> FloatArray:
    """A feature and nearly its square, and a normal one."""
    first = rng.uniform(size=n)
    return np.column_stack([first, first**2 + rng.normal(0.0, 0.03, n), rng.normal(size=n)])


SHAPES: dict[str, Draw] = {"skewed": skewed, "ring": ring, "band": band}


def faults(healthy: Draw, size: float) -> dict[str, Draw]:
    """Give what may go wrong with events; `size` is small for large windows."""
    sample = healthy(20_000, np.random.default_rng(0))
    spread = sample.std(axis=0)
    low, high = np.quantile(sample, [0.01, 0.99], axis=0)
    begin, end = np.quantile(sample[:, 0], [0.3, 0.3 + 1.2 * size])
    first, second = np.eye(sample.shape[1])[:2]

    def part(share: float, change: Callable[[FloatArray, np.random.Generator], FloatArray]) -> Draw:
        def draw(n: int, rng: np.random.Generator) -> FloatArray:
            x = healthy(n, rng)
            k = rng.binomial(n, share)
            x[:k] = change(x[:k], rng)
            return x

        return draw

    def swap(x: FloatArray, rng: np.random.Generator) -> FloatArray:
        return np.column_stack([x[:, 0], rng.permutation(x[:, 1]), x[:, 2:]])

    def cluster(x: FloatArray, rng: np.random.Generator) -> FloatArray:
        return sample[rng.integers(len(sample))] + rng.normal(0.0, 0.05 * spread, x.shape)

    def lose(n: int, rng: np.random.Generator) -> FloatArray:
        x = healthy(2 * n, rng)
        lost = (x[:, 0] > begin) & (x[:, 0] < end) & (rng.random(len(x)) < 0.8)
        return x[~lost][:n]

    return {
        "mean of the second": lambda n, rng: healthy(n, rng) + 1.5 * size * spread * second,
        "gain of the first": lambda n, rng: healthy(n, rng) * (1.0 + 1.2 * size * first),
        "smearing": lambda n, rng: healthy(n, rng) + rng.normal(0.0, 1.2 * size * spread, (n, len(spread))),
        "second of another event": part(0.7 * size + 0.02, swap),
        "cluster, 4 %": part(0.04, cluster),
        "one event in 5 %": part(0.05, lambda x, _: np.broadcast_to(x[:1], x.shape)),
        "noise": part(0.5 * size, lambda x, rng: rng.uniform(low, high, x.shape)),
        "a part moved": part(size + 0.05, lambda x, _: x + 0.4 * spread * first),
        "lost range": lose,
    }


def judge(what: str, place: int, number: int, n_windows: int) -> dict[str, Any]:
    """Give the statistics of all tests for healthy and faulty windows of one reference."""
    n_reference, size, change = SIZES[place]
    n_features, shape = int(what[0]), what[2:]
    rng = np.random.default_rng([n_features, list(SHAPES).index(shape), place, number])

    def healthy(n: int, rng: np.random.Generator) -> FloatArray:
        return SHAPES[shape](n, rng)[:, :n_features]

    return {"t": measure_windows(n_reference, size, healthy, faults(healthy, change), n_windows, rng)}


def main() -> None:
    """Go through references, sizes and shapes, but for those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--references", type=int, default=3, help="of each size and shape")
    parser.add_argument("--windows", type=int, default=40, help="of each fault; four times as many healthy")
    arguments = parser.parse_args()
    parts = [
        (f"{n_features} {shape}", place, number)
        for number in range(arguments.references)
        for place in range(len(SIZES))
        for n_features in (2, 3)
        for shape in SHAPES
    ]
    kept = arguments.output / "structured_features.jsonl"
    show(complete(kept, parts, partial(judge, n_windows=arguments.windows), table))


if __name__ == "__main__":
    main()
