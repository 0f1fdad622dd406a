"""Learned log ratios against exact ones, their storage, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.taylor import (
    Kernel,
    Network,
    ShiftedSample,
    TaylorModel,
    bin_log_ratio,
    classification_gain,
    effective_share,
    learn_taylor,
)
from dqm.nplm.taylor.training import Learner
from dqm.nplm.transformations import scale, shift

POINTS = (0.05, -0.05, 0.3, -0.3)
KERNEL = Kernel(width=3.0, penalty=1e-6, centers=100)
NETWORK = Network(units=16, depth=2, steps=300, batch=1000)
BRIEF = Network(units=4, depth=1, steps=2, batch=50)


def exponential(n: int, rng: np.random.Generator, nu: float = 0.0) -> FloatArray:
    return rng.exponential(np.exp(nu), size=(n, 1))


def exact(x: FloatArray, nu: float) -> FloatArray:
    """Log ratio of exponentials of mean exp(nu) and 1, eq. 30 of EPJC 82, 275."""
    log_ratio: FloatArray = x[:, 0] * (1 - np.exp(-nu)) - nu
    return log_ratio


def samples(n: int, rng: np.random.Generator, points: Sequence[float] = POINTS) -> list[ShiftedSample]:
    return [ShiftedSample(nu, exponential(n, rng, nu)) for nu in points]


def learn_exponential(method: Learner, n: int = 20_000, seed: int = 1) -> TaylorModel:
    rng = np.random.default_rng(seed)
    return learn_taylor(exponential(n, rng), samples(n, rng), method=method, rng=rng)


@pytest.fixture(scope="module", params=[KERNEL, NETWORK], ids=["kernel", "network"])
def model(request: pytest.FixtureRequest) -> TaylorModel:
    return learn_exponential(request.param)


@pytest.fixture(scope="module")
def held_out() -> FloatArray:
    return exponential(50_000, np.random.default_rng(2))


@pytest.mark.parametrize(
    ("nu", "allowed"), [(0.05, 0.008), (-0.15, 0.03), (0.15, 0.03), (-0.3, 0.08), (0.3, 0.08)]
)
def test_log_ratio_agrees_with_the_exact_one(
    model: TaylorModel, held_out: FloatArray, nu: float, allowed: float
) -> None:
    difference = model.log_ratio(held_out, nu) - exact(held_out, nu)
    assert np.sqrt(np.mean(difference**2)) < allowed


def test_coefficients_agree_with_the_exact_ones(model: TaylorModel, held_out: FloatArray) -> None:
    x = held_out[:, 0]
    assert np.sqrt(np.mean((model.linear(held_out) - (x - 1)) ** 2)) < 0.15
    assert np.sqrt(np.mean((model.quadratic(held_out) + x) ** 2)) < 0.8
    assert np.corrcoef(model.linear(held_out), x)[0, 1] > 0.99


def test_log_ratio_is_the_series(model: TaylorModel, held_out: FloatArray) -> None:
    x, nu = held_out[:1000], 0.2
    series = nu * model.linear(x) + nu**2 / 2 * model.quadratic(x)
    np.testing.assert_allclose(model.log_ratio(x, nu), series, rtol=1e-12, atol=1e-14)


def test_shape_keeps_the_yield(model: TaylorModel, held_out: FloatArray) -> None:
    for nu in (-0.15, 0.15):
        assert np.exp(model.log_ratio(held_out, nu)).mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("method", [KERNEL, NETWORK], ids=["kernel", "network"])
def test_yields_are_learned_with_the_shape(method: Learner) -> None:
    rng = np.random.default_rng(3)
    shifted = [ShiftedSample(nu, exponential(5000, rng), yield_ratio=np.exp(2 * nu)) for nu in (-0.2, 0.2)]
    model = learn_taylor(exponential(5000, rng), shifted, method=method, rng=rng)
    x = exponential(2000, rng)
    assert model.linear(x).mean() == pytest.approx(2.0, abs=0.25)


def test_weights_stand_for_events() -> None:
    rng = np.random.default_rng(4)
    reference, x = exponential(20_000, rng), exponential(20_000, rng)
    shifted = [ShiftedSample(nu, x, weights=7 * np.exp(exact(x, nu))) for nu in POINTS]
    model = learn_taylor(reference, shifted, method=KERNEL, rng=rng)
    assert np.sqrt(np.mean((model.log_ratio(x, 0.15) - exact(x, 0.15)) ** 2)) < 0.03


def test_reference_weights_stand_for_events() -> None:
    rng = np.random.default_rng(5)
    x = exponential(20_000, rng, 0.2)
    model = learn_taylor(x, samples(20_000, rng), weights=3 * np.exp(-exact(x, 0.2)), method=KERNEL, rng=rng)
    assert np.sqrt(np.mean((model.log_ratio(x, 0.15) - exact(x, 0.15)) ** 2)) < 0.04


def test_transformed_reference_serves_as_sample() -> None:
    rng = np.random.default_rng(6)
    reference, stretch = exponential(20_000, rng), scale([0])
    shifted = [ShiftedSample(nu, stretch(reference, nu)) for nu in POINTS]
    model = learn_taylor(reference, shifted, method=KERNEL, rng=rng)
    assert np.sqrt(np.mean((model.log_ratio(reference, 0.15) - exact(reference, 0.15)) ** 2)) < 0.02


def test_order_one_has_no_quadratic_term() -> None:
    rng = np.random.default_rng(7)
    model = learn_taylor(exponential(5000, rng), samples(5000, rng), order=1, method=KERNEL, rng=rng)
    x = exponential(500, rng)
    assert not model.quadratic(x).any()
    np.testing.assert_allclose(model.log_ratio(x, 0.1), 0.1 * model.linear(x))


def test_units_of_nu_and_features_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    reference, shifted = exponential(2000, rng), samples(2000, rng)
    scaled = [ShiftedSample(100 * s.nu, 5 * np.asarray(s.x) - 3) for s in shifted]
    first = learn_taylor(reference, shifted, method=KERNEL, rng=np.random.default_rng(1))
    second = learn_taylor(5 * reference - 3, scaled, method=KERNEL, rng=np.random.default_rng(1))
    np.testing.assert_allclose(
        first.log_ratio(reference, 0.2), second.log_ratio(5 * reference - 3, 20.0), atol=1e-3
    )


@pytest.mark.parametrize("method", [KERNEL, BRIEF], ids=["kernel", "network"])
def test_same_seed_same_model(method: Learner) -> None:
    first, second = (learn_exponential(method, n=1000) for _ in range(2))
    np.testing.assert_array_equal(first.linear([[1.0]]), second.linear([[1.0]]))


def test_arrays_and_settings_are_the_whole_model(model: TaylorModel, held_out: FloatArray) -> None:
    arrays, settings = model.arrays(), model.settings()
    assert all(a.dtype == np.float64 and name.isalpha() for name, a in arrays.items())
    again = TaylorModel.from_arrays({name: a.copy() for name, a in arrays.items()}, dict(settings))
    np.testing.assert_array_equal(again.log_ratio(held_out, 0.1), model.log_ratio(held_out, 0.1))
    np.testing.assert_array_equal(again.outside(held_out), model.outside(held_out))
    assert again.nu_range == model.nu_range == (-0.3, 0.3)


def test_broken_storage_is_refused(model: TaylorModel) -> None:
    arrays, settings = model.arrays(), model.settings()
    with pytest.raises(InputError, match=r"unknown method 'tree'.*network"):
        TaylorModel.from_arrays(arrays, settings | {"method": "tree"})
    with pytest.raises(InputError, match="'parameters' is missing"):
        TaylorModel.from_arrays({k: v for k, v in arrays.items() if k != "parameters"}, settings)
    with pytest.raises(InputError, match="not finite"):
        TaylorModel.from_arrays(arrays | {"parameters": np.full_like(arrays["parameters"], np.nan)}, settings)
    with pytest.raises(InputError, match="parameters"):
        TaylorModel.from_arrays(arrays | {"parameters": arrays["parameters"][:-1]}, settings)
    with pytest.raises(InputError, match=r"features of shape"):
        TaylorModel.from_arrays(arrays | {"features": arrays["features"][:2]}, settings)


def test_events_beyond_the_reference_are_told(model: TaylorModel) -> None:
    inside, beyond = model.outside([[1.0], [model.high[0] + 2 * model.scale[0]]])
    assert inside == 0
    assert beyond == pytest.approx(2.0)


def test_network_goes_on_linearly_beyond_the_samples() -> None:
    model = learn_exponential(BRIEF, n=1000)
    f = model.log_ratio([[30.0], [40.0], [50.0]], 0.3)
    assert f[2] - f[1] == pytest.approx(f[1] - f[0])


@pytest.mark.parametrize(
    ("n_events", "expected"), [(500, 500), (2000, 1000), pytest.param(20_000, 3000, marks=pytest.mark.slow)]
)
def test_the_steps_of_a_network_follow_from_the_events(n_events: int, expected: int) -> None:
    rng = np.random.default_rng(8)
    totals: set[int] = set()
    learn_taylor(
        exponential(500, rng),
        samples(n_events, rng, (0.1, -0.1)),
        method=Network(units=1, depth=1, batch=100),
        rng=rng,
        progress=lambda _, total: totals.add(total),
    )
    assert totals == {expected}


def test_progress_counts_up_to_its_end() -> None:
    seen: list[tuple[int, int]] = []
    rng = np.random.default_rng(9)
    reference, shifted = exponential(1000, rng), samples(1000, rng)
    learn_taylor(reference, shifted, method=BRIEF, rng=rng, progress=lambda a, b: seen.append((a, b)))
    assert seen == [(1, 2), (2, 2)]
    seen.clear()
    learn_taylor(reference, shifted, method=KERNEL, rng=rng, progress=lambda a, b: seen.append((a, b)))
    assert [a for a, _ in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((0.1, 0.3), "both sides"),
        ((-0.1,), "both sides"),
        ((), "both sides"),
        ((0.0, 0.1, -0.1), "nu = 0.0.*belong to the reference"),
        ((float("nan"), 0.1, -0.1), "nu = nan"),
        ((0.1, 0.1, -0.1), "repeat"),
    ],
)
def test_points_that_do_not_fix_the_series_are_refused(points: tuple[float, ...], message: str) -> None:
    rng = np.random.default_rng(10)
    shifted = [ShiftedSample(nu, exponential(200, rng)) for nu in points]
    with pytest.raises(InputError, match=message):
        learn_taylor(exponential(200, rng), shifted, method=BRIEF, rng=rng)


def test_unusable_samples_are_refused() -> None:
    rng = np.random.default_rng(11)
    reference, good = exponential(200, rng), ShiftedSample(-0.1, exponential(200, rng))
    hole = exponential(200, rng)
    hole[7] = np.nan
    for x, options, message in [
        (hole, {}, "sample at nu = 0.1 has 1 value not finite.*event 7"),
        (rng.normal(size=(200, 2)), {}, "2 features, the reference has 1"),
        (hole[:5], {}, "has 5 events.*100"),
        (reference, {"yield_ratio": 0.0}, "yield_ratio 0.0"),
        (reference, {"weights": -np.ones(200)}, "weights"),
    ]:
        with pytest.raises(InputError, match=message):
            learn_taylor(reference, [good, ShiftedSample(0.1, x, **options)], method=BRIEF, rng=rng)


def test_numbers_out_of_range_are_refused(model: TaylorModel) -> None:
    rng = np.random.default_rng(12)
    with pytest.raises(InputError, match="order is 3"):
        learn_taylor(exponential(200, rng), samples(200, rng), order=3, rng=rng)
    with pytest.raises(InputError, match="units is 0"):
        Network(units=0)
    with pytest.raises(InputError, match="width is -1"):
        Kernel(width=-1)
    with pytest.raises(InputError, match="nu is inf"):
        model.log_ratio([[1.0]], float("inf"))
    with pytest.raises(InputError, match="2 features"):
        model.linear([[1.0, 2.0]])


def test_binned_ratio_agrees_with_the_learned_one(model: TaylorModel, held_out: FloatArray) -> None:
    rng = np.random.default_rng(13)
    for nu in (-0.1, 0.1):
        comparison = bin_log_ratio(
            model, held_out, ShiftedSample(nu, exponential(50_000, rng, nu)), 0, bins=20
        )
        chi2, n_bins = comparison.chi2
        assert n_bins == 20
        assert 4 < chi2 < 60  # 20 expected, and what 20 000 events leave unlearned
        centers = (comparison.edges[1:] + comparison.edges[:-1])[:, None] / 2
        pulls = (comparison.binned - exact(centers, nu))[:-1] / comparison.error[:-1]
        assert np.sqrt(np.mean(pulls**2)) < 1.7


def test_bins_without_events_are_nan(model: TaylorModel, held_out: FloatArray) -> None:
    sample = ShiftedSample(0.1, held_out)
    comparison = bin_log_ratio(model, held_out, sample, 0, bins=[-2.0, -1.0, 0.0, 20.0])
    assert np.isnan(comparison.binned).tolist() == [True, True, False]
    assert comparison.chi2[1] == 1
    with pytest.raises(InputError, match="feature is 1"):
        bin_log_ratio(model, held_out, sample, 1)
    with pytest.raises(InputError, match="increasing edges"):
        bin_log_ratio(model, held_out, sample, 0, bins=[1.0, 0.0])


def test_true_ratio_saves_a_quarter_of_the_information(model: TaylorModel, held_out: FloatArray) -> None:
    nu = 0.1
    shifted = ShiftedSample(nu, exponential(50_000, np.random.default_rng(14), nu))
    gain = classification_gain(model, held_out, shifted)
    assert gain == pytest.approx(nu**2 / 4, rel=0.25)  # var(x - 1) = 1


def test_effective_share_of_an_exponential() -> None:
    x = exponential(100_000, np.random.default_rng(15))
    assert effective_share(np.zeros(10)) == pytest.approx(1.0)
    rate = 1 - np.exp(-0.3)
    assert effective_share(exact(x, 0.3)) == pytest.approx((1 - 2 * rate) / (1 - rate) ** 2, rel=0.05)


def test_transformations_move_their_columns_only() -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(scale([0, 2])(x, 0.5), x * np.exp([0.5, 0, 0.5]))
    np.testing.assert_allclose(shift([1])(x, -4.0) - x, [[0, -4.0, 0]] * 2)
    np.testing.assert_array_equal(x, np.arange(6.0).reshape(2, 3))
    with pytest.raises(InputError, match="columns are"):
        scale([3])(x, 0.1)
    with pytest.raises(InputError, match="nu is nan"):
        shift([0])(x, float("nan"))
