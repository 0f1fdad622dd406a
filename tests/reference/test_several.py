"""Bundles whose test chooses its kernels itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from dqm.errors import BundleError, InputError
from dqm.events import Origin, Window, WindowCut
from dqm.nplm import KernelResult, KernelTest, SeveralTest
from dqm.nplm.score import Score
from dqm.reference import (
    Evaluator,
    LabelledSample,
    StoredBundle,
    ToySource,
    calibrate,
    create_bundle,
    learn_templates,
    open_bundle,
    prepare_statistic,
)
from dqm.reference.explanation import N_HEALTHY
from dqm.reference.splits import split_events
from tests.conftest import Once
from tests.reference.conftest import RECIPE, healthy_events


@pytest.fixture(scope="module")
def several(once: Once) -> StoredBundle:
    def build(path: Path) -> None:
        bundle = create_bundle(
            healthy_events(6000, 1), replace(RECIPE, width=None, penalty=None, statistic="several"), path
        )
        calibrate(bundle, 400, kind=bundle.manifest.kind, seed=5, n_processes=1)

    return open_bundle(once("several.dqmref", build))


def window(x: np.ndarray) -> Window:
    return Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x)


def shifted(seed: int, *by: float) -> np.ndarray:
    return healthy_events(60, seed) + np.array(by)


def test_the_bundle_keeps_what_was_chosen(several: StoredBundle) -> None:
    settings = several.manifest.settings
    assert [len(settings[name]) for name in ("width", "feature_width", "mean_ratio")] == [6, 4, 10]
    assert several.manifest.settings_in_words["mean_ratio"].endswith("... (10)")


def test_building_says_how_far_the_choice_of_the_test_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    recipe = replace(RECIPE, width=None, penalty=None, statistic="several")
    create_bundle(
        healthy_events(1500, 1),
        recipe,
        tmp_path / "b",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (200, 200)


def test_healthy_windows_have_uniform_p_and_a_fault_a_small_one(several: StoredBundle) -> None:
    evaluator = Evaluator(several)
    p = [evaluator.evaluate(window(x)).p for x in healthy_events(60 * 200, 7).reshape(200, 60, 2)]
    assert 0.43 < np.mean(p) < 0.57
    found = evaluator.evaluate(window(shifted(8, 1.0, 0.0)))
    assert found.p is not None
    assert found.p < 1e-3


def test_toys_have_the_t_of_their_windows_alone(several: StoredBundle) -> None:
    """They are tested together, by the places of their events in the pool."""
    (entry,) = several.manifest.null
    source, test = ToySource(several, entry.kind), prepare_statistic(several, entry.kind)
    alone = [test.evaluate(source.throw(entry.seed, number).x).t for number in range(40)]
    np.testing.assert_allclose(several.toys(entry)[:40, 0], alone, rtol=1e-7)


def test_toys_that_an_interruption_lost_are_thrown_again(several: StoredBundle, tmp_path: Path) -> None:
    bundle = open_bundle(Path(shutil.copytree(several.path, tmp_path / "copy")))
    kind = bundle.manifest.kind

    class StoppedError(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done >= 1000:
            raise StoppedError

    with pytest.raises(StoppedError):
        calibrate(bundle, 1200, kind=kind, seed=6, n_processes=1, progress=stop)
    seen: list[int] = []
    resumed = calibrate(
        bundle, 1200, kind=kind, seed=6, n_processes=1, progress=lambda done, _: seen.append(done)
    )
    assert seen == [1000, 1200]
    shutil.copytree(several.path, tmp_path / "other")
    straight = calibrate(open_bundle(tmp_path / "other"), 1200, kind=kind, seed=6, n_processes=1)
    assert resumed.identifier == straight.identifier


def test_a_bundle_keeps_what_its_kernels_computed(
    several: StoredBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = several.manifest.null
    windows = [shifted(8, 0.3, 0.0), shifted(9, 0.0, 0.0)]
    before = StoredBundle.read(_copy(several, tmp_path))._replace({"prepared": {}}, {})
    assert not before.manifest.prepared
    computed = [prepare_statistic(before, entry.kind).evaluate(x).t for x in windows]
    monkeypatch.setattr(Score, "__init__", Mock(side_effect=AssertionError("it was computed again")))
    test = prepare_statistic(several, entry.kind)
    np.testing.assert_allclose([test.evaluate(x).t for x in windows], computed, rtol=1e-12)


def test_what_was_computed_for_other_kernels_is_refused(several: StoredBundle) -> None:
    (entry,) = several.manifest.null
    settings = {**several.manifest.settings, "feature_width": ()}
    settings |= {name: settings[name][:6] for name in ("mean_ratio", "variance_ratio")}  # type: ignore[index]
    with pytest.raises(InputError, match=r"10 kernels prepared, and 6 to prepare\. Build the bundle again"):
        SeveralTest(
            several.reference,
            n_expected=entry.kind.n_expected,
            centers=several.centers,
            prepared=several.prepared,
            **settings,  # type: ignore[arg-type]
        )


def test_a_first_explanation_fits_healthy_toys_with_the_setting_that_saw_the_window_alone(
    several: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kernel that is prepared, and each fit, is time in which verdicts on others wait."""
    fits: dict[KernelTest, list[int]] = {}
    evaluate = KernelTest.evaluate

    def count(self: KernelTest, *arguments: Any, **others: Any) -> KernelResult:
        result = evaluate(self, *arguments, **others)
        fits.setdefault(self, []).append(result.iterations)
        return result

    monkeypatch.setattr(KernelTest, "evaluate", count)
    evaluator = Evaluator(several)
    for change in (
        shifted(8, 1.0, 0.0),
        np.repeat(shifted(9, 0.5, 0.0)[:1], 60, axis=0),
        shifted(10, 9.0, 0.0),
    ):
        evaluation = evaluator.evaluate(window(change))
        before = sum(map(len, fits.values()))
        assert evaluation.find_explanation() is not None
        assert sum(map(len, fits.values())) - before in (1, 1 + N_HEALTHY)
        steps = next(reversed(fits.values()))
        assert max(steps) <= 12, "a fit of maps takes a few steps, also far from the reference"
    assert len(fits) <= 3


