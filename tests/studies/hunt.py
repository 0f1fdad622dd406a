"""Does a hunt along a coordinate keep its p, and what does it see that windows dilute?

``python -m tests.studies.hunt OUTPUT`` writes tables and a figure into OUTPUT, and each hunt that is done
into ``hunts.jsonl``, from where an interrupted study goes on. Events are those of the simulated chamber.

* ``healthy``: p of hunts without a fault, with a slow drift, and with dead times that come again and again.
* ``faults``: the share of runs with p of the whole hunt at most 0.05, beside that of runs of which a window
  is above the threshold of `several`, and of an autoencoder, on windows as wide as the widest of the hunt.
  Their thresholds leave 5 % of healthy runs above it, all windows counted.
* ``classifiers``: what the classifiers of a hunt, boosted trees and a small network gain in a window with a
  fault, and their time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import Hunt, SeveralTest, hunt_p
from dqm.nplm.hunt import N_FOLDS, SHARES
from dqm.nplm.peers import AutoencoderTest
from dqm.reference import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import events

RATE_HZ, N_POSITIONS = 14.0, 20
N_POOL, N_REFERENCE, N_HEALTHY = 200_000, 5000, 1000
LEVEL = 0.05
PARTS = ("classifiers", "healthy", "faults")
Run = tuple[FloatArray, FloatArray]
"""Events and their coordinate, ascending."""

Make = Callable[[np.random.Generator, int], Run]
"""Makes a run of so many healthy events."""


@cache
def pool(threshold_mv: float = 100.0) -> FloatArray:
    """Simulated events."""
    n = N_POOL if threshold_mv == 100.0 else N_POOL // 20
    return events(Conditions(threshold_mv=threshold_mv), n, [18, round(threshold_mv)])


def healthy(rng: np.random.Generator, n: int) -> Run:
    """A run at a constant rate; the coordinate is the time."""
    x = pool()[rng.choice(len(pool()), n, replace=False)]
    return x, np.sort(rng.uniform(0.0, n / RATE_HZ, n))


def drifting(rng: np.random.Generator, n: int) -> Run:
    """Drift times that change by 2 % and move by 5 ns within the run, and come back half of the way."""
    x, along = healthy(rng, n)
    wave = np.sin(0.75 * np.pi * along / along[-1])[:, None]
    x = x.copy()
    x[:, :4] = x[:, :4] * (1.0 + 0.02 * wave) + 5.0 * wave
    return x, along


def interrupted(rng: np.random.Generator, n: int) -> Run:
    """Nothing is read out for 2 s of every 10 s."""
    x, along = healthy(rng, n)
    return x, along + 2.0 * np.floor(along / 8.0)


def noise(rng: np.random.Generator, n: int) -> FloatArray:
    """Events whose values are each healthy and do not belong together."""
    return np.column_stack([rng.permutation(column) for column in pool()[rng.choice(len(pool()), n)].T])


def burst(n_noise: int) -> Make:
    """Noise for 5 s of a run."""

    def make(rng: np.random.Generator, n: int) -> Run:
        x, along = healthy(rng, n)
        begin = rng.uniform(0.0, along[-1] - 5.0)
        return _add(x, along, noise(rng, n_noise), rng.uniform(begin, begin + 5.0, n_noise))

    return make


def hot_spot(n_noise: int) -> Make:
    """Noise of one drift time in 2 of 64 wires; the coordinate is the wire."""

    def make(rng: np.random.Generator, n: int) -> Run:
        x, _ = healthy(rng, n)
        wires = np.sort(rng.integers(0, 64, n)).astype(np.float64)
        added = pool()[rng.choice(len(pool()), n_noise)].copy()
        added[:, 1] = rng.uniform(0.0, 400.0, n_noise)
        first = rng.integers(0, 63)
        return _add(x, wires, added, rng.integers(first, first + 2, n_noise).astype(np.float64))

    return make


def too_warm(share: float, threshold_mv: float) -> Make:
    """Thresholds that drop while the temperature is above some value; the coordinate is the temperature."""

    def make(rng: np.random.Generator, n: int) -> Run:
        x, _ = healthy(rng, n)
        warm = np.sort(20.0 + rng.normal(0.0, 1.0, n))
        n_warm = round(share * n)
        faulty = pool(threshold_mv)
        x = x.copy()
        x[-n_warm:] = faulty[rng.choice(len(faulty), n_warm, replace=False)]
        return x, warm

    return make


def _add(x: FloatArray, along: FloatArray, added: FloatArray, places: FloatArray) -> Run:
    along = np.concatenate([along, places])
    order = np.argsort(along, kind="stable")
    return np.concatenate([x, added])[order], along[order]


HEALTHY: dict[str, Make] = {
    "healthy": healthy,
    "slow drift": drifting,
    "dead times": interrupted,
}
FAULTS: dict[str, Make] = {
    "40 events of noise within 5 s": burst(40),
    "80 events of noise within 5 s": burst(80),
    "60 hits of noise in 2 of 64 wires": hot_spot(60),
    "120 hits of noise in 2 of 64 wires": hot_spot(120),
    "threshold 75 % in the warmest 2 %": too_warm(0.02, 75.0),
    "threshold 50 % in the warmest 1 %": too_warm(0.01, 50.0),
}


def hunt_run(run: Run, seed: int, n_permutations: int) -> float:
    """Give p of the whole hunt."""
    with one_thread():
        hunt = Hunt(*run, n_positions=N_POSITIONS, seed=seed)
        permuted = hunt.permuted(range(n_permutations))
        return hunt_p(hunt.scan().z, permuted, hunt.layout.levels).p


class Plain:
    """A test of windows against a healthy reference, with the threshold for all windows of a run."""

    def __init__(self, evaluate: Callable[[FloatArray], float], size: int, rng: np.random.Generator) -> None:
        self._evaluate = evaluate
        windows = (pool()[rng.choice(len(pool()), size, replace=False)] for _ in range(N_HEALTHY))
        t = np.array([evaluate(window) for window in windows])
        self._threshold = float(np.quantile(t, (1.0 - LEVEL) ** (1.0 / N_POSITIONS)))

    def is_seen(self, run: Run) -> bool:
        """Say whether a window of a run is above the threshold."""
        return any(self._evaluate(part) > self._threshold for part in np.array_split(run[0], N_POSITIONS))


def plain_tests(n_events: int) -> dict[str, Plain]:
    """`several` and the autoencoder, with references of their own."""
    rng, size = np.random.default_rng([18, 1]), n_events // N_POSITIONS
    reference = pool()[rng.choice(len(pool()), N_REFERENCE, replace=False)]
    several = SeveralTest(reference, n_expected=size, centers=300, rng=rng)
    return {
        "several": Plain(lambda window: several.evaluate(window).t, size, rng),
        "autoencoder": Plain(AutoencoderTest(reference).evaluate, size, rng),
    }


class Kept:
    """What is done, one JSON object in a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._done = {row["key"]: row["value"] for row in map(json.loads, lines)}

    def get(self, key: str, make: Callable[[], object]) -> object:
        if key not in self._done:
            self._done[key] = make()
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self._done[key]}) + "\n")
        return self._done[key]


