"""Maps of a window over its reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, RatioMaps, Shape, divergence

N_REFERENCE, N_EXPECTED = 4000, 500.0


def healthy(n: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * [1.0, 50.0, 0.1]


REFERENCE = healthy(N_REFERENCE, 1)
WEIGHTS = np.full(N_REFERENCE, N_EXPECTED / N_REFERENCE)


@pytest.fixture(scope="module")
def maps() -> RatioMaps:
    return RatioMaps(REFERENCE, ("a", "b", "c"))


def test_bins_are_of_equal_width_and_the_outer_ones_hold_what_lies_beyond(maps: RatioMaps) -> None:
    far = np.array([[-1e6, 1e6, 0.0], [9.0, 0.0, -3.0]])
    for ratio_map in maps.features(far, WEIGHTS, np.zeros(N_REFERENCE)):
        (edges,) = ratio_map.edges
        np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0])
        assert len(edges) == 17
        assert ratio_map.data.sum() == 2
        assert ratio_map.reference.sum() == pytest.approx(N_EXPECTED)
        np.testing.assert_allclose(ratio_map.reference[[0, -1]], 0.005 * N_EXPECTED)
    assert maps.features(far, WEIGHTS, np.zeros(N_REFERENCE))[0].data[[0, -1]].tolist() == [1, 1]


def test_counts_are_those_of_a_histogram(maps: RatioMaps) -> None:
    x = healthy(500, 2)
    f = 0.3 * REFERENCE[:, 0]
    single = maps.features(x, WEIGHTS, f)
    (pair,) = maps.pairs(x, WEIGHTS, f, ["c", "a"])
    assert [m.features for m in single] == [("a",), ("b",), ("c",)]
    assert pair.features == ("a", "c")
    inner = [np.concatenate([[-np.inf], edges[1:-1], [np.inf]]) for edges in pair.edges]
    columns = [0, 2]
    np.testing.assert_array_equal(pair.data, np.histogram2d(*x[:, columns].T, bins=inner)[0])
    seen = np.histogram2d(*REFERENCE[:, columns].T, bins=inner)[0]
    np.testing.assert_allclose(pair.reference, seen * N_EXPECTED / N_REFERENCE)
    np.testing.assert_allclose(pair.reference_error, np.sqrt(seen) * N_EXPECTED / N_REFERENCE)
    weights = WEIGHTS * np.exp(f)
    fitted = np.histogram2d(*REFERENCE[:, columns].T, bins=inner, weights=weights)[0]
    np.testing.assert_allclose(pair.fitted, fitted)


def test_a_feature_of_few_values_has_a_bin_for_each() -> None:
    values = np.random.default_rng(3).choice([0.0, 1.0, 4.0], size=(900, 1))
    (single,) = RatioMaps(values, ("n_hits",)).features(values[:90], np.full(900, 0.1), np.zeros(900))
    np.testing.assert_allclose(single.edges[0], [-0.5, 0.5, 2.5, 5.5])
    assert single.data.tolist() == [(values[:90] == value).sum() for value in (0.0, 1.0, 4.0)]


def test_pairs_of_a_feature_that_is_nearly_always_the_same() -> None:
    values = np.where(np.arange(5000) % 500 == 0, np.arange(5000.0), 7.0)[:, None]
    (single,) = RatioMaps(np.tile(values, (3, 1)), ("a",)).features(
        values, np.full(15000, 0.1), np.zeros(15000)
    )
    assert all(low < high for low, high in pairwise(single.edges[0]))


def test_divergence_is_that_of_the_shapes_and_blind_to_the_rate(maps: RatioMaps) -> None:
    x = healthy(500, 2)
    assert [divergence(m) for m in maps.features(x, WEIGHTS, np.full(N_REFERENCE, 0.4))] == pytest.approx(
        [0.0] * 3, abs=1e-9
    )
    slope = 0.5
    tilted = maps.features(x, WEIGHTS, slope * REFERENCE[:, 0] - slope**2 / 2)
    # a normal distribution moved by s standard deviations diverges by s^2 / 2 an event; bins lose a little
    assert divergence(tilted[0]) == pytest.approx(N_EXPECTED * slope**2 / 2, rel=0.08)
    assert divergence(tilted[1]) < 0.02 * divergence(tilted[0])


def test_where_nothing_is_left_divergence_is_finite(maps: RatioMaps) -> None:
    f = np.where(REFERENCE[:, 0] > 0, 0.7, -740.0)  # exp underflows, or nearly
    first = maps.features(healthy(10, 2), WEIGHTS, f)[0]
    half = first.fitted.sum()
    assert divergence(first) == pytest.approx(half * np.log(2), rel=0.1)


def test_the_fitted_map_follows_the_window() -> None:
    test = KernelTest(
        REFERENCE,
        n_expected=N_EXPECTED,
        width=2.0,
        penalty=1e-6,
        centers=200,
        loss="likelihood",
        rng=np.random.default_rng(1),
    )
    x = healthy(500, 2) + np.array([0.8, 0.0, 0.0])
    result = test.evaluate(x)
    (moved, _, _) = RatioMaps(REFERENCE, ("a", "b", "c")).features(
        x, result.reference_weights, result.log_ratio_reference
    )
    np.testing.assert_allclose(result.reference_weights, WEIGHTS)
    tension = (moved.data - moved.fitted) / np.sqrt(moved.fitted + 1)
    assert (tension**2).sum() < 40
    before = (moved.data - moved.reference) / np.sqrt(moved.reference + 1)
    assert (before**2).sum() > 200


def test_with_nuisance_parameters_the_map_compares_with_the_deformed_reference() -> None:
    nuisances = [
        Normalisation("rate", 0.1),
        Shape("tilt", 1.0, lambda x: x[:, 0], lambda x: -np.ones(len(x))),
    ]
    test = KernelTest(
        REFERENCE,
        n_expected=N_EXPECTED,
        width=2.0,
        penalty=1e-6,
        centers=50,
        loss="likelihood",
        rng=np.random.default_rng(1),
        nuisances=nuisances,
    )
    result = test.evaluate(healthy(600, 2), auxiliary={"rate": 0.2, "tilt": 0.5})
    rate, tilt = (result.nuisances[name].alternative.value for name in ("rate", "tilt"))
    expected = WEIGHTS * np.exp(rate + tilt * REFERENCE[:, 0] - tilt**2 / 2)
    np.testing.assert_allclose(result.reference_weights, expected)
    assert abs(rate) > 0.05
