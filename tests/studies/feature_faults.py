"""Faults of features that are not smooth: what the tests see beside a plain test of the one feature.

``python -m tests.studies.feature_faults OUTPUT`` writes a table into OUTPUT. Each feature stands beside two
smooth ones, correlated by 0.6. Share of 60 faulty windows of 200 events with p < 0.05, N_R = 2000, of a file
of 20 000 events: by the single kernel of old, by the test that chooses its kernels and looks at features, and
by a test of that feature alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Evaluator, Processes, Recipe, calibrate, create_bundle
from dqm.reference.processes import one_thread

Draw = Callable[[np.random.Generator, int], FloatArray]

N_EVENTS, N_REFERENCE, WINDOW = 20_000, 2000, 200
TICK = 25.0


def _ticks(rng: np.random.Generator, n: int) -> FloatArray:
    return TICK * np.floor(rng.uniform(0, 400, n) / TICK)


def _sentinel(share: float) -> Draw:
    return lambda rng, n: np.where(rng.random(n) < share, -999.0, rng.normal(50, 5, n))


def _wires(factor: float) -> Draw:
    weights = np.where(np.arange(64) == 20, factor, 1.0)
    return lambda rng, n: rng.choice(64, n, p=weights / weights.sum()).astype(float)


def _zeros(share: float) -> Draw:
    return lambda rng, n: np.where(rng.random(n) < share, 0.0, rng.exponential(3.0, n))


CASES: dict[str, tuple[str, Draw, Draw, str]] = {
    "counts, mean 5 to 5.5": (
        "n_hits",
        lambda rng, n: rng.poisson(5.0, n).astype(float),
        lambda rng, n: rng.poisson(5.5, n).astype(float),
        "order",
    ),
    "steps of 25 ns, one step late": ("t", _ticks, lambda rng, n: _ticks(rng, n) + TICK, "order"),
    "heavy tails, moved by half their width": (
        "q",
        lambda rng, n: rng.standard_cauchy(n),
        lambda rng, n: rng.standard_cauchy(n) + 1.0,
        "order",
    ),
    "-999 in 3 % to 6 %": ("e", _sentinel(0.03), _sentinel(0.06), "-999"),
    "0 in 20 % to 30 %": ("adc", _zeros(0.2), _zeros(0.3), "0"),
    "wire, one of 64 dead": ("wire", _wires(1.0), _wires(0.0), "20"),
    "wire, one of 64 ten times hot": ("wire", _wires(1.0), _wires(10.0), "20"),
    "a constant that moves": ("mode", lambda _, n: np.full(n, 3.0), lambda _, n: np.full(n, 4.0), "3"),
}
"""Name of the feature, healthy and faulty draws; the plain test: of the order, or of one value's share."""


def events(draw: Draw, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw events of two smooth features and one more."""
    z = rng.normal(size=(n, 2))
    return np.column_stack([z[:, 0], 0.6 * z[:, 0] + 0.8 * z[:, 1], draw(rng, n)])


def share_seen(case: str, statistic: str, n_toys: int, n_windows: int) -> tuple[float, float, str]:
    """Share of healthy and of faulty windows with p < 0.05; also the kind that was chosen."""
    name, healthy, faulty, _ = CASES[case]
    rng = np.random.default_rng([1, list(CASES).index(case)])
    recipe = Recipe(("x", "y", name), N_REFERENCE, WINDOW, statistic=statistic)
    with one_thread(), tempfile.TemporaryDirectory() as scratch:
        bundle = create_bundle(events(healthy, rng, N_EVENTS), recipe, Path(scratch) / "bundle")
        kind = bundle.manifest.kind
        bundle = calibrate(bundle, n_toys, kind=kind, seed=2, workers=Processes(1))
        evaluator, shares = Evaluator(bundle), []
        for draw, n in ((healthy, 4 * n_windows), (faulty, n_windows)):
            p = []
            for _ in range(n):
                x = events(draw, rng, WINDOW)
                window = Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.COUNT, recipe.features, x)
                p.append(evaluator.evaluate(window).p)
            shares.append(float(np.mean(np.array(p, dtype=float) < 0.05)))
        kinds = bundle.manifest.settings.get("kinds", ("as it is",))
    return shares[0], shares[1], str(kinds[-1])


def plain_share(case: str, n_windows: int) -> float:
    """Share of faulty windows with p < 0.05 of a plain test of the feature alone."""
    _, healthy, faulty, test = CASES[case]
    rng = np.random.default_rng([2, list(CASES).index(case)])
    reference, p = healthy(rng, N_EVENTS), []
    for _ in range(n_windows):
        window = faulty(rng, WINDOW)
        if test == "order":
            p.append(stats.ks_2samp(reference, window, method="asymp").pvalue)
        else:
            share = float(np.mean(reference == float(test)))
            p.append(stats.binomtest(int((window == float(test)).sum()), WINDOW, share).pvalue)
    return float(np.mean(np.array(p) < 0.05))


def main() -> None:
    """Run all cases; write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=500)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--statistics", nargs="*", default=["kernel", "several"])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = [
        f"| fault | taken as | {' | '.join(arguments.statistics)} (healthy, fault) | that feature alone |",
        "|---|---|---|" + "---|" * len(arguments.statistics),
    ]
    found = []
    for case in CASES:
        row: dict[str, object] = {"case": case, "plain": plain_share(case, arguments.windows)}
        cells = []
        for statistic in arguments.statistics:
            try:
                healthy, faulty, kind = share_seen(case, statistic, arguments.toys, arguments.windows)
            except ValueError as error:
                cells.append(f"refused ({str(error).split('.')[0]})")
                continue
            row |= {statistic: [healthy, faulty], "kind": kind}
            cells.append(f"{healthy:.2f}, {faulty:.2f}")
        found.append(row)
        lines.append(f"| {case} | {row.get('kind')} | {' | '.join(cells)} | {row['plain']:.2f} |")
        (arguments.output / "feature_faults.md").write_text("\n".join(lines) + "\n")
        (arguments.output / "feature_faults.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