def table_of_healthy(kept: Kept, n_runs: Sequence[int], n_events: int, n_permutations: int) -> Iterator[str]:
    yield "| runs | hunts | p <= 0.01 | p <= 0.05 | p <= 0.1 | smallest p | KS p of uniformity |"
    yield "|---|---|---|---|---|---|---|"
    for kind, ((name, make), n) in enumerate(zip(HEALTHY.items(), n_runs, strict=True)):
        found = []
        for seed in range(n):

            def one(seed: int = seed, kind: int = kind, make: Make = make) -> float:
                run = make(np.random.default_rng([18, 2, kind, seed]), n_events)
                return hunt_run(run, seed, n_permutations)

            found.append(float(str(kept.get(f"{name} {seed} {n_events} {n_permutations}", one))))
        p = np.array(found)
        spread = p - np.random.default_rng(1).uniform(0.0, 1.0 / (1 + n_permutations), len(p))
        uniform = stats.kstest(spread, "uniform").pvalue
        yield (
            f"| {name} | {len(p)} | "
            + " | ".join(f"{(p <= level).mean():.2f}" for level in (0.01, 0.05, 0.1))
            + f" | {p.min():.3f} | {uniform:.2f} |"
        )


def table_of_faults(kept: Kept, n_runs: int, n_events: int, n_permutations: int) -> Iterator[str]:
    plain = None
    yield "| fault | runs | hunt | several | autoencoder |"
    yield "|---|---|---|---|---|"
    for kind, (name, make) in enumerate(FAULTS.items()):
        seen = []
        for seed in range(n_runs):

            def one(seed: int = seed, kind: int = kind, make: Make = make) -> list[bool]:
                nonlocal plain
                plain = plain or plain_tests(n_events)
                run = make(np.random.default_rng([18, 3, kind, seed]), n_events)
                p = hunt_run(run, seed, n_permutations)
                return [p <= LEVEL, *(bool(test.is_seen(run)) for test in plain.values())]

            seen.append(kept.get(f"{name} {seed} {n_events} {n_permutations}", one))
        shares = np.array(seen, dtype=float).mean(axis=0)
        yield f"| {name} | {n_runs} | " + " | ".join(f"{share:.2f}" for share in shares) + " |"


