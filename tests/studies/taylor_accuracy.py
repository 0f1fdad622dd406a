"""Learned log ratio against the exact one (exponential) and against held-out bins (simulated chamber).

``python -m tests.studies.taylor_accuracy OUTPUT`` writes one JSON object for each method and problem into
OUTPUT and draws figures 3 and 14 of EPJC 82, 275 (2022) for them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich.progress import Progress

from dqm.events import FloatArray
from dqm.nplm.taylor import (
    Kernel,
    Network,
    ShiftedSample,
    TaylorModel,
    bin_log_ratio,
    classification_gain,
    effective_share,
    learn_taylor,
)
from dqm.nplm.taylor.training import Learner
from dqm.nplm.transformations import scale
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.simulate import simulate_features

mpl.use("Agg")
from matplotlib import pyplot as plt

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
CHAMBER_POINTS = (0.01, -0.01, 0.03, -0.03)
CHAMBER_CHECKS = (0.005, -0.005, 0.01, -0.01, 0.02, -0.02, 0.03, -0.03)
EXPONENTIAL_CHECKS = (0.05, -0.05, 0.15, -0.15, 0.3, -0.3, 0.6, -0.6)
METHODS: dict[str, dict[str, Learner]] = {
    "exponential": {
        "network": Network(units=16, depth=2, steps=1000),
        "kernel": Kernel(width=3.0, penalty=1e-6),
    },
    "chamber": {"network": Network(), "kernel": Kernel()},
}


def learn(
    reference: FloatArray, shifted: list[ShiftedSample], method: Learner, seed: int
) -> tuple[TaylorModel, float]:
    """Model and the seconds it took."""
    with Progress() as bar:
        task = bar.add_task(type(method).__name__, total=None)
        start = time.perf_counter()
        model = learn_taylor(
            reference,
            shifted,
            method=method,
            rng=np.random.default_rng(seed),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return model, time.perf_counter() - start


def exact(x: FloatArray, nu: float) -> FloatArray:
    """Log ratio of exponentials, eq. 30."""
    log_ratio: FloatArray = x[:, 0] * -np.expm1(-nu) - nu
    return log_ratio


def study_exponential(n: int, seed: int, largest: float, output: Path) -> None:
    """Learn the scale of an exponential from fresh samples and from the transformed reference."""
    rng = np.random.default_rng(seed)
    points = (0.05, -0.05, largest, -largest)
    reference, held_out = rng.exponential(size=(n, 1)), rng.exponential(size=(200_000, 1))
    stretch = scale([0])
    sources = {
        "fresh": [ShiftedSample(nu, stretch(rng.exponential(size=(n, 1)), nu)) for nu in points],
        "transformed": [ShiftedSample(nu, stretch(reference, nu)) for nu in points],
    }
    grid = np.linspace(0, 8, 161)[:, None]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharex=True, layout="constrained")
    for row, (source, shifted) in zip(axes, sources.items(), strict=True):
        for axis, (name, method) in zip(row, METHODS["exponential"].items(), strict=True):
            model, seconds = learn(reference, shifted, method, seed)
            report: dict[str, object] = {
                "problem": "exponential",
                "source": source,
                "method": name,
                "seconds": seconds,
            }
            for nu in EXPONENTIAL_CHECKS:
                error = model.log_ratio(held_out, nu) - exact(held_out, nu)
                report[f"rms {nu:+g}"] = float(np.sqrt(np.mean(error**2)))
                in_range = np.abs(model.log_ratio(grid, nu) - exact(grid, nu))
                report[f"largest {nu:+g}"] = float(in_range.max())
            report["rms delta_1"] = float(np.std(model.linear(held_out) - held_out[:, 0]))
            report["rms delta_2"] = float(np.std(model.quadratic(held_out) + held_out[:, 0]))
            write(report, output)
            for color, nu in enumerate(EXPONENTIAL_CHECKS):
                axis.plot(grid, exact(grid, nu), "--", color=f"C{color}")
                axis.plot(
                    grid[::5], model.log_ratio(grid[::5], nu), "o", mfc="none", color=f"C{color}", label=nu
                )
            axis.set(title=f"{name}, {source} samples", xlabel="x", ylabel="log r")
    axes[0, 0].legend(title="nu", ncols=2)
    figure.savefig(output / f"taylor_exponential_{largest:g}.png", dpi=110)


def chamber(nu: float, n: int, seed: int) -> FloatArray:
    """Segments at the drift velocity exp(nu) times nominal."""
    nominal = Conditions()
    velocity = nominal.drift_velocity_mm_per_ns * np.exp(nu)
    conditions = nominal.model_copy(update={"drift_velocity_mm_per_ns": velocity})
    batch = simulate_features(conditions, n, np.random.default_rng(seed))
    return batch.x[:, [batch.names.index(name) for name in FEATURES]]


def study_chamber(n: int, seed: int, output: Path) -> None:
    """Learn the drift velocity; compare methods on as many events again."""
    reference, held_out = chamber(0.0, n, seed), chamber(0.0, n, seed + 1)
    shifted = [ShiftedSample(nu, chamber(nu, n, seed + 2 + k)) for k, nu in enumerate(CHAMBER_POINTS)]
    checks = [ShiftedSample(nu, chamber(nu, n, seed + 100 + k)) for k, nu in enumerate(CHAMBER_CHECKS)]
    for name, method in METHODS["chamber"].items():
        model, seconds = learn(reference, shifted, method, seed)
        report: dict[str, object] = {"problem": "chamber", "events": n, "method": name, "seconds": seconds}
        report["sd delta_1"] = float(model.linear(held_out).std())
        for sample in checks:
            log_r = model.log_ratio(held_out, sample.nu)
            pairs = [bin_log_ratio(model, held_out, sample, k).chi2 for k in range(len(FEATURES))]
            report[f"{sample.nu:+g}"] = {
                "gain_percent": 100 * classification_gain(model, held_out, sample),
                "chi2_per_bin": [chi2 / bins for chi2, bins in pairs],
                "yield": float(np.exp(log_r).mean()),
                "effective_share": effective_share(log_r),
                "outside_percent": 100 * float((model.outside(sample.x) > 0).mean()),
            }
        report["gain_percent_learned_from"] = [
            100 * classification_gain(model, reference, s) for s in shifted
        ]
        write(report, output)
        draw_chamber(model, held_out, checks, output / f"taylor_chamber_{name}.png")


def draw_chamber(model: TaylorModel, held_out: FloatArray, checks: list[ShiftedSample], path: Path) -> None:
    """Binned (error bars) and reconstructed (lines) log ratio in each feature."""
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for feature, axis in enumerate(axes.flat[: len(FEATURES)]):
        for color, sample in enumerate(s for s in checks if s.nu in CHAMBER_POINTS):
            ratio = bin_log_ratio(model, held_out, sample, feature)
            middle = (ratio.edges[1:] + ratio.edges[:-1]) / 2
            axis.errorbar(middle, ratio.binned, ratio.difference_error, fmt=".", color=f"C{color}")
            axis.plot(middle, ratio.reconstructed, color=f"C{color}", label=f"{sample.nu:+.1%}")
        axis.set(xlabel=FEATURES[feature], ylabel="log r")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(handles, labels, title="drift velocity; points: held-out bins, lines: learned")
    figure.savefig(path, dpi=100)


def write(report: dict[str, object], output: Path) -> None:
    """Add a line to the results."""
    with (output / "taylor_accuracy.jsonl").open("a") as file:
        file.write(json.dumps(rounded(report)) + "\n")


def rounded(value: object) -> object:
    """Floats to four significant digits, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Run both problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory for the figures")
    parser.add_argument("--events", type=int, default=100_000, help="events of each sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["exponential", "chamber"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "taylor_accuracy.jsonl").unlink(missing_ok=True)
    if arguments.only != "chamber":
        for largest in (0.3, 0.6):
            study_exponential(arguments.events, arguments.seed, largest, arguments.output)
    if arguments.only != "exponential":
        study_chamber(arguments.events, arguments.seed, arguments.output)


if __name__ == "__main__":
    main()
