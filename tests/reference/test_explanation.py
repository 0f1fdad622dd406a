"""Where a window departs: maps and ranking of features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dqm.events import Explanation, FloatArray, Likeness, Origin, RatioMap, Window, WindowCut
from dqm.nplm import KernelTest
from dqm.reference import Evaluator, Recipe, StoredBundle, calibrate, create_bundle
from dqm.reference.explanation import departure, describe_likeness, describe_ranking, rank_features
from dqm_collectors.chamber.conditions import Conditions
from tests.reference.conftest import CHAMBER_FEATURES, CHAMBER_WINDOW, healthy_events, simulated


def window(x: FloatArray, names: tuple[str, ...] = ("a", "b")) -> Window:
    return Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, names, x)


def explained(evaluator: Evaluator, x: FloatArray, names: tuple[str, ...] = ("a", "b")) -> Explanation:
    explanation = evaluator.evaluate(window(x, names)).find_explanation()
    assert explanation is not None
    return explanation


@pytest.mark.slow
def test_the_layer_with_the_wrong_delay_leads_the_ranking(chamber: StoredBundle) -> None:
    evaluator = Evaluator(chamber)
    for layer in (1, 2, 3, 4):
        delays = [20.0 if k == layer else 0.0 for k in (1, 2, 3, 4)]
        events = simulated(Conditions.model_validate({"t0_ns": delays}), 5 * CHAMBER_WINDOW, 30 + layer)
        first = [explained(evaluator, x, CHAMBER_FEATURES).ranking[0][0] for x in np.split(events, 5)]
        assert first.count(f"t_{layer}") >= 4


def test_maps_are_complete_and_their_bins_do_not_move(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    one, other = (
        explained(evaluator, healthy_events(60, seed) + shift) for seed, shift in ((1, [0, 2]), (2, [3, 0]))
    )
    assert [m.features for m in one.maps] == [("a",), ("b",)]
    assert [m.features for m in one.pairs] == [("a", "b")]
    for mine, yours in zip(one.maps + one.pairs, other.maps + other.pairs, strict=True):
        assert mine.data.sum() == 60
        assert mine.reference.sum() == pytest.approx(60)
        assert all(np.array_equal(a, b) for a, b in zip(mine.edges, yours.edges, strict=True))
    assert {name for name, _ in one.ranking} == {"a", "b"}
    assert sum(share for _, share in one.ranking) == pytest.approx(1.0)
    assert one.text.startswith("departs mostly in ")


def test_the_feature_that_moved_carries_the_departure(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    wider = healthy_events(60, 8)
    wider[:, 0] *= 0.2  # b keeps its width, nearly
    wider[:, 1] += np.random.default_rng(9).normal(size=60)
    explanation = explained(evaluator, wider)
    assert explanation.ranking[0][0] == "a"
    assert explanation.text.startswith("departs mostly in a (")


def test_a_broken_correlation_is_seen_in_the_pair(calibrated: StoredBundle) -> None:
    rng = np.random.default_rng(4)
    evaluator = Evaluator(calibrated)
    x = np.column_stack([rng.normal(size=60), rng.normal(size=60) * 2**0.5])
    x = (x - x.mean(axis=0)) / x.std(axis=0) * [1.0, 2**0.5]
    explanation = explained(evaluator, x)
    (pair,) = explanation.pairs
    corner = pair.fitted[:4, 8:].sum() / pair.reference[:4, 8:].sum()
    assert corner > 2


def test_pairs_are_bounded(tmp_path: Path) -> None:
    events = np.random.default_rng(5).normal(size=(3000, 10))
    names = tuple(f"x_{k}" for k in range(10))
    bundle = create_bundle(events, Recipe(names, 400, 60, centers=80, penalty=1e-5), tmp_path / "wide")
    bundle = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1)
    shifted = events[:60] + np.where(np.arange(10) == 9, 2.0, 0.0)
    explanation = explained(Evaluator(bundle), shifted, names)
    assert len(explanation.maps) == 10
    assert len(explanation.pairs) == 28
    leading = {name for name, _ in explanation.ranking[:8]}
    assert explanation.ranking[0][0] == "x_9"
    assert {name for m in explanation.pairs for name in m.features} == leading


def test_what_was_not_tested_is_not_explained(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    for bad in (
        replace(window(healthy_events(60, 1)), names=("a", "c")),
        window(healthy_events(61, 1)),
        window(np.full((60, 2), np.nan)),
    ):
        evaluation = evaluator.evaluate(bad)
        assert evaluation.result.p is None
        assert evaluation.find_explanation() is None


def test_a_statistic_without_density_ratio_judges_and_explains_nothing(
    calibrated: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(_self: object, _x: FloatArray, **_measured: object) -> SimpleNamespace:
        return SimpleNamespace(t=1e3, tau=1e3, delta=0.0, converged=True, nuisances={}, n_outside=0)

    monkeypatch.setattr(KernelTest, "evaluate", evaluate)
    evaluation = Evaluator(calibrated).evaluate(window(healthy_events(60, 1)))
    assert evaluation.result.p is not None
    assert evaluation.find_explanation() is None


def test_under_a_bound_a_known_fault_is_the_nearest_and_not_the_cause() -> None:
    likely, excluded = (Likeness("low voltage", 0.96),), (Likeness("low voltage", 0.0),)
    assert describe_likeness(likely, 0.04, is_bound=False) == "looks like low voltage, 96 %"
    nearest = "of the known faults most like low voltage; it may be unlike all"
    assert describe_likeness(likely, 0.04, is_bound=True) == nearest
    assert describe_likeness(excluded, 1.0, is_bound=True) == "unlike anything known, 100 %"


def map_of(data: FloatArray, fitted: FloatArray, name: str = "a") -> RatioMap:
    expected = np.array([0.0, 2.5, 95.0, 2.5])
    error = np.sqrt(expected / 10.0)  # a reference of ten windows
    return RatioMap((name,), (np.arange(5.0),), expected, error, data, fitted)


def test_events_count_where_the_reference_has_too_few_to_learn_from() -> None:
    """The learned ratio is a sum over reference events: it cannot show what lies where there are none."""
    as_expected = np.array([0.0, 2.5, 95.0, 2.5])
    quiet = map_of(as_expected, as_expected)
    in_the_end = map_of(np.array([0.0, 2.5, 85.0, 12.5]), as_expected)
    in_a_gap = map_of(np.array([10.0, 2.5, 85.0, 2.5]), as_expected)
    learned = map_of(as_expected, np.array([0.0, 2.5, 75.0, 22.5]), "b")
    assert departure(quiet) == pytest.approx(0.0, abs=1e-9)
    assert departure(in_the_end) == pytest.approx(in_the_end.significance[3] ** 2 / 2)
    assert 5 < departure(in_the_end) < 12.5 * np.log(12.5 / 2.5) - 10.0, "the reference has an error"
    assert departure(in_a_gap) == pytest.approx(10 * np.log(11.0))  # Li and Ma, of no background event
    assert departure(learned) > departure(quiet)
    chance = np.array([2.0, 2.0])
    assert rank_features((map_of(as_expected, as_expected, "b"), in_the_end), chance)[0][0] == "a"
    assert rank_features((quiet, learned), chance, {"a": 200.0})[0][0] == "a"


def test_few_events_far_out_are_placed_in_their_feature(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    for seed in range(20, 26):
        x = healthy_events(60, seed)
        for n, value in ((8, np.quantile(calibrated.reference[:, 0], 0.999)), (4, 6.0), (8, 9.0)):
            far = x.copy()
            far[:n, 0] = value
            assert explained(evaluator, far).ranking[0][0] == "a", (seed, value)


def test_pairs_are_named_only_where_there_are_some() -> None:
    assert "see the pairs" in describe_ranking([("a", 0.0), ("b", 0.0)])
    assert describe_ranking([("a", 0.0)]) == ""
    assert describe_ranking([("a", 1.0)]) == "departs mostly in a (100 %)"
