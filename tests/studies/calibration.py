"""Is p of healthy windows right? All statistics on the same windows, each calibrated as a user does it.

``python -m tests.studies.calibration OUTPUT`` simulates a good run, builds a bundle of it for each statistic,
throws its toys, and tests healthy windows of a later run that is as good. It writes a table and a figure into
OUTPUT, and p of all windows of each statistic, from where an interrupted study goes on. In the figure a
statistic that is right follows the diagonal; its windows stay within the grey band at 95 % of the places.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

import dqm
from dqm.events import FloatArray
from dqm.reference import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.channel_faults import RUN_WINDOWS, Detector, chamber_map, simulated_windows
from tests.studies.simulated_faults import FEATURES, events

STATISTICS = (
    "several", "kernel", "one-step", "symmetrised", "energy", "mmd", "mmd-nystroem", "mmd-fuse", "kolmogorov",
    "chi-squared", "boosted-trees", "neural-classifier", "isolation-forest", "autoencoder", "channels",
)  # fmt: skip
"""All but two: ``falkon`` needs its library, and ``neural`` hours of a core with as many toys."""
N_RUN, N_WINDOW = 100_000, 200
"""Events of the good run (those of ten windows are the reference, the others make toys), and of a window."""

WINDOW_SECONDS = 3.0
"""Length of a window of hits: about 42 for each of 64 wires."""

SHARES = (0.001, 0.01, 0.05, 0.5)


def judge_windows(statistic: str, n_toys: int, n_windows: int, seed: int) -> FloatArray:
    """Give p of healthy windows, shape (n_windows,)."""
    if statistic == "channels":
        return judge_hits(n_toys, n_windows, seed)
    run = events(Conditions(), N_RUN, [18, 2 * seed + 1])
    later = events(Conditions(), n_windows * N_WINDOW, [18, 2 * seed + 2]).reshape(n_windows, N_WINDOW, -1)
    with one_thread():
        bundle = dqm.build_bundle(run, window=N_WINDOW, features=FEATURES, statistic=statistic)
        bundle.calibrate(n_toys)
        return np.array([bundle.evaluate(window).p for window in later], dtype=float)


def judge_hits(n_toys: int, n_windows: int, seed: int) -> FloatArray:
    """Give p of healthy windows of hits by channel."""
    run = np.stack(list(simulated_windows(WINDOW_SECONDS, RUN_WINDOWS, 2 * seed + 1)))
    detector = Detector.learn(run, chamber_map(), n_toys)
    later = simulated_windows(WINDOW_SECONDS, n_windows, 2 * seed + 2)
    return np.array([detector.judge(hits)[1] for hits in later])


def table(found: dict[str, FloatArray], n_toys: int) -> Iterator[str]:
    """Write a row for each statistic."""
    yield "| statistic | windows | " + " | ".join(f"p <= {share:g}" for share in SHARES) + " | KS p |"
    yield "|---|---|" + "---|" * (len(SHARES) + 1)
    for name, p in found.items():
        shares = " | ".join(f"{(p <= share).mean():.4g}" for share in SHARES)
        # the null table has as many toys, so both are samples: p = 1 - F(t) of toys is uniform on a grid
        toys = np.arange(1, n_toys + 2) / (n_toys + 1)
        yield f"| {name} | {len(p)} | {shares} | {stats.ks_2samp(p, toys, method='asymp').pvalue:.2f} |"


def draw(found: dict[str, FloatArray], n_toys: int, path: Path) -> None:
    """Draw the share of windows with p below each p, and what chance allows."""
    n_rows = -(-len(found) // 4)
    figure = Figure(figsize=(11.0, 2.9 * n_rows), layout="constrained")
    grid = np.geomspace(1e-3, 1.0, 61)
    for place, (name, p) in enumerate(found.items(), 1):
        ax = figure.add_subplot(n_rows, 4, place)
        n = 1.0 / (1.0 / len(p) + 1.0 / n_toys)  # windows and toys both have errors
        low, high = (stats.binom.ppf(q, round(n), grid) / round(n) for q in (0.025, 0.975))
        ax.fill_between(grid, np.maximum(low, 1e-4), high, color="0.85")
        ax.plot(grid, grid, color="grey", linewidth=1.0)
        shares = np.array([(p <= one).mean() for one in grid])
        ax.step(grid[shares > 0], shares[shares > 0], where="mid", color="C0")
        ax.set(xscale="log", yscale="log", xlim=(1e-3, 1.0), ylim=(2e-4, 1.0), title=name)
    figure.supxlabel("p")
    figure.supylabel("share with p this small")
    figure.savefig(path, dpi=110)


def collect(
    statistics: Sequence[str], n_toys: int, n_windows: int, seed: int, output: Path
) -> dict[str, FloatArray]:
    """Test the windows with all statistics, but for those that are done."""
    found = {}
    for name in statistics:
        kept = output / f"{name}-{n_toys}-{n_windows}{f'-{seed}' if seed else ''}.txt"
        if not kept.exists():
            begin = time.process_time()
            np.savetxt(kept, judge_windows(name, n_toys, n_windows, seed))
            sys.stdout.write(f"{name}: {time.process_time() - begin:.0f} s\n")
            sys.stdout.flush()
        found[name] = np.loadtxt(kept)
    return found


def main() -> None:
    """Write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--statistics", nargs="*", default=STATISTICS)
    parser.add_argument("--toys", type=int, default=2000, help="of each null table")
    parser.add_argument("--windows", type=int, default=2000, help="healthy windows")
    parser.add_argument("--seed", type=int, default=0, help="of both runs")
    choice = parser.parse_args()
    choice.output.mkdir(parents=True, exist_ok=True)
    found = collect(choice.statistics, choice.toys, choice.windows, choice.seed, choice.output)
    text = "\n".join(table(found, choice.toys)) + "\n"
    (choice.output / "calibration.md").write_text(text)
    sys.stdout.write(text)
    draw(found, choice.toys, choice.output / "calibration.png")


if __name__ == "__main__":
    main()
