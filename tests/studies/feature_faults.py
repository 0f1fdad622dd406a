"""Faults of features that are not smooth: what the tests see beside a plain test of the one feature.

``python -m tests.studies.feature_faults OUTPUT`` writes a table into OUTPUT. Each feature stands beside two
smooth ones, correlated by 0.6. Share of 60 faulty windows of 200 events with p < 0.05, N_R = 2000, of a file
of 20 000 events: by the single kernel of old, by the test that chooses its kernels and looks at features, and
by a test of that feature alone.

``--references 3`` compares with single kernels instead, of many widths and penalties, with the features as
they are and by their kinds. The best of them is chosen in hindsight for each fault.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.nplm import SeveralTest
from dqm.reference import Evaluator, Processes, Recipe, calibrate, create_bundle
from dqm.reference.features import choose_kinds
from dqm.reference.processes import one_thread
from tests.studies.kept_rows import complete, show

Draw = Callable[[np.random.Generator, int], FloatArray]

N_EVENTS, N_REFERENCE, WINDOW = 20_000, 2000, 200
TICK = 25.0
N_CENTERS = 300

SINGLES = [
    (width, penalty)
    for width in (0.3, 0.7, 1.5, 2.5, 4.5)
    for penalty in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
]
"""Widths and penalties of single kernels of all features, one Newton step each."""


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


def judge_singles(case: str, number: int, n_windows: int) -> dict[str, object]:
    """Say which faulty windows are seen by `several` and by single kernels, with one reference.

    Seen is a window whose t is above the 95 % quantile of healthy ones.
    """
    name, healthy, faulty, _ = CASES[case]
    rng = np.random.default_rng([3, list(CASES).index(case), number])
    run = events(healthy, rng, N_EVENTS)
    reference, centers = run[:N_REFERENCE], run[:N_CENTERS]
    kinds = [str(one.kind) for one in choose_kinds(run, ("x", "y", name))]
    given = {"n_expected": WINDOW, "centers": centers}
    settings = SeveralTest.tune(
        run, n_reference=N_REFERENCE, n_expected=WINDOW, n_centers=N_CENTERS, rng=rng, kinds=kinds
    )
    several = SeveralTest(reference, **given, **settings)
    widths, penalties = zip(*SINGLES, strict=True)
    ladders = {}
    for coordinates, taken in (("as it is", []), ("by its kind", kinds)):
        with suppress(InputError):  # a constant has no scale
            ladders[coordinates] = SeveralTest(
                reference, **given, kinds=taken, width=widths, penalty=penalties, feature_width=()
            )
    t: dict[str, list[FloatArray]] = {"healthy": [], "faulty": []}
    for condition, draw, n in (("healthy", healthy, 4 * n_windows), ("faulty", faulty, n_windows)):
        for _ in range(n):
            x = events(draw, rng, WINDOW)
            found = [[several.evaluate(x).t]]
            found += [-one.evaluate(x).log_p[: len(SINGLES)] for one in ladders.values()]
            t[condition].append(np.concatenate(found))
    seen = np.array(t["faulty"]) > np.quantile(t["healthy"], 0.95, axis=0)
    names = [
        f"{coordinates}, {width:g}, {penalty:g}" for coordinates in ladders for width, penalty in SINGLES
    ]
    return {"case": case, "number": number, "names": ["several", *names], "seen": seen.astype(int).tolist()}


def best_in_hindsight(seen: NDArray[Any]) -> float:
    """Give the share of the best test, of whether each test (columns) sees each window (rows).

    It is chosen with one half of the windows and measured with the other, so that it has no luck in it.
    """
    halves = np.array([seen[half::2].mean(axis=0) for half in (0, 1)])
    return float(np.mean([halves[1 - half, halves[half].argmax()] for half in (0, 1)]))


def table_of_singles(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Give the lines of what was found so far."""
    yield "| fault | references | `several` | best single kernel | which: coordinates, width, penalty |"
    yield "|---|---|---|---|---|"
    for case in CASES:
        mine = [row for row in rows if row["case"] == case]
        if not mine:
            continue
        seen = np.concatenate([row["seen"] for row in mine])
        best = best_in_hindsight(seen[:, 1:])
        which = mine[0]["names"][1 + int(seen[:, 1:].mean(axis=0).argmax())]
        yield f"| {case} | {len(mine)} | {seen[:, 0].mean():.2f} | {best:.2f} | {which} |"


def compare_singles(output: Path, n_references: int, n_windows: int) -> None:
    """Go through references and cases, but for those that are done; write the table after each."""
    parts = [(case, number) for number in range(n_references) for case in CASES]
    judge = partial(judge_singles, n_windows=n_windows)
    show(complete(output / "feature_singles.jsonl", parts, judge, table_of_singles))


def main() -> None:
    """Run all cases; write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=500)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--statistics", nargs="*", default=["kernel", "several"])
    parser.add_argument(
        "--references",
        type=int,
        default=0,
        help="instead: single kernels in hindsight, with so many references",
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.references:
        compare_singles(arguments.output, arguments.references, arguments.windows)
        return
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
