"""Section 3.4 of d'Agnolo et al. (2022) with the kernel test: where does the independence of nu end?

``python -m tests.studies.nuisance_breakdown OUTPUT`` writes tables (Markdown) and a figure into OUTPUT. One
feature, exponential, its scale known to 60 %, its normalisation exactly or to 60 % as well. First, as in
figure 6, the expansion of log r is cut at first or second order, with the exact coefficients and with learned
ones; the reference drawn at nu itself stands for the exact log r. Then, as in figure 7, a longer tail at
nu_scale = +0.6 runs out of reference events; there log r is linear, which with a free normalisation is exact.

Kolmogorov-Smirnov p-values compare converged t with toys at nu = 0; alarms are windows above the 95 %
quantile of those, or whose fit fails.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from rich.progress import Progress
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, Nuisance, Shape
from dqm.nplm.taylor import Network, ShiftedSample, learn_taylor
from dqm.nplm.transformations import scale
from tests.studies.nuisance_independence import BATCH, N_EXPECTED, delta_1

mpl.use("Agg")
from matplotlib import pyplot as plt

SIGMA = 0.6
N_REFERENCE = 200_000
"""As published."""

WIDTH, PENALTY = 1.0, 1e-3
POINTS = (0.0, -0.6, 0.6)
CELLS = "mean t | largest t | KS p | alarms | fits failed"
LEARNED_AT = {1: (0.05, -0.05, 0.1, -0.1), 2: (0.05, -0.05, 0.3, -0.3, 0.6, -0.6)}
"""nu of the samples learned from, by the order of the expansion."""

Advance = Callable[[int], None]

CELL = 0.01
STRETCH = 2.0
"""Scale of the weighted reference that is drawn with a longer tail."""


def delta_2(x: FloatArray) -> FloatArray:
    """Second-order coefficient of an exponential whose scale is e^nu."""
    return -x[:, 0]


def merged(x: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Replace events by the means of fine cells, which kernels cannot tell from them; keep first and last."""
    cell = 1 + (x / CELL).astype(int)
    cell[x.argmin()], cell[x.argmax()] = 0, cell.max() + 1
    weight, moment = np.bincount(cell, weights), np.bincount(cell, weights * x)
    used = weight > 0
    return moment[used] / weight[used], weight[used]


