"""Small networks: their derivatives, and their fits, many at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from dqm.errors import InputError
from dqm.nplm.neural import Expansion, NetworkProblem, Perceptron, Rows, minimise

GENERATOR = torch.Generator().manual_seed(1)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


def make_problem(network: Perceptron | None, n: int, form: str = "likelihood", k: int = 0) -> NetworkProblem:
    """Give n fits with shared reference rows, own data rows, and a pool that has both."""
    d = 2 if network is None else network.n_features

    def expansion(*shape: int) -> Expansion | None:
        bend = 0.1 * normal(*shape, k, k)
        return Expansion(0.3 * normal(*shape, k), bend + bend.mT) if k else None

    rows = (
        Rows(normal(30, d), expected=torch.full((30,), 0.4, dtype=torch.float64), expansion=expansion(30)),
        Rows(normal(n, 12, d), seen=normal(n, 12).abs(), expansion=expansion(n, 12)),
        Rows(
            normal(8, d),
            expected=torch.full((8,), 0.2, dtype=torch.float64),
            seen=normal(n, 8).abs(),
            expansion=expansion(8),
        ),
    )
    bounds = torch.full((0 if network is None else network.n_parameters,), 3.0, dtype=torch.float64)
    precision = torch.full((k,), 4.0, dtype=torch.float64)
    return NetworkProblem(network, rows, bounds, 0.2 * normal(n, k), precision, ridge=0.1, form=form)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [(), (4,), (3, 2)])
def test_derivatives_of_a_network_are_differences(layers: tuple[int, ...]) -> None:
    network = Perceptron(2, layers)
    weights, x = normal(2, network.n_parameters), normal(5, 2)
    values, jacobian = network.jacobian(weights, x)
    for k in range(network.n_parameters):
        step = torch.zeros_like(weights)
        step[:, k] = 1e-6
        difference = (network.evaluate(weights + step, x) - network.evaluate(weights - step, x)) / 2e-6
        torch.testing.assert_close(jacobian[:, k], difference, rtol=1e-7, atol=1e-9)
    slopes = normal(2, 5)
    again, gradient = network.gradient(weights, x, slopes)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(gradient, (jacobian @ slopes.unsqueeze(2)).squeeze(2))


@pytest.mark.parametrize("form", ["likelihood", "logistic"])
@pytest.mark.parametrize("k", [0, 2])
def test_the_slope_of_the_loss_is_its_difference(form: str, k: int) -> None:
    network = Perceptron(2, (3,))
    problem = make_problem(network, 2, form, k)
    at = 0.5 * normal(2, network.n_parameters + k)
    found = problem.look(at)
    for i in range(at.shape[1]):
        step = torch.zeros_like(at)
        step[:, i] = 1e-6
        difference = (problem.look(at + step).loss - problem.look(at - step).loss) / 2e-6
        torch.testing.assert_close(found.slope[:, i], difference, rtol=1e-6, atol=1e-8)


def test_the_curvature_of_a_linear_function_is_the_second_difference() -> None:
    network = Perceptron(2, ())
    problem = make_problem(network, 2, "logistic")
    at = 0.5 * normal(2, network.n_parameters)
    found = problem.look(at)
    for i in range(at.shape[1]):
        step = torch.zeros_like(at)
        step[:, i] = 1e-6
        difference = (problem.look(at + step).slope - problem.look(at - step).slope) / 2e-6
        torch.testing.assert_close(found.curvature[:, i], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", ["likelihood", "logistic"])
def test_a_fit_ends_where_another_program_does(form: str) -> None:
    network = Perceptron(2, (2,))
    problem = make_problem(network, 3, form, 1)
    start = torch.cat([network.draw(3, normal(20, 2), GENERATOR), torch.zeros(3, 1, dtype=torch.float64)], 1)
    found = minimise(problem, start, tolerance=1e-9, max_steps=3000)
    assert found.converged.all()
    assert (found.points[:, :-1].abs() <= problem.bounds).all()
    for row in range(3):
        alone = problem.take(torch.tensor([row]))

        def loss(at: np.ndarray, alone: NetworkProblem = alone) -> tuple[float, np.ndarray]:
            point = alone.look(torch.from_numpy(at)[None])
            return float(point.loss), point.slope[0].numpy()

        bounds = [(-3.0, 3.0)] * network.n_parameters + [(None, None)]
        best = optimize.minimize(loss, found.points[row].numpy(), jac=True, method="L-BFGS-B", bounds=bounds)
        assert float(found.loss[row]) == pytest.approx(best.fun, abs=1e-5)


def test_fits_do_not_depend_on_those_beside_them() -> None:
    network = Perceptron(2, (3,))
    problem = make_problem(network, 4, k=1)
    start = torch.cat([network.draw(4, normal(20, 2), GENERATOR), torch.zeros(4, 1, dtype=torch.float64)], 1)
    together = minimise(problem, start, tolerance=1e-4, max_steps=2000)
    for row in range(4):
        place = torch.tensor([row])
        alone = minimise(problem.take(place), start[place], tolerance=1e-4, max_steps=2000)
        torch.testing.assert_close(alone.loss[0], together.loss[row], rtol=1e-3, atol=1e-4)


def test_without_a_network_only_nuisance_parameters_are_fitted() -> None:
    problem = replace(make_problem(None, 2, k=2), ridge=0.0)
    found = minimise(problem, problem.measured, tolerance=1e-10, max_steps=200)
    assert found.converged.all()
    assert (found.loss <= problem.look(problem.measured).loss).all()
    torch.testing.assert_close(
        problem.look(found.points).slope, torch.zeros(2, 2).double(), atol=1e-4, rtol=0
    )


def test_what_does_not_converge_says_so() -> None:
    network = Perceptron(2, (3,))
    problem = make_problem(network, 2)
    start = network.draw(2, normal(20, 2), GENERATOR)
    assert not minimise(problem, start, tolerance=1e-9, max_steps=3).converged.any()


@pytest.mark.parametrize(
    ("layers", "message"),
    [((0,), "0 neurons"), ((4, -1), "-1 neurons"), ((1.5,), "1.5 neurons"), ((1000,), "4001 parameters")],
)
def test_nonsense_layers_are_refused(layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Perceptron(2, layers)
