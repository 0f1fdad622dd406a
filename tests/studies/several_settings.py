"""The test that chooses its kernels beside the best single setting that hindsight finds.

``python -m tests.studies.several_settings OUTPUT`` simulates references of a healthy chamber and windows of
many faults. Each reference is tested with single kernels fitted to convergence (both losses, several widths
and penalties) and with the statistic ``several``. Power is the share of faulty windows above the 95 %
quantile of healthy windows, over all references. The best single setting of each fault is chosen by half of
the windows and measured with the other half, and the other way round, so that it has no luck in it. Finished
references are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest
from dqm.nplm.peers import BoostedTreesTest, EnergyTest, KolmogorovTest, MmdTest
from dqm.reference.processes import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import events

CASES = (
    (1500, 750, 50), (1500, 750, 200), (50_000, 5000, 200), (50_000, 5000, 500), (50_000, 5000, 2000),
    (50_000, 5000, 50), (100_000, 20_000, 500), (100_000, 20_000, 2000), (3000, 1500, 500),
)  # fmt: skip
"""Events of the file, of the reference, and of a window."""

SETTINGS = {
    f"{loss}, {width:g}, {penalty:g}": (loss, width, penalty)
    for loss, width, penalty in [
        ("likelihood", 2.5, 1e-7), ("likelihood", 2.5, 1e-5), ("likelihood", 4.5, 1e-3),
        ("logistic", 1.0, 1e-6), ("logistic", 1.5, 1e-6), ("logistic", 2.5, 1e-6), ("logistic", 4.5, 1e-6),
    ]
}  # fmt: skip
RIVALS = {"energy": EnergyTest, "MMD": MmdTest, "Kolmogorov-Smirnov": KolmogorovTest}
"""Distances of energy, maximum mean discrepancy with the median distance as width, and the smallest p of
the features by Kolmogorov and Smirnov times their number."""

CLASSIFIER = "classifier"
"""Boosted trees, with ``--classifier``."""

RULES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "smallest": lambda log_p: -2.0 * log_p.min(axis=-1),
    "product": lambda log_p: -2.0 * log_p.sum(axis=-1),
    "mean": lambda log_p: -2.0 * np.logaddexp.reduce(log_p, axis=-1),
}
"""What the statistic ``several`` makes of the log p of its settings, shape (n_windows, n_settings)."""

N_CENTERS = 300
SEVERAL = "several"


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


def judge(
    case: tuple[int, int, int], number: int, n_windows: int, *, has_rivals: bool, has_classifier: bool
) -> dict[str, object]:
    """Test the windows of one reference.

    Gives t of every test, the log p of the settings of ``several``, and the processor time of a healthy
    window in ms.
    """
    n_file, n_reference, size = case
    run = events(Conditions(), n_file, [1, number, n_file])
    rng = np.random.default_rng([2, number, *case])
    reference, centers = run[:n_reference], run[:N_CENTERS]
    settings = SeveralTest.tune(run, n_reference=n_reference, n_expected=size, n_centers=N_CENTERS, rng=rng)
    several = SeveralTest(reference, n_expected=size, centers=centers, **settings)
    tests: dict[str, Callable[[FloatArray], float | list[float]]] = {
        SEVERAL: lambda x: several.evaluate(x).log_p.tolist()
    }
    for name, (loss, width, penalty) in SETTINGS.items():
        single = KernelTest(
            reference, n_expected=size, width=width, penalty=penalty, centers=centers, loss=loss
        )
        tests[name] = lambda x, test=single: float(test.evaluate(x).t)
    peers = (RIVALS if has_rivals else {}) | ({CLASSIFIER: BoostedTreesTest} if has_classifier else {})
    for name, make in peers.items():
        tests[name] = make(reference).evaluate
    t: dict[str, dict[str, list[float | list[float]]]] = {name: {} for name in tests}
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
        ms = {name: float(np.median([row["ms"][name] for row in mine])) for name in mine[0]["ms"]}
        seen = {name: _seen(mine, lambda row, name=name: row["t"][name]) for name in ms if name != SEVERAL}
        for rule, combine in RULES.items():
            name = f"{SEVERAL}, {rule}"
            seen[name] = _seen(
                mine, lambda row, rule=combine: {k: rule(np.array(v)) for k, v in row["t"][SEVERAL].items()}
            )
            ms[name] = ms[SEVERAL]
        where = f"{case[1]}, {case[2]} ({len(mine)})"
        best = [_hindsight(seen, fault) for fault in FAULTS]
        lines.append(f"| {where} | best single in hindsight | | {' | '.join(f'{x:.2f}' for x, _ in best)} |")
        for name in (
            *(f"{SEVERAL}, {rule}" for rule in RULES),
            *(s for s in seen if not s.startswith(SEVERAL)),
        ):
            power = " | ".join(f"{seen[name][fault].mean():.2f}" for fault in FAULTS)
            lines.append(f"| {where} | {name} | {ms[name]:.1f} | {power} |")
        lines.append(f"| {where} | which was best | | {' | '.join(name for _, name in best)} |")
    return "\n".join(lines) + "\n"


def _hindsight(seen: dict[str, dict[str, NDArray[np.bool_]]], fault: str) -> tuple[float, str]:
    """Power of the best single setting, chosen with one half of the windows and measured with the other."""
    shares = {name: [seen[name][fault][half::2].mean() for half in (0, 1)] for name in SETTINGS}
    chosen = [max(shares, key=lambda name, half=half: shares[name][half]) for half in (0, 1)]
    return float(np.mean([shares[name][1 - half] for half, name in enumerate(chosen)])), chosen[0]


def _seen(
    rows: list[dict[str, object]], statistic: Callable[[dict[str, object]], dict[str, FloatArray]]
) -> dict[str, NDArray[np.bool_]]:
    """Say of each window of each fault whether t is above the 95 % quantile of healthy windows."""
    found = [statistic(row) for row in rows]
    t = {fault: np.concatenate([one[fault] for one in found]) for fault in ("healthy", *FAULTS)}
    healthy = t.pop("healthy")
    limit = np.quantile(healthy[np.isfinite(healthy)], 0.95)
    return {fault: ~(values <= limit) for fault, values in t.items()}


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
    parser.add_argument(
        "--no-rivals", action="store_true", help="kernels alone: distances of large windows take a second"
    )
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
                rows.append(
                    judge(
                        case,
                        number,
                        arguments.windows,
                        has_rivals=not arguments.no_rivals,
                        has_classifier=arguments.classifier,
                    )
                )
            with kept.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            (arguments.output / "several_settings.md").write_text(table(rows))


if __name__ == "__main__":
    main()
