"""Naming the known fault that a window looks like."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import BundleError, InputError
from dqm.events import Explanation, FloatArray, Measurement, Origin, Window, WindowCut
from dqm.reference import (
    Evaluator,
    LabelledSample,
    Recipe,
    StoredBundle,
    WindowKind,
    add_normalisation,
    calibrate,
    create_bundle,
    learn_templates,
    open_bundle,
)
from dqm_collectors.chamber.conditions import Conditions
from tests.reference.conftest import CHAMBER_FEATURES, CHAMBER_WINDOW, healthy_events, simulated

FAULTS = {
    "lowered cathode voltage": Conditions(strip_voltage_v=-900),
    "lowered threshold": Conditions(threshold_mv=50),
    "late layer 2": Conditions(t0_ns=(0, 20, 0, 0)),
}


@pytest.fixture(scope="module")
def taught(calibrated: StoredBundle, tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """The small bundle, which knows two faults."""
    path = shutil.copytree(calibrated.path, tmp_path_factory.mktemp("taught") / "small.dqmref")
    return learn_templates(open_bundle(path), [moved("a late", 0), moved("b late", 1)])


def moved(name: str, column: int, by: float = 1.0, n: int = 1500) -> LabelledSample:
    return LabelledSample(name, healthy_events(n, 21 + column) + by * np.eye(2)[column])


def explained(evaluator: Evaluator, x: FloatArray, names: tuple[str, ...] = ("a", "b")) -> Explanation:
    window = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, names, x)
    explanation = evaluator.evaluate(window).find_explanation()
    assert explanation is not None
    return explanation


@pytest.mark.long
def test_simulated_faults_are_named(tmp_path: Path) -> None:
    recipe = Recipe(CHAMBER_FEATURES, 5000, CHAMBER_WINDOW)
    bundle = create_bundle(simulated(Conditions(), 60_000, 1), recipe, tmp_path / "chamber.dqmref")
    bundle = calibrate(bundle, 200, kind=bundle.manifest.kind, seed=2)
    samples = [LabelledSample(name, simulated(conditions, 20_000, 50)) for name, conditions in FAULTS.items()]
    evaluator = Evaluator(learn_templates(bundle, samples))
    for name, conditions in {**FAULTS, "": Conditions(t0_ns=(0, -20, 0, 0))}.items():
        events = simulated(conditions, 5 * CHAMBER_WINDOW, 70)
        texts = [explained(evaluator, x, CHAMBER_FEATURES).text for x in np.split(events, 5)]
        expected = f"looks like {name}, " if name else "unlike anything known, "
        assert sum(text.startswith(expected) for text in texts) >= 4, Counter(texts)


def test_shares_are_probabilities_and_the_text_says_the_first(taught: StoredBundle) -> None:
    explanation = explained(Evaluator(taught), healthy_events(60, 30) + np.array([0.6, 0.0]))
    shares = [likeness.share for likeness in explanation.likenesses]
    assert [likeness.fault for likeness in explanation.likenesses] == ["a late", "b late"]
    assert shares == sorted(shares, reverse=True)
    assert 0.8 < sum(shares) < 1.0
    assert explanation.text.startswith(f"looks like a late, {100 * shares[0]:.0f} %; departs mostly in ")


def test_the_opposite_of_a_fault_is_not_that_fault(taught: StoredBundle) -> None:
    explanation = explained(Evaluator(taught), healthy_events(60, 31) - np.array([0.7, 0.0]))
    (share,) = [likeness.share for likeness in explanation.likenesses if likeness.fault == "a late"]
    assert share == 0.0


def test_what_fits_no_template_is_unlike_anything_known(taught: StoredBundle) -> None:
    narrow = healthy_events(60, 32) * 0.3
    assert explained(Evaluator(taught), narrow).text.startswith("unlike anything known, ")


def test_without_templates_nothing_is_said_of_likeness(calibrated: StoredBundle) -> None:
    explanation = explained(Evaluator(calibrated), healthy_events(60, 30) + np.array([0.6, 0.0]))
    assert explanation.likenesses == ()
    assert explanation.text.startswith("departs mostly in ")


def test_templates_change_no_verdict_and_survive_reading_back(
    taught: StoredBundle, calibrated: StoredBundle
) -> None:
    again = open_bundle(taught.path)
    assert again.identifier == taught.identifier != calibrated.identifier
    assert again.manifest.parent == calibrated.identifier
    assert again.manifest.definition == calibrated.manifest.definition
    assert again.manifest.null == calibrated.manifest.null
    x = healthy_events(60, 33) + 0.5
    window = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x)
    assert Evaluator(again).evaluate(window) == Evaluator(calibrated).evaluate(window)
    assert explained(Evaluator(again), x).likenesses == explained(Evaluator(taught), x).likenesses


def test_a_fault_learned_again_replaces_the_old_one(taught: StoredBundle, tmp_path: Path) -> None:
    bundle = open_bundle(Path(shutil.copytree(taught.path, tmp_path / "copy")))
    again = learn_templates(bundle, [moved("a late", 0, by=2.0), moved("a late", 0, by=0.7)])
    assert [entry.fault for entry in again.manifest.templates] == ["b late", "a late", "a late"]
    assert again.manifest.templates[1].gain > again.manifest.templates[2].gain


def test_what_cannot_be_learned_is_named_and_changes_nothing(taught: StoredBundle) -> None:
    with pytest.raises(InputError, match="fault 'nothing': the labelled events do not differ"):
        learn_templates(taught, [moved("c", 1), LabelledSample("nothing", healthy_events(1000, 3))])
    assert open_bundle(taught.path).identifier == taught.identifier


def test_a_template_that_does_not_fit_is_refused(taught: StoredBundle, tmp_path: Path) -> None:
    bundle = open_bundle(Path(shutil.copytree(taught.path, tmp_path / "copy")))
    (entry, _) = bundle.manifest.templates
    arrays = bundle.model(entry)
    swapped = {
        **entry.arrays,
        "templatescaling": entry.arrays["templatecenters"],
        "templatecenters": entry.arrays["templatescaling"],
    }
    broken = entry.model_copy(update={"arrays": swapped})
    bundle = bundle.add_templates([(broken, {name: bundle.model(broken)[name] for name in arrays})])
    with pytest.raises(BundleError, match=r"template of 'a late'.*Learn it again"):
        explained(Evaluator(bundle), healthy_events(60, 30) + 1.0)


def test_windows_cut_by_time_are_compared_beside_their_nuisance_parameters(
    calibrated: StoredBundle, tmp_path: Path
) -> None:
    bundle = open_bundle(Path(shutil.copytree(calibrated.path, tmp_path / "copy")))
    bundle = add_normalisation(bundle, "rate", 0.1)
    kind = WindowKind(cut=WindowCut.TIME, n_expected=60.0)
    bundle = calibrate(bundle, 100, kind=kind, seed=5, n_processes=1)
    evaluator = Evaluator(learn_templates(bundle, [moved("a late", 0)]))
    x = healthy_events(120, 34) + np.array([0.7, 0.0])
    rate = Measurement("rate", 0.0, 0.1, 0.0)
    window = Window(
        "s", 1, 0, "", Origin.LIVE, WindowCut.TIME, ("a", "b"), x, n_expected=60.0, auxiliary=(rate,)
    )
    explanation = evaluator.evaluate(window).find_explanation()
    assert explanation is not None
    # the expectation is the one that the rate, fitted against its measurement, allows for
    found = re.fullmatch(
        r"120 events where (\d+) are expected; looks like a late, (\d+) %; departs mostly in a .*",
        explanation.text,
    )
    assert found, explanation.text
    assert 60 <= int(found[1]) < 85
    assert int(found[2]) > 50
