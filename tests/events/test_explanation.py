"""What a map says of how far it can be believed."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.events import FloatArray, RatioMap


def map_of(reference: FloatArray, error: FloatArray, data: FloatArray) -> RatioMap:
    return RatioMap(("a",), (np.arange(len(data) + 1.0),), reference, error, data, reference)


def test_the_ratio_is_believed_as_its_error_is() -> None:
    reference = np.array([0.0, 0.1, 2.5, 10.0, 1000.0])
    made = map_of(reference, reference, reference)
    np.testing.assert_allclose(made.confidence, [0.0, 0.1, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("ratio_of_sizes", [0.1, 1.0])
def test_significance_is_normal_where_nothing_departs(ratio_of_sizes: float) -> None:
    rng = np.random.default_rng(1)
    expected = 30.0
    n_off = rng.poisson(expected / ratio_of_sizes, 20_000)
    found = map_of(
        ratio_of_sizes * n_off, ratio_of_sizes * np.sqrt(n_off), rng.poisson(expected, 20_000).astype(float)
    ).significance
    assert found.mean() == pytest.approx(0.0, abs=0.1)
    assert found.std() == pytest.approx(1.0, abs=0.03)


def test_significance_of_many_events_is_the_departure_by_its_error() -> None:
    reference, error = np.full(2, 1e6), np.array([0.0, 2000.0])
    made = map_of(reference, error, reference + 3000.0)
    np.testing.assert_allclose(made.significance, [3.0, 3.0 / np.sqrt(5.0)], rtol=0.01)
    np.testing.assert_allclose(map_of(reference, error, reference).significance, 0.0, atol=1e-3)


def test_bins_without_events_have_a_significance_only_where_some_are_expected() -> None:
    zero = np.zeros(3)
    reference = np.array([0.0, 1e-3, 8.0])
    made = map_of(reference, np.array([0.0, 1e-3, 1.0]), zero).significance
    assert np.isnan(made[0])
    assert -0.1 < made[1] < 0.0
    assert made[2] == pytest.approx(-np.sqrt(2 * 64 * np.log(1 + 1 / 8)), rel=1e-6)
