"""In-sample t against a train-test split, and other figures of merit of the fitted f.

``python -m tests.studies.figures_of_merit OUTPUT`` writes a table (Markdown) into OUTPUT. f is fitted to the
whole window and judged on the same events ("in sample"), or window and reference are halved, f is fitted to
one half and judged on the other, and the reverse; the mean of both counts ("split"), as in Grosso et al.
(2023), arXiv:2305.14137. What is made of f: t; the area under the ROC curve; the balanced accuracy of its
sign; the Kolmogorov-Smirnov distance and the mean difference of f between window and reference. Power is the
share of faulty windows above the 95 % quantile of healthy ones, which calibrates all alike. "t" in sample is
the test of ``dqm``. With ``--statistic neural`` f is a network of 4 neurons.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest
from dqm.nplm.neural import NeuralTest
from dqm.reference.processes import one_thread
from dqm.service.offline.power_samples import FAMILIES

N_REFERENCE, N_WINDOW, CENTERS, LEVEL = 2000, 200, 300, 0.05
CLIPPINGS = {"exponential": 9.0, "chamber": 2.0}
"""Clipping of the network, by family."""

Ratio = Callable[[FloatArray], FloatArray]
Fit = Callable[[FloatArray], Ratio]
"""Fits f to the events of a window."""

FIGURES = ("t", "area", "accuracy", "distance", "difference")


def merits(seen: FloatArray, reference: FloatArray, n_expected: float) -> dict[str, float]:
    """Give the figures of merit of f at events of a window and of the reference."""
    ranks = stats.rankdata(np.concatenate([seen, reference]))[: len(seen)]
    area = (ranks.sum() - len(seen) * (len(seen) + 1) / 2) / (len(seen) * len(reference))
    t = -2.0 * (n_expected * np.expm1(np.minimum(reference, 50.0)).mean() - seen.sum())
    return {
        "t": float(t),
        "area": float(area),
        "accuracy": float(0.5 * ((seen > 0).mean() + (reference <= 0).mean())),
        "distance": float(stats.ks_2samp(seen, reference, method="asymp").statistic),
        "difference": float(seen.mean() - reference.mean()),
    }


def make_fit(statistic: str, family: str, reference: FloatArray, n_expected: float) -> Fit:
    """Prepare a test on a reference; it gives f as a function."""
    rng = np.random.default_rng(1)
    if statistic == "neural":
        network = NeuralTest(reference, n_expected=n_expected, clipping=CLIPPINGS[family])
        return lambda window: network.evaluate(window).log_ratio
    centers = reference[rng.choice(len(reference), min(CENTERS, len(reference)), replace=False)]
    kernel = KernelTest(reference, n_expected=n_expected, centers=centers, **KernelTest.usual_settings)  # type: ignore[arg-type]
    return lambda window: kernel.evaluate(window).density


class Judge:
    """All figures of merit of windows, in sample and split, and the seconds that each way takes."""

    def __init__(self, statistic: str, family: str, reference: FloatArray) -> None:
        self._reference = reference
        self._halves = np.array_split(reference, 2)
        self._whole = make_fit(statistic, family, reference, N_WINDOW)
        self._half = [make_fit(statistic, family, half, N_WINDOW / 2) for half in self._halves]
        self.seconds = dict.fromkeys(("in sample", "split"), 0.0)

    def judge(self, window: FloatArray) -> dict[str, float]:
        """Give all figures of merit of a window."""
        begin = time.perf_counter()
        f = self._whole(window)
        found = {
            f"{name}, in sample": value
            for name, value in merits(f(window), f(self._reference), N_WINDOW).items()
        }
        middle = time.perf_counter()
        parts = np.array_split(window, 2)
        both = []
        for k in (0, 1):
            f = self._half[k](parts[k])
            both.append(merits(f(parts[1 - k]), f(self._halves[1 - k]), N_WINDOW / 2))
        found |= {f"{name}, split": float(np.mean([one[name] for one in both])) for name in FIGURES}
        self.seconds["in sample"] += middle - begin
        self.seconds["split"] += time.perf_counter() - middle
        return found


def study(statistic: str, family_name: str, n_healthy: int, n_faulty: int) -> tuple[list[str], str]:
    """Give the rows of one family, a fault each, and the milliseconds of both ways."""
    family = next(one for one in FAMILIES if one.name == family_name)
    rng = np.random.default_rng([1, zlib.crc32(family_name.encode())])
    judge = Judge(statistic, family_name, family.healthy(N_REFERENCE, rng))

    def judge_all(events: FloatArray, what: str) -> dict[str, FloatArray]:
        windows = events.reshape(-1, N_WINDOW, events.shape[1])
        rows = [judge.judge(one) for one in track(windows, description=what)]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    healthy = judge_all(family.healthy(n_healthy * N_WINDOW, rng), "healthy")
    limits = {name: float(np.quantile(t, 1.0 - LEVEL, method="higher")) for name, t in healthy.items()}
    lines = []
    for fault, draw in family.faults.items():
        found = judge_all(draw(n_faulty * N_WINDOW, rng), fault)
        shares = [float((found[name] > limits[name]).mean()) for name in limits]
        cells = [f"**{one:.2f}**" if one == max(shares) else f"{one:.2f}" for one in shares]
        lines.append(f"| {statistic} | {family_name} | {fault} | {' | '.join(cells)} |")
    n = n_healthy + n_faulty * len(family.faults)
    times = " | ".join(f"{1e3 * judge.seconds[way] / n:.0f}" for way in ("in sample", "split"))
    return lines, f"| {statistic} | {family_name} | {times} |"


def main() -> None:
    """Write the tables, a family at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--healthy", type=int, default=400)
    parser.add_argument("--faulty", type=int, default=100)
    parser.add_argument("--statistic", choices=["kernel", "neural"], default="kernel")
    parser.add_argument("--families", nargs="*", default=["exponential", "chamber"])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    columns = [f"{name}, {way}" for way in ("in sample", "split") for name in FIGURES]
    lines = [f"| f | events | fault | {' | '.join(columns)} |", "|---|---|---|" + "---|" * len(columns)]
    times = ["| f | events | ms in sample | ms split |", "|---|---|---|---|"]
    for family in arguments.families:
        with one_thread():
            rows, milliseconds = study(arguments.statistic, family, arguments.healthy, arguments.faulty)
        lines += rows
        times.append(milliseconds)
        text = "\n".join([*lines, "", *times]) + "\n"
        (arguments.output / f"figures_of_merit_{arguments.statistic}.md").write_text(text)


if __name__ == "__main__":
    main()
