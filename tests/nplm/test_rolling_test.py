"""A window against those before it: the statistic, its permutations, nuisance parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import FeatureKind, Normalisation, RollingTest, Shape
from dqm.nplm.rolling_test import _divide
from dqm.nplm.score import log_chi_squared, weigh_functions

REFERENCE = np.random.default_rng(1).normal(size=(3000, 2))


def rolling(**options: object) -> RollingTest:
    return RollingTest(REFERENCE, REFERENCE[:80], **options)  # type: ignore[arg-type]


def throw(n: int, rng: np.random.Generator, shift: float = 0.0) -> FloatArray:
    return rng.normal(size=(n, 2)) + np.array([shift, 0.0])


def test_is_the_score_of_each_kernel_with_the_past_as_reference() -> None:
    rng = np.random.default_rng(2)
    past, x = [throw(90, rng) for _ in range(3)], throw(70, rng)
    test = rolling()
    found = test.evaluate(past, x, n_permutations=1, rng=rng)
    before = np.concatenate(past)
    log_p = []
    for score, setting, handicap in zip(test._scores, test.settings, test._handicaps, strict=True):
        at = [0, 1] if setting.feature is None else [setting.feature]
        standard = [(one - REFERENCE.mean(0)) / REFERENCE.std(0) for one in (x, before)]
        if setting.is_decorrelated:
            standard = [one @ test._seen.axes for one in standard]
        sums, expected = (score.sums(one[:, at], np.ones(len(one))) for one in standard)
        g = sums - len(x) / len(before) * expected
        phi = score.functions(np.concatenate(standard)[:, at])
        inverse, mean, variance = weigh_functions(
            (phi**2).mean(0), phi.mean(0), score.penalty * len(phi), len(x), len(before)
        )
        np.testing.assert_allclose(1.0 / inverse, len(x) * (phi**2).mean(0) + score.penalty * len(phi))
        t = np.array(inverse @ g**2)
        log_p.append(float(log_chi_squared(t, np.array(mean), np.array(variance))) + handicap)
    assert found.t == pytest.approx(-2.0 * min(log_p), rel=1e-9)
    assert found.seen_by == test.settings[int(np.argmin(log_p))]


def test_divisions_have_the_size_of_the_window() -> None:
    chosen = _divide(30, 7, 50, np.random.default_rng(1)).toarray()
    assert (chosen.sum(axis=1) == 7).all()
    assert chosen[0, :7].all()
    assert len(np.unique(chosen, axis=0)) == 51


@pytest.mark.slow
def test_p_of_windows_without_a_change_is_uniform() -> None:
    test = rolling()
    p = []
    for seed in range(300):
        rng = np.random.default_rng([3, seed])
        found = test.evaluate([throw(40, rng) for _ in range(4)], throw(40, rng), n_permutations=99, rng=rng)
        p.append((1 + (found.permuted >= found.t).sum()) / 100)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_past_that_differs_from_the_frozen_reference_is_no_change() -> None:
    rng = np.random.default_rng(4)
    test = rolling()
    moved = [throw(200, rng, 1.0) for _ in range(6)]
    assert (found := test.evaluate(moved[:5], moved[5], n_permutations=100, rng=rng)).t < found.permuted.max()
    back = test.evaluate(moved[:5], throw(200, rng), n_permutations=100, rng=rng)
    assert back.t > 3.0 * back.permuted.max()


def test_a_nuisance_parameter_is_no_change_and_hides_no_other() -> None:
    gas = Shape("gas", 0.1, linear=lambda x: x[:, 0], quadratic=lambda x: -np.ones(len(x)))
    tests = rolling(), rolling(nuisances=[gas, Normalisation("rate", 0.1)])
    seen = np.zeros((2, 2))
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        past = [throw(100, rng) for _ in range(5)]
        shifted, stretched = throw(100, rng, 0.5), throw(100, rng) * [1.0, 1.6]
        for place, test in enumerate(tests):
            for column, x in enumerate((shifted, stretched)):
                found = test.evaluate(past, x, n_permutations=99, rng=np.random.default_rng(seed))
                seen[place, column] += (found.permuted >= found.t).sum() < 5
    assert seen[0, 0] > 12  # a shift is a change
    assert seen[1, 0] < 5  # but not where gas makes it
    assert min(seen[:, 1]) > 12


def test_sees_a_category_that_is_gone() -> None:
    rng = np.random.default_rng(6)
    reference = np.column_stack([rng.normal(size=1000), rng.integers(0, 4, 1000)])
    test = RollingTest(reference, reference[:80], kinds=[FeatureKind(), FeatureKind("categories")])
    wire = rng.choice(reference[reference[:, 1] > 0], size=200)
    found = test.evaluate([rng.choice(reference, size=400)], wire, n_permutations=100, rng=rng)
    assert found.t > found.permuted.max()


def test_same_generator_same_numbers() -> None:
    rng = np.random.default_rng(7)
    past, x = [throw(50, rng)], throw(50, rng)
    first, second = (
        rolling().evaluate(past, x, n_permutations=20, rng=np.random.default_rng(8)) for _ in range(2)
    )
    assert first.t == second.t
    np.testing.assert_array_equal(first.permuted, second.permuted)


def test_refuses_what_cannot_be_compared() -> None:
    rng = np.random.default_rng(1)
    x = throw(20, rng)
    for past, window, message in (
        ([], x, "no window to compare with"),
        ([x], np.empty((0, 2)), "the window has no events"),
        ([x, x[:, :1]], x, "the window of the past has 1 feature, the reference has 2"),
    ):
        with pytest.raises(InputError, match=message):
            rolling().evaluate(past, window, n_permutations=10, rng=rng)


def test_an_event_far_from_the_frozen_reference_does_not_decide() -> None:
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng([9, seed])
        moved = [throw(60, rng, -0.4) for _ in range(7)]
        moved[6][:, 0] += 0.8
        found = RollingTest(REFERENCE[:400], REFERENCE[:80]).evaluate(
            moved[:6], moved[6], n_permutations=99, rng=rng
        )
        seen += found.t > found.permuted.max()
    assert seen > 12  # 7 with the moments of the frozen reference