def table_of_classifiers(n_runs: int) -> Iterator[str]:
    """Excess of the events that classifiers select in a window of 600 events with 60 of noise."""
    yield "| classifier | excess in 10 %, 1 % and 0.2 %, standard deviations | CPU ms for a window |"
    yield "|---|---|---|"
    selected = N_FOLDS * _SIZES
    spread = np.sqrt(selected * (1.0 - np.array(SHARES)) * 0.2 * 0.8)
    for name, select in CLASSIFIERS.items():
        z, seconds = np.zeros((n_runs, len(SHARES))), 0.0
        for seed in range(n_runs):
            rng = np.random.default_rng([18, 4, seed])
            x = pool()[rng.choice(len(pool()), _N_EVENTS, replace=False)].copy()
            x[1270:1330] = noise(rng, 60)
            inside, spent = select(x, seed)
            z[seed] = (inside - 0.2 * selected) / spread
            seconds += spent
        means = ", ".join(f"{value:.1f}" for value in z.mean(axis=0))
        yield f"| {name} | {means} | {1e3 * seconds / n_runs:.2g} |"


_N_EVENTS, _WINDOW = 3000, slice(1200, 1800)
"""Events of the window and its sidebands, and those of the window."""

_SIZES = np.maximum(1, np.round(np.array(SHARES) * _N_EVENTS / N_FOLDS)).astype(int)
"""Events of each fold that are selected."""

Selection = tuple[FloatArray, float]
"""Selected events in the window, for each share, and the seconds that it took."""

Score = Callable[[FloatArray], FloatArray]


def _hunt(x: FloatArray, seed: int) -> Selection:
    """Select by the classifiers of a hunt; the time is that of a window among all of the hunt."""
    hunt = Hunt(x, np.arange(_N_EVENTS, dtype=float), n_positions=5, seed=seed)
    rows = [hunt.layout.rows(window) for window in hunt.layout.windows]
    begin = time.process_time()
    inside = hunt.scan().inside[rows.index(_WINDOW)]
    return inside, (time.process_time() - begin) / len(rows)


def _by_folds(fit: Callable[[FloatArray, FloatArray], Score], x: FloatArray, seed: int) -> Selection:
    """Train a classifier for each fold on the others, and select."""
    is_inside = np.zeros(_N_EVENTS)
    is_inside[_WINDOW] = 1.0
    folds = np.random.default_rng([18, 5, seed]).permutation(np.arange(_N_EVENTS) % N_FOLDS)
    inside, begin = np.zeros(len(SHARES)), time.process_time()
    for k in range(N_FOLDS):
        train = folds != k
        order = np.argsort(-fit(x[train], is_inside[train])(x[~train]))
        inside += np.cumsum(is_inside[~train][order])[_SIZES - 1]
    return inside, time.process_time() - begin


