"""The sum of significances and the evidence of a run beside each other: delays, and false alarms.

``python -m tests.studies.drift_tests OUTPUT`` writes a table into OUTPUT. Z of healthy windows is standard
normal, exact, or read from one null table of 1000 toys for each run, or correlated. A fault shifts its mean
from some window of the run on. Both tests have the same budget: half a false alarm in a shift of 480 windows
of each stream, which is one run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import signal, special, stats

from dqm.alarm import Thresholds, derive_thresholds
from dqm.alarm.drift import Drift
from dqm.alarm.e_process import EProcess, HealthyZ
from dqm.config import DaemonConfig
from dqm.events import FloatArray

RUN = 480
SHIFTS = (0.3, 0.5, 1.0, 1.6, 2.8)
STARTS = (30, 240, 450)
N_TOYS = 1000

Test = Callable[[FloatArray, FloatArray], float]
"""Takes Z, and Z by the upper end of p; gives the window of the alarm, from 1."""


def thresholds_of(n_streams: int, drift_test: str, correlation: float = 0.0) -> Thresholds:
    """As a daemon of so many streams derives them."""
    streams = [{"name": f"s{number}", "bundle": "none"} for number in range(n_streams)]
    alarm = {"drift_test": drift_test, "autocorrelation": correlation}
    return derive_thresholds(DaemonConfig.model_validate({"streams": streams, "alarm": alarm}))


def by_sum(found: Thresholds) -> Test:
    """Give the sum of significances as a test of a run."""

    def play(z: FloatArray, _: FloatArray) -> float:
        drift = Drift()
        for number, value in enumerate(z):
            drift.add(
                float(value),
                limit=found.drift_limit or 0.0,
                reference_z=found.reference_z,
                largest_z=found.largest_z,
            )
            if drift.is_drifting:
                return number + 1.0
        return math.inf

    return play


def by_run(found: Thresholds, healthy: HealthyZ) -> Test:
    """Give the evidence of a run as a test of it."""

    def play(_: FloatArray, z: FloatArray) -> float:
        evidence = EProcess()
        for number, value in enumerate(z):
            evidence.add(1, float(value), healthy=healthy, log_limit=found.drift_limit or 0.0)
            if evidence.is_drifting:
                return number + 1.0
        return math.inf

    return play


def tests_of(n_streams: int, healthy: HealthyZ) -> tuple[Test, Test]:
    """Give both, with the limits for so many streams, and the correlation known."""
    return (
        by_sum(thresholds_of(n_streams, "sum", healthy.correlation)),
        by_run(thresholds_of(n_streams, "run"), healthy),
    )


def read(z: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Read Z from a null table of toys; also by the upper end of the 95 % interval of p."""
    toys = np.sort(rng.standard_normal(N_TOYS))
    beyond = N_TOYS - np.searchsorted(toys, z)
    p = (beyond + 1) / (N_TOYS + 1)
    high = np.where(beyond < N_TOYS, stats.beta.ppf(0.975, beyond + 1, np.maximum(N_TOYS - beyond, 1)), 1.0)
    return -special.ndtri(np.minimum(p, 1 - 0.5 / N_TOYS)), -special.ndtri(high)


def make(
    n_runs: int, *, shift: float, start: int, rng: np.random.Generator, has_table: bool, correlation: float
) -> list[tuple[FloatArray, FloatArray]]:
    """Give Z of the windows of runs, by p and by the upper end of p."""
    made = []
    for _ in range(n_runs):
        z = rng.standard_normal(RUN + 300)
        if correlation:
            z[1:] *= math.sqrt(1 - correlation**2)
            z = signal.lfilter([1.0], [1.0, -correlation], z)
        z[start:] += shift
        made.append(read(z, rng) if has_table else (z, z))
    return made


def describe(delays: FloatArray) -> str:
    """Give median and 90 % point in windows."""
    found = [float(np.quantile(delays, share, method="inverted_cdf")) for share in (0.5, 0.9)]
    return " / ".join("never" if math.isinf(value) else f"{value:.0f}" for value in found)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = ["| streams | Z | fault from window | mean Z | sum | evidence |", "|---" * 6 + "|"]
    worlds = (
        ("exact", False, 0.0, HealthyZ()),
        ("1000 toys", True, 0.0, HealthyZ(offset=0.1)),
        ("correlation 0.2", False, 0.2, HealthyZ(correlation=0.2)),
    )
    cases = [
        (n, world, start, shift) for n in (4, 250) for world in worlds for start in STARTS for shift in SHIFTS
    ]
    for number, (n_streams, (name, has_table, correlation, healthy), start, shift) in enumerate(track(cases)):
        if has_table and start != STARTS[0]:
            continue
        tests = tests_of(n_streams, healthy)
        runs = make(
            arguments.runs, shift=shift, start=start, rng=np.random.default_rng([7, number]),
            has_table=has_table, correlation=correlation,
        )  # fmt: skip
        told = []
        for test in tests:
            first = np.array([test(*run) for run in runs])
            told.append(describe(first[first > start] - start))
        lines.append(f"| {n_streams} | {name} | {start} | {shift:g} | {' | '.join(told)} |")
        (arguments.output / "drift_tests.md").write_text("\n".join(lines) + "\n")
    lines += ["", "| streams | Z | runs | allowed | sum | evidence |", "|---" * 6 + "|"]
    for n_streams in (4, 250):
        for name, has_table, correlation, healthy in worlds:
            tests = tests_of(n_streams, healthy)
            n_runs = 10 * arguments.runs
            runs = make(
                n_runs, shift=0.0, start=0, rng=np.random.default_rng([8, n_streams]),
                has_table=has_table, correlation=correlation,
            )  # fmt: skip
            shares = [np.mean([test(z[:RUN], high[:RUN]) <= RUN for z, high in runs]) for test in tests]
            told = [f"{share:.4f}" for share in (0.5 / n_streams, *shares)]
            lines.append(f"| {n_streams} | {name} | {n_runs} | {' | '.join(told)} |")
            (arguments.output / "drift_tests.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
