"""Windows of any live time: is p uniform between the calibrated sizes, and what does a range cost?

``python -m tests.studies.live_times OUTPUT`` writes three tables (Markdown) and a figure into OUTPUT.
Simulated chamber, default settings, N_R = 5000, windows cut by time of 20 to 100 % of 500 events.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich.progress import track
from scipy import stats

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import (
    Evaluator,
    Processes,
    Recipe,
    StoredBundle,
    WindowKind,
    WindowRange,
    calibrate,
    calibrate_range,
    create_bundle,
)
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import FEATURES, events

mpl.use("Agg")
from matplotlib import pyplot as plt

N_REFERENCE, N_POOL, N_WINDOW = 5000, 150_000, 500.0
RANGE = WindowRange(cut=WindowCut.TIME, low=0.2 * N_WINDOW, high=N_WINDOW)
OFF_GRID = (118.0, 164.0, 317.0, 441.0)
"""In the middle between two calibrated sizes."""

OWN = (164.0, 317.0)
FAULTS = {
    "cathode 90 %": Conditions(strip_voltage_v=-1080.0),
    "threshold 75 %": Conditions(threshold_mv=75.0),
    "layer 2 late by 10 ns": Conditions(t0_ns=(0.0, 10.0, 0.0, 0.0)),
}


def cpu_seconds() -> float:
    """Processor time of this process and of those that have ended."""
    return sum(
        use.ru_utime + use.ru_stime
        for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def cost(make: Callable[[], object], path: Path) -> tuple[float, int]:
    """Give processor seconds, and bytes that a bundle grows by."""

    def size() -> int:
        return sum(file.stat().st_size for file in path.iterdir() if file.suffix == ".npy")

    seconds, n_bytes = cpu_seconds(), size()
    make()
    return cpu_seconds() - seconds, size() - n_bytes


def p_values(bundle: StoredBundle, sizes: FloatArray, conditions: Conditions, seed: int) -> FloatArray:
    """p of windows with these expected numbers, from events of a run of its own."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(sizes)
    x = np.split(events(conditions, int(counts.sum()), [77, seed]), np.cumsum(counts)[:-1])
    evaluator, found = Evaluator(bundle), []
    for part, size in track(list(zip(x, sizes, strict=True)), "windows"):
        live = 10.0 * float(size) / N_WINDOW
        result = evaluator.evaluate(
            Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.TIME, FEATURES, part,
                   start=0.0, end=10.0, live_seconds=live, n_expected=float(size))
        )  # fmt: skip
        if result.p is None:
            raise RuntimeError(result.reason)
        found.append(result.p)
    return np.array(found)


def share(p: FloatArray, level: float) -> str:
    """Share of windows below a level, with its 95 % interval."""
    below = int((p < level).sum())
    interval = stats.binomtest(below, len(p)).proportion_ci(0.95)
    return f"{below / len(p):.3f} ({interval.low:.3f} to {interval.high:.3f})"


def table(*rows: tuple[str, ...]) -> str:
    """Write rows as Markdown; the first is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n\n"


def draw(found: dict[str, FloatArray], path: Path) -> None:
    """Draw which share of the windows has a p below each p, over what it should be."""
    figure, panel = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    n = min(map(len, found.values()))
    level = np.geomspace(0.002, 1.0, 200)
    low, high = (stats.binom.ppf(tail, n, level) / n / level for tail in (0.025, 0.975))
    panel.fill_between(level, low, high, color="0.9", label=f"95 % of {n} uniform p, point by point")
    for name, p in found.items():
        panel.step(level, np.searchsorted(np.sort(p), level) / len(p) / level, label=name, where="post")
    panel.axhline(1.0, color="0.5", linewidth=0.8)
    panel.set(xscale="log", xlabel="p", ylabel="share of windows below p, over p", ylim=(0.0, 2.0))
    panel.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Calibrate, judge healthy windows and faults, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=2000)
    parser.add_argument(
        "--windows", type=int, default=1000, help="healthy windows of each size, thrice as many of any"
    )
    parser.add_argument("--faulty", type=int, default=200, help="windows of each fault")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bundle"
        recipe = Recipe(FEATURES, N_REFERENCE, N_WINDOW, cut=WindowCut.TIME)
        bundle = create_bundle(events(Conditions(), N_REFERENCE + N_POOL, [1, 1]), recipe, path)
        kinds = [WindowKind(cut=WindowCut.TIME, n_expected=size) for size in (N_WINDOW, *OWN)]

        def calibrate_one(kind: WindowKind) -> None:
            nonlocal bundle
            bundle = calibrate(bundle, given.toys, kind=kind, seed=2, n_processes=1)

        def calibrate_all() -> None:
            nonlocal bundle
            bundle, _ = calibrate_range(bundle, given.toys, window_range=RANGE, seed=3, workers=Processes(1))

        one, all_sizes = cost(lambda: calibrate_one(kinds[0]), path), cost(calibrate_all, path)
        ranged = bundle
        for kind in kinds[1:]:
            calibrate_one(kind)
        text = table(
            ("calibrated for", "processor seconds", "kB on disk"),
            *((name, f"{seconds:.0f}", f"{n_bytes / 1e3:.0f}")
              for name, (seconds, n_bytes) in {"500 events": one, "100 to 500 events": all_sizes}.items()),
        )  # fmt: skip
        anywhere = np.random.default_rng(5).uniform(RANGE.low, RANGE.high, 3 * given.windows)
        sizes = {"20 to 100 %": anywhere} | {f"{n:g} events": np.full(given.windows, n) for n in OFF_GRID}
        found = {
            name: p_values(ranged, expected, Conditions(), seed)
            for seed, (name, expected) in enumerate(sizes.items())
        }
        draw(found, given.output / "live_times.png")
        text += table(
            ("live time or size", "windows", "KS p", "p < 0.05", "p < 0.01"),
            *((name, str(len(p)), f"{stats.kstest(p, 'uniform').pvalue:.2f}", share(p, 0.05), share(p, 0.01))
              for name, p in found.items()),
        )  # fmt: skip
        rows = [("fault", "events", "range: p < 0.01", "table of its own: p < 0.01")]
        for seed, (name, conditions) in enumerate(FAULTS.items(), start=20):
            for n in OWN:
                expected = np.full(given.faulty, n)
                seen = [share(p_values(b, expected, conditions, seed), 0.01) for b in (ranged, bundle)]
                rows.append((name, f"{n:g}", *seen))
        (given.output / "live_times.md").write_text(text + table(*rows))


if __name__ == "__main__":
    main()
