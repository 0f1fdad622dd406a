"""What a statistic of others gives: every member is checked in one place, and what is left out is added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dqm.errors import PluginError
from dqm.events import FloatArray, NuisanceResult, Profiled
from dqm.nplm import Normalisation
from dqm.reference.prepared_statistic import PreparedStatistic
from dqm.reference.statistic_plugin import StatisticPlugin

N_REFERENCE = 40
REFERENCE = np.random.default_rng(1).normal(size=(N_REFERENCE, 2))
WINDOW = np.random.default_rng(2).normal(size=(10, 2))


def made(evaluate: Callable[[FloatArray], object], **members: Any) -> PreparedStatistic:
    """Set up a statistic that has these members."""

    def make(_reference: FloatArray) -> SimpleNamespace:
        return SimpleNamespace(evaluate=lambda data: evaluate(data), **members)

    return StatisticPlugin("own", make).make(REFERENCE.copy(), {})


def outcome(**members: object) -> Callable[[FloatArray], object]:
    return lambda _data: SimpleNamespace(**({"t": 1.0} | members))


def size(data: FloatArray) -> float:
    return float(len(data))


def test_what_is_left_out_is_added() -> None:
    far = np.vstack([WINDOW, [[99.0, 0.0]]])
    found = made(lambda _data: np.float32(3.0)).evaluate(far)
    assert (found.t, found.tau, found.delta, found.converged) == (3.0, 3.0, 0.0, True)
    assert (dict(found.nuisances), found.n_outside >= 1) == ({}, True)


def test_an_outcome_that_has_everything_is_given_as_it_is() -> None:
    whole = SimpleNamespace(t=1, tau=2.0, delta=1.0, converged=np.True_, nuisances={}, n_outside=np.int64(3))
    assert made(lambda _data: whole).evaluate(WINDOW) is whole


def test_a_fit_that_did_not_converge_may_have_no_numbers() -> None:
    assert np.isnan(made(outcome(t=np.nan, tau=np.nan, converged=False)).evaluate(WINDOW).t)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"tau": "x"}, r"'own' gave tau = 'x' for a window. It must be a finite number"),
        ({"tau": np.inf}, "gave tau = inf"),
        ({"delta": None}, "gave delta = None"),
        ({"t": 10**400}, "gave t = inf for a window of 10 rows"),
        ({"t": 1 + 2j}, r"gave t = \(1\+2j\)"),
        ({"t": np.complex128(1.0)}, "gave t = "),
        ({"converged": "no"}, "gave converged = 'no' for a window. It must be True or False"),
        ({"n_outside": "many"}, "gave n_outside = 'many' for a window. It must be a number of events"),
        ({"n_outside": -1}, "gave n_outside = -1"),
        ({"n_outside": 0.5}, "gave n_outside = 0.5"),
        ({"n_outside": 10**400}, "gave n_outside = 1000"),
        ({"nuisances": [1]}, r"gave nuisances = \[1\] for a window. It must be a mapping of names"),
        ({"nuisances": {"v": 1.0}}, "result for the nuisance parameter 'v', which it was not given"),
    ],
)
def test_a_member_that_cannot_be_used_is_refused(members: dict[str, object], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        made(outcome(**members)).evaluate(WINDOW)
    whole = {"tau": 1.0, "delta": 0.0, "converged": True, "nuisances": {}, "n_outside": 0} | members
    with pytest.raises(PluginError, match=words):
        made(outcome(**whole)).evaluate(WINDOW)


def test_results_of_nuisance_parameters_are_those_that_were_given() -> None:
    right = NuisanceResult(0.1, Profiled(0.1, 0.1, 0.0), Profiled(0.1, 0.1, None))
    wrong = NuisanceResult(0.1, Profiled("x", 0.1, 0.0), Profiled(0.1, 0.1, None))  # type: ignore[arg-type]
    given: dict[str, object] = {}

    class Own:
        def __init__(self, _reference: FloatArray, *, nuisances: Sequence[object] = ()) -> None:
            assert len(nuisances) == 1

        def evaluate(self, _data: FloatArray, *, auxiliary: object = None) -> object:
            assert auxiliary is None
            return SimpleNamespace(t=1.0, nuisances=dict(given))

    test = StatisticPlugin("own", Own).make(REFERENCE, {}, nuisances=[Normalisation("rate", 0.1)])
    assert not test.evaluate(WINDOW).nuisances
    given["rate"] = right
    assert test.evaluate(WINDOW).nuisances == {"rate": right}
    given["rate"] = wrong
    with pytest.raises(PluginError, match=r"gave nuisances\['rate'\] = .*must be a dqm.events.Nuisance"):
        test.evaluate(WINDOW)
    del given["rate"]
    given["rat"] = right
    with pytest.raises(PluginError, match=r"parameter 'rat', which it was not given\. It was given: rate"):
        test.evaluate(WINDOW)


def test_a_ratio_is_two_arrays_of_finite_numbers() -> None:
    def ratio(**members: object) -> Any:
        test = made(outcome(**members))
        return test.learned_ratio(test.evaluate(WINDOW), N_REFERENCE)

    ones, lists = np.ones(N_REFERENCE), [0.5] * N_REFERENCE
    found = ratio(log_ratio_reference=lists, reference_weights=ones)
    assert found.log_ratio_reference.tolist() == lists
    assert found.reference_weights.dtype == np.float64
    assert ratio() is None
    holed = np.where(np.arange(N_REFERENCE) < 3, np.nan, 1.0)
    for bad, words in (
        ("abc", "gave log_ratio_reference = 'abc'"),
        ({}, "gave log_ratio_reference = {}"),
        (None, "gave 'log_ratio_reference' of shape"),
        (holed, "gave 'log_ratio_reference' with 3 of 40 numbers not finite"),
        (ones[:3], r"gave 'log_ratio_reference' of shape \(3,\). It must have shape \(40,\)"),
    ):
        with pytest.raises(PluginError, match=words):
            ratio(log_ratio_reference=bad, reference_weights=ones)
    with pytest.raises(PluginError, match="gave 'log_ratio_reference' without 'reference_weights'"):
        ratio(log_ratio_reference=ones)
    with pytest.raises(PluginError, match="gave 'reference_weights' without 'log_ratio_reference'"):
        ratio(reference_weights=ones)


def test_a_statistic_that_changes_its_arrays_is_refused() -> None:
    def change(data: FloatArray) -> float:
        data -= 1.0
        return 1.0

    with pytest.raises(PluginError, match=r"changed the window in place in 'evaluate' \(test_stat.*, line "):
        made(change).evaluate(WINDOW.copy())
    several = made(size, evaluate_many=lambda windows: [change(one) for one in windows])
    with pytest.raises(PluginError, match="changed a window in place in 'evaluate_many'"):
        several.evaluate_many([WINDOW.copy(), WINDOW.copy()])
    drawn = made(size, evaluate_drawn=lambda pool, rows: [change(pool) for _ in rows])
    with pytest.raises(PluginError, match="changed the pool in place in 'evaluate_drawn'"):
        drawn.evaluate_drawn(WINDOW.copy(), [np.arange(3)])

    class OfReference:
        def __init__(self, reference: FloatArray) -> None:
            reference /= 2.0

        def evaluate(self, _data: FloatArray) -> float:
            return 1.0

    with pytest.raises(PluginError, match=r"'own' changed the reference in place \(test_statistic_out"):
        StatisticPlugin("own", OfReference).make(REFERENCE.copy(), {})


def test_members_that_give_something_odd_are_named_with_their_place() -> None:
    many = made(size, evaluate_many=lambda _windows: None)
    with pytest.raises(
        PluginError, match=r"type NoneType for 1 window in 'evaluate_many' \(test_statistic_outcome.py, line"
    ):
        many.evaluate_many([WINDOW])
    generating = made(size, evaluate_many=lambda windows: (size(one) for one in windows))
    assert [one.t for one in generating.evaluate_many([WINDOW])] == [10.0]
    with pytest.raises(PluginError, match="what 'at' of the statistic 'own' gave, None, has no 'evaluate'"):
        made(size, at=lambda _n: None).at(10.0)
    with pytest.raises(PluginError, match="what 'stopping_above' of the statistic 'own' gave, 7, has no"):
        made(size, stopping_above=lambda _t: 7).stopping_above(10.0)


@pytest.mark.parametrize("thrown", [5, (WINDOW, np.ones(3)), (WINDOW, [1.0] * 10)])
def test_a_thrown_window_has_a_count_for_each_row(thrown: object) -> None:
    with pytest.raises(PluginError, match=r"in 'throw' \(test_.*It must give rows of shape \(n_data, d\)"):
        made(size, throw=lambda _rng: thrown).throw(np.random.default_rng(1))
    right = made(size, throw=lambda _rng: (WINDOW, np.ones(10)))
    assert [part.shape for part in right.throw(np.random.default_rng(1))] == [(10, 2), (10,)]


def test_a_statistic_of_counts_takes_weights_and_has_defaults_that_a_bundle_can_keep() -> None:
    table: dict[str, int] = {}

    class Counted:
        def __init__(self, reference: FloatArray, *, counts: object = None, power: object = table) -> None:
            self.given = reference, counts, power

        def evaluate(self, _data: FloatArray) -> float:
            return 1.0

    with pytest.raises(PluginError, match="takes 'counts', but its 'evaluate' has no argument 'weights'"):
        StatisticPlugin("own", Counted).make(REFERENCE, {})
    with pytest.raises(PluginError, match=r"'own' has the setting 'power' with the usual value \{\}"):
        StatisticPlugin("own", Counted).choose_settings({})
    assert StatisticPlugin("own", Counted).choose_settings({"power": 2}) == {"power": 2}
