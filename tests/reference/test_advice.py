"""Advice on a run, and files that are not runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray, WindowCut
from dqm.reference import (
    Light,
    advise_penalties,
    advise_window,
    choose_reference_size,
    constant_features,
    describe_pause,
    generic_faults,
    refuse_jump,
    refuse_run,
    time_to_detect,
)
from dqm.reference.advice import events_needed, mean_wait
from dqm.reference.splits import TOLERATED_OFFSET, choose_origin
from tests.service.small import healthy_events

NAMES = ("a", "b")
COUNT = WindowCut.COUNT


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (healthy_events(20, 1), "20 events are too few for a reference and toys of any window"),
        (np.tile(healthy_events(1, 1), (500, 1)), "a, b are all constant in 500 events"),
        (np.tile(healthy_events(5, 1), (100, 1)), "a, b have 5 combinations of values in 500 events"),
        (np.tile([[0.0, 0.0], [0.0, 1.0]], (50, 1)), "a, b have 2 combinations of values in 100 events"),
        (np.zeros((500, 2)), "a, b are all constant in 500 events"),
    ],
)
def test_what_is_no_run_is_refused(x: FloatArray, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        refuse_run(x, NAMES, "run.csv")
    assert told.value.where == "run.csv"
    assert str(told.value.fix).startswith("Give a ")


def test_few_values_of_one_feature_are_no_copies() -> None:
    with pytest.raises(InputError, match="b has 2 values in 100 events; 10 distinct events are") as told:
        refuse_run(np.tile([[0.0], [1.0]], (50, 1)), ["b"], "run.csv")
    assert "Give a feature with more values" in str(told.value)


def test_one_feature_or_many_or_a_constant_one_among_others_is_a_run() -> None:
    rng = np.random.default_rng(1)
    refuse_run(rng.normal(size=(100, 1)), ["a"])
    refuse_run(rng.normal(size=(100, 64)), [f"f{k}" for k in range(64)])
    x = np.column_stack([healthy_events(100, 1), np.full(100, 3.0)])
    refuse_run(x, ["a", "b", "c"])
    assert constant_features(x, ["a", "b", "c"]) == ["c"]


def test_a_jump_in_time_is_two_runs() -> None:
    rng = np.random.default_rng(1)
    first = np.cumsum(rng.exponential(0.1, 1000))
    refuse_jump(first)
    refuse_jump(first[:1])
    pause = first + np.where(np.arange(1000) > 500, 20.0, 0.0)
    refuse_jump(pause)  # a pause of the data acquisition within a run
    second = first + np.where(np.arange(1000) > 699, 3600.0, 0.0)
    with pytest.raises(InputError, match=r"the time jumps by 3600 s after event 700, in a file of .* two"):
        refuse_jump(second, "mixed.csv")


def test_one_long_pause_is_told_and_those_between_spills_are_not() -> None:
    rng = np.random.default_rng(1)
    steady = np.cumsum(rng.exponential(2.4, 3000))
    spills = steady / 100 + np.repeat(np.arange(10) * 30.0, 300)
    for times in (steady, spills, steady[:30], np.zeros(100)):
        assert describe_pause(times) == ""
    told = describe_pause(steady + np.where(np.arange(3000) > 1499, 600.0, 0.0))
    assert told.startswith("no event for 60")
    assert "after event 1500 of 3000" in told
    assert "dqm reference validate" in told


@pytest.mark.parametrize("n_expected", [50.0, 200.0, 1000.0])
@pytest.mark.parametrize("cut", list(WindowCut))
def test_the_run_that_is_asked_for_is_enough_and_hardly_more(n_expected: float, cut: WindowCut) -> None:
    needed = events_needed(n_expected, cut)
    assert advise_window(needed, n_expected, cut, 0.01).light is Light.GREEN
    assert advise_window(round(0.97 * needed), n_expected, cut, 0.01).light is not Light.GREEN
    n_reference = choose_reference_size(needed, n_expected)
    assert choose_origin(n_expected, n_reference, needed - n_reference).offset <= TOLERATED_OFFSET


def test_windows_that_a_run_cannot_bear_are_told_with_the_run_that_can() -> None:
    one = advise_window(300, 200.0, COUNT, 0.01)
    assert one.light is Light.RED
    assert math.isinf(one.uncertainty)
    assert "150 events beside the reference, 400 are needed for toys" in one.reason
    assert one.n_needed > 1500
    green = advise_window(50_000, 200.0, COUNT, 0.01)
    assert (green.light, green.n_needed, green.n_reference) == (Light.GREEN, 50_000, 2000)
    assert green.n_toys == 10_000, "100 beyond p = 0.01"


@pytest.mark.parametrize(("share", "k", "n"), [(1.0, 2, 3), (0.5, 1, 1), (0.3, 2, 3), (0.1, 3, 5)])
def test_windows_until_the_first_alarm(share: float, k: int, n: int) -> None:
    rng = np.random.default_rng(1)
    waits = []
    for _ in range(400):
        last: list[bool] = []
        while sum(last[-n:]) < k:
            last.append(bool(rng.random() < share))
        waits.append(len(last))
    assert mean_wait(share, k, n) == pytest.approx(np.mean(waits), rel=0.15)


def test_a_strong_fault_is_seen_sooner_than_a_weak_one() -> None:
    x = healthy_events(3000, 1)
    faults = generic_faults(x, NAMES)
    assert len(faults) == 6
    strong, weak = "a shifted by a quarter of its width", "none"
    chosen = {strong: lambda y, _rng: y + np.array([2.0, 0.0]), weak: lambda y, _rng: y}
    found = time_to_detect(
        x, NAMES, chosen, n_reference=600, n_expected=60.0, p_threshold=0.005, drift_limit=20.0, k=2, n=3,
        rng=np.random.default_rng(2),
    )  # fmt: skip
    seen = {one.fault: one for one in found}
    assert seen[strong].share > 0.95
    assert seen[strong].n_windows == pytest.approx(2.0, abs=0.2)
    assert seen[strong].cause == "differs"
    assert seen[weak].share < 0.05
    assert seen[weak].n_windows > 30
    for one in found:
        assert one.n_tried == 24
        assert one.between[0] <= one.n_windows <= one.between[1]


@pytest.mark.slow
def test_faults_are_tried_with_the_test_that_build_takes() -> None:
    """A sentinel in more events is a fault that only a test with kinds sees in a small window."""
    rng = np.random.default_rng(4)

    def events(n: int, share: float) -> FloatArray:
        value = np.where(rng.random(n) < share, -999.0, rng.normal(size=n))
        return np.column_stack([rng.normal(size=(n, 2)), value, np.zeros(n)])

    found = time_to_detect(
        events(3000, 0.03), ("a", "b", "e", "gain"), {"more": lambda x, _rng: events(len(x), 0.2)},
        n_reference=600, n_expected=60.0, p_threshold=0.005, drift_limit=None, k=2, n=3, rng=rng,
    )  # fmt: skip
    assert found[0].share > 0.7
    assert found[0].cause == "differs"


def test_generic_faults_are_what_they_say() -> None:
    x = healthy_events(4000, 1)
    rng = np.random.default_rng(1)
    faults = generic_faults(x, NAMES)
    shifted = faults["a shifted by a quarter of its width"](x, rng)
    assert shifted[:, 0].mean() - x[:, 0].mean() == pytest.approx(0.25, rel=0.1)
    assert faults["b spread by 20 %"](x, rng)[:, 1].std() == pytest.approx(1.2 * x[:, 1].std())
    lost = faults["half of the events lost where b is high"](x, rng)
    assert len(lost) / len(x) == pytest.approx(0.92, abs=0.01)


def test_too_small_a_penalty_is_wild_on_a_short_run() -> None:
    found = {
        one.penalty: one
        for one in advise_penalties(healthy_events(300, 1), 100, 30.0, np.random.default_rng(1))
    }
    assert not found[1e-7].is_plausible
    assert found[1e-3].is_plausible
    assert found[1e-3].mean_t < found[1e-7].mean_t
