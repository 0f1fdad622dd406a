"""The kernel test as its users see it: values, invariances, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import expit

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, Normalisation


def toy_chamber(n: int, rng: np.random.Generator, shift: float = 0.0) -> FloatArray:
    """Four correlated drift times (ns) and a slope (degrees), roughly as a staggered chamber gives them."""
    theta = rng.normal(0.0, 12.0, n)
    x0 = rng.uniform(-21.0, 21.0, n)
    layers = np.arange(4)
    x = x0[:, None] + 13.0 * (layers - 1.5) * np.tan(np.radians(theta))[:, None] + 21.0 * (layers % 2)
    times = np.abs((x + 21.0) % 42.0 - 21.0) / 0.0538 + rng.normal(0.0, 4.0, (n, 4))
    return np.column_stack([times + shift, theta])


def direct_solution(
    reference: FloatArray,
    data: FloatArray,
    n_expected: float,
    width: float,
    penalty: float,
    loss: LossName,
) -> float:
    """Give t by another route: all reference events as centres, eigenvectors, scipy's trust region."""
    mean, std = reference.mean(0), reference.std(0)
    r, d = (reference - mean) / std, (data - mean) / std
    kernel = np.exp(-cdist(r, r, "sqeuclidean") / (2 * width**2))
    values, vectors = np.linalg.eigh(kernel)
    kept = values > 1e-15 * values[-1]
    features = vectors[:, kept] / np.sqrt(values[kept])
    phi_r = kernel @ features
    phi_d = np.exp(-cdist(d, r, "sqeuclidean") / (2 * width**2)) @ features
    w = np.full(len(r), n_expected / len(r))
    ridge = penalty * (len(r) + len(d))

    def parts(a: FloatArray) -> tuple[FloatArray, FloatArray]:
        return phi_r @ a, phi_d @ a

    def objective(a: FloatArray) -> float:
        fr, fd = parts(a)
        if loss == "logistic":
            total = w @ np.logaddexp(0, fr) + np.logaddexp(0, -fd).sum()
        else:
            total = w @ np.expm1(fr) - fd.sum()
        return float(total + ridge / 2 * a @ a)

    def gradient(a: FloatArray) -> FloatArray:
        fr, fd = parts(a)
        if loss == "logistic":
            return phi_r.T @ (w * expit(fr)) - phi_d.T @ expit(-fd) + ridge * a
        return phi_r.T @ (w * np.exp(fr)) - phi_d.sum(0) + ridge * a

    def hessian(a: FloatArray) -> FloatArray:
        fr, fd = parts(a)
        ridges = ridge * np.eye(len(a))
        if loss == "logistic":
            data_part = phi_d.T @ ((expit(fd) * expit(-fd))[:, None] * phi_d)
            return phi_r.T @ ((w * expit(fr) * expit(-fr))[:, None] * phi_r) + data_part + ridges
        return phi_r.T @ ((w * np.exp(fr))[:, None] * phi_r) + ridges

    found = minimize(
        objective,
        np.zeros(phi_r.shape[1]),
        jac=gradient,
        hess=hessian,
        method="trust-exact",
        options={"gtol": 1e-6, "maxiter": 200},
    )
    fr, fd = parts(found.x)
    return float(-2 * (w @ np.expm1(fr) - fd.sum()))


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
@pytest.mark.parametrize("shift", [0.0, 8.0])
@pytest.mark.parametrize(
    "n",
    [1000, pytest.param(1200, marks=pytest.mark.slow), pytest.param(2000, marks=pytest.mark.long)],
)
def test_agrees_with_a_direct_solution_on_all_centres(n: int, loss: LossName, shift: float) -> None:
    rng = np.random.default_rng(5)
    reference, data = toy_chamber(n, rng), toy_chamber(n // 4, rng, shift)
    test = KernelTest(reference, n_expected=n / 4, width=4.5, penalty=1e-7, centers=n, loss=loss)
    result = test.evaluate(data)
    expected = direct_solution(reference, data, n / 4, 4.5, 1e-7, loss)
    assert result.converged
    assert test.n_independent < n / 4
    assert result.t == pytest.approx(expected, rel=1e-3)


def test_statistic_is_the_full_formula() -> None:
    rng = np.random.default_rng(6)
    reference, data = toy_chamber(1000, rng), toy_chamber(200, rng)
    result = KernelTest(reference, n_expected=150.0, width=3.0, penalty=1e-6, centers=100, rng=rng).evaluate(
        data
    )
    w = 150.0 / 1000
    t = -2 * (w * np.expm1(result.log_ratio_reference).sum() - result.log_ratio.sum())
    assert result.t == pytest.approx(t, rel=1e-7)  # products with the basis have float32 rounding


def test_learns_the_density_ratio() -> None:
    rng = np.random.default_rng(7)
    reference = rng.normal(0.0, 1.0, (20_000, 1))
    data = rng.normal(0.3, 1.0, (5_000, 1))
    result = KernelTest(reference, n_expected=5000.0, width=2.0, penalty=1e-8, centers=200, rng=rng).evaluate(
        data
    )
    bulk = np.abs(data[:, 0]) < 1.5
    exact = 0.3 * data[bulk, 0] - 0.3**2 / 2
    assert np.abs(result.log_ratio[bulk] - exact).max() < 0.15


def test_units_and_order_of_events_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    reference, data = toy_chamber(800, rng), toy_chamber(200, rng)
    settings = {"width": 3.0, "penalty": 1e-6, "centers": reference[:300]}
    t = KernelTest(reference, n_expected=200.0, **settings).evaluate(data).t
    shuffled = (
        KernelTest(rng.permutation(reference), n_expected=200.0, **settings).evaluate(rng.permutation(data)).t
    )
    factor = np.array([1e-9, 1e6, 1.0, 3.0, -1.0])
    settings["centers"] = reference[:300] * factor + 7.0
    scaled = (
        KernelTest(reference * factor + 7.0, n_expected=200.0, **settings).evaluate(data * factor + 7.0).t
    )
    assert shuffled == pytest.approx(t, rel=1e-4)
    assert scaled == pytest.approx(t, rel=1e-4)


def test_weights_count_events() -> None:
    rng = np.random.default_rng(9)
    reference, data = toy_chamber(600, rng), toy_chamber(150, rng)
    repeats = rng.integers(1, 4, size=600)
    # the penalty is on the mean loss: keep lambda * n the same
    n_repeated = int(repeats.sum())
    weighted = KernelTest(
        reference,
        n_expected=150.0,
        width=3.0,
        penalty=1e-6 * (n_repeated + 150) / 750,
        centers=reference,
        weights=repeats,
    )
    repeated = KernelTest(
        np.repeat(reference, repeats, axis=0), n_expected=150.0, width=3.0, penalty=1e-6, centers=reference
    )
    assert weighted.evaluate(data).t == pytest.approx(repeated.evaluate(data).t, rel=3e-4)


def test_a_missing_half_of_the_window_is_seen() -> None:
    rng = np.random.default_rng(10)
    reference, data = toy_chamber(2000, rng), toy_chamber(250, rng)
    test = KernelTest(reference, n_expected=500.0, width=4.5, penalty=1e-6, centers=500, rng=rng)
    assert test.evaluate(data).t > 100


def test_same_input_same_bits() -> None:
    rng = np.random.default_rng(11)
    reference, data = toy_chamber(500, rng), toy_chamber(100, rng)
    first, second = (
        KernelTest(
            reference, n_expected=100.0, width=3.0, penalty=1e-6, centers=200, rng=np.random.default_rng(1)
        )
        .evaluate(data)
        .t
        for _ in range(2)
    )
    assert first == second


def test_events_far_from_everything_converge() -> None:
    rng = np.random.default_rng(12)
    reference, data = toy_chamber(1000, rng), toy_chamber(200, rng)
    for loss in ("logistic", "likelihood"):
        test = KernelTest(
            reference, n_expected=200.0, width=4.5, penalty=1e-7, centers=500, loss=loss, rng=rng
        )
        for shift in (30.0, 1e4):
            result = test.evaluate(data + shift)
            assert result.converged
            assert result.t > 200


def test_a_fit_that_does_not_converge_says_so_and_gives_no_number() -> None:
    rng = np.random.default_rng(13)
    reference, data = toy_chamber(500, rng), toy_chamber(100, rng, 40.0)
    result = KernelTest(
        reference, n_expected=100.0, width=3.0, penalty=1e-8, centers=200, rng=rng, max_iterations=2
    ).evaluate(data)
    assert not result.converged
    assert np.isnan(result.t)


def bad(x: FloatArray, value: float) -> FloatArray:
    x = x.copy()
    x[3, 1] = value
    return x


REFERENCE = toy_chamber(200, np.random.default_rng(14))
SETTINGS = {"n_expected": 50.0, "width": 3.0, "penalty": 1e-6, "centers": 50}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": bad(REFERENCE, np.nan)}, "event 3, feature 1"),
        ({"reference": bad(REFERENCE, np.inf)}, "not finite"),
        ({"reference": REFERENCE[:0]}, "no events"),
        ({"reference": REFERENCE[:, 0]}, "shape"),
        ({"reference": np.column_stack([REFERENCE[:, 0], np.full(200, 4.0)])}, "feature 1 is constant"),
        ({"reference": np.repeat(REFERENCE[:20], 10, axis=0)}, "20 distinct events"),
        ({"centers": 201}, "200 distinct events"),
        ({"centers": REFERENCE[:5, :2]}, "centres have 2 features"),
        ({"rng": None}, "random generator"),
        ({"weights": np.ones(3)}, "weights have shape"),
        ({"weights": -np.ones(200)}, "negative"),
        ({"width": 0.0}, "width is 0"),
        ({"penalty": -1.0}, "penalty is -1"),
        ({"n_expected": np.nan}, "n_expected is nan"),
        ({"loss": "hinge"}, "logistic, likelihood"),
    ],
)
def test_bad_references_and_settings_are_refused(change: dict[str, object], words: str) -> None:
    arguments = {"reference": REFERENCE, "rng": np.random.default_rng(0), **SETTINGS, **change}
    with pytest.raises(InputError, match=words):
        KernelTest(**arguments)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (REFERENCE[:0], "no events"),
        (REFERENCE[:, :4], "4 features, the reference has 5"),
        (bad(REFERENCE, np.nan), "event 3, feature 1"),
        ([["a"] * 5], "not an array of numbers"),
    ],
)
def test_bad_windows_are_refused(window: FloatArray, words: str) -> None:
    test = KernelTest(REFERENCE, rng=np.random.default_rng(0), **SETTINGS)
    with pytest.raises(InputError, match=words):
        test.evaluate(window)


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
@pytest.mark.parametrize("n_expected", [60.0, 180.0, 230.0, 900.0])
def test_a_test_of_another_size_gives_what_one_made_anew_gives(loss: LossName, n_expected: float) -> None:
    rng = np.random.default_rng(5)
    reference = rng.normal(size=(1500, 2))
    settings: dict[str, Any] = {
        "width": 2.0, "penalty": 1e-6, "centers": reference[:120], "loss": loss,
        "nuisances": [Normalisation("rate", 0.1)] if loss == "likelihood" else [],
    }  # fmt: skip
    auxiliary = {"rate": 0.03} if loss == "likelihood" else None
    made = KernelTest(reference, n_expected=200.0, **settings)
    anew = KernelTest(reference, n_expected=n_expected, **settings)
    for shift in (0.0, 0.4):
        x = rng.normal(size=(round(n_expected), 2)) + np.array([shift, 0.0])
        one = made.at(n_expected).evaluate(x, auxiliary=auxiliary)
        other = anew.evaluate(x, auxiliary=auxiliary)
        assert one.t == pytest.approx(other.t, rel=1e-3, abs=1e-2)
        assert one.log_ratio == pytest.approx(other.log_ratio, abs=0.03)
    assert made.n_expected == 200.0, "the first test stays as it is"
