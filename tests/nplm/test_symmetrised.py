"""The symmetrised test against the kernel test, its permutations, and what its authors say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import FeatureKind, KernelTest, Normalisation, SymmetrisedTest, TwoSampleTest, permutation_p
from dqm.nplm.pool import Pool
from dqm.nplm.samples import Sample
from tests.studies.two_samples import agreement, throw

SETTINGS: dict[str, Any] = {"width": 1.5, "penalty": 1e-6}


def events(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x[:, 1] += 0.7 * x[:, 0]
    x[:, 2] = np.abs(x[:, 2]) + shift
    return x


def labels(*sizes: int) -> FloatArray:
    return np.repeat([[1.0, 0.0]], sizes, axis=1)


@pytest.mark.parametrize(("sizes", "shift"), [((200, 300), 0.0), ((300, 40), 0.3), ((150, 150), 1.5)])
def test_is_the_sum_of_two_kernel_tests_on_the_pool(sizes: tuple[int, int], shift: float) -> None:
    first, second = events(sizes[0], 1, shift), events(sizes[1], 2)
    both = np.concatenate([first, second])
    centers = both[::5]
    (t,) = Pool.of(Sample(both), centers, **SETTINGS).statistics(labels(*sizes))
    expected = [
        KernelTest(both, n_expected=len(x), centers=centers, loss="likelihood", **SETTINGS).evaluate(x).t
        for x in (first, second)
    ]
    np.testing.assert_allclose(t, expected, rtol=2e-3)


def test_many_divisions_together_are_those_of_each_alone() -> None:
    test = TwoSampleTest(Sample(events(300, 1)), 120, [FeatureKind("smooth")] * 3, seed=3)
    divisions = test.permute(range(4, 10))
    assert (divisions.sum(axis=1) == 120).all()
    np.testing.assert_array_equal(divisions[2:], test.permute(range(6, 10)))
    alone = np.concatenate([test.statistics(one[None]) for one in divisions])
    np.testing.assert_allclose(test.statistics(divisions), alone, rtol=1e-3)
    swapped = test.statistics(1.0 - divisions)
    np.testing.assert_allclose(swapped[:, :, ::-1], alone, rtol=1e-3)


def test_counted_rows_are_as_the_rows_written_out() -> None:
    rng = np.random.default_rng(1)
    rows = np.arange(12.0)[:, None]
    first, second = rng.poisson(9, 12), rng.poisson(6, 12)
    counted = Pool.of(Sample(rows, (first + second).astype(float)), rows, **SETTINGS)
    events_of = np.concatenate([np.repeat(rows, n, axis=0) for n in (first, second)])
    written = Pool.of(Sample(events_of), rows, **SETTINGS)
    np.testing.assert_allclose(
        counted.statistics(first[None]), written.statistics(labels(first.sum(), second.sum())), rtol=1e-3
    )


@pytest.mark.parametrize("n", [5, 10, 12])
def test_few_events_of_one_feature_are_compared_by_kernels_that_differ(n: int) -> None:
    sample = Sample(np.random.default_rng(n).exponential(size=(2 * n, 1)))
    test = TwoSampleTest(sample, n, [FeatureKind("smooth")], seed=1)
    assert len({(one.width, one.penalty) for one in test.settings}) == len(test.settings) > 1
    assert np.isfinite(test.statistics(labels(n, n))).all()


def test_p_of_permutations_is_exact_with_several_settings() -> None:
    rng = np.random.default_rng(1)
    p = np.array([permutation_p(t[0], t[1:]).p for t in rng.normal(size=(2000, 20, 3))])
    assert set(np.round(p * 20)) <= set(range(1, 21))
    for level in (0.05, 0.2, 0.5):  # 4 standard deviations; never above the level but for chance
        assert (p <= level + 1e-9).mean() < level + 4 * np.sqrt(level * (1 - level) / 2000)
    assert (p <= 0.5).mean() > 0.4
    extreme = permutation_p(np.array([0.0, 9.0]), rng.normal(size=(99, 2)))
    assert (extreme.p, extreme.each[1], extreme.place) == (0.01, 0.01, 1)


@pytest.mark.slow
def test_the_null_is_a_chi_square_at_any_ratio_of_sizes() -> None:
    for ratio in (1, 10, 100):
        assert agreement(throw(60, 60 * ratio, 30, seed=2)[:, 0]) > 1e-3


def test_is_more_sensitive_than_t_of_one_sample_at_equal_sizes() -> None:
    null, signal = throw(200, 200, 40, seed=4), throw(200, 200, 30, seed=4, n_signal=14)
    power = (signal > np.quantile(null, 0.95, axis=0)).mean(axis=0)
    assert power[0] > power[1]


def test_a_window_far_from_the_reference_has_a_finite_t() -> None:
    reference = events(300, 1)
    test = SymmetrisedTest(reference, n_expected=100, centers=reference[::5], **SETTINGS)
    result = test.evaluate(events(100, 2, shift=8.0))
    assert result.converged
    assert result.n_outside == 100
    assert result.t > test.evaluate(events(100, 2, shift=0.5)).t > test.evaluate(events(100, 2)).t
    # all that the pool can say: which sample an event is of
    assert result.t < 2.0 * (100 * np.log(4.0) + 300 * np.log(4.0 / 3.0)) * 1.05


@pytest.mark.parametrize("kind", ["ticks", "heavy tails"])
def test_windows_with_events_where_the_reference_has_few_are_tested(kind: str) -> None:
    """There the basis has functions that are negligible at all events of the reference."""

    def draw(n: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        column = rng.standard_cauchy(n) if kind == "heavy tails" else np.floor(rng.uniform(0.0, 16.0, n))
        return np.column_stack([rng.normal(size=(n, 2)), column])

    reference, centers = draw(600, 1), draw(600, 1)[:200]
    test = SymmetrisedTest(reference, n_expected=100, centers=centers, width=2.5, penalty=1e-7)
    n_functions = test.evaluate(reference[:100]).pool.n_functions
    found = [test.evaluate(draw(100, seed)) for seed in range(2, 6)]
    assert max(one.pool.n_functions for one in found) > n_functions
    for seed, one in enumerate(found, 2):
        both = np.concatenate([reference, draw(100, seed)])
        pool = Pool.of(Sample(both), centers, width=2.5, penalty=1e-7)
        ((first, second),) = pool.statistics(labels(600, 100))
        assert one.t == pytest.approx(first + second, rel=0.25)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"nuisances": (Normalisation("rate", sigma=0.1),)},
            "nuisance terms .* are not known yet, got 1",
        ),
        ({"loss": "logistic"}, "not defined for the loss 'logistic'"),
        ({"width": 0.0}, "width is 0"),
    ],
)
def test_refuses_what_it_cannot_do(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SymmetrisedTest(events(50, 1), n_expected=20, centers=events(5, 2), **{**SETTINGS, **given})
