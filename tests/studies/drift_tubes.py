"""Real drift tubes: cosmics against the same run's beginning, beam runs against another beam run.

``python -m tests.studies.drift_tubes DATA OUTPUT`` reads the public data in DATA, prints one JSON object for
each sample and draws the p-values into the PNG file OUTPUT.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rich.progress import Progress

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Evaluator, Recipe, calibrate, create_bundle
from dqm.service.collector.sources import open_source

mpl.use("Agg")
from matplotlib import pyplot as plt

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")


def features_of(collector: str, options: dict[str, object], chamber: str | None = None) -> FloatArray:
    """Times and angle of all segments of a source in the order in which they come."""
    parts = [
        batch.x[:, [batch.names.index(name) for name in FEATURES]]
        for batch in open_source(collector, options)
        if chamber in (None, batch.chamber)
    ]
    return np.concatenate(parts)


def judge_against(
    controlled: FloatArray, samples: dict[str, FloatArray], *, n_reference: int, n_window: int, n_toys: int
) -> dict[str, list[float]]:
    """p-values of the windows of each sample, by a bundle made of `controlled`."""
    recipe = Recipe(FEATURES, n_reference, n_window, 4.5, 1e-7, centers=n_reference, loss="logistic")
    with tempfile.TemporaryDirectory() as scratch, Progress() as bar:
        bundle = create_bundle(controlled, recipe, Path(scratch) / "bundle")
        task = bar.add_task("toys", total=n_toys)
        bundle = calibrate(
            bundle, n_toys, kind=bundle.manifest.kind, seed=2,
            progress=lambda done, _: bar.update(task, completed=done),
        )  # fmt: skip
        evaluator = Evaluator(bundle)
        return {name: [p_value(evaluator, x) for x in windows(x, n_window)] for name, x in samples.items()}


def beam_p_values(data: Path, chamber: str, n_toys: int) -> dict[str, list[float]]:
    """One chamber of runs 261 and 262 against run 260; a random part of 260 left out shows the test quiet."""
    beam = {
        run: features_of("beam", {"inputs": [data / f"lemma/data_{run}.txt.gz"]}, chamber)
        for run in (260, 261, 262)
    }
    shuffled = np.random.default_rng(3).permutation(beam[260])
    n_controlled = int(0.8 * len(shuffled))
    samples = {"260, left out": shuffled[n_controlled:], "261": beam[261], "262": beam[262]}
    return judge_against(
        shuffled[:n_controlled],
        {f"beam {name}, chamber {chamber}": x for name, x in samples.items()},
        n_reference=1000, n_window=50, n_toys=n_toys,
    )  # fmt: skip


def windows(x: FloatArray, n: int) -> list[FloatArray]:
    """Full windows of `n` events, in order."""
    return [x[k : k + n] for k in range(0, len(x) - n + 1, n)]


def p_value(evaluator: Evaluator, x: FloatArray) -> float:
    """p of one window."""
    result = evaluator.evaluate(Window("study", 0, 0, "study", Origin.REPLAYED, WindowCut.COUNT, FEATURES, x))
    if result.p is None:
        raise RuntimeError(result.reason)
    return result.p


def report(name: str, p: list[float], axes: plt.Axes) -> None:
    """Print the numbers and draw the histogram."""
    below = {f"below_{limit:g}": float(np.mean(np.array(p) < limit)) for limit in (0.05, 0.01, 0.001)}
    row = {"sample": name, "windows": len(p), "median_p": float(np.median(p)), **below}
    print(json.dumps(row))  # noqa: T201
    axes.hist(p, bins=np.linspace(0, 1, 11))
    axes.set(title=f"{name}: {len(p)} windows", xlabel="p", ylabel="windows")


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="directory with tdc/ and lemma/")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--toys", type=int, default=1000)
    arguments = parser.parse_args()
    results: dict[str, list[float]] = {}
    cosmics = features_of(
        "tdc", {"inputs": [arguments.data / "tdc/run591_first120k.csv.gz"], "convention": "2018"}
    )
    n_first = int(0.6 * len(cosmics))
    results |= judge_against(
        cosmics[:n_first], {"cosmics, rest of run 591": cosmics[n_first:]},
        n_reference=1000, n_window=50, n_toys=arguments.toys,
    )  # fmt: skip
    # the magnet's sign decides which chambers are lit: chamber by chamber the comparison is a fair one
    for chamber in ("2", "3"):
        results |= beam_p_values(arguments.data, chamber, arguments.toys)
    figure, axes = plt.subplots(2, 4, figsize=(15, 6), layout="constrained")
    for (name, p), panel in zip(results.items(), axes.flat, strict=False):
        report(name, p, panel)
    figure.savefig(arguments.output)


if __name__ == "__main__":
    main()
