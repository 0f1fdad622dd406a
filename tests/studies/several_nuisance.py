"""The test of several kernels beside the drift velocity, compared with the single kernel test.

``python -m tests.studies.several_nuisance OUTPUT`` writes a table into OUTPUT. The nuisance parameter and its
samples are those of ``tests.studies.chamber_nuisance``; windows of 500 events, N_R = 5000. Share of windows
with p < 0.05 and p < 0.01, by toys at nu = 0: at nu = 0, +-1 and +-2 sigma, where measurements scatter around
nu, and in windows of a healthy chamber that are weighed to +-2 sigma by the learned log r; under faults of
the chamber, and of one feature; where the velocity is off and slow control does not say so, by 1.5 sigma and
by 6; and milliseconds of processor time for a window.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest, Shape
from dqm.nplm.nuisance import log_ratio_coefficients
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.chamber_nuisance import NAME, SIGMA, at_shift, learn
from tests.studies.simulated_faults import CONDITIONS, events

SIZE, N_REFERENCE, N_RUN, CENTERS = 500, 5000, 20_000, 300


@dataclass(frozen=True)
class Case:
    """Windows of one kind: the true nu, what is measured of it, and what is wrong besides."""

    name: str
    nu: float = 0.0
    measured: float = 0.0
    conditions: Conditions | None = None
    change: Callable[[FloatArray], FloatArray] | None = None
    is_weighed: bool = False

    def throw(self, n: int, seed: list[int], velocity: Shape) -> tuple[FloatArray, FloatArray]:
        """Give n windows and their measurements."""
        if self.is_weighed:
            x = self._weigh(n * SIZE, seed, velocity).reshape(n, SIZE, -1)
        else:
            x = events(self.conditions or at_shift(self.nu), n * SIZE, seed).reshape(n, SIZE, -1)
        if self.change is not None:
            x = np.stack([self.change(window) for window in x])
        return x, np.random.default_rng(seed).normal(self.measured, SIGMA, n)

    def _weigh(self, n: int, seed: list[int], velocity: Shape) -> FloatArray:
        """Keep healthy events by their r at nu: of such windows the learned log r is true."""
        rng, kept, n_kept, largest = np.random.default_rng([*seed, 1]), [], 0, None
        while n_kept < n:
            x = events(Conditions(), n, [*seed, 2, len(kept)])
            linear, quadratic = log_ratio_coefficients([velocity], x)
            log_r = linear[:, 0] * self.nu + quadratic[:, 0, 0] * self.nu**2 / 2.0
            largest = float(log_r.max()) if largest is None else largest
            kept.append(x[np.log(rng.random(n)) < log_r - largest])
            n_kept += len(kept[-1])
        return np.concatenate(kept)[:n]


def spike(x: FloatArray) -> FloatArray:
    """One time in forty is a fixed number: a channel of the TDC that hangs."""
    return np.column_stack([np.where(np.arange(len(x)) % 40 == 0, 120.0, x[:, 0]), x[:, 1:]])


def late(x: FloatArray) -> FloatArray:
    """The second layer is 8 ns late."""
    return x + np.array([0.0, 8.0, 0.0, 0.0, 0.0])


def tails(x: FloatArray) -> FloatArray:
    """The slope of every tenth event is reconstructed badly."""
    return np.column_stack([x[:, :4], np.where(np.arange(len(x)) % 10 == 0, 3.0 * x[:, 4], x[:, 4])])


SHIFTS = [Case(f"nu = {k:+d} sigma", k * SIGMA, k * SIGMA) for k in (0, -2, -1, 1, 2)]
WEIGHED = [Case(f"weighed to {k:+d} sigma", k * SIGMA, k * SIGMA, is_weighed=True) for k in (-2, 2)]
FAULTS = [
    *(
        Case(name, conditions=CONDITIONS[name])
        for name in ("cathode 75 %", "cathode 50 %", "threshold 75 %", "threshold 50 %")
    ),
    Case("spike in t_1, 2.5 %", change=spike),
    Case("t_2 late by 8 ns", change=late),
    Case("t_2 late by 8 ns at nu = +2 sigma", 2 * SIGMA, 2 * SIGMA, change=late),
    Case("tails of theta", change=tails),
    Case("velocity off by 1.5 sigma, not measured", 1.5 * SIGMA),
    Case("velocity off by 6 sigma, not measured", 6 * SIGMA),
]


def main() -> None:
    """Run both tests on all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=400, help="toys at nu = 0")
    parser.add_argument("--windows", type=int, default=100, help="windows of each case")
    parser.add_argument("--learn", type=int, default=100_000, help="events at each point to learn log r from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--healthy", action="store_true", help="without the faults")
    parser.add_argument("--tests", nargs="*", default=["several", "kernel"], choices=["several", "kernel"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with Progress(disable=True) as bar:
        model = learn(arguments.learn, arguments.seed, bar)
    velocity = Shape(NAME, SIGMA, linear=model.series)
    run = events(Conditions(), N_RUN, [arguments.seed, 1])
    rng = np.random.default_rng(arguments.seed)
    settings = SeveralTest.tune(run, n_reference=N_REFERENCE, n_expected=SIZE, n_centers=CENTERS, rng=rng)
    given = {"n_expected": SIZE, "centers": run[:CENTERS], "nuisances": [velocity]}
    tests: dict[str, SeveralTest | KernelTest] = {
        "several": SeveralTest(run[:N_REFERENCE], **given, **settings),
        "kernel": KernelTest(run[:N_REFERENCE], **given, width=2.5, penalty=1e-7, loss="likelihood"),
    }
    lines = ["| windows | test | p < 0.05 | p < 0.01 | pull beyond 3 | ms |", "|---|---|---|---|---|---|"]
    nulls = {}
    for name, test in tests.items():
        if name in arguments.tests:
            nulls[name] = _evaluate(test, Case("toys"), velocity, arguments.toys, [arguments.seed, 2])[0]
    # faults keep their numbers, which are their seeds
    numbered = [*enumerate([*SHIFTS, *FAULTS]), *enumerate(WEIGHED, len(SHIFTS) + len(FAULTS))]
    for number, case in numbered:
        if arguments.healthy and case in FAULTS:
            continue
        for name in nulls:
            seed = [arguments.seed, 3, number]
            t, pulls, ms = _evaluate(tests[name], case, velocity, arguments.windows, seed)
            p = (1 + (nulls[name][:, None] >= t).sum(axis=0)) / (1 + len(nulls[name]))
            shares = " | ".join(f"{np.mean(one):.2f}" for one in (p < 0.05, p < 0.01, abs(pulls) > 3))
            lines.append(f"| {case.name} | {name} | {shares} | {ms:.1f} |")
            (arguments.output / "several_nuisance.md").write_text("\n".join(lines) + "\n")


def _evaluate(
    test: SeveralTest | KernelTest, case: Case, velocity: Shape, n: int, seed: list[int]
) -> tuple[FloatArray, FloatArray, float]:
    """Give t and the pull of each window, and milliseconds for one."""
    x, measured = case.throw(n, seed, velocity)
    start = time.process_time()
    results = [test.evaluate(w, auxiliary={NAME: float(v)}) for w, v in zip(x, measured, strict=True)]
    ms = 1e3 * (time.process_time() - start) / n
    pulls = [result.nuisances[NAME].reference.pull or 0.0 for result in results]
    return np.array([result.t for result in results]), np.array(pulls), ms


if __name__ == "__main__":
    main()
