"""Several kernels and plain tests beside nuisance parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import Normalisation, Nuisance, NuisanceFit, SeveralResult, SeveralTest, Shape, nuisance_fit
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.samples import Sample
from dqm.nplm.setting import ScaledSample

N, SIGMA = 200, 0.2
GAS = Shape("gas", SIGMA, linear=lambda x: x[:, 0], quadratic=lambda x: -np.ones(len(x)))
"""A shift of the first feature, exactly."""


def normal(n: int, seed: int, nu: float = 0.0, d: int = 2) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, d)) + np.eye(d)[0] * nu


@pytest.fixture(scope="module")
def several() -> SeveralTest:
    run = normal(5000, 1)
    settings = SeveralTest.tune(
        run[:5000], n_reference=3000, n_expected=N, n_centers=80, rng=np.random.default_rng(2)
    )
    return SeveralTest(run[:3000], n_expected=N, centers=run[:80], nuisances=[GAS], **settings)


def throw(
    several: SeveralTest, nu: float, n: int, seed: int, *, bias: float = 0.0, stretch: float = 1.0
) -> list[SeveralResult]:
    """Test windows at a true nu; the measurement may be biased, and the second feature stretched."""
    rng = np.random.default_rng(seed)
    windows = normal(N * n, seed + 1, nu).reshape(n, N, 2) * [1.0, stretch]
    measured = rng.normal(nu + bias, SIGMA, n)
    return [several.evaluate(x, auxiliary={"gas": value}) for x, value in zip(windows, measured, strict=True)]


@pytest.fixture(scope="module")
def null(several: SeveralTest) -> FloatArray:
    return np.sort([result.t for result in throw(several, 0.0, 300, 10)])


def p_values(results: list[SeveralResult], null: FloatArray) -> FloatArray:
    return 1.0 - np.searchsorted(null, [result.t for result in results]) / (len(null) + 1)


def test_the_statistic_is_the_decrease_of_a_newton_step_at_the_fitted_parameters() -> None:
    """Against the objective itself, for a rate, with which the Hessian stays diagonal."""
    x, window, width, penalty = normal(400, 1), normal(130, 2) + 0.2, 0.6, 1e-3
    test = SeveralTest(
        x, n_expected=100, centers=x[:40], width=width, penalty=penalty, feature_width=[],
        nuisances=[Normalisation("rate", 0.3)],
    )  # fmt: skip
    point = NuisanceFit(x, 100, test._nuisances).find(window, np.ones(130), np.array([0.1]))
    mean, scale = x.mean(axis=0), x.std(axis=0)
    at = [torch.from_numpy((z - mean) / scale) for z in (x[:40], x, window)]
    k_m, k_r, k_d = (gaussian_kernel(z, at[0], width) for z in at)
    alpha = torch.zeros(40, dtype=torch.float64)

    def objective(a: torch.Tensor) -> torch.Tensor:
        expected = torch.from_numpy(point.weights) @ torch.expm1(k_r @ a)
        return expected - (k_d @ a).sum() + 0.5 * penalty * 500 * a @ k_m @ a

    slope = torch.autograd.functional.jacobian(objective, alpha)
    curvature = torch.autograd.functional.hessian(objective, alpha)
    found = test._profile.evaluate(point, Sample(window), [at[2].numpy()], np.array([0.1]))
    sized = test._profile._sized[0]
    _, of_window, of_reference = sized.score.expect(point, sized.share)
    mean = ((of_window + of_reference) / (of_window + sized.ridge)).sum()
    decrease = float(slope @ torch.linalg.solve(curvature, slope))
    assert found.statistics[0] * mean / sized.size == pytest.approx(decrease, rel=1e-4)
    assert of_reference.sum() / of_window.sum() == pytest.approx(100 / 400 * np.exp(point.nu[0]), rel=1e-4)
    assert point.nu[0] == pytest.approx(np.log(130 / 100), abs=0.05)


def test_mean_and_spread_of_each_kernel_are_those_that_the_parameters_leave() -> None:
    x = normal(20_000, 3, d=1)
    test = SeveralTest(x, n_expected=N, centers=x[:60], width=[3.0], penalty=1e-6, nuisances=[GAS])
    bare = SeveralTest(x, n_expected=N, centers=x[:60], width=[3.0], penalty=1e-6)
    windows = normal(N * 500, 4, d=1).reshape(500, N, 1)
    measured = np.random.default_rng(5).normal(0.0, SIGMA, 500)
    t = []
    for x_window, value in zip(windows, measured, strict=True):
        point = test._fit.find(x_window, np.ones(N), np.array([value]))
        columns = [ScaledSample(test._seen, x_window).at(test.settings[0])]
        t.append(test._profile.evaluate(point, Sample(x_window), columns, np.array([value])).statistics)
    mean, variance = test._moments
    np.testing.assert_allclose(np.mean(t, axis=0), mean, rtol=0.12)
    np.testing.assert_allclose(np.var(t, axis=0), variance, rtol=0.4)
    assert mean[0] < 0.8 * bare._moments[0][0], "the shift is taken out of a kernel that is wide"


@pytest.mark.parametrize("sigmas", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (-2, -1, 1, 2))])
def test_t_does_not_depend_on_what_the_parameter_is(
    several: SeveralTest, null: FloatArray, sigmas: int
) -> None:
    results = throw(several, sigmas * SIGMA, 150, 100 + 10 * sigmas)
    p = p_values(results, null)
    assert np.mean(p < 0.05) < 0.12
    assert np.mean(p < 0.01) < 0.055
    assert 0.35 < np.mean(p < 0.5) < 0.65
    fitted = np.array([result.nuisances["gas"].reference.value for result in results])
    assert fitted.mean() == pytest.approx(sigmas * SIGMA, abs=0.04)
    pulls = np.array([result.nuisances["gas"].reference.pull for result in results])
    assert pulls.std() == pytest.approx(1.0, abs=0.25)
    assert all(result.t == pytest.approx(result.tau - result.delta) for result in results)


def test_a_fault_is_seen_at_any_value_of_the_parameter(several: SeveralTest, null: FloatArray) -> None:
    for nu in (0.0, 2 * SIGMA):
        results = throw(several, nu, 20, 300, stretch=1.5)
        assert np.mean(p_values(results, null) < 0.01) > 0.9


def test_what_imitates_a_parameter_is_seen_beyond_its_measurement_alone(
    several: SeveralTest, null: FloatArray
) -> None:
    within = throw(several, 1.5 * SIGMA, 60, 400, bias=-1.5 * SIGMA)
    assert np.mean(p_values(within, null) < 0.01) < 0.2
    beyond = throw(several, 6 * SIGMA, 20, 500, bias=-6 * SIGMA)
    assert np.mean(p_values(beyond, null) < 0.01) > 0.9
    assert {result.seen_by.test for result in beyond} >= {"pulls"}


def test_plain_tests_compare_with_the_reference_as_the_parameters_deform_it() -> None:
    """A category that the parameter makes more frequent, and a heavy tail that it makes heavier."""
    rng = np.random.default_rng(6)

    def events(n: int, nu: float) -> FloatArray:
        share = 0.2 * np.exp(nu) / (0.8 + 0.2 * np.exp(nu))
        return np.column_stack([rng.random(n) < share, rng.standard_cauchy(n)]).astype(float)

    def shift_of_shares(x: FloatArray) -> FloatArray:
        return x[:, 0] - 0.2

    run = events(6000, 0.0)
    trigger = Shape("trigger", 0.1, shift_of_shares, lambda _x: np.full(len(_x), -0.16))
    test = SeveralTest(
        run[:5000], n_expected=N, centers=run[:60], kinds=["categories", "heavy"], nuisances=[trigger]
    )
    place = [one.test for one in test.settings].index("share")
    far = events(N, 0.8)
    explained, unexplained = (test.evaluate(far, auxiliary={"trigger": nu}) for nu in (0.8, 0.0))
    assert explained.log_p[place] > unexplained.log_p[place]
    assert explained.log_p[place] > np.log(0.05)
    assert explained.fitted_with(explained.place).reference_weights.sum() == pytest.approx(N, rel=0.1)


def test_maps_compare_with_the_reference_at_the_fitted_parameters(several: SeveralTest) -> None:
    (result,) = throw(several, 2 * SIGMA, 1, 600)
    fitted = result.fitted_with(result.place)
    value = result.nuisances["gas"].reference.value
    weights = fitted.reference_weights
    assert weights @ several._seen.reference[:, 0] / weights.sum() == pytest.approx(value, abs=0.05)
    assert fitted.nuisances == result.nuisances
    assert fitted.tau == pytest.approx(fitted.t + result.delta)


def test_a_free_parameter_is_no_measurement_that_a_window_could_contradict() -> None:
    x = normal(2000, 1)
    free = Shape("gas", np.inf, GAS.linear, GAS.quadratic)
    test = SeveralTest(x, n_expected=N, centers=x[:60], nuisances=[free])
    assert "pulls" not in {one.test for one in test.settings}
    rng, pool = np.random.default_rng(8), normal(5000, 9, nu=0.6)
    rows = [rng.choice(5000, N, replace=False) for _ in range(3)]
    for result, places in zip(test.evaluate_drawn(pool, rows), rows, strict=True):
        assert result.t == test.evaluate(pool[places]).t
        gas = result.nuisances["gas"]
        assert (gas.measured, gas.reference.pull) == (None, None)
        assert gas.reference.value == pytest.approx(0.6, abs=0.25)


def test_counted_rows_are_the_rows_written_out() -> None:
    rng = np.random.default_rng(9)
    x, counts = normal(200, 1), rng.integers(1, 9, 200).astype(float)
    rate: list[Nuisance] = [Normalisation("rate", 0.1)]
    chosen = {
        "n_expected": 150,
        "centers": x[:60],
        "nuisances": rate,
        "width": 0.8,
        "feature_width": [0.5, 0.5],
    }
    of_rows = SeveralTest(x, counts=counts, **chosen)
    written = SeveralTest(np.repeat(x, counts.astype(int), axis=0), **chosen)
    data, weights = normal(60, 3), rng.integers(1, 4, 60).astype(float)
    one = of_rows.evaluate(data, weights=weights, auxiliary={"rate": 0.05})
    other = written.evaluate(np.repeat(data, weights.astype(int), axis=0), auxiliary={"rate": 0.05})
    assert one.t == pytest.approx(other.t, rel=1e-3)
    assert one.delta == pytest.approx(other.delta, rel=1e-6)


def test_a_test_of_another_size_or_for_few_windows_is_that_made_anew() -> None:
    x, window = normal(600, 1), normal(150, 2)
    chosen = {"centers": x[:80], "nuisances": [GAS]}
    resized = SeveralTest(x, n_expected=100, **chosen).at(150).evaluate(window, auxiliary={"gas": 0.1})
    for few in (False, True):
        anew = SeveralTest(x, n_expected=150, few_windows=few, **chosen)
        assert resized.t == anew.evaluate(window, auxiliary={"gas": 0.1}).t


def test_a_fit_that_does_not_end_is_said(several: SeveralTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuisance_fit, "TOLERANCE", -1.0)
    (result,) = throw(several, 0.0, 1, 700)
    assert not result.converged
    assert np.isnan(result.t)


def test_a_measurement_at_which_the_reference_overflows_gives_no_t() -> None:
    steep = Shape("gas", SIGMA, linear=lambda x: 500.0 * x[:, 0])
    test = SeveralTest(normal(600, 1), n_expected=N, centers=normal(40, 2), nuisances=[steep])
    result = test.evaluate(normal(N, 3), auxiliary={"gas": 10.0})
    assert (result.converged, dict(result.nuisances)) == (False, {})
    assert np.isnan(result.t)


@pytest.mark.parametrize(
    ("given", "words"),
    [({}, "missing gas, unknown none"), ({"gas": 0.0, "wind": 1.0}, "missing none, unknown wind")],
)
def test_measurements_are_checked(several: SeveralTest, given: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        several.evaluate(normal(N, 1), auxiliary=given)
