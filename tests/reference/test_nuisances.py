"""Bundles that know what may change: learning it, calibrating with it, judging by it, validating it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray, Measurement, Origin, PMethod, Window, WindowCut
from dqm.reference import (
    Evaluation,
    Evaluator,
    ReadingPolicy,
    Recipe,
    StoredBundle,
    Transform,
    WindowKind,
    add_normalisation,
    calibrate,
    create_bundle,
    learn_shape,
    open_bundle,
    validate,
)
from dqm.reference.nuisances import taylor_model
from tests.reference.conftest import healthy_events

pytestmark = pytest.mark.slow

N_WINDOW, SIGMA, NU = 100, 0.15, 0.6
RECIPE = Recipe(("a", "b"), 2000, N_WINDOW, 2.0, 1e-5, centers=100, seed=3, loss="likelihood")
SHIFT = Transform(name="shift", features=("a", "b"))
KIND = WindowKind(cut=WindowCut.COUNT, n_expected=N_WINDOW)
FREE = WindowKind(cut=WindowCut.COUNT, n_expected=N_WINDOW, free=("gas",))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """A bundle that knows a common shift of both features; calibrated with and without its measurement."""
    path = tmp_path_factory.mktemp("reference") / "taught.dqmref"
    bundle = create_bundle(healthy_events(20_000, 1), RECIPE, path)
    bundle, _ = learn_shape(bundle, "gas", SIGMA, SHIFT, points=(-0.9, -0.3, 0.3, 0.9), method="kernel")
    bundle = calibrate(bundle, 200, kind=KIND, seed=5, n_processes=1)
    return calibrate(bundle, 200, kind=FREE, seed=6, n_processes=1)


def shifted(nu: float, seed: int, n: int = N_WINDOW) -> FloatArray:
    return healthy_events(n, seed) + nu


def window(x: FloatArray, value: float | None = None, **fields: object) -> Window:
    """A window, measured 30 s before its end."""
    plain = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x, 900.0, 1000.0)
    readings = () if value is None else (Measurement("gas", value, SIGMA, 970.0),)
    return replace(plain, **{"auxiliary": readings, **fields})


def evaluate_shifted(evaluator: Evaluator, nu: float, bias: float = 0.0, n: int = 60) -> list[Evaluation]:
    rng = np.random.default_rng(11)
    return [evaluator.evaluate(window(shifted(nu, 500 + k), rng.normal(nu + bias, SIGMA))) for k in range(n)]


def test_a_learned_shift_is_the_exact_one(taught: StoredBundle) -> None:
    (entry,) = taught.manifest.nuisances
    assert (entry.name, entry.kind, entry.sigma, entry.transform) == ("gas", "shape", SIGMA, SHIFT)
    x = healthy_events(2000, 8)
    # log of N(x - nu) / N(x) for a ~ N(0, 1) and b - a ~ N(0, 1): a nu - nu^2 / 2
    exact = 0.3 * x[:, 0] - 0.045
    assert np.std(taylor_model(taught, entry).log_ratio(x, 0.3) - exact) < 0.05


def test_a_taught_bundle_reads_back_the_same(taught: StoredBundle) -> None:
    opened = open_bundle(taught.path)
    assert opened.identifier == taught.identifier
    x = healthy_events(50, 9)
    ours, theirs = (taylor_model(b, b.manifest.nuisances[0]).log_ratio(x, 0.2) for b in (taught, opened))
    np.testing.assert_array_equal(ours, theirs)


def test_what_a_nuisance_explains_does_not_alarm(taught: StoredBundle) -> None:
    evaluator = Evaluator(taught)
    for nu in (0.0, NU):
        results = evaluate_shifted(evaluator, nu)
        p = np.array([result.p for result in results])
        assert 0.3 < np.mean(p < 0.5) < 0.7
        assert np.mean(p < 0.01) <= 0.07
        pulls = np.array([result.nuisances["gas"].reference.pull for result in results])
        assert abs(pulls.mean()) < 0.5
        assert 0.7 < pulls.std() < 1.4
        values = np.array([result.nuisances["gas"].reference.value for result in results])
        assert values.mean() == pytest.approx(nu, abs=0.05)
        for result in results:
            assert result.t == pytest.approx(result.tau - result.delta)


def test_events_that_a_nuisance_may_move_beyond_the_reference_have_no_p_of_their_own(
    taught: StoredBundle,
) -> None:
    x = healthy_events(N_WINDOW, 41)
    x[:5] += 100.0
    found = Evaluator(taught).evaluate(window(x, 0.0))
    assert found.result.p_method is not PMethod.OUTSIDE
    assert any("where the reference has none" in remark for remark in found.remarks)


def test_the_same_shift_alarms_a_bundle_without_it(tmp_path: Path) -> None:
    plain = create_bundle(healthy_events(20_000, 1), RECIPE, tmp_path / "plain")
    evaluator = Evaluator(calibrate(plain, 200, kind=KIND, seed=5, n_processes=1))
    assert np.mean([result.p < 0.01 for result in evaluate_shifted(evaluator, NU, n=20)]) > 0.8


def test_a_fault_is_seen_and_one_that_looks_like_a_nuisance_pulls(taught: StoredBundle) -> None:
    evaluator = Evaluator(taught)
    fault = shifted(0.0, 1) * np.array([1.0, 1.6])
    assert evaluator.evaluate(window(fault, 0.0)).p < 1e-3
    imitations = evaluate_shifted(evaluator, 0.8, bias=-0.8, n=10)
    assert np.median([result.nuisances["gas"].reference.pull for result in imitations]) > 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auxiliary": ()}, "gas has no measurement"),
        ({"auxiliary": (Measurement("other", 0.0, 0.1, 970.0),)}, "gas has no measurement"),
        ({"auxiliary": (Measurement("gas", 0.0, 0.1, 300.0),)}, "gas has a measurement 700 s older than"),
        ({"auxiliary": (Measurement("gas", 0.0, 0.1, 1700.0),)}, "gas has a measurement 700 s later than"),
        (
            {"auxiliary": (Measurement("gas", 0.0, 0.2, 970.0),)},
            "an error of 0.2, the reference is made for 0.15",
        ),
    ],
)
def test_an_unusable_measurement_is_null_or_leaves_the_parameter_free(
    taught: StoredBundle, change: dict[str, object], words: str
) -> None:
    unusable = window(shifted(0.3, 2), **change)
    strict = Evaluator(taught).evaluate(unusable)
    assert strict.p is None
    assert re.search(words, strict.reason)
    lenient = Evaluator(taught, ReadingPolicy(unmeasured="free")).evaluate(unusable)
    assert lenient.p is not None
    assert lenient.p > 0.01
    assert re.search(f"{words}.*: fitted without it", lenient.remarks[0])
    gas = lenient.nuisances["gas"]
    assert (gas.measured, gas.reference.pull) == (None, None)
    assert gas.reference.value == pytest.approx(0.3, abs=0.25)


def test_a_free_parameter_takes_its_own_null_table(taught: StoredBundle, tmp_path: Path) -> None:
    copy = open_bundle(Path(shutil.copytree(taught.path, tmp_path / "copy")))
    only_measured = copy._replace({"null": copy.manifest.null[:1]}, {})
    result = Evaluator(only_measured, ReadingPolicy(unmeasured="free")).evaluate(window(shifted(0.0, 3)))
    assert result.p is None
    assert "no null table for windows of 100 events cut by count with gas free" in result.reason


def test_a_source_without_clock_has_readings_of_unknown_age(taught: StoredBundle) -> None:
    timeless = window(shifted(0.0, 4), auxiliary=(Measurement("gas", 0.0, 0.1, 0.0),), start=None, end=None)
    assert Evaluator(taught).evaluate(timeless).p is not None


def test_leaving_the_reference_is_remarked(taught: StoredBundle) -> None:
    evaluator = Evaluator(taught)
    (healthy,) = evaluate_shifted(evaluator, 0.0, n=1)
    assert healthy.remarks == ()
    far = shifted(0.0, 5)
    far[:8] += 9.0
    assert any(
        "8 events lie where the reference has none" in r for r in evaluator.evaluate(window(far, 0.0)).remarks
    )
    (beyond,) = evaluate_shifted(evaluator, 1.2, n=1)
    assert any("outside the -0.9 to 0.9 it was learned in" in remark for remark in beyond.remarks)


def test_a_rate_is_felt_by_windows_cut_by_time_alone(tmp_path: Path) -> None:
    recipe = Recipe(("a", "b"), 1000, 60, 2.0, 1e-5, centers=60, seed=3, loss="likelihood")
    bundle = add_normalisation(create_bundle(healthy_events(8000, 1), recipe, tmp_path / "b"), "rate", 0.3)
    timed = WindowKind(cut=WindowCut.TIME, n_expected=60)
    for kind in (timed, recipe_kind := WindowKind(cut=WindowCut.COUNT, n_expected=60)):
        bundle = calibrate(bundle, 100, kind=kind, seed=5, n_processes=1)
    evaluator = Evaluator(bundle)
    reading = (Measurement("rate", 0.3, 0.3, 970.0),)
    many = window(healthy_events(80, 7), cut=WindowCut.TIME, n_expected=60.0, auxiliary=reading)
    result = evaluator.evaluate(many)
    assert result.p > 0.05
    assert result.nuisances["rate"].reference.value == pytest.approx(np.log(80 / 60), abs=0.03)
    counted = evaluator.evaluate(window(healthy_events(60, 7)))
    assert counted.p is not None
    assert counted.nuisances == {}
    points = validate(bundle, 60, kind=timed, seed=9, sigmas=(1.0,), n_processes=1).points
    assert [(p.name, p.nu, p.source) for p in points] == [("", 0.0, "pool"), ("rate", 0.3, "rate")]
    assert len(validate(bundle, 60, kind=recipe_kind, seed=9, n_processes=1).points) == 1


def test_validation_passes_where_the_nuisance_is_right_and_fails_where_not(taught: StoredBundle) -> None:
    wrong = healthy_events(2000, 12) + np.array([0.0, 1.2])  # called gas, but only b moved
    seen: list[tuple[int, int]] = []
    done = validate(
        taught,
        60,
        kind=KIND,
        seed=5,  # that of the null table: must not repeat its toys
        sigmas=(-2.0, 2.0),
        samples={("gas", 0.3): shifted(0.3, 13, 4000), ("gas", 0.6): wrong},
        n_processes=1,
        progress=lambda n, total: seen.append((n, total)),
    )
    assert [point.source for point in done.points] == [
        "pool",
        "transformed",
        "transformed",
        "sample",
        "sample",
    ]
    assert [point.nu for point in done.failed] == [0.6]
    assert done.points[1].ks_tau < 1e-3 < done.points[1].ks_t
    assert done.points[4].share > 0.5
    assert seen[-1] == (300, 300)
    assert not np.isin(done.points[0].t, done.null_t).any()
    assert not list(taught.path.glob("toys-*"))


def test_samples_teach_as_well_and_drop_the_null_tables(taught: StoredBundle, tmp_path: Path) -> None:
    bundle = open_bundle(Path(shutil.copytree(taught.path, tmp_path / "copy")))
    samples = {nu: shifted(nu, 20 + k, 8000) for k, nu in enumerate((-0.5, 0.5))}
    threads: set[int] = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        changed, checks = learn_shape(
            bundle,
            "gas",
            0.2,
            samples,
            method="kernel",
            order=1,
            progress=lambda *_: threads.add(torch.get_num_threads()),
        )
        assert threads == {1}  # two threads of a busy machine were ten times as slow
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert changed.manifest.null == ()
    assert changed.manifest.parent == bundle.identifier
    assert [entry.sigma for entry in changed.manifest.nuisances] == [0.2]
    assert [check.nu for check in checks] == [-0.5, 0.5]
    assert all(check.gain > 0.02 for check in checks)
    with pytest.raises(BundleError, match="no null table"):
        validate(changed, 60, kind=KIND, seed=1)


@pytest.mark.parametrize(
    ("samples", "points", "words"),
    [
        (Transform(name="shift", features=("c",)), (0.1, -0.1), "no feature c. Choose from a, b"),
        (Transform(name="twist", features=("a",)), (0.1, -0.1), "unknown transformation 'twist'"),
        (SHIFT, (0.1,), "both sides of 0"),
        ({0.1: np.zeros((50, 2)), -0.1: np.zeros((5000, 2))}, (), "has 40 events"),
    ],
)
def test_what_cannot_be_learned_leaves_the_bundle_alone(
    taught: StoredBundle, samples: object, points: tuple[float, ...], words: str
) -> None:
    with pytest.raises((InputError, BundleError), match=words):
        learn_shape(taught, "gas", 0.1, samples, points=points, method="kernel")
    assert open_bundle(taught.path).identifier == taught.identifier


def test_a_truncated_model_is_refused(taught: StoredBundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(taught.path, tmp_path / "copy"))
    file = copy / taught.manifest.nuisances[0].arrays["parameters"].name
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(BundleError, match="checksum"):
        open_bundle(copy)
