"""Objective, gradient and Hessian of both losses with nuisance parameters, against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dqm.events import FloatArray
from dqm.nplm import LossName, Normalisation, Shape
from dqm.nplm.hessian import Hessian, variances
from dqm.nplm.loss import LOSSES
from dqm.nplm.nuisance import log_ratio_coefficients
from dqm.nplm.problem import Events, FitProblem, Totals, evaluate, gradient

N_EXPECTED = 10.0
N_BASIS = 4
STEP = 1e-5
"""Central differences are then exact to about 1e-10 of the values."""

NUISANCES = (
    Normalisation("rate", sigma=0.3),
    Shape("gas", sigma=0.2, linear=lambda x: x[:, 0], quadratic=lambda x: 1.0 + x[:, 1] ** 2),
    Shape("both", sigma=0.5, linear=lambda x: np.stack([np.sin(x[:, 1]), np.cos(x[:, 0])], 1)),
)
N_NUISANCES = len(NUISANCES)
HEAVY, LIGHT = 0.8, -0.8
"""Values of the rate at which log r is bent upwards, in the sum over the events, and downwards."""


def columns(x: FloatArray) -> list[Tensor]:
    """Basis functions and coefficients of log r at events."""
    directions = np.random.default_rng(2).normal(size=(2, N_BASIS))
    return [torch.from_numpy(c) for c in (np.sin(x @ directions), *log_ratio_coefficients(NUISANCES, x))]


def make_problem(loss: LossName) -> FitProblem:
    """Two windows of different sizes against a reference of unequal weights."""
    rng = np.random.default_rng(3)
    phi, linear, quadratic = columns(rng.normal(size=(60, 2)))
    weights = torch.from_numpy(rng.dirichlet(np.ones(60)) * N_EXPECTED)
    windows = [columns(rng.normal(size=(n, 2))) for n in (9, 12)]
    totals = Totals(*(torch.stack([part.sum(0) for part in parts]) for parts in zip(*windows, strict=True)))
    padded = [pad_sequence(list(parts), batch_first=True) for parts in zip(*windows, strict=True)]
    present = pad_sequence([torch.ones(len(parts[0]), dtype=torch.float64) for parts in windows], True)
    seen = slice(0) if LOSSES[loss].linear_in_data else slice(None)
    return FitProblem(
        reference=Events(phi, linear, quadratic, weights),
        data=Events(*(part[:, seen] for part in (*padded, present))),
        totals=totals,
        loss_name=loss,
        n_expected=N_EXPECTED,
        second_moment=(weights[:, None] * phi**2).sum(0),
        ridge=torch.tensor([0.5, 0.7], dtype=torch.float64),
        precision=torch.tensor([n.sigma**-2.0 for n in NUISANCES], dtype=torch.float64),
        measured=torch.tensor([[0.1, -0.1, 0.2], [0.0, 0.2, -0.3]], dtype=torch.float64),
        enough=torch.full((2,), torch.inf, dtype=torch.float64),
    )


def make_point(rate: float) -> Tensor:
    """Coordinates and nuisance parameters side by side, away from every minimum; one row a window."""
    rng = np.random.default_rng(4)
    point = torch.from_numpy(rng.normal(scale=0.3, size=(2, N_BASIS + N_NUISANCES)))
    point[:, N_BASIS] = rate
    return point


def objective_at(problem: FitProblem, point: Tensor) -> Tensor:
    return evaluate(problem, point[:, :N_BASIS], point[:, N_BASIS:]).objective


def gradient_at(problem: FitProblem, point: Tensor) -> Tensor:
    return gradient(problem, evaluate(problem, point[:, :N_BASIS], point[:, N_BASIS:]))


def steps() -> Tensor:
    return STEP * torch.eye(N_BASIS + N_NUISANCES, dtype=torch.float64)


def numerical_hessian(problem: FitProblem, point: Tensor) -> Tensor:
    """Differences of the gradient; shape (windows, r + k, r + k)."""
    found = [gradient_at(problem, point + step) - gradient_at(problem, point - step) for step in steps()]
    return torch.stack(found, 2) / (2 * STEP)


def hessian_at(problem: FitProblem, point: Tensor) -> Hessian:
    return Hessian.at(problem, evaluate(problem, point[:, :N_BASIS], point[:, N_BASIS:]), N_BASIS)


def product(hessian: Hessian) -> Tensor:
    return hessian.factor @ hessian.factor.mT


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
@pytest.mark.parametrize("rate", [HEAVY, LIGHT])
def test_the_gradient_is_that_of_the_objective(loss: LossName, rate: float) -> None:
    problem, point = make_problem(loss), make_point(rate)
    found = [objective_at(problem, point + step) - objective_at(problem, point - step) for step in steps()]
    numerical = torch.stack(found, 1) / (2 * STEP)
    torch.testing.assert_close(gradient_at(problem, point), numerical, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
def test_the_hessian_is_that_of_the_objective_where_log_r_is_bent_upwards(loss: LossName) -> None:
    problem, point = make_problem(loss), make_point(HEAVY)
    numerical, hessian = numerical_hessian(problem, point), hessian_at(problem, point)
    torch.testing.assert_close(product(hessian), numerical, rtol=1e-7, atol=1e-7)
    exact = torch.linalg.inv(numerical).diagonal(dim1=1, dim2=2)[:, N_BASIS:]
    here = evaluate(problem, point[:, :N_BASIS], point[:, N_BASIS:])
    torch.testing.assert_close(variances(problem, here, hessian), exact, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
def test_only_what_bends_log_r_downwards_is_left_out_of_the_hessian(loss: LossName) -> None:
    problem, point = make_problem(loss), make_point(LIGHT)
    left_out = product(hessian_at(problem, point)) - numerical_hessian(problem, point)
    shapes = slice(N_BASIS + 1, None)  # the rate's own log r is not bent
    others = left_out.clone()
    others[:, shapes, shapes] = 0.0
    torch.testing.assert_close(others, torch.zeros_like(others), rtol=0.0, atol=1e-7)
    bent = torch.linalg.eigvalsh(left_out[:, shapes, shapes])
    assert bent.min() > -1e-7
    assert bent.max() > 0.1


@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
def test_the_objective_is_the_sum_over_the_events(loss: LossName) -> None:
    problem, point = make_problem(loss), make_point(HEAVY)
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(60, 2))
    weights = rng.dirichlet(np.ones(60)) * N_EXPECTED
    for row, n in enumerate((9, 12)):
        a, nu = point[row, :N_BASIS].numpy(), point[row, N_BASIS:].numpy()
        f, f_data = (log_ratio(x, a, nu) for x in (reference, rng.normal(size=(n, 2))))
        if loss == "likelihood":
            expected, curvature = (weights * np.expm1(f)).sum() - f_data.sum(), 1.0
        else:
            expected = (weights * np.log1p(np.exp(f))).sum() + np.log1p(np.exp(-f_data)).sum()
            curvature = 0.5
        pulls = (nu - problem.measured[row].numpy()) / [n.sigma for n in NUISANCES]
        expected += 0.5 * float(problem.ridge[row]) * (a**2).sum() + 0.5 * curvature * (pulls**2).sum()
        assert float(objective_at(problem, point)[row]) == pytest.approx(expected, rel=1e-12)


def log_ratio(x: FloatArray, a: FloatArray, nu: FloatArray) -> FloatArray:
    """``f + log r``, written out (d'Agnolo et al. 2022, eq. 14)."""
    directions = np.random.default_rng(2).normal(size=(2, N_BASIS))
    rate, gas, both = nu
    return (
        np.sin(x @ directions) @ a
        + rate
        + (gas * x[:, 0] + gas**2 / 2 * (1 + x[:, 1] ** 2))
        + (both * np.sin(x[:, 1]) + both**2 / 2 * np.cos(x[:, 0]))
    )
