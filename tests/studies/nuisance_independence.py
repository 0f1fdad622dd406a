"""Table 2 of d'Agnolo et al. (2022) with the kernel test: is t independent of the nuisance parameters?

``python -m tests.studies.nuisance_independence OUTPUT`` writes a table (Markdown) and a figure into OUTPUT.
One feature, exponential; scale and normalisation are nuisance parameters, log r linear in nu; toys at five
points for sigma = 5, 10, 15 %; Kolmogorov-Smirnov p-values of t, and of tau alone, against t at nu = 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich.progress import Progress
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, Shape

mpl.use("Agg")
from matplotlib import pyplot as plt

N_REFERENCE, N_EXPECTED = 40_000, 2000
SIGMAS = (0.05, 0.10, 0.15)
POINTS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))
"""(nu_scale, nu_norm) in units of sigma."""

BATCH = 10


def delta_1(x: FloatArray) -> FloatArray:
    """First-order coefficient of an exponential whose scale is e^nu."""
    return x[:, 0] - 1.0


def make_test(sigma: float, seed: int) -> KernelTest:
    """Prepare the test with both nuisance parameters."""
    rng = np.random.default_rng(seed)
    nuisances = [Normalisation("norm", sigma), Shape("scale", sigma, linear=delta_1)]
    reference = rng.exponential(size=(N_REFERENCE, 1))
    return KernelTest(
        reference, n_expected=N_EXPECTED, width=0.5, penalty=1e-7, centers=500, loss="likelihood", rng=rng,
        nuisances=nuisances,
    )  # fmt: skip


def toys(
    test: KernelTest, sigma: float, point: tuple[int, int], n: int, seed: list[int]
) -> tuple[FloatArray, FloatArray]:
    """Throw n windows at a point of the nuisance space, with their measurements; gives t and tau."""
    rng = np.random.default_rng(seed)
    scale, norm = sigma * np.array(point)
    t, tau = [], []
    for _ in range(0, n, BATCH):
        windows = [
            rng.exponential(np.exp(scale), size=(rng.poisson(N_EXPECTED * np.exp(norm)), 1))
            for _ in range(BATCH)
        ]
        measured = [{"norm": rng.normal(norm, sigma), "scale": rng.normal(scale, sigma)} for _ in windows]
        results = test.evaluate_many(windows, auxiliaries=measured)
        t += [result.t for result in results]
        tau += [result.tau for result in results]
    return np.array(t), np.array(tau)


def main() -> None:
    """Run all sigmas and points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--toys", type=int, default=300, help="toys at each point")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(SIGMAS), figsize=(12, 3.5), layout="constrained")
    lines = ["| sigma | (nu_S, nu_N) / sigma | mean t | KS p of t | KS p of tau |", "|---|---|---|---|---|"]
    with Progress() as bar:
        task = bar.add_task("points", total=len(SIGMAS) * (len(POINTS) + 1))
        for row, (sigma, panel) in enumerate(zip(SIGMAS, axes, strict=True)):
            test = make_test(sigma, seed=row)
            null, _ = toys(test, sigma, (0, 0), 2 * arguments.toys, [row, 99])
            bar.advance(task)
            edges = np.linspace(0, np.quantile(null, 0.999), 30)
            panel.hist(null, bins=edges, density=True, color="0.8", label="nu = 0")
            for column, point in enumerate(POINTS):
                t, tau = toys(test, sigma, point, arguments.toys, [row, column])
                p_t, p_tau = stats.ks_2samp(t, null).pvalue, stats.ks_2samp(tau, null).pvalue
                lines.append(f"| {sigma:.0%} | {point} | {t.mean():.1f} | {p_t:.3f} | {p_tau:.1e} |")
                panel.hist(t, bins=edges, density=True, histtype="step", label=str(point))
                (arguments.output / "nuisance_independence.md").write_text("\n".join(lines) + "\n")
                bar.advance(task)
            panel.set(title=f"sigma {sigma:.0%}", xlabel="t")
            panel.legend()
    figure.savefig(arguments.output / "nuisance_independence.png")


if __name__ == "__main__":
    main()
