"""p-values: never zero, honest about extrapolation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import SMALLEST_P, PMethod
from dqm.reference import NullTable, empirical_p_value, pool_offset
from dqm.reference.null import measure_linear_share

CHI2 = stats.chi2(120)


def table(n: int, seed: int = 1) -> NullTable:
    return NullTable(CHI2.rvs(n, random_state=np.random.default_rng(seed)))


def test_empirical_counts_toys_at_or_above() -> None:
    toys = np.arange(10.0)
    assert empirical_p_value(-1.0, toys) == 1.0
    assert empirical_p_value(9.0, toys) == 2 / 11
    assert empirical_p_value(9.1, toys) == 1 / 11
    assert empirical_p_value(5.0, toys) == 6 / 11


def test_nan_has_no_p_value() -> None:
    with pytest.raises(InputError, match="NaN"):
        table(200).p_value(float("nan"))


def test_p_is_uniform_in_healthy_windows() -> None:
    null = table(5000)
    t = CHI2.rvs(3000, random_state=np.random.default_rng(2))
    p = [null.p_value(x).p for x in t]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_beyond_the_table_p_is_extrapolated_and_marked() -> None:
    null = table(1000)
    inside, outside = null.p_value(null.t_range[1]), null.p_value(CHI2.isf(1e-6))
    assert inside.method is PMethod.EMPIRICAL
    assert inside.p == 2 / 1001
    assert outside.method is PMethod.TAIL
    assert outside.low < outside.p < outside.high < inside.p
    assert outside.z == pytest.approx(stats.norm.isf(outside.p))


def test_tail_interval_covers_the_truth() -> None:
    covered = 0
    for seed in range(40):
        p = table(1000, seed).p_value(CHI2.isf(1e-5))
        covered += p.low <= 1e-5 <= p.high
    assert covered >= 32  # 95 % asked for; a bootstrap of skewness is known to cover a little less


def test_p_never_rises_with_t_and_is_never_zero() -> None:
    null = table(500)
    p = [null.p_value(t) for t in np.linspace(50, 5000, 2000)]
    values = np.array([x.p for x in p])
    assert (np.diff(values) <= 0).all()
    assert values[-1] > 0
    assert all(x.low <= x.p <= x.high for x in p)


@pytest.mark.parametrize("toys", [np.ones(99), np.array([np.nan] * 200)])
def test_unusable_tables_are_refused(toys: np.ndarray) -> None:
    with pytest.raises(InputError, match="null table"):
        NullTable(toys)


def test_tables_from_finite_pools_scatter_as_estimated() -> None:
    rng = np.random.default_rng(6)
    n_window, n_pool, n_reference, k = 100, 1000, 200, 60
    offsets = []
    for _ in range(300):
        pool_mean = rng.normal(0, n_pool**-0.5, k)
        reference_mean = rng.normal(0, n_reference**-0.5, k)
        toy_means = rng.normal(pool_mean, np.sqrt(1 / n_window - 1 / n_pool), (400, k))
        fresh_means = rng.normal(0, n_window**-0.5, (400, k))
        toys, fresh = (((means - reference_mean) ** 2).sum(1) for means in (toy_means, fresh_means))
        offsets.append((toys.mean() - fresh.mean()) / fresh.std())
    statistical = np.sqrt(2 / 400)
    estimated = pool_offset(n_window, n_pool, n_reference)
    assert np.std(offsets) == pytest.approx(np.hypot(estimated, statistical), rel=0.15)


def toys_of_pool(pool: np.ndarray, n_window: int, n_toys: int, power: float) -> tuple[list, np.ndarray]:
    """Windows of a pool, and a statistic: the sum of squares of single events, or the square of their sum."""
    rng = np.random.default_rng(len(pool) + n_toys)
    drawn = [rng.choice(len(pool), n_window, replace=False) for _ in range(n_toys)]
    windows = pool[np.array(drawn)]
    singles, pairs = (windows**2).sum(1), windows.sum(1) ** 2
    return drawn, power * (singles - n_window) / np.sqrt(2 * n_window) + (1 - power) * pairs / n_window


@pytest.mark.parametrize(("power", "share"), [(1.0, 1.0), (0.0, 0.0), (0.45, 0.5)])
def test_the_share_of_single_events_in_the_variance_is_measured(power: float, share: float) -> None:
    pool = np.random.default_rng(1).normal(size=1000)
    drawn, t = toys_of_pool(pool - pool.mean(), 50, 4000, power)
    found = measure_linear_share(t, drawn, len(pool))
    assert found == pytest.approx(share, abs=0.15)
    assert measure_linear_share(t[:100], drawn[:100], len(pool)) is None


def test_a_table_is_more_uncertain_where_single_events_count() -> None:
    """The mean of the toys of a pool scatters from pool to pool as the measured share says."""
    rng = np.random.default_rng(2)
    found = [toys_of_pool(rng.normal(size=500), 50, 300, 1.0)[1].mean() for _ in range(300)]
    drawn, t = toys_of_pool(rng.normal(size=500), 50, 3000, 1.0)
    estimated = pool_offset(50, 500, 500, measure_linear_share(t, drawn, 500))
    assert estimated > 1.3 * pool_offset(50, 500, 500)
    assert np.std(found) == pytest.approx(np.hypot(estimated, 300**-0.5), rel=0.15)


def test_above_the_largest_quotable_value_nothing_is_left_to_tell() -> None:
    for null in (table(200), table(1000), NullTable.between(table(500), table(300, 2), 0.3)):
        beyond, within = null.p_value(null.t_quotable), null.p_value(0.7 * null.t_quotable)
        assert (beyond.p, beyond.low, beyond.high) == (SMALLEST_P, SMALLEST_P, SMALLEST_P)
        assert within.high > SMALLEST_P
        assert null.t_quotable > null.t_range[1]


@pytest.mark.slow
def test_the_tail_of_a_smallest_p_is_an_exponential() -> None:
    """The moments of the whole would give p of 1e-6 four times too small."""
    t = -2.0 * np.log(np.random.default_rng(3).random((20_000, 6)).min(axis=1))
    table = NullTable(t)
    for p in (1e-5, 1e-6):
        value = -2.0 * np.log(-np.expm1(np.log1p(-p) / 6))
        found = table.p_value(value)
        assert found.method is PMethod.TAIL
        assert 0.5 < found.p / p < 2.5
        assert found.low < p < found.high
    assert table.misfit == ""
    assert table.p_value(table.t_quotable + 1e-9).high == SMALLEST_P


def test_a_tail_that_does_not_describe_the_toys_is_told() -> None:
    rng = np.random.default_rng(4)
    far = rng.standard_t(3, 2000)
    toys = 100.0 + np.concatenate([far, -far])
    assert NullTable(rng.normal(100.0, 5.0, 1000)).misfit == ""
    assert "toys where the fitted tail expects" in NullTable(toys).misfit