def _trees(x: FloatArray, labels: FloatArray) -> Score:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return (
        HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, early_stopping=False)
        .fit(x, labels)
        .decision_function
    )  # type: ignore[no-any-return]


def _network(x: FloatArray, labels: FloatArray) -> Score:
    from sklearn.neural_network import MLPClassifier

    mean, scale = x.mean(0), x.std(0)
    model = MLPClassifier((16,), activation="tanh", solver="lbfgs", alpha=0.1, max_iter=100, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit((x - mean) / scale, labels)
    return lambda events: model.predict_proba((events - mean) / scale)[:, 1]  # type: ignore[no-any-return]


CLASSIFIERS: dict[str, Callable[[FloatArray, int], Selection]] = {
    "kernels, least squares, as in a hunt": _hunt,
    "boosted trees": partial(_by_folds, _trees),
    "network of 16 neurons": partial(_by_folds, _network),
}


def draw(output: Path) -> None:
    """Draw what is kept: p of healthy runs, and the shares of faulty runs that are seen."""
    found: dict[str, list[Any]] = {}
    for row in map(json.loads, (output / "hunts.jsonl").read_text().splitlines()):
        found.setdefault(row["key"].rsplit(" ", 3)[0], []).append(row["value"])
    faults = [name for name in FAULTS if name in found]
    figure = Figure(figsize=(11.0 if faults else 5.0, 4.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 2 if faults else 1))
    axes[0].plot([0.0, 1.0], [0.0, 1.0], color="grey", linewidth=1.0, label="uniform")
    for name in HEALTHY:
        if p := sorted(found.get(name, [])):
            axes[0].step(p, np.arange(1, len(p) + 1) / len(p), where="post", label=f"{name}, {len(p)} hunts")
    axes[0].set(xlabel="p of the hunt", ylabel="share of hunts with p this small", xlim=(0, 1), ylim=(0, 1))
    axes[0].legend(loc="upper left")
    if faults:
        places = np.arange(len(faults))
        shares = np.array([np.mean(found[name], axis=0) for name in faults])
        for k, name in enumerate(("hunt", "several", "autoencoder")):
            axes[1].barh(places + 0.27 * (k - 1), shares[:, k], 0.25, label=name)
        axes[1].axvline(LEVEL, color="grey", linestyle=":", label=f"{LEVEL:.0%} of healthy runs")
        axes[1].set(yticks=places, yticklabels=faults, xlim=(0, 1), ylim=(len(faults) - 0.5, -0.5))
        axes[1].set_xlabel("share of runs in which it is seen")
        axes[1].legend(loc="upper center", bbox_to_anchor=(0.3, -0.15), ncols=4, frameon=False)
    figure.savefig(output / "hunt_p.png", dpi=110)


def main() -> None:
    """Write the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--healthy", type=int, nargs=3, default=[100] * 3, help=f"hunts without a fault: {', '.join(HEALTHY)}"
    )
    parser.add_argument("--faulty", type=int, default=20, help="runs with each fault")
    parser.add_argument("--healthy-events", type=int, default=5000, help="events of a hunt without a fault")
    parser.add_argument("--events", type=int, default=10_000, help="healthy events of a run with a fault")
    parser.add_argument("--healthy-permutations", type=int, default=99, help="of a hunt without a fault")
    parser.add_argument("--permutations", type=int, default=39, help="of a hunt with a fault")
    parser.add_argument("--classifiers", type=int, default=10, help="windows for the classifiers")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="tables to make")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    choice.output.mkdir(parents=True, exist_ok=True)
    kept = Kept(choice.output / "hunts.jsonl")
    parts = {
        "classifiers": table_of_classifiers(choice.classifiers),
        "healthy": table_of_healthy(kept, choice.healthy, choice.healthy_events, choice.healthy_permutations),
        "faults": table_of_faults(kept, choice.faulty, choice.events, choice.permutations),
    }
    for name in choice.parts:
        with (choice.output / f"{name}.md").open("w") as file:
            for line in parts[name]:
                file.write(f"{line}\n")
                file.flush()
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    draw(choice.output)


if __name__ == "__main__":
    main()
