"""The test that chooses its kernels beside the best single setting that hindsight finds.

``python -m tests.studies.several_settings OUTPUT`` simulates references of a healthy chamber and windows of
many faults. Each reference is tested with single kernels fitted to convergence (both losses, several widths
and penalties) and with the statistic ``several``. Power is the share of faulty windows above the 95 %
quantile of healthy windows, over all references. The best single setting of each fault is chosen by half of
the windows and measured with the other half, so that it has no luck in it. Finished references are kept:
called again, the study goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest
from dqm.reference.processes import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.benchmarks.rivals import BoostedTrees
from tests.studies.simulated_faults import events

CASES = ((1500, 750, 50), (1500, 750, 200), (50_000, 5000, 200), (50_000, 5000, 500), (50_000, 5000, 2000))
"""Events of the file, of the reference, and of a window."""

SETTINGS = {
    f"{loss}, {width:g}, {penalty:g}": (loss, width, penalty)
    for loss, width, penalty in [
        ("likelihood", 2.5, 1e-7), ("likelihood", 2.5, 1e-5), ("likelihood", 4.5, 1e-3),
        ("logistic", 1.0, 1e-6), ("logistic", 1.5, 1e-6), ("logistic", 2.5, 1e-6), ("logistic", 4.5, 1e-6),
    ]
}  # fmt: skip
RIVALS = ("energy distance", "MMD", "Kolmogorov-Smirnov", "classifier")
"""Energy distance, maximum mean discrepancy with the median distance as width, smallest p of the features by
Kolmogorov and Smirnov, boosted trees (with ``--classifier``)."""

RULES = ("smallest", "product", "mean")
N_CENTERS = 300


def _layer(x: FloatArray, _: np.random.Generator) -> None:
    x[:, 2] += 10.0


def _smear(x: FloatArray, rng: np.random.Generator) -> None:
    x[:, :4] += rng.normal(0.0, 5.0, (len(x), 4))


def _spike(x: FloatArray, rng: np.random.Generator) -> None:
    n = rng.binomial(len(x), 0.02)
    x[:n] = x[-1] + rng.normal(0.0, [2.0, 2.0, 2.0, 2.0, 0.2], (n, 5))


def _repeat(x: FloatArray, rng: np.random.Generator) -> None:
    x[: rng.binomial(len(x), 0.04)] = x[0]


CHANGES: dict[str, Callable[[FloatArray, np.random.Generator], None]] = {
    "layer + 10 ns": _layer, "smearing by 5 ns": _smear, "spike, 2 %": _spike, "one event in 4 %": _repeat,
}  # fmt: skip
CONDITIONS = {
    "cathode 75 %": Conditions(strip_voltage_v=-900.0),
    "velocity - 2 %": Conditions(drift_velocity_mm_per_ns=0.05277),
    "threshold 75 %": Conditions(threshold_mv=75.0),
    "threshold 90 %": Conditions(threshold_mv=90.0),
}
FAULTS = (*CONDITIONS, *CHANGES)


def draw(fault: str, n: int, seed: list[int]) -> FloatArray:
    """Events of a window with a fault, or of a healthy one."""
    x = events(CONDITIONS.get(fault, Conditions()), n, seed)
    if fault in CHANGES:
        CHANGES[fault](x, np.random.default_rng(seed))
    return x


def rivals(reference: FloatArray, *, has_classifier: bool) -> dict[str, Callable[[FloatArray], float]]:
    """Set up what else windows could be tested with; all give more for windows further away."""
    mean, scale = reference.mean(axis=0), reference.std(axis=0)
    y = (reference - mean) / scale
    some = y[:1000]
    width = float(np.median(pdist(some)))
    within_distance = float(pdist(some).mean())
    within_kernel = float(np.exp(-pdist(some, "sqeuclidean") / (2 * width**2)).mean())

    def energy(x: FloatArray) -> float:
        z = (x - mean) / scale
        return float(2 * cdist(z, y).mean() - pdist(z).mean() - within_distance)

    def mmd(x: FloatArray) -> float:
        z = (x - mean) / scale
        kernel = np.exp(-cdist(z, y, "sqeuclidean") / (2 * width**2)).mean()
        return float(np.exp(-pdist(z, "sqeuclidean") / (2 * width**2)).mean() - 2 * kernel + within_kernel)

    def smirnov(x: FloatArray) -> float:
        pairs = zip(reference.T, x.T, strict=True)
        return -min(float(stats.ks_2samp(a, b, method="asymp").pvalue) for a, b in pairs)

    found = dict(zip(RIVALS, (energy, mmd, smirnov), strict=False))
    if has_classifier:
        found["classifier"] = BoostedTrees(reference, np.random.default_rng(1))
    return found


def judge(
    case: tuple[int, int, int], number: int, n_windows: int, *, has_classifier: bool
) -> dict[str, object]:
    """t of every test for the windows of one reference; processor time of a healthy window in ms."""
    n_file, n_reference, size = case
    run = events(Conditions(), n_file, [1, number, n_file])
    rng = np.random.default_rng([2, number, *case])
    reference, centers = run[:n_reference], run[:N_CENTERS]
    settings = SeveralTest.tune(run, n_reference=n_reference, n_expected=size, n_centers=N_CENTERS, rng=rng)
    ours: dict[str, KernelTest | SeveralTest] = {
        f"several, {rule}": SeveralTest(reference, n_expected=size, centers=centers, rule=rule, **settings)
        for rule in RULES
    }
    for name, (loss, width, penalty) in SETTINGS.items():
        ours[name] = KernelTest(
            reference, n_expected=size, width=width, penalty=penalty, centers=centers, loss=loss
        )
    tests: dict[str, Callable[[FloatArray], float]] = {
        name: lambda x, test=test: float(test.evaluate(x).t) for name, test in ours.items()
    }
    tests |= rivals(reference, has_classifier=has_classifier)
    t: dict[str, dict[str, list[float]]] = {name: {} for name in tests}
    spent = dict.fromkeys(tests, 0.0)
    for fault in ("healthy", *FAULTS):
        n = 2 * n_windows if fault == "healthy" else n_windows
        for k in range(n):
            x = draw(fault, size, [3, number, size, k, FAULTS.index(fault) + 1 if fault in FAULTS else 0])
            for name, test in tests.items():  # alternating, so that all have the same machine
                begin = time.process_time()
                t[name].setdefault(fault, []).append(test(x))
                if fault == "healthy":
                    spent[name] += time.process_time() - begin
    return {
        "case": case,
        "number": number,
        "t": t,
        "ms": {k: 1e3 * v / (2 * n_windows) for k, v in spent.items()},
    }


def table(rows: list[dict[str, object]]) -> str:
    """Summarise what was found so far."""
    lines = [f"| N_R, window | test | ms | {' | '.join(FAULTS)} |", "|---|---|---|" + "---|" * len(FAULTS)]
    for case in sorted({tuple(row["case"]) for row in rows}):
        mine = [row for row in rows if tuple(row["case"]) == case]
        power = {name: _power(mine, name) for name in mine[0]["t"]}
        ms = {name: float(np.median([row["ms"][name] for row in mine])) for name in power}
        singles = list(SETTINGS)
        best = [max(singles, key=lambda name, k=k: power[name][0][k]) for k in range(len(FAULTS))]
        where = f"{case[1]}, {case[2]} ({len(mine)})"
        hindsight = [power[name][1][k] for k, name in enumerate(best)]
        lines.append(_line(where, "best single in hindsight", float(np.nan), hindsight))
        shown = [*(f"several, {rule}" for rule in RULES), singles[0], *(r for r in RIVALS if r in power)]
        lines += [_line(where, name, ms[name], power[name][1]) for name in shown]
        lines.append(f"| {where} | which was best | | {' | '.join(best)} |")
    return "\n".join(lines) + "\n"


def _line(where: str, name: str, ms: float, power: list[float]) -> str:
    time_text = "" if np.isnan(ms) else f"{ms:.1f}"
    return f"| {where} | {name} | {time_text} | {' | '.join(f'{value:.2f}' for value in power)} |"


def _power(rows: list[dict[str, object]], name: str) -> tuple[list[float], list[float]]:
    """Power for every fault, of the even and of the odd windows."""
    healthy = np.concatenate([row["t"][name]["healthy"] for row in rows])
    limit = np.quantile(healthy[np.isfinite(healthy)], 0.95)
    halves: tuple[list[float], list[float]] = ([], [])
    for fault in FAULTS:
        t = np.concatenate([row["t"][name][fault] for row in rows])
        for half in (0, 1):
            halves[half].append(float(np.mean(~(t[half::2] <= limit))))
    return halves


def main() -> None:
    """Run the cases; keep each reference, and write the table after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument(
        "--windows", type=int, default=10, help="of each fault and reference; twice as many healthy"
    )
    parser.add_argument(
        "--cases", type=int, nargs="*", default=range(len(CASES)), help="numbers of the cases"
    )
    parser.add_argument("--classifier", action="store_true", help="boosted trees, which take a second")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "several_settings.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(*row["case"], row["number"]) for row in rows}
    for number in range(arguments.references):
        for case in (CASES[k] for k in arguments.cases):
            if (*case, number) in known:
                continue
            with one_thread():
                rows.append(judge(case, number, arguments.windows, has_classifier=arguments.classifier))
            with kept.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            (arguments.output / "several_settings.md").write_text(table(rows))


if __name__ == "__main__":
    main()
