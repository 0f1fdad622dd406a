"""The published studies of the neural test: chi-square compatibility, and signals beside nuisance parameters.

``python -m tests.studies.neural OUTPUT`` writes tables (Markdown) and a figure into OUTPUT, each line as soon
as it is found. One feature, exponential, N(R_0) = 2000, N_R = 200 000, the (1, 4, 1) network, as in section 3
of d'Agnolo et al. (2022). First table 1: the mean of t less 13 and the Kolmogorov-Smirnov p with the
chi-square distribution, for several clippings. Then figure 8: the median Z of three signals over that of the
dedicated q0, with both nuisance parameters, and the time of the kernel test (``nuisance_power`` has its Z).
``--epochs`` trains some windows with Adam, as the authors do, and prints t beside that of the fit;
``--all-events`` fits some windows with all reference events in place of cells of 0.01.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, Nuisance, Shape
from dqm.nplm.neural import ClippingTrial, NeuralTest, Perceptron
from tests.studies.nuisance_breakdown import delta_2, make_test, merged
from tests.studies.nuisance_independence import N_EXPECTED, SIGMAS, delta_1
from tests.studies.nuisance_power import SETTINGS, SIGNALS, Toy, median, q0, throw

mpl.use("Agg")
from matplotlib import pyplot as plt

N_REFERENCE, LAYERS, N_PARAMETERS, CLIPPING = 200_000, (4,), 13, 9.0
CLIPPINGS = (9.0, 4.0, 7.0, 8.0, 10.0, 11.0, 15.0, 35.0)
PUBLISHED = {
    35.0: "< 1e-5, 2.6 +- 0.6", 15.0: "0.01, 1.5 +- 0.7", 11.0: "0.01, 1.2 +- 0.5", 10.0: "0.56, 0.9 +- 0.6",
    9.0: "1.0, 0.0 +- 0.5", 8.0: "0.53, -0.4 +- 0.4", 7.0: "0.21, -0.8 +- 0.4", 4.0: "< 1e-5, -2.7 +- 0.4",
}  # fmt: skip
"""KS p and mean t - 13 with 100 toys, table 1."""

STARTS = 4
BATCH = 20
RATE, MOMENTS, SMALL = 1e-3, (0.9, 0.999), 1e-7
"""Of Adam, as the authors' library has them."""


def draw(rng: np.random.Generator, n: int) -> list[FloatArray]:
    """Draw healthy windows."""
    return [rng.exponential(size=(rng.poisson(N_EXPECTED), 1)) for _ in range(n)]


def cells(seed: int) -> tuple[FloatArray, FloatArray]:
    """Draw the reference and merge it into fine cells: their means, and their events."""
    x = np.random.default_rng(seed).exponential(size=N_REFERENCE)
    return merged(x, np.ones(N_REFERENCE))


def compatibility(n: int, seed: int) -> Iterator[tuple[str, ClippingTrial]]:
    """Give the lines of table 1."""
    x, counts = cells(seed)
    windows = draw(np.random.default_rng([seed, 1]), n)
    for clipping in CLIPPINGS:
        begin = time.perf_counter()
        test = NeuralTest(
            x[:, None], n_expected=N_EXPECTED, layers=LAYERS, clipping=clipping, starts=STARTS, counts=counts
        )
        t = np.array([one.t for one in test.evaluate_many(windows)])
        seconds = time.perf_counter() - begin
        trial = ClippingTrial(clipping, t[np.isfinite(t)], N_PARAMETERS)
        yield (
            f"| {clipping:g} | {trial.p:.2g} | {trial.excess:.1f} +- {trial.error:.1f} "
            f"| {PUBLISHED[clipping]} | {len(t) - len(trial.t)} | {seconds:.0f} |",
            trial,
        )


