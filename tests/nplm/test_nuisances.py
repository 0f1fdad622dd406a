"""Nuisance parameters in the fit: what they explain does not count, and what they measure comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, Normalisation, Shape

N_EXPECTED = 400.0
RNG = np.random.default_rng(21)
REFERENCE = RNG.exponential(size=(8000, 1))


def first(x: FloatArray) -> FloatArray:
    """d log r / d nu at 0 of an exponential whose scale is e^nu."""
    return x[:, 0] - 1.0


def second(x: FloatArray) -> FloatArray:
    """Second derivative."""
    return -x[:, 0]


def make_test(*nuisances: Normalisation | Shape, loss: LossName = "likelihood") -> KernelTest:
    return KernelTest(
        REFERENCE, n_expected=N_EXPECTED, width=0.9, penalty=1e-6, centers=200, loss=loss,
        rng=np.random.default_rng(1), nuisances=nuisances,
    )  # fmt: skip


def window(rng: np.random.Generator, norm: float = 0.0, scale: float = 0.0) -> FloatArray:
    return rng.exponential(math.exp(scale), size=(rng.poisson(N_EXPECTED * math.exp(norm)), 1))


def test_without_nuisances_tau_is_t() -> None:
    result = make_test().evaluate(window(np.random.default_rng(1)))
    assert result.t == result.tau
    assert result.delta == 0
    assert result.nuisances == {}


@pytest.mark.parametrize("quadratic", [None, second])
def test_delta_is_the_profile_likelihood_ratio(quadratic: object) -> None:
    data = window(np.random.default_rng(2), norm=0.1, scale=0.2)
    sigmas, measured = np.array([0.15, 0.1]), np.array([0.05, 0.12])
    test = make_test(Normalisation("rate", 0.15), Shape("scale", 0.1, linear=first, quadratic=quadratic))
    result = test.evaluate(data, auxiliary={"rate": 0.05, "scale": 0.12})

    def log_r(x: FloatArray, nu: FloatArray) -> FloatArray:
        r = nu[0] + nu[1] * first(x)
        return r if quadratic is None else r + 0.5 * nu[1] ** 2 * second(x)

    def minus_log_likelihood(nu: FloatArray) -> float:
        reference = N_EXPECTED / len(REFERENCE) * np.expm1(log_r(REFERENCE, nu)).sum()
        tension = ((measured - nu) / sigmas) ** 2 - (measured / sigmas) ** 2
        return float(reference - log_r(data, nu).sum() + 0.5 * tension.sum())

    found = minimize(
        minus_log_likelihood, measured, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}
    )
    assert result.delta == pytest.approx(-2 * found.fun, abs=1e-3)
    assert result.nuisances["rate"].reference.value == pytest.approx(found.x[0], abs=1e-3)
    assert result.nuisances["scale"].reference.value == pytest.approx(found.x[1], abs=1e-3)
    assert result.t == pytest.approx(result.tau - result.delta)
    assert result.tau >= result.delta - 1e-6


def test_a_shift_within_the_nuisances_is_explained() -> None:
    rng = np.random.default_rng(3)
    plain = make_test()
    aware = make_test(Normalisation("rate", 0.1), Shape("scale", 0.1, linear=first, quadratic=second))
    kept, removed, blind = [], [], []
    for _ in range(60):
        nominal, shifted = window(rng), window(rng, norm=-0.1, scale=0.2)
        kept.append(
            aware.evaluate(nominal, auxiliary={"rate": rng.normal(0, 0.1), "scale": rng.normal(0, 0.1)}).t
        )
        measured = {"rate": rng.normal(-0.1, 0.1), "scale": rng.normal(0.2, 0.1)}
        removed.append(aware.evaluate(shifted, auxiliary=measured).t)
        blind.append(plain.evaluate(shifted).t)
    assert stats.ks_2samp(kept, removed).pvalue > 0.01
    assert np.median(blind) > np.quantile(kept, 0.98)


@pytest.mark.parametrize("loss", ["likelihood", "logistic"])
def test_pulls_are_standard_normal(loss: LossName) -> None:
    rng = np.random.default_rng(4)
    test = make_test(
        Normalisation("rate", 0.05), Shape("scale", 0.1, linear=first, quadratic=second), loss=loss
    )
    windows = [window(rng, norm=0.05, scale=0.1) for _ in range(150)]
    measured = [{"rate": rng.normal(0.05, 0.05), "scale": rng.normal(0.1, 0.1)} for _ in windows]
    results = test.evaluate_many(windows, auxiliaries=measured)
    for name, truth in [("rate", 0.05), ("scale", 0.1)]:
        fits = [r.nuisances[name].reference for r in results]
        assert stats.kstest([fit.pull for fit in fits], "norm").pvalue > 0.005
        assert stats.kstest([(fit.value - truth) / fit.error for fit in fits], "norm").pvalue > 0.005


def test_a_window_that_contradicts_its_measurement_has_a_large_pull() -> None:
    rng = np.random.default_rng(5)
    test = make_test(Shape("scale", 0.02, linear=first, quadratic=second))
    result = test.evaluate(rng.exponential(math.exp(0.3), size=(400, 1)), auxiliary={"scale": 0.0})
    assert result.nuisances["scale"].reference.pull > 3


def test_a_free_parameter_leaves_a_test_of_shape() -> None:
    rng = np.random.default_rng(6)
    test = make_test(Normalisation("rate", math.inf))
    few, many = (test.evaluate(rng.exponential(size=(n, 1))) for n in (200, 800))
    assert few.nuisances["rate"].reference.value == pytest.approx(math.log(200 / 400), abs=1e-3)
    assert many.nuisances["rate"].reference.value == pytest.approx(math.log(800 / 400), abs=1e-3)
    assert few.t < 40
    assert few.nuisances["rate"].measured is None
    assert few.nuisances["rate"].reference.pull is None


def test_events_beyond_the_reference_are_counted() -> None:
    highest = REFERENCE.max()
    result = make_test().evaluate(np.array([[highest], [highest + 0.1], [REFERENCE.min() / 2], [1.0]]))
    assert result.n_outside == 2


def test_a_free_parameter_that_f_can_mimic_converges() -> None:
    """Nothing but the quadratic term tells f and log r apart along that valley."""
    rng = np.random.default_rng(10)
    test = make_test(Shape("scale", math.inf, linear=first, quadratic=lambda x: 1.0 - 2.0 * x[:, 0]))
    results = test.evaluate_many([window(rng) for _ in range(40)])
    assert all(result.converged for result in results)
    assert max(result.iterations for result in results) < 50


def test_measurements_far_from_the_truth_do_not_stop_the_fit_early() -> None:
    """exp(log r) is astronomic where the fit starts, and the statistic changes by tiny shares of itself."""
    reference = np.random.default_rng(11).exponential(2.0, size=(8000, 1))
    weights = np.exp(-reference[:, 0] / 2)
    test = KernelTest(
        reference, n_expected=N_EXPECTED, width=0.9, penalty=1e-5, centers=200, weights=weights,
        loss="likelihood", rng=np.random.default_rng(1),
        nuisances=[Normalisation("rate", 0.6), Shape("scale", 0.6, linear=first)],
    )  # fmt: skip
    result = test.evaluate(
        window(np.random.default_rng(12), scale=0.5), auxiliary={"rate": 2.1, "scale": 1.6}
    )
    assert result.converged
    assert 0 < result.t < 60
    assert abs(result.nuisances["scale"].reference.value) < 1.0


def test_mixed_terms_enter_once() -> None:
    test = make_test(
        Shape("a", 0.1, linear=first),
        Shape("b", 0.1, linear=second, mixed={"a": lambda x: 0.3 * x[:, 0]}),
    )
    data = window(np.random.default_rng(7))
    result = test.evaluate(data, auxiliary={"a": 0.1, "b": -0.1})
    nu = [result.nuisances[name].alternative.value for name in "ab"]
    log_r = [nu[0] * first(x) + nu[1] * second(x) + nu[0] * nu[1] * 0.3 * x[:, 0] for x in (REFERENCE, data)]
    w = N_EXPECTED / len(REFERENCE)
    tau = -2 * (
        w * np.expm1(result.log_ratio_reference + log_r[0]).sum() - (result.log_ratio + log_r[1]).sum()
    )
    tension = sum(((m - n) / 0.1) ** 2 - (m / 0.1) ** 2 for m, n in zip([0.1, -0.1], nu, strict=True))
    assert result.tau == pytest.approx(tau - tension, rel=1e-7)


def test_many_windows_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(8)
    test = make_test(Normalisation("rate", 0.1), Shape("scale", 0.1, linear=first))
    windows = [window(rng, norm=norm) for norm in (-1.0, 0.0, 0.5)]
    measured = [{"rate": 0.1 * k, "scale": -0.05} for k in range(3)]
    together = test.evaluate_many(windows, auxiliaries=measured)
    for x, auxiliary, many in zip(windows, measured, together, strict=True):
        one = test.evaluate(x, auxiliary=auxiliary)
        assert many.t == pytest.approx(one.t, rel=2e-5)
        assert many.log_ratio.shape == (len(x),)
        np.testing.assert_allclose(many.log_ratio, one.log_ratio, atol=1e-3)


@pytest.mark.parametrize(
    ("auxiliary", "words"),
    [
        (None, "missing rate"),
        ({"rat": 0.0}, "unknown rat"),
        ({"rate": 0.0, "gas": 1.0}, "unknown gas"),
        ({"rate": math.nan}, "not finite"),
    ],
)
def test_auxiliary_measurements_are_never_guessed(auxiliary: dict[str, float] | None, words: str) -> None:
    test = make_test(Normalisation("rate", 0.1), Shape("scale", math.inf, linear=first))
    with pytest.raises(InputError, match=words):
        test.evaluate(window(np.random.default_rng(9)), auxiliary=auxiliary)


@pytest.mark.parametrize(
    ("nuisances", "words"),
    [
        ([Normalisation("a", 0.1), Normalisation("a", 0.2)], "two nuisance parameters"),
        ([Normalisation("a", 0.0)], "sigma is 0"),
        ([Normalisation("a", math.nan)], "sigma is nan"),
        ([Shape("a", 0.1, linear=first, mixed={"b": first})], "mixed term with 'b'"),
        ([Shape("a", 0.1, linear=lambda x: x)], "linear of a"),
        ([Shape("a", 0.1, linear=first, quadratic=lambda x: x[:, 0] * np.nan)], "quadratic of a"),
    ],
)
def test_impossible_nuisances_are_refused(nuisances: list[Shape], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_test(*nuisances)
