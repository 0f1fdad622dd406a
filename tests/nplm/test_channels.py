"""The test of channels against independent computations, and in a detector whose rates wander."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.channels import CARD, LAYER, ChannelResult, ChannelState, ChannelTest, check_map, learn_model
from dqm.nplm.channels.tails import two_sided

N = 64
NUMBER = np.arange(float(N))
MAP = np.column_stack([NUMBER, NUMBER % 4 + 1, NUMBER // 4 + 1, NUMBER // 16 + 1])
SHARES = np.linspace(0.6, 1.4, N)
POSITION = 2.0 * NUMBER / (N - 1) - 1.0


def healthy(mean: float, rng: np.random.Generator, *, wander: float = 0.0, slope: float = 0.0) -> FloatArray:
    """Hits of a healthy window: rate and illumination change, and every channel wanders a little."""
    rate = np.exp(rng.normal(0.0, 0.03))
    own = np.exp(rng.normal(0.0, wander, N)) if wander else 1.0
    return rng.poisson(mean * SHARES * rate * own * (1.0 + slope * POSITION)).astype(float)


def prepare(mean: float, *, wander: float = 0.0, n_windows: int = 40, seed: int = 1) -> ChannelTest:
    rng = np.random.default_rng(seed)
    run = np.stack([healthy(mean, rng, wander=wander) for _ in range(n_windows)])
    return ChannelTest(run, n_expected=mean * SHARES.sum(), prepared={"map": MAP})


def evaluate(test: ChannelTest, hits: FloatArray, masked: tuple[int, ...] = ()) -> ChannelResult:
    return test.evaluate(NUMBER[:, None], weights=hits, masked=masked)


def states(found: ChannelResult) -> dict[int, ChannelState]:
    return {int(k): ChannelState(int(found.state[k])) for k in np.flatnonzero(found.state)}


def test_the_tail_is_that_of_the_negative_binomial_distribution() -> None:
    rng = np.random.default_rng(0)
    mean, spread = 10 ** rng.uniform(-1, 5, 500), 10 ** rng.uniform(-6, 0, 500)
    counts = np.rint(mean * 10 ** rng.uniform(-0.5, 0.5, 500))
    law = stats.nbinom(1.0 / spread, 1.0 / (1.0 + spread * mean))
    half = 0.5 * law.pmf(counts)
    tail = np.where(counts <= mean, law.cdf(counts) - half, law.sf(counts) + half)
    expected = np.minimum(1.0, 2.0 * tail)
    known = expected > 1e-200
    assert np.allclose(two_sided(counts, mean, spread)[known], expected[known], rtol=1e-5)
    far = two_sided(np.array([0.0, 1e6]), np.array([1e4, 10.0]), np.array([1e-6, 1e-6]))
    assert (far <= 1e-290).all()
    assert (far > 0.0).all()


@pytest.mark.parametrize(("mean", "wander"), [(3.0, 0.0), (40.0, 0.05), (4000.0, 0.05)])
def test_healthy_windows_alarm_as_rarely_as_p_says_although_channels_wander(
    mean: float, wander: float
) -> None:
    test = prepare(mean, wander=wander)
    rng = np.random.default_rng(2)
    t = np.array([evaluate(test, healthy(mean, rng, wander=wander)).t for _ in range(400)])
    # without nuisances at their limits t is exponential at most; 5 of 400 above ln 100 are 4 expected at most
    assert (t > np.log(100.0)).sum() <= 10
    toys = np.array(
        [test.evaluate(x, weights=w).t for x, w in (test.throw(np.random.default_rng(k)) for k in range(400))]
    )
    assert abs(toys.mean() - 1.0) < 0.35


def test_poisson_alone_would_alarm_in_a_detector_that_wanders() -> None:
    mean, wander = 4000.0, 0.05
    wise = prepare(mean, wander=wander)
    model = wise.model
    arrays = model.arrays | {"dispersion": np.full(N, 1e-8)}
    naive = ChannelTest(np.zeros((1, N)), n_expected=mean * SHARES.sum(), prepared=arrays)
    hits = healthy(mean, np.random.default_rng(3), wander=wander)
    assert evaluate(naive, hits).t > 20.0
    assert evaluate(wise, hits).t < 5.0
    assert np.sqrt(np.median(model.dispersion)) == pytest.approx(wander, rel=0.3)


def test_a_restless_channel_is_learned_from_the_run_and_is_no_fault() -> None:
    rng = np.random.default_rng(4)
    run = np.stack([healthy(400.0, rng) for _ in range(40)])
    run[:, 7] = rng.poisson(400.0 * SHARES[7] * np.exp(rng.normal(0.0, 0.4, 40)))
    test = ChannelTest(run, n_expected=400.0 * SHARES.sum(), prepared={"map": MAP})
    hits = healthy(400.0, rng)
    hits[7] = np.rint(1.6 * hits[7])
    assert not states(evaluate(test, hits))
    hits[8] = np.rint(1.6 * hits[8])
    assert states(evaluate(test, hits)) == {8: ChannelState.NOISY}


@pytest.mark.parametrize("mean", [20.0, 400.0, 40_000.0])
@pytest.mark.parametrize("dead", [(17,), (3, 17, 40, 63), tuple(range(16)), tuple(range(16, 32))])
def test_dead_channels_are_named_and_no_others(mean: float, dead: tuple[int, ...]) -> None:
    test = prepare(mean)
    hits = healthy(mean, np.random.default_rng(5))
    hits[list(dead)] = 0.0
    found = evaluate(test, hits)
    if mean > 20.0 or len(dead) == 1:
        assert states(found) == dict.fromkeys(dead, ChannelState.DEAD)
    else:  # 12 hits are expected in some
        assert set(states(found)) <= set(dead)
    assert found.t > 7.0


@pytest.mark.parametrize("factor", [3.0, 10.0, 100.0])
def test_a_noisy_channel_is_named_and_moves_no_other(factor: float) -> None:
    test = prepare(40.0)
    hits = healthy(40.0, np.random.default_rng(6))
    hits[5] = np.rint(factor * 40.0 * SHARES[5])
    found = evaluate(test, hits)
    assert states(found) == {5: ChannelState.NOISY}
    assert found.hits[5] / found.fitted[5] == pytest.approx(factor, rel=0.25)
    assert found.t > 15.0


def test_a_restless_channel_that_dies_is_dead() -> None:
    """It is 1.5 standard deviations away, but its distribution is far from a normal one."""
    rng = np.random.default_rng(4)
    run = np.stack([healthy(4000.0, rng, wander=0.01) for _ in range(40)])
    run[:, 17] = rng.poisson(4000.0 * rng.gamma(4.0, 0.25, 40))
    test = ChannelTest(run, n_expected=run.sum() / len(run), prepared={"map": MAP})
    assert 0.2 < test.model.spread[17] < 1.0
    hits = healthy(4000.0, rng, wander=0.01)
    hits[17] = 0.0
    assert states(evaluate(test, hits)) == {17: ChannelState.DEAD}


def test_a_card_that_is_low_by_little_in_each_channel_is_found_as_a_group() -> None:
    test = prepare(10.0)
    hits = healthy(10.0, np.random.default_rng(7))
    hits[32:48] = np.floor(0.5 * hits[32:48])
    found = evaluate(test, hits)
    assert [(group.column, group.number) for group in found.groups] == [(CARD, 3)]
    assert found.families["groups"] < 1e-4 < found.families["channels"]


@pytest.mark.parametrize("slope", [-0.1, 0.1])
def test_an_illumination_that_shifts_by_a_tenth_is_no_fault(slope: float) -> None:
    test = prepare(4000.0)
    found = evaluate(test, healthy(4000.0, np.random.default_rng(8), slope=slope))
    assert found.t < 4.0
    assert not states(found)


def with_bursts(run: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Give one channel in a hundred a burst of 100 hits and more."""
    return run + np.where(
        rng.random(run.shape) < 0.01, np.rint(100.0 + rng.exponential(40.0, run.shape)), 0.0
    )