def figure_8(n: int, seed: int) -> Iterator[str]:
    """Give the lines of figure 8: median Z over that of q0, and the time of the kernel test beside."""
    x, counts = cells(seed)
    for place, sigma in enumerate(SIGMAS):
        nuisances: list[Nuisance] = [Normalisation("norm", sigma), Shape("scale", sigma, delta_1, delta_2)]
        neural = NeuralTest(
            x[:, None], n_expected=N_EXPECTED, layers=LAYERS, clipping=CLIPPING, starts=STARTS, counts=counts,
            nuisances=nuisances,
        )  # fmt: skip
        kernel = make_test(x, nuisances, counts, *SETTINGS[0])
        for column, (name, signal) in enumerate(SIGNALS.items()):
            toys = throw(np.random.default_rng([seed, place, column]), n, sigma, signal=signal)
            known, _ = median(np.sqrt([q0(toy, signal, sigma) for toy in toys]))
            t, milliseconds = _statistics(neural, toys)
            _, of_kernel = _statistics(kernel, toys)
            z, error = median(stats.norm.isf(stats.chi2(N_PARAMETERS).sf(t)))
            yield (
                f"| {name} | {sigma:.0%} | {z:.2f} +- {error:.2f} | {known:.2f} | {z / known:.2f} "
                f"| {milliseconds:.0f} | {of_kernel:.0f} |"
            )


def _statistics(test: KernelTest | NeuralTest, toys: list[Toy]) -> tuple[FloatArray, float]:
    """Give t of toys, and the milliseconds of processor time of one."""
    begin = time.process_time()
    t: list[float] = []
    for start in range(0, len(toys), BATCH):
        batch = toys[start : start + BATCH]
        measured = [{"norm": toy.norm, "scale": toy.scale} for toy in batch]
        t += [one.t for one in test.evaluate_many([toy.x[:, None] for toy in batch], auxiliaries=measured)]
    return np.array(t), 1e3 * (time.process_time() - begin) / len(toys)


def trained(n: int, n_epochs: int, seed: int) -> Iterator[str]:
    """Give t of windows after many epochs of Adam from one start, beside t of the fit; events in cells."""
    x, counts = cells(seed)
    windows = draw(np.random.default_rng([seed, 1]), n)
    edges = 0.5 * (x[1:] + x[:-1])
    seen = torch.from_numpy(
        np.array([np.bincount(np.searchsorted(edges, one[:, 0]), minlength=len(x)) for one in windows], float)
    )
    expected = torch.from_numpy(counts * N_EXPECTED / counts.sum())
    network = Perceptron(1, LAYERS)
    bounds = network.bounds(CLIPPING)
    at = _glorot(network, n, seed)
    first, second = torch.zeros_like(at), torch.zeros_like(at)
    events = torch.from_numpy((x - 1.0)[:, None])
    for epoch in range(1, n_epochs + 1):
        f = network.evaluate(at, events)
        density = expected * f.exp()
        slope = network.gradient(at, events, density - seen)[1]
        first = MOMENTS[0] * first + (1 - MOMENTS[0]) * slope
        second = MOMENTS[1] * second + (1 - MOMENTS[1]) * slope**2
        rate = RATE * (1 - MOMENTS[1] ** epoch) ** 0.5 / (1 - MOMENTS[0] ** epoch)
        at = (at - rate * first / (second.sqrt() + SMALL)).clamp(-bounds, bounds)
        if epoch in (1000, 10_000, 30_000, n_epochs) or epoch % 50_000 == 0:
            t = -2.0 * (density - expected - seen * f).sum(1)
            yield f"| Adam, {epoch} epochs | {t.mean():.2f} | {t.median():.2f} | | |"
    for starts in (1, 4, 16):
        test = NeuralTest(
            x[:, None], n_expected=N_EXPECTED, layers=LAYERS, clipping=CLIPPING, starts=starts, counts=counts
        )
        begin = time.perf_counter()
        found = np.array([one.t for one in test.evaluate_many(windows)])
        seconds = time.perf_counter() - begin
        behind = float((found < t.numpy() - 0.1).mean())
        what = f"| fit, {starts} starts | {found.mean():.2f} | {np.median(found):.2f} "
        yield f"{what}| {behind:.0%} | {seconds:.0f} |"


