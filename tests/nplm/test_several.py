"""Several kernels, one statistic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.samples import Sample
from dqm.nplm.several import FIT_PENALTY


def normal(n: int, seed: int, d: int = 2) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, d))


def p_at_95(test: SeveralTest, healthy: list[FloatArray], faulty: list[FloatArray]) -> float:
    """Share of faulty windows above the 95 % quantile of healthy ones."""
    limit = np.quantile([r.t for r in test.evaluate_many(healthy)], 0.95)
    return float(np.mean([r.t > limit for r in test.evaluate_many(faulty)]))


def test_the_statistic_is_the_decrease_of_one_newton_step() -> None:
    """Against the objective itself: T is twice the decrease of its second-order expansion at the minimum."""
    x, window, width, penalty = normal(400, 1), normal(100, 2) + 0.3, 0.6, 1e-3
    centers = x[:40]
    test = SeveralTest(x, n_expected=100, centers=centers, width=width, penalty=penalty, feature_width=[])
    (t,) = test._statistics(Sample(window))
    mean, scale = x.mean(axis=0), x.std(axis=0)
    k_m, k_r, k_d = (
        gaussian_kernel(
            torch.from_numpy((z - mean) / scale), torch.from_numpy((centers - mean) / scale), width
        )
        for z in (centers, x, window)
    )
    alpha = torch.zeros(40, dtype=torch.float64, requires_grad=True)

    def objective(a: torch.Tensor) -> torch.Tensor:
        likelihood = (100 / 400) * (torch.expm1(k_r @ a)).sum() - (k_d @ a).sum()
        return likelihood + 0.5 * penalty * 500 * a @ k_m @ a

    slope = torch.autograd.functional.jacobian(objective, alpha)
    curvature = torch.autograd.functional.hessian(objective, alpha)
    expected = float(slope @ torch.linalg.solve(curvature, slope))
    assert t == pytest.approx(expected, rel=1e-4)


def test_t_does_not_depend_on_units_or_on_what_is_tested_beside() -> None:
    x, windows = normal(600, 1), list(normal(500, 2).reshape(5, 100, 2))
    test = SeveralTest(x, n_expected=100, centers=x[:80])
    other = SeveralTest(x * [1e3, 1e-3] + [5, 1], n_expected=100, centers=x[:80] * [1e3, 1e-3] + [5, 1])
    t = [r.t for r in test.evaluate_many(windows)]
    np.testing.assert_array_equal(t, [test.evaluate(window).t for window in windows])
    np.testing.assert_allclose(
        [r.t for r in other.evaluate_many([w * [1e3, 1e-3] + [5, 1] for w in windows])], t, rtol=1e-4
    )


@pytest.mark.parametrize("has_mkl", [True, False])
def test_windows_drawn_from_a_pool_have_the_t_that_they_have_alone(
    monkeypatch: pytest.MonkeyPatch, has_mkl: bool
) -> None:
    has_mkl = has_mkl and torch.backends.mkl.is_available()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    rng = np.random.default_rng(8)
    x = normal(5000, 1, 4)
    x[:, 2] = np.round(x[:, 2])
    x[::7, 3] = -999.0
    kinds = ["smooth", "heavy", "steps", "smooth:-999"]
    test = SeveralTest(x[:600], n_expected=100, centers=x[:80], kinds=kinds)
    pool = x[600:]
    rows = [rng.choice(len(pool), size=n, replace=False) for n in (100, 90, 1, 4000, 100)]
    drawn = test.evaluate_drawn(pool, rows)
    for one, places in zip(drawn, rows, strict=True):
        alone = test.evaluate(pool[places])
        np.testing.assert_allclose(one.log_p, alone.log_p, rtol=1e-7, atol=1e-9)
        assert one.t == pytest.approx(alone.t, rel=1e-7)
        assert one.n_outside == alone.n_outside
        assert one.place == alone.place
    assert test.evaluate_drawn(pool, []) == []


def test_counted_windows_drawn_from_a_pool_have_the_t_that_they_have_alone() -> None:
    rng = np.random.default_rng(9)
    x, counts = normal(300, 1), rng.integers(1, 20, 300).astype(float)
    test = SeveralTest(x, n_expected=200, centers=x[:80], counts=counts)
    rows = [np.sort(rng.choice(300, size=n, replace=False)) for n in (60, 200)]
    weights = [rng.integers(1, 5, len(one)).astype(float) for one in rows]
    for one, places, w in zip(test.evaluate_drawn(x, rows, weights=weights), rows, weights, strict=True):
        assert one.t == pytest.approx(test.evaluate(x[places], weights=w).t, rel=1e-7)


@pytest.mark.slow
def test_a_test_prepared_for_a_few_windows_gives_the_same_t() -> None:
    x, windows = normal(700, 1), list(normal(500, 2).reshape(5, 100, 2))
    settings = SeveralTest.tune(
        x, n_reference=500, n_expected=100, n_centers=80, rng=np.random.default_rng(3)
    )
    many, few = (
        SeveralTest(x[:500], n_expected=100, centers=x[:80], few_windows=is_brief, **settings)
        for is_brief in (False, True)
    )
    for size in (100, 150):
        np.testing.assert_allclose(few.at(size)._moments, many.at(size)._moments, rtol=1e-7)
        np.testing.assert_allclose(
            [r.t for r in few.at(size).evaluate_many(windows)],
            [r.t for r in many.at(size).evaluate_many(windows)],
            rtol=1e-7,
        )


def test_a_test_of_another_size_is_that_made_anew() -> None:
    x, window = normal(600, 1), normal(150, 2)
    resized = SeveralTest(x, n_expected=100, centers=x[:80]).at(150)
    anew = SeveralTest(x, n_expected=150, centers=x[:80])
    assert resized.evaluate(window).t == anew.evaluate(window).t


@pytest.mark.parametrize(
    "rule", ["smallest", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("product", "mean"))]
)
def test_no_choice_of_width_is_needed(rule: str) -> None:
    """A narrow excess and a wide shift, both seen by the same test."""
    rng = np.random.default_rng(3)
    pool = normal(3000, 4)
    settings = SeveralTest.tune(pool, n_reference=1000, n_expected=200, n_centers=100, rng=rng)
    test = SeveralTest(pool[:1000], n_expected=200, centers=pool[:100], rule=rule, **settings)
    assert len(settings["mean_ratio"]) == len(test.settings) == 6 + 4
    healthy = list(normal(200 * 60, 5).reshape(60, 200, 2))
    narrow, wide = (list(normal(200 * 20, seed).reshape(20, 200, 2)) for seed in (6, 7))
    for window in narrow:
        window[:30] = [1.0, 1.0] + 0.05 * window[:30]
    assert p_at_95(test, healthy, narrow) > 0.8
    assert p_at_95(test, healthy, [window + 0.35 for window in wide]) > 0.8


def test_an_only_feature_is_looked_at_by_kernels_that_all_differ() -> None:
    """Decorrelated, it would be what it is already."""
    x = np.random.default_rng(1).exponential(size=(600, 1))
    test = SeveralTest(x, n_expected=100, centers=x[:100])
    assert {(one.feature, one.is_decorrelated) for one in test.settings} == {(None, False)}
    assert len({(one.width, one.penalty) for one in test.settings}) == len(test.settings) == 5
    least = min(one.penalty for one in test.settings)
    assert 600 * least == pytest.approx(0.05), "of a small reference single events would decide"


@pytest.mark.parametrize("n", [10, 20, 25, 40])
def test_kernels_of_a_tiny_reference_all_differ_and_some_see_more_than_means(n: int) -> None:
    x = np.random.default_rng(1).exponential(size=(n, 1))
    test = SeveralTest(x, n_expected=10, centers=x)
    assert len({(one.width, one.penalty) for one in test.settings}) == len(test.settings)
    assert [one.is_smooth for one in test.settings] == [False, False, False, True]


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_a_mean_that_moves_by_half_a_standard_deviation_is_seen_in_windows_of_50(n_features: int) -> None:
    """3.5 sigma of the mean: seen with a probability of 0.94 by a test of this mean alone."""
    run, rng = normal(6000, 1, n_features), np.random.default_rng(3)
    settings = SeveralTest.tune(run, n_reference=2000, n_expected=50, n_centers=100, rng=rng)
    test = SeveralTest(run[:2000], n_expected=50, centers=run[:100], **settings)
    healthy = list(normal(50 * 200, 2, n_features).reshape(200, 50, n_features))
    faulty = normal(50 * 100, 3, n_features).reshape(100, 50, n_features)
    faulty[:, :, 0] += 0.5
    assert p_at_95(test, healthy, list(faulty)) > 0.65


def test_the_number_of_events_of_healthy_windows_has_no_small_p() -> None:
    """A smooth kernel has few functions, and one of them is the number of events."""
    run = normal(6000, 1)
    for is_poisson in (False, True):
        rng = np.random.default_rng(3)
        settings = SeveralTest.tune(
            run, n_reference=2000, n_expected=100, n_centers=100, rng=rng, is_poisson=is_poisson
        )
        test = SeveralTest(run[:2000], n_expected=100, centers=run[:100], **settings)
        sizes = rng.poisson(100, 300) if is_poisson else [100] * 300
        results = test.evaluate_many([rng.normal(size=(n, 2)) for n in sizes])
        smooth = np.exp([r.log_p[4] for r in results])
        assert 0.02 < np.mean(smooth < 0.05) < 0.09, is_poisson


def test_a_kernel_whose_p_is_too_small_with_this_reference_does_not_set_the_threshold() -> None:
    """By bad luck few events of this reference are where single events of windows are."""
    run, rng = normal(4000, 9), np.random.default_rng(3)
    settings = SeveralTest.tune(run, n_reference=2000, n_expected=100, n_centers=300, rng=rng)
    given = {"n_expected": 100, "centers": run[:300], **settings}
    windows = list(rng.normal(size=(200, 100, 2)))
    low = [
        float(np.quantile([r.log_p[0] for r in test.evaluate_many(windows)], 0.05))
        for test in (
            SeveralTest(run[:2000], **{**given, "kernel_scale": None}),
            SeveralTest(run[:2000], **given),
        )
    ]
    assert low[0] < np.log(1e-4)
    assert np.log(0.005) < low[1] < np.log(0.15)
    assert max(settings["kernel_scale"]) == 1.0, "the others stay as they are"


def test_it_says_which_kernel_saw_it_and_fits_the_window_with_it() -> None:
    x, window = normal(800, 1), normal(200, 2)
    window[:, 1] = np.where(np.arange(200) < 40, 0.5, window[:, 1])  # a value that one feature repeats
    test = SeveralTest(x, n_expected=200, centers=x[:100])
    result = test.evaluate(window)
    assert (result.seen_by.test, result.seen_by.feature) == ("kernel", 1)
    alone = KernelTest(
        x[:, 1:], n_expected=200, width=result.seen_by.width, penalty=FIT_PENALTY, centers=x[:100, 1:]
    )
    assert result.fitted_with(result.place).t == pytest.approx(alone.evaluate(window[:, 1:]).t, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rule": "median"}, "unknown rule 'median'"),
        ({"width": [1.0, -1.0]}, "width is -1.0"),
        ({"feature_width": [1.0, 1.0, 1.0]}, "3 widths for 2 features"),
        ({"penalty": [1e-6, 1e-5]}, "6 widths and 2 penalties"),
        ({"penalty": 0.0}, "penalty is 0.0"),
        ({"kinds": ["smooth"]}, "1 kind for 2 features"),
        ({"kinds": ["smooth", "odd"]}, "no kind of features 'odd'"),
        ({"mean_ratio": [1.0] * 10}, "mean_ratio and plain_shift belong together"),
        ({"mean_ratio": [1.0] * 10, "plain_shift": [1.0]}, r"plain_shift has shape \(1,\) for 0 plain tests"),
        ({"mean_ratio": [1.0], "plain_shift": []}, r"mean_ratio has shape \(1,\) for 10 settings of kernels"),
        ({"kernel_scale": [1.0]}, r"kernel_scale has shape \(1,\) for 10 settings"),
        ({"kernel_scale": [2.0] * 10}, "above 0 and at most 1"),
        ({"n_expected": 0}, "n_expected is 0"),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, object], words: str) -> None:
    x = normal(300, 1)
    with pytest.raises(InputError, match=words):
        SeveralTest(x, **{"n_expected": 100, "centers": x[:50], **change})
