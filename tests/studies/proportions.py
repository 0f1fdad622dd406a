"""How well a class is learned from samples that mix it in known proportions, beside learning with labels.

``python -m tests.studies.proportions`` prints a table. The rest are healthy events of the simulated chamber,
the class events of a fault. Two samples mix them; the figure is the area under the curve of the scores of
fresh events: by `dqm.nplm.learn_proportions`, by boosted trees that separate the two samples (classification
without labels), and by boosted trees with the true label of every event.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from dqm.events import FloatArray
from dqm.nplm import learn_proportions
from tests.studies.simulated_faults import CONDITIONS, events

CLASSES = ("threshold 50 %", "cathode 50 %")
FRACTIONS = ((0.0, 1.0), (0.1, 0.9), (0.3, 0.7), (0.1, 0.3), (0.45, 0.55))
SIZES = (1000, 5000)
N_POOL = 30_000
HEALTHY = "healthy"
LEAVES = 8
"""Of each tree; the usual 31 learn noise where the fractions differ little."""


@cache
def pool(name: str, seed: int) -> FloatArray:
    """Events of a condition."""
    return events(CONDITIONS[name], N_POOL, [31, seed])


def measure(name: str, fractions: tuple[float, float], n: int, seed: int) -> tuple[float, ...]:
    """Give the areas under the curve of the three, and what `learn_proportions` itself says."""
    rng = np.random.default_rng(seed)
    mixed = []
    for fraction in fractions:
        n_class = round(fraction * n)
        parts = ((HEALTHY, n - n_class), (name, n_class))
        mixed.append(np.concatenate([rng.choice(pool(one, 1), part, replace=False) for one, part in parts]))
    is_class = np.concatenate([np.arange(n) >= n - round(fraction * n) for fraction in fractions])
    fresh = np.concatenate([pool(one, 2) for one in (HEALTHY, name)])
    truth = np.repeat([False, True], N_POOL)
    both = np.concatenate(mixed)
    learned = learn_proportions(mixed, fractions)
    return (
        roc_auc_score(truth, learned.score(fresh)),
        learned.auc,
        roc_auc_score(truth, _trees(both, np.repeat([False, True], n), fresh)),
        roc_auc_score(truth, _trees(both, is_class, fresh)),
    )


def _trees(x: FloatArray, labels: NDArray[np.bool_], fresh: FloatArray) -> FloatArray:
    model = HistGradientBoostingClassifier(max_leaf_nodes=LEAVES, early_stopping=True, random_state=1)
    found: FloatArray = model.fit(x, labels).predict_proba(fresh)[:, 1]
    return found


def table(n_tries: int) -> Iterator[str]:
    """Write a row for each class, pair of fractions and size."""
    methods = ("proportions", "as it says itself", "trees without labels", "trees with labels")
    yield f"| class | fractions | events of each sample | {' | '.join(methods)} |"
    yield f"|{'---|' * (3 + len(methods))}"
    for name in CLASSES:
        for fractions in FRACTIONS:
            for n in SIZES:
                found = np.array([measure(name, fractions, n, seed) for seed in range(n_tries)])
                errors = found.std(axis=0, ddof=1) / n_tries**0.5
                cells = [f"{m:.3f} +- {e:.3f}" for m, e in zip(found.mean(axis=0), errors, strict=True)]
                pair = " and ".join(f"{fraction:g}" for fraction in fractions)
                yield f"| {name} | {pair} | {n} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=5, help="pairs of samples for each row")
    for line in table(parser.parse_args().tries):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
