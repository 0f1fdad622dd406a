"""Outcome of the kernel test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.basis import Basis
from dqm.nplm.problem import Events, apply

__all__ = ["KernelResult", "LogRatio"]


@dataclass(frozen=True)
class KernelResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        Test statistic ``tau - delta``; NaN if a fit did not converge.
    converged : bool
        Whether t is settled to `KernelTest`'s tolerance.
    iterations : int
        Steps of the fit.
    tau : float
        Twice the log likelihood ratio of the best f and nuisances to the nominal reference; NaN as t.
    delta : float
        The same for the nuisances alone; 0 if there are none.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name.
    n_outside : int
        Events of the window beyond the reference's range in some feature. There the reference says nothing:
        neither a density ratio nor its change with a nuisance parameter can be known.
    density : LogRatio
        Fitted f.
    """

    t: float
    converged: bool
    iterations: int
    tau: float
    delta: float
    nuisances: Mapping[str, NuisanceResult]
    n_outside: int
    density: LogRatio

    @cached_property
    def log_ratio(self) -> FloatArray:
        """Fitted f(x) at the window's events, shape (n_data,).

        Log of the window's density over the reference's; with nuisance parameters, over the reference as they
        deform it.
        """
        return self.density(self.density.events)

    @cached_property
    def log_ratio_reference(self) -> FloatArray:
        """The same at the reference events, shape (n_reference,)."""
        return self.density.at_reference()

    @cached_property
    def reference_weights(self) -> FloatArray:
        """Events that each reference event stands for, shape (n_reference,).

        With nuisance parameters, at the values fitted together with f: what f departs from.
        """
        return self.density.deformed_weights()


@dataclass(frozen=True, slots=True)
class LogRatio:
    """Fitted f as a function.

    Parameters
    ----------
    events : ndarray, shape (n_data, d)
        The window's events.
    a : Tensor, shape (r,)
        Coordinates.
    basis : Basis
        What they are coordinates of.
    nu : Tensor, shape (k,)
        Nuisance parameters fitted along.
    reference : Events
        Basis and expansion of log r at the reference events.
    """

    events: FloatArray
    a: Tensor
    basis: Basis
    nu: Tensor
    reference: Events

    def __call__(self, x: FloatArray) -> FloatArray:
        """Give f at raw events of shape (n, d)."""
        values: FloatArray = (
            self.basis.kernel(torch.from_numpy(x)) @ (self.basis.transform @ self.a)
        ).numpy()
        return values

    def at_reference(self) -> FloatArray:
        """Give f at the reference events."""
        values: FloatArray = apply(self.reference.phi, self.a[None])[0].numpy()
        return values

    def deformed_weights(self) -> FloatArray:
        """Give the weights of the reference events at the fitted nuisance parameters."""
        log_r = self.reference.without_kernels().log_ratio(self.a[None, :0], self.nu[None])[0]
        values: FloatArray = (self.reference.weights * log_r.exp()).numpy()
        return values