def make_test(
    reference: FloatArray,
    nuisances: Sequence[Nuisance],
    weights: FloatArray | None = None,
    width: float = WIDTH,
    penalty: float = PENALTY,
) -> KernelTest:
    """Prepare the test on merged events, centres over the whole range; the penalty is that of all events."""
    x, w = merged(reference, np.ones(len(reference)) if weights is None else weights)
    penalty *= (len(reference) + N_EXPECTED) / (len(x) + N_EXPECTED)
    return KernelTest(
        x[:, None], n_expected=N_EXPECTED, width=width, penalty=penalty, weights=w, loss="likelihood",
        centers=np.linspace(0.0, x.max(), 200)[:, None], nuisances=nuisances,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Study:
    """A reference, what is known about it, and the kernels; without a shape the scale is known exactly."""

    reference: FloatArray
    shape: Shape | None
    sigma_norm: float
    width: float
    penalty: float
    weights: FloatArray | None = None

    def test(self) -> KernelTest:
        norm = [Normalisation("norm", self.sigma_norm)] if self.sigma_norm else []
        shape = [self.shape] if self.shape else []
        return make_test(self.reference, [*shape, *norm], self.weights, self.width, self.penalty)

    def toys(
        self, test: KernelTest, nu: float, n: int, seed: list[int], advance: Advance
    ) -> tuple[FloatArray, FloatArray]:
        """t, and the number of events outside, of n windows at (nu_scale, nu_norm) = (nu, 0)."""
        rng = np.random.default_rng(seed)
        t, outside = [], []
        for _ in range(0, n, BATCH):
            windows = [rng.exponential(np.exp(nu), size=rng.poisson(N_EXPECTED)) for _ in range(BATCH)]
            measured: list[dict[str, float]] = [{} for _ in windows]
            for one in measured:
                if self.shape:
                    one["scale"] = rng.normal(nu, SIGMA)
                if self.sigma_norm:
                    one["norm"] = rng.normal(0.0, self.sigma_norm)
            results = test.evaluate_many([w[:, None] for w in windows], auxiliaries=measured)
            t += [result.t for result in results]
            outside += [result.n_outside for result in results]
            advance(BATCH)
        return np.array(t), np.array(outside)


def compare(t: FloatArray, null: FloatArray) -> str:
    """Cells of a table: mean and largest t, KS p, alarms, failures."""
    good, healthy = t[np.isfinite(t)], null[np.isfinite(null)]
    alarms = ~(t <= np.quantile(healthy, 0.95))
    return (
        f"{good.mean():.1f} | {good.max():.0f} | {stats.ks_2samp(good, healthy).pvalue:.2g} "
        f"| {alarms.mean():.1%} | {1 - len(good) / len(t):.1%}"
    )


def learned_shape(reference: FloatArray, order: int, seed: int) -> Shape:
    """Learn the coefficients from the reference itself, transformed."""
    x, stretch = reference[:, None], scale([0])
    model = learn_taylor(
        x,
        [ShiftedSample(nu, stretch(x, nu)) for nu in LEARNED_AT[order]],
        order=order,
        method=Network(units=16, depth=2, steps=1000),
        rng=np.random.default_rng(seed),
    )
    return Shape("scale", SIGMA, model.linear, model.quadratic if order == 2 else None)


def study_orders(n: int, width: float, penalty: float, advance: Advance, axes: list[Axes]) -> list[str]:
    """Cut the expansion."""
    lines = [f"| log r | sigma_N | nu_S | {CELLS} |", "|---|---|---|---|---|---|---|---|"]
    reference = np.random.default_rng(0).exponential(size=N_REFERENCE)
    shapes = {
        "linear": Shape("scale", SIGMA, delta_1),
        "linear, learned": learned_shape(reference, 1, seed=1),
        "quadratic": Shape("scale", SIGMA, delta_1, delta_2),
        "quadratic, learned": learned_shape(reference, 2, seed=2),
        "reference at nu": None,
    }
    for row, sigma_norm in enumerate((0.0, SIGMA)):
        for column, (name, shape) in enumerate(shapes.items()):
            null = np.empty(0)
            for k, nu in enumerate((0.0, *POINTS)):  # the first 0 calibrates
                stretch = 1.0 if shape else np.exp(nu)
                study = Study(stretch * reference, shape, sigma_norm, width / stretch, penalty)
                t, _ = study.toys(study.test(), nu, n if k else 2 * n, [row, column, k], advance)
                if not k:
                    null = t
                    continue
                lines.append(f"| {name} | {sigma_norm:.0%} | {nu:+g} | {compare(t, null)} |")
                if nu != max(POINTS):
                    style, color = ("--" if nu == 0.0 else "-"), f"C{column}"
                    axes[row].ecdf(t[np.isfinite(t)], ls=style, color=color, label=f"{name}, {nu:+g}")
        axes[row].set(title=f"sigma_N {sigma_norm:.0%}", xlabel="t", ylabel="share below", xlim=(0, 80))
    axes[0].legend(title="log r, nu_S", fontsize="x-small")
    return lines


def study_tail(n: int, sizes: list[int], width: float, penalty: float, advance: Advance) -> list[str]:
    """Stretch the data beyond references of several sizes, and one that is drawn with a longer tail."""
    lines = [
        "| reference | largest event | 2 N_D / N_R | events outside at 0 (expected) | at +0.6 "
        f"| windows with any | {CELLS} | alarms where none is outside |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    shape = Shape("scale", SIGMA, delta_1)
    for row, (size, tail) in enumerate([*((size, 1.0) for size in sizes), (sizes[0], STRETCH)]):
        reference = np.random.default_rng([row, 7]).exponential(tail, size=size)
        study = Study(reference, shape, SIGMA, width, penalty, np.exp(reference * (1.0 / tail - 1.0)))
        test = study.test()
        null, outside_null = study.toys(test, 0.0, 2 * n, [row, 99], advance)
        t, outside = study.toys(test, max(POINTS), n, [row, 1], advance)
        inside = t[outside == 0]
        alarms = np.mean(~(inside <= np.nanquantile(null, 0.95))) if len(inside) else math.nan
        expected = N_EXPECTED * (np.exp(-reference.max()) - np.expm1(-reference.min()))
        lines.append(
            f"| {size}{', weighted, long tail' if tail > 1 else ''} | {reference.max():.1f} "
            f"| {2 * N_EXPECTED / size:.3f} | {outside_null.mean():.3f} ({expected:.3f}) "
            f"| {outside.mean():.2f} | {1 - len(inside) / n:.0%} | {compare(t, null)} | {alarms:.1%} |"
        )
    return lines


def main() -> None:
    """Run both studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--toys", type=int, default=300, help="toys at each point, a multiple of 10")
    parser.add_argument("--sizes", type=int, nargs="+", default=[40_000, 200_000, 1_000_000])
    parser.add_argument("--width", type=float, default=WIDTH)
    parser.add_argument("--penalty", type=float, default=PENALTY)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    n, width, penalty = arguments.toys, arguments.width, arguments.penalty
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    with Progress() as bar:
        total = n * (10 * (2 + len(POINTS)) + 3 * (len(arguments.sizes) + 1))
        task = bar.add_task("windows", total=total)

        def advance(k: int) -> None:
            bar.advance(task, k)

        lines = study_orders(n, width, penalty, advance, list(axes))
        figure.savefig(arguments.output / "nuisance_breakdown.png")
        (arguments.output / "nuisance_breakdown.md").write_text("\n".join(lines) + "\n")
        lines += ["", *study_tail(n, arguments.sizes, width, penalty, advance)]
        (arguments.output / "nuisance_breakdown.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