def _glorot(network: Perceptron, n: int, seed: int) -> torch.Tensor:
    """Draw first weights as the authors' library does: uniform matrices, offsets 0."""
    rng = np.random.default_rng([seed, 2])
    parts = []
    for a, b in zip(network.sizes[:-1], network.sizes[1:], strict=True):
        limit = (6.0 / (a + b)) ** 0.5
        parts += [rng.uniform(-limit, limit, (n, a * b)), np.zeros((n, b))]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def all_events(n: int, seed: int) -> Iterator[str]:
    """Give t of windows with every reference event, and with cells."""
    whole = np.random.default_rng(seed).exponential(size=(N_REFERENCE, 1))
    x, counts = cells(seed)
    windows = draw(np.random.default_rng([seed, 1]), n)
    for name, reference, weights in (("all events", whole, None), ("cells", x[:, None], counts)):
        test = NeuralTest(
            reference, n_expected=N_EXPECTED, layers=LAYERS, clipping=CLIPPING, starts=STARTS, counts=weights
        )
        begin = time.perf_counter()
        t = [one.t for one in test.evaluate_many(windows)]
        seconds = (time.perf_counter() - begin) / n
        yield f"| {name} | {', '.join(f'{one:.2f}' for one in t)} | {seconds:.2f} |"


def plot(trials: list[ClippingTrial], path: Path) -> None:
    """Figure 1: the distributions of t beside the chi-square one."""
    figure, axes = plt.subplots(2, -(-len(trials) // 2), figsize=(12, 6), layout="constrained", sharey=True)
    grid = np.linspace(0.0, 45.0, 200)
    for one, panel in zip(sorted(trials, key=lambda one: one.clipping), axes.flat, strict=False):
        panel.hist(one.t, bins=np.linspace(0, 45, 19).tolist(), density=True, color="0.7")
        panel.plot(grid, stats.chi2(N_PARAMETERS).pdf(grid), color="C0")
        panel.set(title=f"clipping {one.clipping:g}: {one.excess:+.1f} +- {one.error:.1f}", xlabel="t")
    figure.savefig(path)


def main() -> None:
    """Write all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--toys", type=int, default=100, help="windows for each clipping")
    parser.add_argument("--signals", type=int, default=50, help="windows of each signal and sigma; 0: none")
    parser.add_argument("--epochs", type=int, default=0, help="of Adam, for 20 windows; 0: none")
    parser.add_argument("--all-events", action="store_true", help="3 windows with all reference events")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)

    def write(name: str, head: str, lines: Iterator[str]) -> None:
        columns = head.count("|") - 1
        with (arguments.output / f"neural_{name}.md").open("w") as file:
            for line in (head, f"|{'---|' * columns}"):
                file.write(f"{line}\n")
            for line in lines:
                file.write(f"{line}\n")
                file.flush()

    trials: list[ClippingTrial] = []

    def keep(found: Iterator[tuple[str, ClippingTrial]]) -> Iterator[str]:
        for line, trial in found:
            trials.append(trial)
            yield line

    with torch.inference_mode():
        write(
            "clipping",
            f"| clipping | KS p | mean t - 13 | published | failed | seconds for {arguments.toys} |",
            keep(compatibility(arguments.toys, arguments.seed)),
        )
        plot(trials, arguments.output / "neural_clipping.png")
        if arguments.all_events:
            write("all_events", "| reference | t | seconds a window |", all_events(3, arguments.seed))
        if arguments.signals:
            write(
                "signals",
                "| signal | sigma | Z | q0 | Z / q0 | ms | ms of the kernel test |",
                figure_8(arguments.signals, arguments.seed),
            )
        if arguments.epochs:
            write(
                "adam", "| how | mean t | median t | smaller t than after Adam | seconds |",
                trained(20, arguments.epochs, arguments.seed),
            )  # fmt: skip


if __name__ == "__main__":
    main()
