"""Do the statements of the symmetrised test's authors hold for its two forms?

``python -m tests.studies.two_samples`` draws two samples from an exponential distribution many times, of
sizes in the ratios 1, 10 and 100. It prints the mean and the variance of both statistics,
``t_{A+B}(A) + t_{A+B}(B)`` and ``t_B(A)``, and the Kolmogorov-Smirnov p of their agreement with the
chi-square distribution of the same mean. Then it puts a narrow signal into A at equal sizes and prints how
often each statistic is above its own 95 % quantile. ``--form neural`` does so with networks of 4 neurons.
Weights are not clipped, but for the ``t_B(A)`` of networks, which has no maximum without: there at 9.

References: Bressler, Savoray and Zurgil (2024), arXiv:2401.09530.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest
from dqm.nplm.neural import NeuralTest
from dqm.nplm.neural.neural_two_sample_test import LAYERS, NeuralTwoSampleTest
from dqm.nplm.pool import Pool
from dqm.nplm.samples import Sample

WIDTH, PENALTY, N_CENTERS = 0.5, 1e-6, 40
"""Width in standard deviations; the penalty keeps about ten functions free."""

CLIPPING = 9.0
"""Largest weight of the network that has B as its reference, as in the talk."""

SIGNAL = (3.0, 0.1)
"""Mean and sigma of the peak that is added, in units of the mean of the exponential distribution."""


def draw(rng: np.random.Generator, n: int, n_signal: int = 0) -> FloatArray:
    """Draw events of the exponential distribution, some of them replaced by the peak; shape (n, 1)."""
    return np.concatenate([rng.exponential(size=n - n_signal), rng.normal(*SIGNAL, size=n_signal)])[:, None]


Form = Callable[[FloatArray, FloatArray, np.random.Generator], tuple[float, float]]
"""Gives the symmetrised t, and t of the first sample with the second as its reference."""


def with_kernels(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> tuple[float, float]:
    """Give both statistics with kernels."""
    pool = Sample(np.concatenate([first, second]))
    centers = pool.choose_rows(min(N_CENTERS, len(pool.x)), rng)
    fits = Pool.of(pool, centers, width=WIDTH, penalty=PENALTY)
    symmetrised = fits.statistics(np.repeat([[1.0, 0.0]], [len(first), len(second)], axis=1)).sum()
    test = KernelTest(
        second,
        n_expected=len(first),
        width=WIDTH,
        penalty=PENALTY,
        centers=min(N_CENTERS, len(second)),
        loss="likelihood",
        rng=rng,
        few_windows=True,
    )
    return float(symmetrised), test.evaluate(first).t


def with_networks(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> tuple[float, float]:
    """Give both statistics with networks."""
    seed = int(rng.integers(2**31))
    symmetrised = NeuralTwoSampleTest(Sample(np.concatenate([first, second])), len(first), seed)
    labels = np.repeat([[1.0, 0.0]], [len(first), len(second)], axis=1)
    test = NeuralTest(second, n_expected=len(first), layers=LAYERS, clipping=CLIPPING, seed=seed)
    return float(symmetrised.statistics(labels).sum()), test.evaluate(first).t


FORMS: dict[str, Form] = {"kernel": with_kernels, "neural": with_networks}


def throw(
    n_first: int, n_second: int, n_toys: int, *, seed: int, n_signal: int = 0, form: Form = with_kernels
) -> FloatArray:
    """Give both statistics of many pairs of samples, shape (n_toys, 2); `n_signal` events of A are signal."""
    rng = np.random.default_rng([seed, n_first, n_second, n_signal])
    return np.array([form(draw(rng, n_first, n_signal), draw(rng, n_second), rng) for _ in range(n_toys)])


def agreement(t: FloatArray) -> float:
    """Give the Kolmogorov-Smirnov p of t with the chi-square distribution of its mean."""
    return float(stats.kstest(t, stats.chi2(t.mean()).cdf).pvalue)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toys", type=int, default=400, help="pairs of samples in each case")
    parser.add_argument("--events", type=int, default=300, help="events of A")
    parser.add_argument("--form", choices=FORMS, default="kernel")
    parser.add_argument("--seed", type=int, default=1)
    choice = parser.parse_args()
    torch.set_num_threads(1)
    thrown = partial(throw, choice.events, n_toys=choice.toys, seed=choice.seed, form=FORMS[choice.form])
    _say("| N_B / N_A | t | mean | variance / (2 mean) | KS p with chi-square |\n|---|---|---|---|---|")
    quantiles = np.zeros(2)
    for ratio in (1, 10, 100):
        t = thrown(ratio * choice.events)
        for name, column in zip(("t_{A+B}(A) + t_{A+B}(B)", "t_B(A)"), t.T, strict=True):
            column = column[np.isfinite(column)]
            _say(
                f"| {ratio} | {name} | {column.mean():.2f} | {column.var(ddof=1) / (2 * column.mean()):.2f} "
                f"| {agreement(column):.2g} |"
            )
        if ratio == 1:
            quantiles = np.nanquantile(t, 0.95, axis=0)
    _say("\n| signal events in A | power of t_{A+B}(A) + t_{A+B}(B) | power of t_B(A) |\n|---|---|---|")
    for n_signal in (6, 9, 12, 15, 20):
        t = thrown(choice.events, n_signal=n_signal)
        power = (np.nan_to_num(t, nan=np.inf) > quantiles).mean(axis=0)
        _say(f"| {n_signal} | {power[0]:.2f} | {power[1]:.2f} |")


if __name__ == "__main__":
    main()
