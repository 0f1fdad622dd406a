"""What the machine can do, and how far from it the fit of a window is.

``python -m tests.benchmarks.limits`` times a large matrix product, a copy of memory and a small tensor
operation on one thread, and between them windows of several configurations, so that all share the state of a
noisy machine. Of each window it counts what cannot be avoided (products with the basis, Hessians of the
nodes, the kernel at the data) and prints the time that would take at the machine's best.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName
from dqm.nplm.single_problem import SingleObjective, SinglePoint
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import CONDITIONS, events

N_EXPECTED, PENALTY = 500, 1e-7
ROUNDS = 15


@dataclass(frozen=True)
class Setup:
    """One configuration of the test."""

    name: str
    n_reference: int
    n_centers: int
    width: float
    loss: LossName


SETUPS = (
    Setup("published", 2000, 2000, 4.5, "logistic"),
    Setup("default", 2000, 300, 2.5, "likelihood"),
    Setup("default", 5000, 300, 2.5, "likelihood"),
    Setup("default", 20_000, 300, 2.5, "likelihood"),
    Setup("default", 200_000, 300, 2.5, "likelihood"),
)


@dataclass
class Work:
    """What fitting one window took."""

    products: int = 0
    bytes_read: float = 0.0
    flop32: float = 0.0
    flop64: float = 0.0
    hessians: int = 0

    def at_best(self, limits: Limits) -> float:
        """Milliseconds if the machine did nothing else, and that at its best."""
        reading = self.bytes_read / limits.bytes_per_second
        return 1e3 * (
            reading + self.flop32 / limits.flop32_per_second + self.flop64 / limits.flop64_per_second
        )


@dataclass(frozen=True)
class Limits:
    """What the machine did, on one thread."""

    flop32_per_second: float
    flop64_per_second: float
    bytes_per_second: float
    operation_seconds: float


def fastest(call: Callable[[], object], n: int) -> float:
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure_limits() -> Limits:
    """Time the primitives."""
    n = 1200
    flops = []
    for dtype in (torch.float32, torch.float64):
        a = torch.rand(n, n, dtype=dtype)
        flops.append(2 * n**3 / fastest(lambda a=a: a @ a, 4))
    source = torch.rand(4_000_000)
    target = torch.empty_like(source)
    copied = 2 * source.numel() * 4 / fastest(lambda: target.copy_(source), 4)
    small = torch.rand(300, dtype=torch.float64)
    return Limits(*flops, copied, fastest(lambda: small + small, 300))


def count(test: KernelTest, x: np.ndarray) -> Work:
    """Fit a window and note every product with the basis and every Hessian."""
    work = Work()
    evaluate = SingleObjective.at
    differentiate = SingleObjective.gradient
    factorise = SingleObjective.leading_factor

    def read(objective: SingleObjective) -> None:
        work.products += 1
        work.bytes_read += objective._by_function.nbytes

    def at(self: SingleObjective, a: FloatArray) -> SinglePoint:
        read(self)
        return evaluate(self, a)

    def gradient(self: SingleObjective, at: SinglePoint) -> FloatArray:
        read(self)
        return differentiate(self, at)

    def leading_factor(self: SingleObjective, at: SinglePoint, m: int) -> FloatArray:
        n = self._by_function.shape[1] + (0 if self._is_likelihood else len(self._counts))
        work.hessians += 1
        work.flop32 += n * m * m  # half of a product: it is symmetric
        work.flop64 += m**3 / 3
        return factorise(self, at, m)

    with (
        patch.object(SingleObjective, "at", at),
        patch.object(SingleObjective, "gradient", gradient),
        patch.object(SingleObjective, "leading_factor", leading_factor),
    ):
        result = test.evaluate(x)
    m, r = result.density.basis.transform.shape
    if test._loss_name == "logistic":
        work.flop64 += 2 * len(x) * m * r
    return work


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    reference = events(Conditions(), max(setup.n_reference for setup in SETUPS), [1, 7])
    names = ("healthy", "cathode 75 %", "threshold 50 %")
    windows = {name: events(CONDITIONS[name], ROUNDS * N_EXPECTED, [99, 1]) for name in names}
    tests = {
        setup: KernelTest(
            reference[: setup.n_reference], n_expected=N_EXPECTED, width=setup.width, penalty=PENALTY,
            centers=setup.n_centers, loss=setup.loss, rng=np.random.default_rng(1),
        )
        for setup in SETUPS
    }  # fmt: skip
    rounds: list[Limits] = []
    times: dict[tuple[Setup, str], list[float]] = {(s, n): [] for s in SETUPS for n in names}
    batches: dict[Setup, list[float]] = {setup: [] for setup in SETUPS}
    for k in range(ROUNDS):
        rounds.append(measure_limits())
        for (setup, name), found in times.items():
            x = windows[name][k * N_EXPECTED : (k + 1) * N_EXPECTED]
            found.append(fastest(lambda x=x, setup=setup: tests[setup].evaluate(x), 3))
        for setup, found in batches.items():
            many = list(windows["healthy"].reshape(ROUNDS, N_EXPECTED, -1))
            if k % 5 == 0:
                found.append(fastest(lambda many=many, setup=setup: tests[setup].evaluate_many(many), 2))
    limits = Limits(
        *(max(getattr(one, field) for one in rounds) for field in list(Limits.__annotations__)[:3]),
        min(one.operation_seconds for one in rounds),
    )
    console = Console(width=160)
    console.print(
        f"one thread: {limits.flop32_per_second / 1e9:.0f} (float32) and "
        f"{limits.flop64_per_second / 1e9:.0f} (float64) GFLOP/s, "
        f"copy {limits.bytes_per_second / 1e9:.1f} GB/s, "
        f"small operation {limits.operation_seconds * 1e6:.1f} us"
    )
    table = Table(
        "setup",
        "N_R",
        "r",
        "window",
        "best, ms",
        "median, ms",
        "batch, ms",
        "Hessians",
        "products",
        "limit, ms",
    )
    for (setup, name), found in times.items():
        work = count(tests[setup], windows[name][:N_EXPECTED])
        batch = f"{min(batches[setup]) / ROUNDS * 1e3:.1f}" if name == "healthy" else ""
        table.add_row(
            setup.name, str(setup.n_reference), str(tests[setup].n_independent), name,
            f"{min(found) * 1e3:.1f}",
            f"{statistics.median(found) * 1e3:.1f}", batch, str(work.hessians), str(work.products),
            f"{work.at_best(limits):.1f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
