"""Share of healthy runs that a value marks, for values that scatter and for those that wander.

``python -m tests.studies.run_marks``

Sequences of 30 runs; the first eight have too few before them.
"""

from __future__ import annotations

import numpy as np

from dqm.alarm.run_values import DIFFERENT, FEWEST_RUNS, Mean, ValueHistory

N_RUNS = 30


def marked_share(correlation: float, n_sequences: int, seed: int) -> float:
    """Give the share of runs that are marked, those before which there are enough."""
    rng = np.random.default_rng(seed)
    n_marked = 0
    for _ in range(n_sequences):
        values = rng.standard_normal(N_RUNS)
        for run in range(1, N_RUNS):
            step = (1.0 - correlation**2) ** 0.5 * values[run]
            values[run] = correlation * values[run - 1] + step
        history = ValueHistory()
        n_marked += sum(history.add(Mean(float(value), 1.0), DIFFERENT) is not None for value in values)
    return n_marked / (n_sequences * (N_RUNS - FEWEST_RUNS))


def main() -> None:
    """Print the shares."""
    for correlation in (0.0, 0.5, 0.9, 0.99):
        share = 100.0 * marked_share(correlation, 10_000, seed=1)
        print(f"correlation {correlation:g}: {share:.2f} % of the runs, for {100 * DIFFERENT:g} %")  # noqa: T201


if __name__ == "__main__":
    main()
