"""Windows that depart in the number of their events, in their shape, or in both: what is said of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest

from dqm.events import Explanation, FloatArray, Measurement, Origin, Window, WindowCut
from dqm.reference import (
    Evaluator,
    LabelledSample,
    Recipe,
    StoredBundle,
    add_normalisation,
    calibrate,
    create_bundle,
    learn_templates,
    open_bundle,
)
from dqm.reference.number_and_shape import separate
from dqm.reference.outside import Outside
from dqm.reference.statistic import Outcome
from tests.conftest import Once

N = 60
"""Events expected; 88 of them and 36 are 3.6 and 3.1 sigma away."""

N_WINDOWS = 30

RECIPES = {
    "smallest": {"statistic": "several"},
    "product": {"statistic": "several", "settings": {"rule": "product"}},
    "mean": {"statistic": "several", "settings": {"rule": "mean"}},
    "kernel": {"width": 2.0, "penalty": 1e-5, "centers": 80},
}


def two_normal(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    return np.random.default_rng(seed).normal([shift, 0.0], size=(n, 2))


def make(path: Path, x: FloatArray, **options: Any) -> StoredBundle:
    features = ("a", "b")[: x.shape[1]]
    recipe = Recipe(features, 600, N, cut=WindowCut.TIME, rate_hz=6.0, **options)
    bundle = create_bundle(x, recipe, path)
    return calibrate(bundle, 400, kind=bundle.manifest.kind, seed=5, n_processes=1)


@pytest.fixture(scope="module", params=RECIPES)
def evaluator(request: pytest.FixtureRequest, once: Once) -> Evaluator:
    name = request.param
    path = once(f"number-{name}.dqmref", lambda path: make(path, two_normal(5000, 1), **RECIPES[name]))
    return Evaluator(open_bundle(path))


def explained(evaluator: Evaluator, x: FloatArray, auxiliary: tuple[Measurement, ...] = ()) -> Explanation:
    names = evaluator.bundle.manifest.features
    window = Window(
        "s", 1, 0, "physics", Origin.LIVE, WindowCut.TIME, names, x, n_expected=N, auxiliary=auxiliary
    )
    found = evaluator.evaluate(window).find_explanation()
    assert found is not None
    return found


def share(evaluator: Evaluator, n: int, says: Callable[[str], bool], shift: float = 0.0) -> float:
    """Give the share of windows of n events whose texts are as they should be."""
    texts = [explained(evaluator, two_normal(n, 100 + k, shift)).text for k in range(N_WINDOWS)]
    return float(np.mean([says(text) for text in texts]))


@pytest.mark.parametrize("n", [1, 5, 36, 88, 120])
def test_of_a_number_that_departs_alone_no_feature_is_blamed(evaluator: Evaluator, n: int) -> None:
    events = "1 event" if n == 1 else f"{n} events"
    assert share(evaluator, n, f"{events} where 60 are expected".__eq__) > 0.85


@pytest.mark.parametrize("n", [50, 60, 70])
def test_of_a_shape_that_departs_alone_the_feature_is_named(evaluator: Evaluator, n: int) -> None:
    def names_a(text: str) -> bool:
        return "departs mostly in a (" in text and "expected" not in text

    assert share(evaluator, n, names_a, shift=1.2) > 0.85


@pytest.mark.parametrize(("n", "shift"), [(36, 2.0), (88, 1.2), (120, 1.2)])
def test_of_both_the_number_is_said_first(evaluator: Evaluator, n: int, shift: float) -> None:
    both = f"{n} events where 60 are expected; departs mostly in a ("
    assert share(evaluator, n, lambda text: both in text, shift=shift) > 0.85


@pytest.fixture(scope="module")
def several(once: Once) -> StoredBundle:
    path = once("number-smallest.dqmref", lambda path: make(path, two_normal(5000, 1), **RECIPES["smallest"]))
    return open_bundle(path)


def copy_of(bundle: StoredBundle, tmp_path: Path) -> StoredBundle:
    return open_bundle(Path(shutil.copytree(bundle.path, tmp_path / "copy")))


def test_shares_and_likenesses_are_of_the_shape(several: StoredBundle, tmp_path: Path) -> None:
    late = LabelledSample("a late", two_normal(3000, 2, shift=1.0))
    evaluator = Evaluator(learn_templates(copy_of(several, tmp_path), [late]))
    more = explained(evaluator, two_normal(100, 3))
    assert more.text == "100 events where 60 are expected"
    assert more.ranking == (("a", 0.0), ("b", 0.0))
    assert more.likenesses == ()
    assert [m.features for m in more.pairs] == [("a", "b")]
    assert more.maps[0].data.sum() == 100
    assert more.maps[0].reference.sum() == pytest.approx(60)
    both = explained(evaluator, two_normal(100, 3, shift=1.0))
    assert both.text.startswith("100 events where 60 are expected; looks like a late, ")
    assert both.ranking[0][0] == "a"


def test_a_number_that_slow_control_explains_is_not_said(several: StoredBundle, tmp_path: Path) -> None:
    bundle = add_normalisation(copy_of(several, tmp_path), "rate", 0.05)
    bundle = calibrate(bundle, 200, kind=bundle.manifest.kind, seed=5, n_processes=1)
    x = two_normal(120, 4)
    evaluator = Evaluator(bundle)
    as_measured = explained(evaluator, x, (Measurement("rate", float(np.log(2.0)), 0.05, 0.0),)).text
    assert "are expected" not in as_measured
    alone = explained(evaluator, x, (Measurement("rate", 0.0, 0.05, 0.0),)).text
    assert alone.startswith("120 events where 6")
    assert "departs" not in alone
    with_shift = explained(evaluator, x + np.array([1.0, 0.0]), (Measurement("rate", 0.0, 0.05, 0.0),)).text
    assert "are expected; departs mostly in a (" in with_shift


def test_of_a_single_feature_no_others_are_spoken_of(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b", np.random.default_rng(1).normal(size=(3000, 1)), statistic="several")
    evaluator = Evaluator(bundle)
    text = explained(evaluator, np.random.default_rng(2).normal(1.0, size=(60, 1))).text
    assert text.startswith("departs mostly in a (100 %); seen by a kernel of width ")
    assert "of all features" not in text
    more = explained(evaluator, np.random.default_rng(3).normal(size=(100, 1))).text
    assert more == "100 events where 60 are expected"


OUTCOME, SHAPE = cast(Outcome, SimpleNamespace(t=50.0)), cast(Outcome, SimpleNamespace(t=5.0))


def test_the_shape_is_tested_with_as_many_events_expected_as_there_are() -> None:
    retest = Mock(return_value=(SHAPE, 0.5))
    found = separate(90, 60.0, OUTCOME, None, retest)
    retest.assert_called_once_with(1.5)
    assert (found.number, found.shape) == ("90 events where 60 are expected", None)
    retest.return_value = (SHAPE, 0.001)
    assert separate(90, 60.0, OUTCOME, None, retest).shape is SHAPE


def test_the_shape_departs_with_events_beyond_the_reference() -> None:
    for p, shape in ((1e-6, SHAPE), (1.0, None)):
        outside = Outside("a", is_above=True, edge=3.0, n_outside=4, p=p)
        found = separate(90, 60.0, OUTCOME, outside, Mock(return_value=(SHAPE, 0.5)))
        assert found.shape is shape


def test_a_shape_that_cannot_be_tested_is_explained_as_it_was() -> None:
    found = separate(90, 60.0, OUTCOME, None, Mock(return_value=None))
    assert (found.number, found.shape) == ("90 events where 60 are expected", OUTCOME)


def test_a_usual_number_and_that_of_a_window_cut_by_count_are_not_said() -> None:
    retest = Mock()
    for found in (separate(70, 60.0, OUTCOME, None, retest), separate(90, 60.0, OUTCOME, None, None)):
        assert (found.number, found.shape) == ("", OUTCOME)
    retest.assert_not_called()
