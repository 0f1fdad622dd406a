"""False alarms and detection power on the simulated chamber, for three sizes of window.

``python -m tests.studies.simulated_faults OUTPUT`` writes a table and a figure into OUTPUT.
N_R = 2000, 2000 centres, width 4.5, penalty 1e-7; the share of windows with p < 0.01, its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from scipy import stats

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Evaluator, Recipe, calibrate, create_bundle, open_bundle
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.simulate import simulate_features

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
SIZES = (250, 500, 1000)
N_REFERENCE, N_POOL = 2000, 1_000_000
CONDITIONS = {
    "healthy": Conditions(),
    **{f"cathode {pct} %": Conditions(strip_voltage_v=-12.0 * pct) for pct in (75, 50, 25)},
    **{f"threshold {pct} %": Conditions(threshold_mv=1.0 * pct) for pct in (75, 50, 25)},
}
CHUNK = 50


def events(conditions: Conditions, n: int, seed: list[int]) -> FloatArray:
    """Simulated and reconstructed events, shape (n, 5)."""
    batch = simulate_features(conditions, n, np.random.default_rng(seed))
    return batch.x[:, [batch.names.index(name) for name in FEATURES]]


def p_values(bundle: Path, name: str, size: int, first: int, n_windows: int) -> list[float]:
    """p of some fresh windows of one condition; runs in a worker process."""
    torch.set_num_threads(1)
    evaluator = Evaluator(open_bundle(bundle))
    x = events(CONDITIONS[name], n_windows * size, [99, list(CONDITIONS).index(name), size, first])
    found = []
    for window in x.reshape(n_windows, size, len(FEATURES)):
        result = evaluator.evaluate(
            Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.COUNT, FEATURES, window)
        )
        if result.p is None:
            raise RuntimeError(result.reason)
        found.append(result.p)
    return found


def study(
    size: int, n_toys: int, n_windows: dict[str, int], processes: int, bar: Progress
) -> dict[str, list[float]]:
    """p-values of all conditions for one size of window."""
    recipe = Recipe(FEATURES, N_REFERENCE, size, 4.5, 1e-7, centers=N_REFERENCE, loss="logistic")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bundle"
        bundle = create_bundle(events(Conditions(), N_REFERENCE + N_POOL, [1, size]), recipe, path)
        task = bar.add_task(f"{size} events: toys", total=n_toys)
        calibrate(
            bundle, n_toys, kind=bundle.manifest.kind, seed=2, n_processes=processes,
            progress=lambda done, _: bar.update(task, completed=done),
        )  # fmt: skip
        task = bar.add_task(f"{size} events: windows", total=sum(n_windows.values()))
        found: dict[str, list[float]] = {}
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            for name, n in n_windows.items():
                jobs = [pool.submit(p_values, path, name, size, k, CHUNK) for k in range(0, n, CHUNK)]
                found[name] = [p for job in jobs for p in job.result()]
                bar.advance(task, n)
    return found


def row(size: int, name: str, p: list[float]) -> dict[str, float | int | str]:
    """One line of the table."""
    below = int(np.sum(np.array(p) < 0.01))
    interval = stats.binomtest(below, len(p)).proportion_ci(0.95)
    return {
        "events": size,
        "condition": name,
        "windows": len(p),
        "share_below_0.01": below / len(p),
        "low": float(interval.low),
        "high": float(interval.high),
        "median_p": float(np.median(p)),
        "uniform_ks_p": float(stats.kstest(p, "uniform").pvalue),
    }


def main() -> None:
    """Run all sizes; write table and figure after each, so that an interruption loses little."""
    import matplotlib as mpl  # not for those who import `events`

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=4000)
    parser.add_argument("--healthy", type=int, default=2000, help="healthy windows for each size")
    parser.add_argument("--faulty", type=int, default=200, help="windows for each fault and size")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    n_windows = {name: arguments.healthy if name == "healthy" else arguments.faulty for name in CONDITIONS}
    rows = []
    figure, axes = plt.subplots(1, len(SIZES), figsize=(12, 3.5), layout="constrained")
    with Progress() as bar:
        for size, panel in zip(SIZES, axes, strict=True):
            found = study(size, arguments.toys, n_windows, arguments.processes, bar)
            rows += [row(size, name, p) for name, p in found.items()]
            panel.hist(found["healthy"], bins=np.linspace(0, 1, 21))
            panel.set(title=f"healthy, {size} events", xlabel="p", ylabel="windows")
            lines = [
                f"| {r['events']} | {r['condition']} | {r['windows']} | {r['share_below_0.01']:.3f} | "
                f"{r['low']:.3f} to {r['high']:.3f} |"
                for r in rows
            ]
            head = "| events | condition | windows | share with p < 0.01 | 95 % |\n|---|---|---|---|---|\n"
            (arguments.output / "simulated_faults.md").write_text(head + "\n".join(lines) + "\n")
            (arguments.output / "simulated_faults.json").write_text(json.dumps(rows, indent=1))
            figure.savefig(arguments.output / "simulated_faults.png")


if __name__ == "__main__":
    main()
