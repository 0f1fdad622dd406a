"""The one-dimensional check of the test: exponential reference, a narrow excess (NP3) on top.

``python -m tests.studies.exponential --toys 300`` prints, for three kernel widths, the mean of t in healthy
windows and with 90 extra events at 1.6 +- 0.16, and the significance of the excess.
Configuration of arXiv 2204.02317: N_R = 200 000, N(R) = 2000, 1000 centres, lambda = 1e-6.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from rich.progress import track
from scipy import stats

from dqm.nplm import KernelTest
from dqm.reference import NullTable

N_REFERENCE, N_EXPECTED, CENTERS, PENALTY = 200_000, 2000, 1000, 1e-6
WIDTHS = (0.3, 0.7, 2.3)


def study(width: float, n_toys: int, seed: int, loss: str) -> dict[str, float]:
    """Means, spreads and the median significance of the excess for one width."""
    rng = np.random.default_rng(seed)
    reference = rng.exponential(size=(N_REFERENCE, 1))
    test = KernelTest(
        reference, n_expected=N_EXPECTED, width=width, penalty=PENALTY, centers=CENTERS, loss=loss, rng=rng
    )
    healthy, excess = [], []
    for _ in track(range(n_toys), description=f"width {width}, {loss}"):
        background = rng.exponential(size=(rng.poisson(N_EXPECTED), 1))
        healthy.append(test.evaluate(background).t)
        peak = rng.normal(1.6, 0.16, size=(90, 1))
        signal = np.concatenate([rng.exponential(size=(rng.poisson(N_EXPECTED), 1)), peak])
        excess.append(test.evaluate(signal).t)
    t0, t1 = np.array(healthy), np.array(excess)
    null = NullTable(t0)
    return {
        "width": width,
        "independent_centres": test.n_independent,
        "t_healthy": t0.mean(),
        "t_healthy_error": t0.std(ddof=1) / n_toys**0.5,
        "t_healthy_std": t0.std(ddof=1),
        "t_excess": t1.mean(),
        "t_excess_error": t1.std(ddof=1) / n_toys**0.5,
        "z_excess_median": float(stats.norm.isf(null.p_value(float(np.median(t1))).p)),
    }


def main() -> None:
    """Run all widths and print one JSON object for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toys", type=int, default=300, help="toys for each width, 100 or more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loss", choices=["logistic", "likelihood"], default="logistic")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for width in WIDTHS:
        print(json.dumps(study(width, arguments.toys, arguments.seed, arguments.loss)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
