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
        Test statistic ``tau - delta``, or a lower bound of it; NaN if a fit did not converge.
    converged : bool
        Whether `t` converged to the tolerance of `KernelTest`.
    is_lower_bound : bool
        Whether the fit ended before it converged because t is above what matters, see
        `KernelTest.stopping_above`. Then `t` and `tau` are lower bounds, and the fitted f is that of the
        point reached, as are the nuisance parameters fitted with it.
    iterations : int
        Steps of the fit with all events.
    tau : float
        Twice the log likelihood ratio of the best f and nuisance parameters to the nominal reference; NaN if
        `t` is.
    delta : float
        The same for the nuisance parameters alone; 0 if there are none.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name.
    n_outside : int
        Events of the window outside the range of the reference in at least one feature. There the density
        ratio and its change with a nuisance parameter are not known.
    density : LogRatio
        Fitted f as a function.
    """

    t: float
    converged: bool
    is_lower_bound: bool
    iterations: int
    tau: float
    delta: float
    nuisances: Mapping[str, NuisanceResult]
    n_outside: int
    density: LogRatio

    @cached_property
    def log_ratio(self) -> FloatArray:
        """Fitted f(x) at the window's events, shape (n_data,).

        Log of the density of the window over that of the reference; with nuisance parameters, over that of
        the reference at their fitted values.
        """
        return self.density(self.density.events)

    @cached_property
    def log_ratio_reference(self) -> FloatArray:
        """Fitted f(x) at the reference events, shape (n_reference,)."""
        return self.density.at_reference()

    @cached_property
    def reference_weights(self) -> FloatArray:
        """Weight of each reference event, shape (n_reference,).

        With nuisance parameters, the weights at their values fitted together with f.
        """
        return self.density.deformed_weights()


@dataclass(frozen=True, slots=True)
class LogRatio:
    """Fitted f as a function.

    Parameters
    ----------
    events : ndarray, shape (n_data, d)
        Events of the window, raw.
    a : Tensor, shape (r,)
        Coordinates of f in `basis`.
    basis : Basis
        Basis functions, with the remote ones.
    negligible : float
        Kernel variance of the remote functions below which they are 0.
    nu : Tensor, shape (k,)
        Nuisance parameters fitted together with f.
    reference : Events
        Basis and expansion of log r at the reference events.
    """

    events: FloatArray
    a: Tensor
    basis: Basis
    negligible: float
    nu: Tensor
    reference: Events

    def __call__(self, x: FloatArray) -> FloatArray:
        """Evaluate f at raw events of shape (n, d); shape (n,)."""
        r = self.reference.phi.shape[1]
        events = torch.from_numpy(x)
        if len(self.a) == r:
            f = self.basis.kernel(events) @ (self.basis.transform @ self.a)
        else:
            inner, at, remote = self.basis.split(events, r, self.negligible)
            f = inner @ self.a[:r]
            f[at] += remote @ self.a[r:]
        values: FloatArray = f.numpy()
        return values

    def at_reference(self) -> FloatArray:
        """Evaluate f at the reference events, shape (n_reference,)."""
        phi = self.reference.phi
        values: FloatArray = apply(phi, self.a[None, : phi.shape[1]])[0].numpy()
        return values

    def deformed_weights(self) -> FloatArray:
        """Weights of the reference events at the fitted nuisance parameters, shape (n_reference,)."""
        log_r = self.reference.without_kernels().log_ratio(self.a[None, :0], self.nu[None])[0]
        values: FloatArray = (self.reference.weights * log_r.exp()).numpy()
        return values
