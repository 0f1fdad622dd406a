"""What the machine can do, and how far from it the fit of a window is.

``python -m tests.benchmarks.limits`` times a large matrix product, a copy of memory and a small tensor
operation on one thread, and between them windows of several configurations, so that all share the state of a
noisy machine. Of each window it counts what cannot be avoided (the kernel and the basis at its events,
Hessians of the nodes, sums over the reference, their exponentials, and the steps) and prints the time that
would take at the machine's best. ``--plot FOLDER`` draws where the time of a window goes, beside that limit.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, basis, kernel_test
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.single_problem import CellObjective, LowMemoryInverse, NodeInverse, SingleObjective, SinglePoint
from dqm.nplm.window_events import WindowEvents
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import CONDITIONS, events

N_EXPECTED, PENALTY = 500, 1e-7
ROUNDS = 15

PARTS = ("events of the window", "Hessians of the nodes", "sums over the reference", "steps", "rest")


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


@dataclass(frozen=True)
class Limits:
    """What the machine did, on one thread."""

    flop32_per_second: float
    flop64_per_second: float
    bytes_per_second: float
    exponentials_per_second: float
    operation_seconds: float


@dataclass
class Work:
    """What cannot be avoided in a part of the fit, and the time that the part took."""

    calls: int = 0
    bytes_read: float = 0.0
    flop32: float = 0.0
    flop64: float = 0.0
    exponentials: float = 0.0
    seconds: float = 0.0

    def at_best(self, limits: Limits) -> float:
        """Milliseconds if the machine did nothing else, and that at its best."""
        seconds = (
            self.bytes_read / limits.bytes_per_second
            + self.flop32 / limits.flop32_per_second
            + self.flop64 / limits.flop64_per_second
            + self.exponentials / limits.exponentials_per_second
        )
        return 1e3 * seconds


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
    numbers = np.linspace(-1.0, 1.0, 5000)
    exponentials = len(numbers) / fastest(lambda: np.exp(numbers), 100)
    return Limits(flops[0], flops[1], copied, exponentials, fastest(lambda: small + small, 300))


class Counter:
    """Counts and times the parts of the fit of windows; a part inside another one is not in its time."""

    def __init__(self) -> None:
        self.parts = {name: Work() for name in PARTS}
        self._inside = [0.0]

    def watch(self, test: KernelTest, x: FloatArray) -> None:
        """Fit a window; the counts are those of the last one, and times the shortest of all."""
        before = {name: work.seconds or math.inf for name, work in self.parts.items()}
        self.parts = {name: Work() for name in PARTS}
        watched = (
            (kernel_test, "express", "events of the window", self._count_express),
            (SingleObjective, "leading_factor", "Hessians of the nodes", self._count_hessian),
            (SingleObjective, "at", "sums over the reference", self._count_sums),
            (SingleObjective, "gradient", "sums over the reference", self._count_sums),
            (CellObjective, "at", "sums over the reference", self._count_sums),
            (CellObjective, "gradient", "sums over the reference", self._count_sums),
            (LowMemoryInverse, "solve", "steps", self._count_solve),
            (NodeInverse, "solve", "steps", self._count_solve),
        )
        self._inside = [0.0]
        with ExitStack() as stack:
            for owner, name, part, count in watched:
                stack.enter_context(patch.object(owner, name, self._wrap(getattr(owner, name), part, count)))
            begin = time.perf_counter()
            test.evaluate(x)
            self.parts["rest"].seconds = time.perf_counter() - begin - self._inside[0]
        for name, work in self.parts.items():
            work.seconds = min(work.seconds, before[name])

    def count_products(self, test: KernelTest, x: FloatArray) -> None:
        """Count the products of float64 that torch makes: they belong to the events of the window."""
        sizes: list[int] = []

        def kernel(x: Tensor, centers: Tensor, width: float) -> Tensor:
            sizes.append(len(x) * len(centers))
            return gaussian_kernel(x, centers, width)

        with patch.object(basis, "gaussian_kernel", kernel), FlopCounterMode(display=False) as products:
            test.evaluate(x)
        work = self.parts["events of the window"]
        work.flop64 += products.get_total_flops()
        work.exponentials += sum(sizes)

    def _wrap(
        self, function: Callable[..., Any], part: str, count: Callable[..., None]
    ) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            begin = time.perf_counter()
            found = function(*arguments, **named)
            took = time.perf_counter() - begin
            work = self.parts[part]
            work.seconds += took - self._inside.pop()
            self._inside[-1] += took
            work.calls += 1
            count(work, found, *arguments)
            return found

        return call

    @staticmethod
    def _count_express(work: Work, found: WindowEvents, *_: object) -> None:
        for axes in found.remote:
            n, w = axes.reflectors.shape
            work.flop64 += 2 * n * w * w - 2 * w**3 / 3

    @staticmethod
    def _count_hessian(work: Work, _: object, objective: SingleObjective, __: SinglePoint, m: int) -> None:
        n = objective._by_function.shape[1] + (0 if objective._is_likelihood else len(objective._counts))
        work.flop32 += n * m * m  # half of a product: it is symmetric
        work.flop64 += m**3 / 3

    @staticmethod
    def _count_sums(work: Work, _: object, objective: SingleObjective, *__: object) -> None:
        work.bytes_read += objective._by_function.nbytes
        work.exponentials += len(objective._weights)
        if not objective._is_likelihood:
            work.bytes_read += objective._by_event.nbytes
            work.exponentials += len(objective._counts)

    @staticmethod
    def _count_solve(work: Work, _: object, inverse: NodeInverse | LowMemoryInverse, __: FloatArray) -> None:
        if isinstance(inverse, NodeInverse):
            work.bytes_read += inverse.factor.nbytes  # each triangle once


def draw(found: Mapping[tuple[Setup, str], Mapping[str, Work]], limits: Limits, path: Path) -> None:
    """Draw what each part took above the least time that it needs."""
    figure = Figure(figsize=(9.0, 0.45 * len(found) + 1.6), layout="constrained")
    axes = figure.subplots()
    labels = []
    for row, ((setup, name), parts) in enumerate(found.items()):
        labels.append(f"{setup.name}, {setup.n_reference}, {name}")
        total = sum(work.seconds for work in parts.values())
        measured = needed = 0.0
        for number, (part, work) in enumerate(parts.items()):
            share, least = work.seconds / total, work.at_best(limits) * 1e-3 / total
            color = f"C{number}"
            axes.barh(row, share, 0.4, left=measured, color=color, label=part if row == 0 else None)
            axes.barh(row + 0.32, least, 0.2, left=needed, color=color, alpha=0.5)
            measured += share
            needed += least
        axes.text(1.01, row, f"{1e3 * total:.1f} ms", va="center")
    axes.set_yticks(range(len(found)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.12)
    axes.set_xlabel("share of the time of a window; pale: the least that the machine needs for it")
    figure.legend(loc="outside upper center", ncols=len(PARTS))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table, and draw the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="folder for a picture of the parts")
    choice = parser.parse_args()
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
        flop32_per_second=max(one.flop32_per_second for one in rounds),
        flop64_per_second=max(one.flop64_per_second for one in rounds),
        bytes_per_second=max(one.bytes_per_second for one in rounds),
        exponentials_per_second=max(one.exponentials_per_second for one in rounds),
        operation_seconds=min(one.operation_seconds for one in rounds),
    )
    console = Console(width=160)
    console.print(
        f"one thread: {limits.flop32_per_second / 1e9:.0f} (float32) and "
        f"{limits.flop64_per_second / 1e9:.0f} (float64) GFLOP/s, "
        f"copy {limits.bytes_per_second / 1e9:.1f} GB/s, "
        f"exponential {1e9 / limits.exponentials_per_second:.2f} ns, "
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
        "sums",
        "limit, ms",
        "best / limit",
    )
    parts: dict[tuple[Setup, str], Mapping[str, Work]] = {}
    for (setup, name), found in times.items():
        x = windows[name][:N_EXPECTED]
        counter = Counter()
        for _ in range(ROUNDS):
            counter.watch(tests[setup], x)
        counter.count_products(tests[setup], x)
        parts[setup, name] = counter.parts
        limit = sum(work.at_best(limits) for work in counter.parts.values())
        batch = f"{min(batches[setup]) / ROUNDS * 1e3:.1f}" if name == "healthy" else ""
        table.add_row(
            setup.name, str(setup.n_reference), str(tests[setup].n_independent), name,
            f"{min(found) * 1e3:.1f}",
            f"{statistics.median(found) * 1e3:.1f}", batch,
            str(counter.parts["Hessians of the nodes"].calls),
            str(counter.parts["sums over the reference"].calls),
            f"{limit:.1f}",
            f"{1e3 * min(found) / limit:.1f}",
        )  # fmt: skip
    console.print(table)
    if choice.plot:
        draw(parts, limits, choice.plot / "window_time.png")


if __name__ == "__main__":
    main()
