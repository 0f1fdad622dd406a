"""t against the plainly written test: reduced centres, nodes, float32 and early stopping cost below 1e-3."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, Shape
from dqm.nplm.samples import Sample
from tests.benchmarks.inputs import SETTINGS
from tests.nplm.test_kernel_test import toy_chamber
from tests.nplm.truth import PlainTest
from tests.studies.agreement import N_WINDOWS, differences

N_EXPECTED, N_REFERENCE = 400, 1600


def deltas(x: FloatArray) -> FloatArray:
    """Smooth coefficients of some nuisance parameter; what they mean does not matter here."""
    z = x[:, 0] / 100.0
    return np.column_stack([np.sin(z) - 0.2 * z, 0.1 * z * z - 0.3])


def windows(rng: np.random.Generator) -> list[FloatArray]:
    """Healthy, shifted, half missing, from one corner, with a peak."""
    peak = rng.normal([150.0, 150.0, 150.0, 150.0, 0.0], [30.0, 30.0, 30.0, 30.0, 5.0], (60, 5))
    corner = toy_chamber(3000, rng)
    return [
        toy_chamber(400, rng),
        toy_chamber(430, rng, 4.0),
        toy_chamber(200, rng),
        corner[corner[:, 4] > 10.0][:400],
        np.concatenate([toy_chamber(380, rng), peak]),
        toy_chamber(400, rng) * np.array([1.0, 0.98, 1.02, 1.0, 1.0]),
    ]


@pytest.mark.parametrize("with_nuisance", [False, True])
@pytest.mark.parametrize(
    ("loss", "width", "penalty", "n_centers"),
    [("logistic", 4.5, 1e-7, 500), pytest.param("likelihood", 2.5, 1e-7, 250, marks=pytest.mark.slow)],
)
def test_t_is_within_a_thousandth_of_the_plain_test(
    loss: LossName, width: float, penalty: float, n_centers: int, with_nuisance: bool
) -> None:
    rng = np.random.default_rng(31)
    reference = toy_chamber(N_REFERENCE, rng)
    centers = reference[:n_centers]
    nuisances = [Shape("gas", 0.05, linear=deltas)] if with_nuisance else []
    test = KernelTest(
        reference,
        n_expected=N_EXPECTED,
        width=width,
        penalty=penalty,
        centers=centers,
        loss=loss,
        nuisances=nuisances,
    )
    plain = PlainTest(
        reference, centers, N_EXPECTED, width, penalty, loss, deltas if with_nuisance else None, 0.05
    )
    auxiliary = {"gas": 0.03} if with_nuisance else None
    for x in windows(rng):
        result = test.evaluate(x, auxiliary=auxiliary)
        assert result.converged
        assert abs(result.t - plain.t(x, 0.03)) <= 1e-3 * max(1.0, abs(result.t))


def gauss(n: int, rng: np.random.Generator) -> FloatArray:
    """Two features without structure: few functions, so that what is dropped is seen by all events alike."""
    return rng.normal(size=(n, 2))


def heavy(n: int, rng: np.random.Generator) -> FloatArray:
    """Three features with tails: some events of each window are far from all of the reference."""
    return rng.standard_t(3, size=(n, 3))


@pytest.mark.parametrize("make", [toy_chamber, gauss, heavy])
@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
@pytest.mark.parametrize(
    "penalty", [1e-8, *(pytest.param(penalty, marks=pytest.mark.slow) for penalty in (1e-7, 1e-6)), 1e-4]
)
@pytest.mark.parametrize(
    ("n", "n_data", "width"),
    [(400, 200, 2.5), (1000, 250, 4.5), pytest.param(600, 600, 1.5, marks=pytest.mark.slow)],
)
def test_small_references_and_remote_events_keep_the_promise(
    make: Callable[[int, np.random.Generator], FloatArray],
    loss: LossName,
    penalty: float,
    n: int,
    n_data: int,
    width: float,
) -> None:
    """At a remote event the penalty alone limits f: what is negligible elsewhere was 1 to 25 % of t."""
    rng = np.random.default_rng(17)
    reference, data = make(n, rng), make(n_data, rng)
    test = KernelTest(
        reference, n_expected=n_data, width=width, penalty=penalty, centers=reference, loss=loss
    )
    expected = PlainTest(reference, reference, n_data, width, penalty, loss).t(data)
    found = [test.evaluate(data), *test.evaluate_many([reference[:30], data])[1:]]
    assert all(result.converged for result in found)
    assert [result.t for result in found] == pytest.approx([expected] * 2, rel=1e-3, abs=1e-3)
    weights, f = found[0].reference_weights, found[0].log_ratio_reference
    t = -2.0 * (weights @ np.expm1(f) - found[0].log_ratio.sum())
    assert found[0].t == pytest.approx(t, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("loss", "most"), [("logistic", None), ("likelihood", 1)])
def test_a_window_is_fitted_with_no_more_remote_functions_than_it_has_remote_events(
    loss: LossName, most: int | None
) -> None:
    """With all remote functions of the basis a window took up to twice the time."""
    rng = np.random.default_rng(19)
    reference = toy_chamber(1000, rng)
    test = KernelTest(reference, n_expected=200.0, width=4.5, penalty=1e-7, centers=reference, loss=loss)
    basis, r = test._ready.basis, test.n_independent
    windows = [toy_chamber(200, rng), reference[:50], np.concatenate([reference[:150], toy_chamber(50, rng)])]
    remote = [len(basis.split(torch.from_numpy(x), r, test._negligible)[1]) for x in windows]
    assert remote[1] == 0
    assert remote[0] > remote[2] > 1
    problem, axes = test._problem([Sample(x) for x in windows], torch.zeros(3, 0, dtype=torch.float64))
    assert problem.totals.phi.shape == (3, r + (most or max(remote)))
    for x, axis in zip(windows, axes, strict=True):
        functions = basis.split(torch.from_numpy(x), r, test._negligible)[2]
        of_window = functions.sum(0, keepdim=True) if loss == "likelihood" else functions
        b = torch.from_numpy(rng.normal(size=axis.values.shape[1]))
        a = axis.rotate_back(b, functions.shape[1])
        # the transform of nearly redundant kernels enlarges last digits, which differ between processors
        rounding = 1e-6 * float(functions.norm() * a.norm())
        assert (of_window @ a).numpy() == pytest.approx((axis.values @ b).numpy(), rel=0.0, abs=rounding)
        assert float(a @ a) == pytest.approx(float(b @ b), rel=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_t_is_within_a_thousandth_for_200_simulated_windows(name: str) -> None:
    found = differences(SETTINGS[name])
    assert {condition: len(values) for condition, values in found.items()} == N_WINDOWS
    assert sum(N_WINDOWS.values()) == 200
    assert max(np.abs(values).max() for values in found.values()) <= 1e-3
