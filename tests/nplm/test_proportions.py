"""Learning from label proportions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import learn_proportions

SHIFT = np.array([1.5, -1.0])


def mix(fraction: float, n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Draw events and their labels: the class is shifted."""
    rng = np.random.default_rng([seed, n])
    labels = np.arange(n) < round(fraction * n)
    return rng.normal(size=(n, 2)) + labels[:, None] * SHIFT, labels.astype(np.float64)


def posterior(x: FloatArray, prior: float) -> FloatArray:
    odds = np.exp(x @ SHIFT - 0.5 * SHIFT @ SHIFT) * prior / (1.0 - prior)
    return odds / (1.0 + odds)


def auc(scores: FloatArray, labels: FloatArray) -> float:
    n, m = labels.sum(), (1.0 - labels).sum()
    return float((stats.rankdata(scores)[labels == 1].sum() - n * (n + 1) / 2) / (n * m))


@pytest.mark.parametrize("fractions", [(0.1, 0.6), (0.2, 0.4, 0.7)])
def test_the_score_of_the_class_is_recovered_without_labels(fractions: tuple[float, ...]) -> None:
    samples = [mix(fraction, 4000, place)[0] for place, fraction in enumerate(fractions)]
    found = learn_proportions(samples, fractions)
    x, labels = mix(0.5, 4000, 9)
    scores, true = found.score(x), posterior(x, found.prior)
    assert found.prior == pytest.approx(np.mean(fractions))
    assert np.corrcoef(scores, true)[0, 1] > 0.97
    assert np.sqrt(np.mean((scores - true) ** 2)) < 0.1
    best = auc(true, labels)
    assert auc(scores, labels) > best - 0.01
    assert found.auc == pytest.approx(best, abs=5 * found.auc_error + 0.01)
    assert found.auc_error < 0.05


def test_samples_that_do_not_differ_teach_nothing() -> None:
    samples = [np.random.default_rng(seed).normal(size=(3000, 2)) for seed in (1, 2)]
    found = learn_proportions(samples, (0.1, 0.5))
    assert found.auc == pytest.approx(0.5, abs=max(0.1, 4 * found.auc_error))


def test_mean_scores_of_the_samples_follow_their_fractions() -> None:
    fractions = (0.1, 0.3, 0.8)
    samples = [mix(fraction, 3000, place)[0] for place, fraction in enumerate(fractions)]
    means = [scores.mean() for scores in learn_proportions(samples, fractions).held_out]
    assert np.corrcoef(means, fractions)[0, 1] > 0.995


@pytest.mark.parametrize(
    ("fractions", "sizes", "message"),
    [
        (
            (0.3, 0.3),
            (100, 100),
            "all fractions are 0.3: samples of equal fractions do not separate the classes",
        ),
        ((0.3, 1.3), (100, 100), r"the fraction 1.3 is not in \[0, 1\]"),
        ((0.3, np.nan), (100, 100), r"the fraction nan is not in \[0, 1\]"),
        ((0.3,), (100, 100), "2 samples and 1 fraction"),
        ((0.3,), (100,), "1 sample and 1 fraction"),
        ((0.1, 0.3), (100, 10), "sample 1 has 10 events"),
    ],
)
def test_fractions_that_teach_nothing_are_refused(
    fractions: tuple[float, ...], sizes: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        learn_proportions([np.random.default_rng(1).normal(size=(n, 2)) for n in sizes], fractions)