def test_bursts_that_strike_now_here_now_there_are_learned_and_are_no_fault() -> None:
    rng = np.random.default_rng(18)
    run = with_bursts(np.stack([healthy(40.0, rng) for _ in range(40)]), rng)
    test = ChannelTest(run, n_expected=run.sum() / 40, prepared={"map": MAP})
    bursts = test.model.bursts
    assert 0.005 < bursts.chance < 0.02
    assert bursts.least > 60.0
    assert 15.0 < bursts.scale < 80.0
    windows = with_bursts(np.stack([healthy(40.0, rng) for _ in range(200)]), rng)
    t = np.array([evaluate(test, hits).t for hits in windows])
    assert (t > np.log(20.0)).sum() < 20  # 10 expected
    naive = ChannelTest(
        run, n_expected=run.sum() / 40, prepared=test.prepared | {"bursts": np.array([0.0, 1.0, 1.0, 40.0])}
    )
    assert sum(evaluate(naive, hits).t > np.log(20.0) for hits in windows) > 50
    hits = healthy(40.0, rng)
    hits[5] = 100.0 * hits[5]
    assert states(evaluate(test, hits)) == {5: ChannelState.NOISY}
    hits[5] = 0.0
    assert states(evaluate(test, hits)) == {5: ChannelState.DEAD}


def test_toys_have_as_many_bursts_as_the_run() -> None:
    rng = np.random.default_rng(19)
    run = with_bursts(np.stack([healthy(40.0, rng) for _ in range(40)]), rng)
    test = ChannelTest(run, n_expected=run.sum() / 40, prepared={"map": MAP})
    toys = np.stack([test.throw(rng)[1] for _ in range(200)])
    assert (toys > 110.0).mean() == pytest.approx((run > 110.0).mean(), rel=0.4)
    half = test.at(run.sum() / 80)
    toys = np.stack([half.throw(rng)[1] for _ in range(200)])
    assert (toys > 110.0).mean() == pytest.approx(0.5 * (run > 110.0).mean(), rel=0.5)


def test_half_the_rate_is_a_fault_although_no_channel_departs_from_the_others() -> None:
    test = prepare(400.0)
    found = evaluate(test, healthy(200.0, np.random.default_rng(9)))
    assert found.t > 10.0
    assert not states(found)
    assert min(found.families, key=lambda name: found.families[name]) == "illumination"


