"""The single step against a direct solution, against the converged fit, and against the Falkon library."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, falkon, one_step
from dqm.nplm.falkon import FalkonTest
from dqm.nplm.one_step import OneStepResult, OneStepTest
from dqm.reference import Recipe, calibrate, create_bundle, open_bundle, prepare_statistic

WIDTH, PENALTY, N_EXPECTED, N_CENTERS = 1.5, 1e-6, 150.0, 120

HAS_FALKON = importlib.util.find_spec("falkon") is not None
needs_falkon = pytest.mark.skipif(
    not HAS_FALKON, reason="the Falkon library is not installed, and PyPI does not have it"
)


def events(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x[:, 1] += 0.7 * x[:, 0]
    x[:, 2] = np.abs(x[:, 2]) + shift
    return x


REFERENCE = events(600, 1)
WINDOWS = {"healthy": events(150, 2), "faulty": events(170, 3, shift=0.8)}


def prepare(kind: type[OneStepTest] = OneStepTest) -> OneStepTest:
    return kind(
        REFERENCE,
        n_expected=N_EXPECTED,
        width=WIDTH,
        penalty=PENALTY,
        centers=N_CENTERS,
        rng=np.random.default_rng(4),
    )


def both(result: OneStepResult) -> FloatArray:
    return np.concatenate([result.log_ratio_reference, result.log_ratio])


def solve_directly(window: FloatArray) -> FloatArray:
    """Newton's step on all centres as one least-squares problem, which squares no matrix."""
    mean, scale = REFERENCE.mean(axis=0), REFERENCE.std(axis=0)
    x = (np.concatenate([REFERENCE, window]) - mean) / scale
    chosen = np.sort(np.random.default_rng(4).choice(600, size=N_CENTERS, replace=False))
    kernel = np.exp(-cdist(x, x[chosen], "sqeuclidean") / (2 * WIDTH**2))
    weights = np.concatenate([np.full(600, N_EXPECTED / 600), np.ones(len(window))])
    signs = np.repeat([-1.0, 1.0], [600, len(window)])
    values, vectors = np.linalg.eigh(kernel[chosen])
    root = np.sqrt(PENALTY * len(x) * values.clip(0))[:, None] * vectors.T
    rows = np.concatenate([0.5 * np.sqrt(weights)[:, None] * kernel, root])
    alpha = np.linalg.lstsq(rows, np.concatenate([signs * np.sqrt(weights), np.zeros(N_CENTERS)]))[0]
    f: FloatArray = kernel @ alpha
    return f


@pytest.mark.parametrize("name", WINDOWS)
def test_solves_newtons_equations(name: str) -> None:
    window = WINDOWS[name]
    result, expected = prepare().evaluate(window), solve_directly(window)
    np.testing.assert_allclose(both(result), expected, atol=5e-4 * np.ptp(expected))
    on_reference, on_data = np.split(expected, [600])
    t = -2 * (N_EXPECTED / 600 * np.expm1(on_reference).sum() - on_data.sum())
    assert result.converged
    assert result.t == result.tau == pytest.approx(t, rel=1e-4)


def test_one_step_falls_short_of_the_minimum_far_from_the_reference() -> None:
    fitted = KernelTest(
        REFERENCE,
        n_expected=N_EXPECTED,
        width=WIDTH,
        penalty=PENALTY,
        centers=N_CENTERS,
        rng=np.random.default_rng(4),
    )
    step = prepare()
    healthy, faulty = (step.evaluate(x).t / fitted.evaluate(x).t for x in WINDOWS.values())
    assert 0.9 < healthy < 1.0
    assert faulty < 0.9


