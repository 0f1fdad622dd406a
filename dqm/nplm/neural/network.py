"""Small fully connected networks, many at once: one set of weights for each network, one output each.

One network of 4 neurons is too little work for a processor, so the weights of many have a leading dimension
and all take the same steps. Events are shared by all, or each network has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import torch
from torch import Tensor

from dqm.errors import InputError

__all__ = ["BATCH_BYTES", "PRECISION", "Perceptron"]

PRECISION = torch.float64
"""Type of all numbers."""

BATCH_BYTES = 2**23
"""Memory for the derivatives of the fits that take their steps together: more exceeds the cache."""

MOST_PARAMETERS = 2000
"""Most parameters of a network: a step solves as many equations."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Shape of a network with sigmoid units and a linear output; its weights are arguments.

    The weights of a network are a vector: for each layer its matrix, row by row, and its offsets.

    Parameters
    ----------
    n_features : int
        Numbers of an event.
    layers : tuple of int
        Neurons of each hidden layer, from the input on; none makes a linear function.

    Raises
    ------
    InputError
        If a layer has no neuron, or the network has more than 2000 parameters.
    """

    n_features: int
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        wrong = [n for n in self.layers if n != int(n) or n < 1]
        if wrong:
            raise InputError(
                f"a layer has {wrong[0]:g} neurons",
                where="layers",
                fix="Give a whole number of 1 or more for each hidden layer",
            )
        if self.n_parameters > MOST_PARAMETERS:
            raise InputError(
                f"a network of layers {self.sizes} has {self.n_parameters} parameters",
                where="layers",
                fix=f"Give fewer neurons or layers: {MOST_PARAMETERS} parameters at most",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of features, of neurons in each hidden layer, and of outputs: (1, 4, 1)."""
        return (self.n_features, *self.layers, 1)

    @property
    def n_parameters(self) -> int:
        """Number of weights and offsets."""
        return sum((a + 1) * b for a, b in pairwise(self.sizes))

    def bounds(self, clipping: float) -> Tensor:
        """Give the largest absolute value of each parameter: offsets are free, shape (n_parameters,)."""
        free = [torch.full((b,), torch.inf, dtype=PRECISION) for b in self.sizes[1:]]
        clipped = [torch.full((a * b,), clipping, dtype=PRECISION) for a, b in pairwise(self.sizes)]
        return torch.cat([part for pair in zip(clipped, free, strict=True) for part in pair])

    def draw(
        self, n: int, events: Tensor, generator: torch.Generator, shares: Tensor | None = None
    ) -> Tensor:
        """Draw the weights of n networks that are 0 everywhere, shape (n, n_parameters).

        Hidden neurons have random directions. Every other one of the first layer switches at an event drawn
        at random, the others anywhere in the range of the events: a departure may be where events are few,
        and a fit that has no neuron near often ends in another minimum. Weights of the output are 0.

        Parameters
        ----------
        n : int
            Networks.
        events : Tensor, shape (n_events, d)
            Those of the reference; features of unit spread.
        generator : torch.Generator
            Draws.
        shares : Tensor, shape (n_events,), optional
            Share of each event; they sum to 1. Only distribution and range matter: not the order of the
            events, nor whether equal ones are counted or repeated.
        """
        parts = []
        for place, (a, b) in enumerate(pairwise(self.sizes)):
            if place == len(self.layers):
                parts.append(torch.zeros(n, (a + 1) * b, dtype=PRECISION))
                break
            matrix = _normal((n, a, b), generator) * (2.0 if place == 0 else 4.0 / a**0.5)
            at = (
                _draw_places(events, shares, (n, b), generator).mT
                if place == 0
                else torch.rand((n, a, b), generator=generator, dtype=PRECISION)
            )
            parts += [matrix.flatten(1), -(matrix * at).sum(1)]
        return torch.cat(parts, dim=1)

    def evaluate(self, weights: Tensor, x: Tensor) -> Tensor:
        """Evaluate n networks, shape (n, n_events).

        Parameters
        ----------
        weights : Tensor, shape (n, n_parameters)
            Of each network.
        x : Tensor, shape (n_events, d) or (n, n_events, d)
            Events of all, or of each.
        """
        return self._forward(weights, x)[1]

    def gradient(self, weights: Tensor, x: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate, and sum the gradients over events with given factors.

        Parameters
        ----------
        weights, x
            As in `evaluate`.
        slopes : Tensor, shape (n, n_events)
            Factor of each event.

        Returns
        -------
        values : Tensor, shape (n, n_events)
        gradient : Tensor, shape (n, n_parameters)
            Sum over events of the slope times the derivatives of the value by the weights.
        """
        inputs, values = self._forward(weights, x)
        parts: list[Tensor] = []
        delta = slopes.unsqueeze(1)
        for (matrix, _), given in zip(reversed(self._matrices(weights)), reversed(inputs), strict=True):
            parts[:0] = [(given @ delta.mT).flatten(1), delta.sum(2)]
            if len(parts) < 2 * len(inputs):
                delta = (matrix @ delta) * (given * (1.0 - given))
        return values, torch.cat(parts, dim=1)

    def jacobian(self, weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate, with the derivatives of each value by the weights, shape (n, n_parameters, n_events)."""
        inputs, values = self._forward(weights, x)
        end = self.n_parameters
        n_events = values.shape[1]
        jacobian = values.new_empty((len(weights), end, n_events))
        delta = torch.ones_like(values).unsqueeze(1)
        for (matrix, _), given in zip(reversed(self._matrices(weights)), reversed(inputs), strict=True):
            a, b = matrix.shape[1:]
            jacobian[:, end - b : end] = delta
            of_matrix = jacobian[:, end - b - a * b : end - b].view(-1, a, b, n_events)
            torch.mul(given.unsqueeze(-2), delta.unsqueeze(1), out=of_matrix)
            end -= b + a * b
            if end:
                delta = (matrix @ delta) * (given * (1.0 - given))
        return values, jacobian

    def _matrices(self, weights: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """Divide the weights into the matrix and the offsets of each layer: (n, a, b) and (n, b, 1)."""
        found = []
        start = 0
        for shape in pairwise(self.sizes):
            middle = start + prod(shape)
            end = start + prod(shape) + shape[1]
            found.append((weights[:, start:middle].reshape(-1, *shape), weights[:, middle:end, None]))
            start = end
        return found

    def _forward(self, weights: Tensor, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Give the inputs of each layer, events last, which is quick with few neurons; and the values."""
        layers = self._matrices(weights)
        inputs = [x.mT]
        for matrix, offsets in layers[:-1]:
            inputs.append(torch.sigmoid(matrix.mT @ inputs[-1] + offsets))
        matrix, offsets = layers[-1]
        return inputs, (matrix.mT @ inputs[-1] + offsets).squeeze(1)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=PRECISION)


def _draw_places(
    events: Tensor, shares: Tensor | None, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draw places in turn at events and anywhere in their range, shape (*shape, d)."""
    order = torch.from_numpy(np.lexsort(events.numpy().T))  # the order of the events does not matter
    equal = torch.full((len(events),), 1.0 / len(events), dtype=PRECISION)
    ends = (equal if shares is None else shares)[order].cumsum(0)
    rows = torch.searchsorted(ends, torch.rand(shape, generator=generator, dtype=PRECISION))
    places = events[order[rows.clamp(max=len(events) - 1)]]
    low, high = events.aminmax(dim=0)
    anywhere = low + (high - low) * torch.rand(places.shape, generator=generator, dtype=PRECISION)
    places[:, 1::2] = anywhere[:, 1::2]
    return places
