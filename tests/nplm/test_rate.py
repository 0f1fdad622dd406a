"""The number of events: exact tails, and false alarms as often as promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.nplm import count_p_value, duration_p_value


@pytest.mark.parametrize("n", [0, 1, 30, 390, 487, 488, 585, 1000])
def test_at_a_known_rate_the_number_is_poisson(n: int) -> None:
    p, side = count_p_value(n, 487.5)
    low, high = stats.poisson.cdf(n, 487.5), stats.poisson.sf(n - 1, 487.5)
    assert p == pytest.approx(min(1.0, 2.0 * min(low, high)), rel=1e-9)
    assert side == (-1 if low < high else 1)


@pytest.mark.parametrize("n", [0, 3, 12, 40])
def test_an_uncertain_rate_is_averaged_over(n: int) -> None:
    expected, uncertainty = 12.0, 0.3
    shape = uncertainty**-2
    means = stats.gamma.ppf((np.arange(200_000) + 0.5) / 200_000, shape, scale=expected / shape)
    low, high = stats.poisson.cdf(n, means).mean(), stats.poisson.sf(n - 1, means).mean()
    p, _ = count_p_value(n, expected, uncertainty)
    assert p == pytest.approx(min(1.0, 2.0 * min(low, high)), rel=0.01)


def test_no_events_are_judged_exactly() -> None:
    assert count_p_value(0, 4.0)[0] == pytest.approx(2.0 * np.exp(-4.0))
    assert count_p_value(0, 4.0, 0.5)[0] == pytest.approx(2.0 * 2.0**-4.0)  # (k / (k + mu))^k for k = 4
    assert count_p_value(0, 487.5, 0.02)[0] < 1e-100


@pytest.mark.parametrize("uncertainty", [0.0, 0.05])
def test_the_time_of_a_fixed_number_is_erlang(uncertainty: float) -> None:
    rng = np.random.default_rng(1)
    rates = 50.0 * (1.0 if uncertainty == 0.0 else rng.gamma(uncertainty**-2, uncertainty**2, 4000))
    times = rng.gamma(500, 1.0 / np.broadcast_to(rates, 4000))
    p = np.array([duration_p_value(500, 50.0 * t, uncertainty)[0] for t in times])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    slow, fast = duration_p_value(500, 5000.0, uncertainty), duration_p_value(500, 50.0, uncertainty)
    assert (slow[1], fast[1]) == (-1, 1)
    assert max(slow[0], fast[0]) < 1e-15


@pytest.mark.parametrize(("expected", "uncertainty"), [(487.5, 0.0), (487.5, 0.02), (30.0, 0.1), (5e4, 0.02)])
def test_healthy_numbers_are_rarely_improbable(expected: float, uncertainty: float) -> None:
    rng = np.random.default_rng(2)
    means = expected * (1.0 if uncertainty == 0.0 else rng.gamma(uncertainty**-2, uncertainty**2, 20_000))
    counts = rng.poisson(np.broadcast_to(means, 20_000))
    p = np.array([count_p_value(int(n), expected, uncertainty)[0] for n in counts])
    for level in (0.01, 0.1):
        n_below = int((p < level).sum())
        assert n_below <= stats.binom.ppf(0.9999, 20_000, level)
        assert n_below >= 0.5 * level * 20_000, "whole numbers cost a little power, not all of it"


def test_a_tiny_uncertainty_is_none() -> None:
    assert count_p_value(390, 487.5, 1e-9) == count_p_value(390, 487.5)
    assert count_p_value(390, 487.5, 1.1e-4)[0] == pytest.approx(count_p_value(390, 487.5)[0], rel=1e-3)


@pytest.mark.parametrize(
    ("n", "expected", "uncertainty"),
    [(-1, 5.0, 0.0), (3, 0.0, 0.0), (3, float("inf"), 0.0), (3, float("nan"), 0.0), (3, 5.0, -0.1)],
)
def test_numbers_out_of_range_are_refused(n: int, expected: float, uncertainty: float) -> None:
    with pytest.raises(InputError, match="cannot be tested"):
        count_p_value(n, expected, uncertainty)
