"""Coefficient functions of log r as a small neural network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import torch
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.taylor.training import Arrays, Progress, Setting, Settings, Training, quadratic_loss

__all__ = ["Network", "NetworkCoefficients"]

PASSES = 50
"""Passes over the largest sample, if the number of steps is not given. With three times as many
the network learns the fluctuations of small samples: the loss of other events is not smaller."""

LEAST_STEPS = 500
"""Fewest steps; the number follows from the passes."""

MOST_STEPS = 3000
"""Most steps."""

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; afterwards it falls to zero like a cosine."""


@dataclass(frozen=True, slots=True)
class Network:
    """Fully connected network with ReLU units, one output for each coefficient, trained with Adam.

    ReLU units suit detectors: log r has kinks and edges, for which smooth units need far more steps. Outside
    the training events log r continues linearly. In one dimension 16 units, 2 layers and 1000 steps are
    enough and take a few seconds.

    Parameters
    ----------
    units : int
        Units in each hidden layer, >= 1.
    depth : int
        Number of hidden layers, >= 1.
    steps : int, optional
        Steps of the optimiser, >= 1. By default 50 passes over the largest sample, within 500 and 3000.
    batch : int
        Events drawn from each sample in a step, >= 1.
    rate : float
        Largest learning rate, > 0.

    Raises
    ------
    InputError
        If a number is out of range.

    Notes
    -----
    Training runs in float32: the noise of a step is far larger than its rounding error. Parameters are stored
    in float64, and the functions are evaluated in float64.
    """

    units: int = 64
    depth: int = 4
    steps: int | None = None
    batch: int = 1024
    rate: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("units", "depth", "steps", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}", where="Network", fix="Give 1 or more")
        if not self.rate > 0:
            raise InputError(f"rate is {self.rate}", where="Network", fix="Give a number above 0")

    def learn(
        self, training: Training, rng: np.random.Generator, progress: Progress | None
    ) -> NetworkCoefficients:
        """Train the network.

        Parameters
        ----------
        training : Training
            Samples.
        rng : numpy.random.Generator
            Draws the initial parameters and the events of each step.
        progress : callable, optional
            Called after every step.

        Returns
        -------
        NetworkCoefficients
        """
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        sizes = _sizes(training.reference.shape[1], self.units, self.depth, training.monomials.shape[1])
        flat = _initial_parameters(sizes, generator).requires_grad_()
        optimiser = torch.optim.Adam([flat], lr=self.rate)
        samples = _single_precision(training)
        steps = self._n_steps(training)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = self.rate * _schedule((step + 0.5) / steps)
            optimiser.zero_grad()
            _batch_loss(flat, sizes, samples, self.batch, generator).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if progress is not None:
                progress(step + 1, steps)
        return NetworkCoefficients(flat.detach().double(), self.units, self.depth, sizes[0], sizes[-1])

    def _n_steps(self, training: Training) -> int:
        if self.steps is not None:
            return self.steps
        n_events = max(map(len, (training.reference, *training.shifted)))
        return min(max(LEAST_STEPS, PASSES * n_events // self.batch), MOST_STEPS)


@dataclass(frozen=True, slots=True)
class NetworkCoefficients:
    """A trained network.

    Parameters
    ----------
    parameters : Tensor, shape (n_parameters,)
        Matrices and offsets of the layers in order, each row by row.
    units, depth : int
        As in `Network`.
    n_features, order : int
        Numbers of inputs and outputs.
    """

    parameters: Tensor
    units: int
    depth: int
    n_features: int
    order: int

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluate the coefficients at standardised events of shape (n, d); shape (n, order)."""
        return _forward(self.parameters, _sizes(self.n_features, self.units, self.depth, self.order), z)

    def arrays(self) -> dict[str, FloatArray]:
        """Return the parameters by name."""
        return {"parameters": self.parameters.numpy()}

    def settings(self) -> dict[str, Setting]:
        """Return method and shape of the network."""
        return {"method": "network", "units": self.units, "depth": self.depth}

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Settings, n_features: int) -> NetworkCoefficients:
        """Rebuild a network from `arrays` and `settings`.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As `arrays` gave them.
        settings : mapping
            As `settings` gave them, and the ``order``.
        n_features : int
            Number of inputs.

        Returns
        -------
        NetworkCoefficients

        Raises
        ------
        InputError
            If the number of parameters does not fit the shape.
        KeyError
            If an entry is missing.
        """
        units, depth, order = (int(settings[key]) for key in ("units", "depth", "order"))
        sizes = _sizes(n_features, units, depth, order)
        wanted = sum((a + 1) * b for a, b in pairwise(sizes))
        values = np.array(arrays["parameters"], dtype=np.float64)
        if values.shape != (wanted,):
            raise InputError(
                f"parameters have shape {values.shape}, a network of {sizes} has {wanted}",
                where="TaylorModel",
            )
        return cls(torch.from_numpy(values), units, depth, n_features, order)


def _sizes(n_features: int, units: int, depth: int, order: int) -> tuple[int, ...]:
    return (n_features, *([units] * depth), order)


def _forward(flat: Tensor, sizes: tuple[int, ...], z: Tensor) -> Tensor:
    start = 0
    for layer, shape in enumerate(pairwise(sizes)):
        matrix = flat[start : start + prod(shape)].view(shape)
        start += prod(shape) + shape[1]
        z = torch.addmm(flat[start - shape[1] : start], z if layer == 0 else z.relu(), matrix)
    return z


def _initial_parameters(sizes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw uniformly within 1/sqrt(inputs), in the last layer ten times less, so that log r starts near 0."""
    parts = []
    for layer, (a, b) in enumerate(pairwise(sizes)):
        bound = a**-0.5 * (0.1 if layer == len(sizes) - 2 else 1.0)
        parts.append((2 * torch.rand((a + 1) * b, generator=generator) - 1) * bound)
    return torch.cat(parts)


def _schedule(t: float) -> float:
    return t / WARM_UP if t < WARM_UP else 0.5 * (1.0 + np.cos(np.pi * (t - WARM_UP) / (1.0 - WARM_UP)))


def _single_precision(training: Training) -> Training:
    """Convert to float32; mean weights become 1 in the reference and N(R_nu) / N(R_0) in the others."""
    return Training(
        training.reference.float(),
        (training.weights * len(training.weights)).float(),
        tuple(z.float() for z in training.shifted),
        tuple((w * len(w)).float() for w in training.shifted_weights),
        training.monomials.float(),
    )


def _batch_loss(
    flat: Tensor, sizes: tuple[int, ...], samples: Training, batch: int, generator: torch.Generator
) -> Tensor:
    """Estimate the loss of eq. 17 from events drawn with replacement."""
    draws = [
        torch.randint(len(z), (batch,), generator=generator) for z in (samples.reference, *samples.shifted)
    ]
    z = torch.cat([z[i] for z, i in zip((samples.reference, *samples.shifted), draws, strict=True)])
    out = _forward(flat, sizes, z).view(len(draws), batch, -1)
    at_reference = quadratic_loss(out[0] @ samples.monomials.T, shifted=False).sum(1)
    at_shifted = quadratic_loss((out[1:] @ samples.monomials[:, :, None])[:, :, 0], shifted=True)
    weights = torch.stack([w[i] for w, i in zip(samples.shifted_weights, draws[1:], strict=True)])
    return (samples.weights[draws[0]] * at_reference).mean() + (weights * at_shifted).mean(1).sum()