def test_what_a_single_step_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="not defined for the loss 'likelihood'"):
        OneStepTest(
            REFERENCE,
            n_expected=N_EXPECTED,
            width=WIDTH,
            penalty=PENALTY,
            centers=REFERENCE[:9],
            loss="likelihood",
        )
    with pytest.raises(InputError, match="takes no nuisance parameters, got 1"):
        OneStepTest(
            REFERENCE,
            n_expected=N_EXPECTED,
            width=WIDTH,
            penalty=PENALTY,
            centers=REFERENCE[:9],
            nuisances=[Normalisation("rate", 0.1)],
        )
    with pytest.raises(InputError, match="penalty is 0"):
        OneStepTest(REFERENCE, n_expected=N_EXPECTED, width=WIDTH, penalty=0.0, centers=REFERENCE[:9])
    with pytest.raises(InputError, match="2 features, the reference has 3"):
        prepare().evaluate(REFERENCE[:, :2])
    with pytest.raises(InputError, match="unknown nuisance parameters: gas"):
        prepare().evaluate(REFERENCE, auxiliary={"gas": 0.0})


@pytest.mark.slow
def test_bundles_can_be_built_for_it(tmp_path: Path) -> None:
    recipe = Recipe(
        ("a", "b", "c"), n_reference=600, n_expected=100, width=WIDTH, penalty=PENALTY, centers=60,
        loss="logistic", statistic="one-step",
    )  # fmt: skip
    bundle = create_bundle(events(3000, 5), recipe, tmp_path / "b")
    table = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1)
    test = prepare_statistic(open_bundle(table.path), table.manifest.kind)
    assert isinstance(test.own, OneStepTest)
    assert test.evaluate(events(100, 6, shift=0.8)).t > table.toys(table.manifest.null[0])[:, 0].max()
    with pytest.raises(
        BundleError,
        match=r"unknown statistic 'other'. Installed: .*channels, .*falkon, .*one-step",
    ):
        create_bundle(events(3000, 5), replace(recipe, statistic="other"), tmp_path / "c")


@needs_falkon
@pytest.mark.parametrize("name", WINDOWS)
def test_falkon_finds_the_same(name: str) -> None:
    ours, theirs = (prepare(kind).evaluate(WINDOWS[name]) for kind in (OneStepTest, FalkonTest))
    f, g = both(ours), both(theirs)
    assert np.abs(f - g).max() < 1e-3 * np.ptp(f)
    assert theirs.t == pytest.approx(ours.t, rel=1e-3)


@pytest.mark.parametrize("kind", [OneStepTest, pytest.param(FalkonTest, marks=needs_falkon)])
def test_a_step_that_is_not_solved_gives_no_t(
    kind: type[OneStepTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (one_step, falkon):
        monkeypatch.setattr(module, "MAX_STEPS", 2)
    result = prepare(kind).evaluate(WINDOWS["faulty"])
    assert not result.converged
    assert math.isnan(result.t)


@needs_falkon
def test_falkon_stops_where_rounding_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(falkon, "MAX_STEPS", 100)
    arguments = {"n_expected": N_EXPECTED, "width": 2.0, "penalty": 1e-8, "centers": REFERENCE[:300]}
    ours, theirs = (
        kind(REFERENCE, **arguments).evaluate(WINDOWS["healthy"]) for kind in (OneStepTest, FalkonTest)
    )
    assert theirs.converged
    assert theirs.t == pytest.approx(ours.t, rel=1e-4)


@needs_falkon
def test_falkon_takes_equal_weights_only() -> None:
    with pytest.raises(InputError, match="weights differ"):
        FalkonTest(
            REFERENCE,
            n_expected=N_EXPECTED,
            width=WIDTH,
            penalty=PENALTY,
            centers=REFERENCE[:9],
            weights=np.arange(1.0, 601.0),
        )


@pytest.mark.skipif(HAS_FALKON, reason="the Falkon library is installed")
def test_without_the_library_it_is_said_where_to_get_it() -> None:
    with pytest.raises(InputError, match=r"the Falkon library is not installed. See https://falkonml"):
        prepare(FalkonTest)
