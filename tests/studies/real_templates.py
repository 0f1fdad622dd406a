"""Templates from labelled runs of real drift tubes, and what other events of these runs look like.

``python -m tests.studies.real_templates DATA`` reads the histograms of drift times in DATA/legnaro, one run
each, whose counts stand for events anywhere in their bin, and prints one JSON object for each condition.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Evaluator, LabelledSample, Recipe, calibrate, create_bundle, learn_templates

N_WINDOW, N_LABELLED, N_POOL = 500, 20_000, 200_000
GOOD, FAULTS = "run1252_shifted", {"run 1265": "run1265_shifted", "run 1242": "run1242_shifted"}


def drift_times(path: Path, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw events of a histogram without replacement, shape (n, 1), ns."""
    with path.open() as file:
        rows = [(float(r["bin_lo_ns"]), float(r["bin_hi_ns"]), int(r["count"])) for r in csv.DictReader(file)]
    low, high, counts = (np.array(column) for column in zip(*rows, strict=True))
    chosen = np.repeat(np.arange(len(counts)), rng.multivariate_hypergeometric(counts, n))
    return rng.permutation(rng.uniform(low[chosen], high[chosen]))[:, None]


def main() -> None:
    """Learn from one part of each run, name the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="directory with legnaro/")
    parser.add_argument("--windows", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    n_probe = arguments.windows * N_WINDOW

    def run(name: str, n: int) -> FloatArray:
        return drift_times(arguments.data / f"legnaro/{name}.csv", n, rng)

    good = run(GOOD, 5000 + N_POOL + n_probe)
    faulty = {label: run(name, N_LABELLED + n_probe) for label, name in FAULTS.items()}
    probes = {"good": good[-n_probe:], **{label: x[N_LABELLED:] for label, x in faulty.items()}}
    probes["good, 15 ns late"] = good[-n_probe:] + 15.0
    probes["half good, half run 1242"] = np.where(
        rng.random((n_probe, 1)) < 0.5, good[-n_probe:], faulty["run 1242"][N_LABELLED:]
    )
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Recipe(("t",), 5000, N_WINDOW)
        bundle = create_bundle(good[:-n_probe], recipe, Path(scratch) / "bundle")
        bundle = calibrate(bundle, 500, kind=bundle.manifest.kind, seed=2, n_processes=1)
        samples = [LabelledSample(label, x[:N_LABELLED]) for label, x in faulty.items()]
        evaluator = Evaluator(learn_templates(bundle, samples))
        for label, x in probes.items():
            named: Counter[str] = Counter()
            for part in np.split(x, arguments.windows):
                window = Window("study", 0, 0, "", Origin.REPLAYED, WindowCut.COUNT, ("t",), part)
                evaluation = evaluator.evaluate(window)
                explanation = evaluation.find_explanation()
                if explanation is None or evaluation.result.p is None:
                    raise RuntimeError(evaluation.result.reason)
                if evaluation.result.p < 0.01:
                    unlike = explanation.text.startswith("unlike")
                    named["unlike" if unlike else explanation.likenesses[0].fault] += 1
            print(json.dumps({"condition": label, "alarmed": sum(named.values()), "named": named}))  # noqa: T201


if __name__ == "__main__":
    main()