@pytest.mark.slow
def test_toys_of_fresh_splits_are_tested_against_their_own_reference(tmp_path: Path) -> None:
    recipe = replace(RECIPE, width=None, penalty=None, statistic="several", n_reference=200, centers=60)
    bundle = create_bundle(healthy_events(380, 1), recipe, tmp_path / "short")
    kind = bundle.manifest.kind
    bundle = calibrate(bundle, 100, kind=kind, seed=5, n_processes=1)
    (entry,) = bundle.manifest.null
    assert entry.per_split == 3
    for number in (0, 4, 98):
        reference, centers, pool = split_events(bundle, 5, number // 3)
        test = SeveralTest(
            reference.x, n_expected=kind.n_expected, centers=centers, **bundle.manifest.settings
        )
        toy = ToySource(bundle, kind, pool=pool).throw(5, number)
        assert bundle.toys(entry)[number, 0] == pytest.approx(test.evaluate(toy.x).t, rel=1e-6)


def test_an_explanation_names_the_kernel_that_saw_it(several: StoredBundle) -> None:
    found = Evaluator(several).evaluate(window(shifted(8, 1.5, 0.0)))
    explanation = found.find_explanation()
    assert explanation is not None
    assert "; seen by a kernel of width" in explanation.text
    assert explanation.ranking[0][0] == "a"
    assert len(explanation.maps) == 2


def test_known_faults_are_told_from_each_other(several: StoredBundle, tmp_path: Path) -> None:
    bundle = StoredBundle.read(_copy(several, tmp_path))
    samples = [
        LabelledSample(name, healthy_events(2000, 20 + k) + shift)
        for k, (name, shift) in enumerate({"left": [-1.0, 0.0], "up": [0.0, 1.0]}.items())
    ]
    taught = learn_templates(bundle, samples)
    explanation = Evaluator(taught).evaluate(window(shifted(9, 0.0, 1.0))).find_explanation()
    assert explanation is not None
    assert explanation.likenesses[0].fault == "up"


def _copy(bundle: StoredBundle, folder: Path) -> Path:
    return Path(shutil.copytree(bundle.path, folder / "copy"))


def test_settings_of_another_version_are_refused(several: StoredBundle, tmp_path: Path) -> None:
    bundle = StoredBundle.read(_copy(several, tmp_path))
    settings = {**bundle.manifest.settings, "handicap": 2.0}
    changed = bundle._replace({"settings": settings}, {})
    with pytest.raises(BundleError, match=r"settings are none of the statistic 'several'.*Build the bundle"):
        prepare_statistic(changed, changed.manifest.kind)


@pytest.mark.slow
def test_widths_and_penalties_may_be_given_and_the_rest_is_measured_for_them(tmp_path: Path) -> None:
    given = {"width": [0.5, 2], "penalty": [1e-6, 1e-4]}
    recipe = replace(RECIPE, width=None, penalty=None, statistic="several", settings=given)
    settings = create_bundle(healthy_events(1500, 1), recipe, tmp_path / "b").manifest.settings
    assert (settings["width"], settings["penalty"]) == ((0.5, 2.0), (1e-6, 1e-4))
    assert len(settings["mean_ratio"]) == 2 + len(settings["feature_width"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": [0.5, 2], "penalty": [1e-6] * 3}, "2 widths and 3 penalties"),
        ({"width": "wide"}, "width is 'wide'"),
        ({"width": [-1.0]}, "width is -1.0"),
        ({"loss": "logistic"}, "no setting 'loss'"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, given: dict[str, object], words: str) -> None:
    recipe = replace(RECIPE, width=None, penalty=None, statistic="several", settings=given)
    with pytest.raises(InputError, match=words):
        create_bundle(healthy_events(1500, 1), recipe, tmp_path / "b")
    assert not (tmp_path / "b").exists()
