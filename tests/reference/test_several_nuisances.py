"""The test of several kernels in bundles that know what may change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray, Measurement, Origin, Window, WindowCut
from dqm.reference import (
    Evaluation,
    Evaluator,
    LabelledSample,
    ReadingPolicy,
    Recipe,
    StoredBundle,
    Transform,
    WindowKind,
    add_normalisation,
    build_bundle,
    calibrate,
    create_bundle,
    learn_shape,
    learn_templates,
    validate,
)
from tests.reference.conftest import healthy_events

pytestmark = pytest.mark.slow

N_WINDOW, SIGMA = 100, 0.15
SHIFT = Transform(name="shift", features=("a", "b"))
KIND = WindowKind(cut=WindowCut.COUNT, n_expected=N_WINDOW)
FREE = WindowKind(cut=WindowCut.COUNT, n_expected=N_WINDOW, free=("gas",))


def run_events(n: int, seed: int, nu: float = 0.0) -> FloatArray:
    """Two features that gas moves, and a number of hits with few values that it does not."""
    hits = np.random.default_rng(seed).binomial(4, 0.5, n)
    return np.column_stack([healthy_events(n, seed) + nu, hits]).astype(float)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    path = tmp_path_factory.mktemp("reference") / "taught.dqmref"
    recipe = Recipe(("a", "b", "hits"), 2000, N_WINDOW, centers=100, seed=3, statistic="several")
    bundle = create_bundle(run_events(16_000, 1), recipe, path)
    bundle, _ = learn_shape(bundle, "gas", SIGMA, SHIFT, points=(-0.9, -0.3, 0.3, 0.9), method="kernel")
    bundle = calibrate(bundle, 300, kind=KIND, seed=5, n_processes=1)
    return calibrate(bundle, 100, kind=FREE, seed=6, n_processes=1)


@pytest.fixture(scope="module")
def evaluator(taught: StoredBundle) -> Evaluator:
    return Evaluator(taught)


def window(x: FloatArray, value: float | None) -> Window:
    names = ("a", "b", "hits")
    plain = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, names, x, 900.0, 1000.0)
    readings = () if value is None else (Measurement("gas", value, SIGMA, 970.0),)
    return replace(plain, auxiliary=readings)


def judge(evaluator: Evaluator, nu: float, n: int, bias: float = 0.0) -> list[Evaluation]:
    rng = np.random.default_rng(11)
    return [
        evaluator.evaluate(window(run_events(N_WINDOW, 500 + k, nu), rng.normal(nu + bias, SIGMA)))
        for k in range(n)
    ]


def test_a_bundle_of_several_kernels_keeps_its_test(taught: StoredBundle) -> None:
    assert taught.manifest.statistic == "several"
    assert [entry.name for entry in taught.manifest.nuisances] == ["gas"]


@pytest.mark.parametrize("sigmas", [0, -2, 2])
def test_what_a_nuisance_explains_does_not_alarm(evaluator: Evaluator, sigmas: int) -> None:
    results = judge(evaluator, sigmas * SIGMA, 100)
    p = np.array([result.p for result in results])
    assert 0.33 < np.mean(p < 0.5) < 0.67
    assert np.mean(p < 0.05) <= 0.13
    assert np.mean(p < 0.01) <= 0.06
    pulls = np.array([result.nuisances["gas"].reference.pull for result in results])
    assert abs(pulls.mean()) < 0.5
    assert 0.7 < pulls.std() < 1.4


def test_a_fault_of_one_feature_is_seen_and_explained_where_the_gas_is(evaluator: Evaluator) -> None:
    x = run_events(N_WINDOW, 50, 2 * SIGMA)
    x[:40, 2] = 4.0
    evaluation = evaluator.evaluate(window(x, 2 * SIGMA))
    assert evaluation.p < 1e-3
    explanation = evaluation.find_explanation()
    assert explanation is not None
    assert "hits alone" in explanation.text
    assert explanation.ranking[0][0] == "hits"
    (of_a,) = (one for one in explanation.maps if one.features == ("a",))
    # the reference is compared with as gas deforms it: its mean is that of the window
    middle = (of_a.edges[0][1:] + of_a.edges[0][:-1]) / 2
    means = [np.average(middle, weights=content) for content in (of_a.reference, of_a.data)]
    assert means[0] == pytest.approx(means[1], abs=0.25)


def test_what_imitates_gas_is_seen_beyond_its_measurement(evaluator: Evaluator) -> None:
    assert np.mean([result.p < 0.01 for result in judge(evaluator, SIGMA, 30, bias=-SIGMA)]) < 0.15
    far = judge(evaluator, 7 * SIGMA, 10, bias=-7 * SIGMA)
    assert np.mean([result.p < 0.01 for result in far]) > 0.8
    assert any("not what was measured" in one.find_explanation().text for one in far)


def test_without_its_measurement_a_parameter_is_free(evaluator: Evaluator) -> None:
    lenient = evaluator.evaluate(
        window(run_events(N_WINDOW, 60, 0.3), None), ReadingPolicy(unmeasured="free")
    )
    assert lenient.p > 0.01
    assert lenient.nuisances["gas"].reference.value == pytest.approx(0.3, abs=0.3)


def test_a_validation_passes(taught: StoredBundle) -> None:
    done = validate(taught, 60, kind=KIND, seed=7, sigmas=(-2.0, 2.0), n_processes=1)
    assert done.failed == ()
    assert done.points[1].ks_tau < 1e-3


def test_known_faults_are_told_beside_the_gas(taught: StoredBundle, tmp_path: Path) -> None:
    copy = StoredBundle.read(Path(shutil.copytree(taught.path, tmp_path / "copy")))

    def faulty(n: int, seed: int, nu: float, column: int) -> FloatArray:
        x = run_events(n, seed, nu)
        x[:, column] += 1.2
        return x

    samples = [
        LabelledSample(name, faulty(3000, 20 + k, 0.0, k)) for k, name in enumerate(("first", "second"))
    ]
    known = Evaluator(learn_templates(copy, samples))
    explanation = known.evaluate(window(faulty(N_WINDOW, 30, SIGMA, 1), SIGMA)).find_explanation()
    assert explanation is not None
    assert explanation.likenesses[0].fault == "second"


def test_a_rate_is_taken_in_windows_cut_by_time_alone() -> None:
    bundle = build_bundle(healthy_events(4000, 1), window=60, cut="time", centers=50)
    taught = add_normalisation(bundle, "rate", sigma=0.3)
    assert (taught.manifest.statistic, taught.manifest.null) == ("several", ())
    taught.calibrate(150)
    many = taught.evaluate(healthy_events(80, 3), n_expected=60, measured={"rate": 0.3})
    assert many.p > 0.02
    assert many.nuisances["rate"].reference.value == pytest.approx(np.log(80 / 60), abs=0.06)
    unexplained = taught.evaluate(healthy_events(200, 3), n_expected=60, measured={"rate": -0.3})
    assert unexplained.p < 0.01
    taught.calibrate(100, cut="count")
    assert taught.evaluate(healthy_events(60, 4)).nuisances == {}


def test_a_test_without_nuisance_parameters_is_not_given_one(tmp_path: Path) -> None:
    recipe = Recipe(("a", "b"), 1000, 50, centers=50, statistic="symmetrised")
    bundle = create_bundle(healthy_events(3000, 1), recipe, tmp_path / "b")
    with pytest.raises(InputError, match=r"takes no nuisance parameters.*--statistic several or kernel"):
        add_normalisation(bundle, "rate", 0.1)
