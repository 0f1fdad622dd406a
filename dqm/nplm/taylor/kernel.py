"""Coefficient functions of log r as sums of Gaussian kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.basis import Basis, build_basis
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.taylor.training import Arrays, Progress, Setting, Settings, Training, quadratic_loss

__all__ = ["Kernel", "KernelCoefficients"]

REDUNDANCY = 1e-3
"""Kernel variance that may be lost with redundant centres, in units of the penalty."""
GRADIENT = 1e-8
"""Largest gradient at the minimum, in coordinates where the loss at r = 1 has unit curvature."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Each coefficient is a constant plus Gaussian kernels, fitted to the minimum of the penalised loss.

    Far from all samples a coefficient goes to its constant. Memory: the kernel columns of all events, 2 GB
    for 5e5 events and 500 centres.

    Parameters
    ----------
    width : float
        Kernel sigma in standard deviations of the reference, > 0.
    penalty : float
        Factor of ``|f|^2 / 2``, half the squared RKHS norm of each coefficient with nu in units of its
        largest value, relative to the loss of one point with samples of unit weight, > 0. The constant has no
        penalty.
    centers : int
        Nystroem centres, drawn from all samples together; numerically redundant ones are dropped.
    max_iterations : int
        Most steps of L-BFGS, >= 1.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    width: float = 1.0
    penalty: float = 1e-7
    centers: int = 500
    max_iterations: int = 100

    def __post_init__(self) -> None:
        for name in ("width", "penalty", "centers", "max_iterations"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(
                    f"{name} is {getattr(self, name)}", where="Kernel", fix="Give a finite number above 0"
                )

    def learn(
        self, training: Training, rng: np.random.Generator, progress: Progress | None
    ) -> KernelCoefficients:
        """Fit the kernels.

        Parameters
        ----------
        training : Training
            Samples.
        rng : numpy.random.Generator
            Draws the centres.
        progress : callable, optional
            Called after every step.

        Returns
        -------
        KernelCoefficients
        """
        basis, problem = self._prepare(training, rng)
        steps = 0

        def report(_: FloatArray) -> None:
            nonlocal steps
            steps += 1
            if progress is not None:
                progress(min(steps, self.max_iterations), self.max_iterations)

        fit = minimize(
            problem.value_and_gradient,
            np.zeros(problem.whitening.shape[0] * problem.whitening.shape[1]),
            jac=True,
            method="L-BFGS-B",
            callback=report,
            options={"maxiter": self.max_iterations, "gtol": GRADIENT, "ftol": 1e-13},
        )
        a = problem.coordinates(torch.from_numpy(fit.x))
        return KernelCoefficients(
            basis.centers, self.width, torch.cat([a[:1], basis.transform @ a[1:]]).contiguous()
        )

    def _prepare(self, training: Training, rng: np.random.Generator) -> tuple[Basis, _Problem]:
        everything = torch.cat([training.reference, *training.shifted])
        drawn = rng.choice(len(everything), size=min(self.centers, len(everything)), replace=False)
        d = everything.shape[1]
        basis, phi, moment = build_basis(
            training.reference,
            training.weights,
            everything[torch.from_numpy(np.sort(drawn))],
            torch.zeros(d, dtype=torch.float64),
            torch.ones(d, dtype=torch.float64),
            width=self.width,
            tolerance=REDUNDANCY * self.penalty,
        )
        k, order = training.monomials.shape
        penalty = torch.full((len(moment) + 1,), k * self.penalty, dtype=torch.float64)
        penalty[0] = 0.0
        # curvature of the loss at r = 1: a quarter of the second moments
        points = training.monomials.T @ training.monomials / 4
        curvature = torch.cat([torch.ones(1, dtype=torch.float64), moment])[:, None, None] * points
        curvature += penalty[:, None, None] * torch.eye(order, dtype=torch.float64)
        whitening = torch.linalg.inv(torch.linalg.cholesky(curvature)).mT.contiguous()
        return basis, _Problem(training, phi, tuple(basis(z) for z in training.shifted), penalty, whitening)


@dataclass(frozen=True, slots=True)
class _Problem:
    """The penalised loss, in coordinates in which its second derivative at r = 1 is the identity.

    Parameters
    ----------
    training : Training
        Samples.
    phi : Tensor, shape (n_reference, r)
        Basis at the reference.
    shifted : tuple of Tensor, shapes (n_i, r)
        Basis at the shifted samples.
    penalty : Tensor, shape (r + 1,)
        Second derivative of the penalty; the first entry is that of the constant.
    whitening : Tensor, shape (r + 1, order, order)
        Maps coordinates of the fit to coefficients of the basis.
    """

    training: Training
    phi: Tensor
    shifted: tuple[Tensor, ...]
    penalty: Tensor
    whitening: Tensor

    def coordinates(self, b: Tensor) -> Tensor:
        """Coefficients of the constant and of the basis, shape (r + 1, order)."""
        return (self.whitening @ b.view(*self.whitening.shape[:2], 1))[:, :, 0]

    def value_and_gradient(self, b: FloatArray) -> tuple[float, FloatArray]:
        t = self.training
        a = self.coordinates(torch.from_numpy(b))
        log_r = (self.phi @ a[1:] + a[0]) @ t.monomials.T
        value, slope = _loss_and_slope(log_r, shifted=False)
        total = float(t.weights @ value.sum(1) + 0.5 * (self.penalty @ (a * a).sum(1)))
        slope = (t.weights[:, None] * slope) @ t.monomials
        gradient = self.penalty[:, None] * a + torch.cat([slope.sum(0, keepdim=True), self.phi.T @ slope])
        for phi, w, m in zip(self.shifted, t.shifted_weights, t.monomials, strict=True):
            value, slope = _loss_and_slope(phi @ (a[1:] @ m) + a[0] @ m, shifted=True)
            total += float(w @ value)
            slope = w * slope
            gradient += torch.outer(torch.cat([slope.sum(0, keepdim=True), slope @ phi]), m)
        return total, (self.whitening.mT @ gradient[:, :, None]).flatten().numpy()


def _loss_and_slope(log_r: Tensor, *, shifted: bool) -> tuple[Tensor, Tensor]:
    sign = -1.0 if shifted else 1.0
    value = quadratic_loss(log_r, shifted=shifted)
    return value, sign * 2.0 * value * torch.sigmoid(-sign * log_r)


@dataclass(frozen=True, slots=True)
class KernelCoefficients:
    """Fitted kernels.

    Parameters
    ----------
    centers : Tensor, shape (r, d)
        Centres, standardised.
    width : float
        Kernel sigma, in standard deviations.
    parameters : Tensor, shape (r + 1, order)
        Constant and kernel coefficients.
    """

    centers: Tensor
    width: float
    parameters: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluate the coefficients at standardised events of shape (n, d); shape (n, order)."""
        return gaussian_kernel(z, self.centers, self.width) @ self.parameters[1:] + self.parameters[0]

    def arrays(self) -> dict[str, FloatArray]:
        """Return centres and parameters by name."""
        return {"centers": self.centers.numpy(), "parameters": self.parameters.numpy()}

    def settings(self) -> dict[str, Setting]:
        """Return method and width."""
        return {"method": "kernel", "width": self.width}

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Settings, n_features: int) -> KernelCoefficients:
        """Rebuild from `arrays` and `settings`.

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
        KernelCoefficients

        Raises
        ------
        InputError
            If the shapes do not fit.
        KeyError
            If an entry is missing.
        """
        centers, parameters = (np.array(arrays[key], dtype=np.float64) for key in ("centers", "parameters"))
        wanted = (len(centers) + 1, int(settings["order"]))
        if centers.shape[1:] != (n_features,) or parameters.shape != wanted:
            raise InputError(
                f"centers have shape {centers.shape} and parameters {parameters.shape}, "
                f"not (r, {n_features}) and (r + 1, {settings['order']})",
                where="TaylorModel",
            )
        return cls(torch.from_numpy(centers), float(settings["width"]), torch.from_numpy(parameters))