def test_masked_channels_count_for_nothing() -> None:
    test = prepare(400.0)
    hits = healthy(400.0, np.random.default_rng(10))
    before = evaluate(test, hits, masked=(17, 40))
    hits[[17, 40]] = 0.0, 1e6
    found = evaluate(test, hits, masked=(17, 40))
    assert found.t == before.t
    assert states(found) == dict.fromkeys((17, 40), ChannelState.MASKED)


def test_the_order_of_rows_absent_rows_and_what_is_tested_beside_change_nothing() -> None:
    test = prepare(40.0)
    hits = healthy(40.0, np.random.default_rng(11))
    hits[[2, 9]] = 0.0
    whole = evaluate(test, hits)
    sparse = np.flatnonzero(hits)[::-1]
    other = healthy(40.0, np.random.default_rng(12))
    beside, again = test.evaluate_many([NUMBER[sparse, None], NUMBER[:, None]], weights=[hits[sparse], other])
    assert beside.t == whole.t
    assert again.t == evaluate(test, other).t


def test_another_size_is_the_same_as_one_prepared_for_it() -> None:
    test = prepare(40.0)
    half = 20.0 * SHARES.sum()
    other = ChannelTest(np.zeros((1, N)), n_expected=half, prepared=test.prepared)
    hits = healthy(20.0, np.random.default_rng(13))
    assert evaluate(test.at(half), hits).t == evaluate(other, hits).t
    assert evaluate(test.at(half), hits).t < 5.0


def test_a_channel_that_was_dead_in_the_reference_is_no_fault_until_it_counts() -> None:
    rng = np.random.default_rng(14)
    run = np.stack([healthy(40.0, rng) for _ in range(20)])
    run[:, 30] = 0.0
    test = ChannelTest(run, n_expected=run.sum() / 20, prepared={"map": MAP})
    hits = healthy(40.0, rng)
    hits[30] = 0.0
    assert not states(evaluate(test, hits))
    hits[30] = 50.0
    assert states(evaluate(test, hits)) == {30: ChannelState.NOISY}


def test_hits_in_unknown_channels_are_counted_apart() -> None:
    test = prepare(40.0)
    hits = healthy(40.0, np.random.default_rng(15))
    found = test.evaluate(np.append(NUMBER, 99.0)[:, None], weights=np.append(hits, 7.0))
    assert found.n_outside == 7
    assert found.t == evaluate(test, hits).t


@pytest.mark.parametrize(
    ("rows", "hits", "message"),
    [
        ([1.0, 1.0], [3.0, 4.0], "channel 1 is in the window twice"),
        ([1.0], [-3.0], "channel 1 has -3 hits, which is not a whole number"),
        ([1.0], [2.5], "channel 1 has 2.5 hits, which is not a whole number"),
        ([1.0], [np.inf], "channel 1 has inf hits"),
        ([1.0], None, "the window has no counted rows"),
    ],
)
def test_counts_that_make_no_sense_are_refused(
    rows: list[float], hits: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(40.0).evaluate(np.array(rows)[:, None], weights=hits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: np.vstack([m, m[3]]), "channel 3 is in the channel map twice"),
        (lambda m: np.where(m == 5.0, 5.5, m), "5.5 is not a number of a channel"),
        (lambda m: m * [1, 1, 0, 1], "wire 0 of layer 1 has 16 channels"),
        (lambda m: m[:0], "a channel map of shape"),
        (lambda m: m - [9, 0, 0, 0], "-9 is not a number of a channel"),
    ],
)
def test_a_channel_map_that_makes_no_sense_is_refused(change: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_map(change(MAP))  # type: ignore[operator]


def test_what_cannot_be_learned_is_refused() -> None:
    rng = np.random.default_rng(16)
    run = np.stack([healthy(40.0, rng) for _ in range(9)])
    with pytest.raises(InputError, match="9 windows in the reference's run"):
        learn_model(run, MAP, 0.1)
    with pytest.raises(InputError, match="has no hits"):
        learn_model(np.zeros((20, N)), MAP, 0.1)
    with pytest.raises(InputError, match="takes no nuisance parameters"):
        ChannelTest(run, n_expected=100.0, nuisances=[object()], prepared={"map": MAP})
    with pytest.raises(InputError, match="64 channels in the reference, 63 in the channel map"):
        ChannelTest(run, n_expected=100.0, prepared={"map": MAP[1:]})


def test_a_common_change_of_a_layer_is_learned_as_such() -> None:
    rng = np.random.default_rng(17)
    run = np.stack([healthy(400.0, rng) for _ in range(40)])
    swing = np.exp(rng.normal(0.0, 0.1, (40, 4)))
    run = rng.poisson(run * swing[:, (MAP[:, LAYER] - 1).astype(int)]).astype(float)
    model = learn_model(run, MAP, 0.1)
    assert 0.003 < model.excess[0] < 0.02  # 0.1 squared, less what the slope over the layers takes up
    assert model.excess[1] < 0.1 * model.excess[0]
