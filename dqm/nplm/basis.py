"""The basis of the fit: orthonormal functions in the span of the kernel centres.

Most of the span is negligible at every reference event. It may not be negligible at an event of a window that
is remote from them: where the reference has few events, only the penalty limits f, and f may change by the
kernel variance lost over the ridge. So these functions, the remote ones, are kept for events of windows where
they are not negligible, the remote events. They are 0 at all other events.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vecdot

from dqm.nplm.kernel import gaussian_kernel, independent_centers

__all__ = ["Basis", "build_basis"]

ROUNDING = 1e-12
"""Squared RKHS distance below which float64 cannot tell a centre from a combination of the others."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Orthonormal functions that span the kernel centres.

    In these coordinates ``f = phi(x) a``, and the penalty ``alpha^T K_MM alpha`` is ``|a|^2``. The functions
    are uncorrelated in the reference, so the Hessian of a healthy window is nearly diagonal.

    Parameters
    ----------
    mean, scale : Tensor, shape (d,)
        Mean and standard deviation of each raw feature in the reference.
    centers : Tensor, shape (m, d)
        Independent centres, standardised.
    transform : Tensor, shape (m, r)
        Maps kernel columns to basis functions.
    width : float
        Kernel sigma, in standard deviations.
    """

    mean: Tensor
    scale: Tensor
    centers: Tensor
    transform: Tensor
    width: float

    def to(self, device: torch.device) -> Basis:
        """Copy to a device."""
        mean, scale, centers, transform = (
            part.to(device) for part in (self.mean, self.scale, self.centers, self.transform)
        )
        return Basis(mean, scale, centers, transform, self.width)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the basis at raw events `x` of shape (n, d); shape (n, r)."""
        return self.kernel(x) @ self.transform

    def split(self, x: Tensor, r: int, negligible: float) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the first r functions at raw events, and the remote ones, all others, where they matter.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Raw events.
        r : int
            Number of functions that are not remote.
        negligible : float
            Remote functions count as 0 where their squares sum to this or less, as all over the reference.
            There they must be left out on both sides: their sums over many events cancel.

        Returns
        -------
        inner : Tensor, shape (n, r)
            Values of the first r functions.
        at : Tensor, shape (n_remote,), int64
            Remote events: rows of `x` where remote functions are not 0, ascending.
        remote : Tensor, shape (n_remote, n_functions - r)
            Values of the remote functions there.
        """
        standard = (x - self.mean) / self.scale
        m = int((self.transform[:, 0] != 0.0).sum())  # later centres belong to remote functions alone
        inner = gaussian_kernel(standard, self.centers[:m], self.width) @ self.transform[:m, :r]
        remote = self.transform[:, r:]
        if not remote.shape[1]:
            return inner, torch.empty(0, dtype=torch.int64, device=x.device), inner.new_empty(0, 0)
        # all functions together have at most the variance of the kernel, 1
        at = torch.nonzero(1.0 - vecdot(inner, inner) > negligible)[:, 0]
        functions = gaussian_kernel(standard[at], self.centers, self.width) @ remote
        is_remote = vecdot(functions, functions) > negligible
        return inner, at[is_remote], functions[is_remote]

    def kernel(self, x: Tensor) -> Tensor:
        """Evaluate the kernel of each centre at raw events `x` of shape (n, d); shape (n, m)."""
        return gaussian_kernel((x - self.mean) / self.scale, self.centers, self.width)


def build_basis(
    reference: Tensor,
    weights: Tensor,
    centers: Tensor,
    mean: Tensor,
    scale: Tensor,
    *,
    width: float,
    tolerance: float,
    negligible: float = 0.0,
    with_remote: bool = False,
) -> tuple[Basis, Tensor, Tensor]:
    """Whiten the kernel and rotate it to the principal axes of the reference.

    Parameters
    ----------
    reference : Tensor, shape (n_reference, d)
        Reference events, raw.
    weights : Tensor, shape (n_reference,)
        Weights of the events, of any sum.
    centers : Tensor, shape (m, d)
        Nystroem centres, raw.
    mean, scale : Tensor, shape (d,)
        Mean and standard deviation of each feature.
    width : float
        Kernel sigma, in standard deviations.
    tolerance : float
        Redundant centres are dropped as long as the kernel variance lost at every reference event is at most
        this.
    negligible : float
        The least important functions are dropped as long as the kernel variance lost at every reference event
        is at most this.
    with_remote : bool
        Whether the basis keeps what is dropped, after the r functions.

    Returns
    -------
    basis : Basis
        The r functions, and the remote ones if asked for.
    phi : Tensor, shape (n_reference, r)
        Values of the functions at the reference events.
    second_moment : Tensor, shape (r,)
        ``sum_e w_e phi_j(x_e)^2``, descending; the mixed moments are 0.
    """
    standard = (centers - mean) / scale
    kept = standard[independent_centers(standard, width, ROUNDING)]
    factor = torch.linalg.cholesky(gaussian_kernel(kept, kept, width))
    whitening = torch.linalg.solve_triangular(
        factor, torch.eye(len(kept), dtype=factor.dtype), upper=False
    ).T.contiguous()
    phi = Basis(mean, scale, kept, whitening, width)(reference)
    # the centres are nested: the whitening of the first m is the leading block of the whole
    m = _n_needed(phi, tolerance)
    phi = phi[:, :m]
    moment, axes = torch.linalg.eigh(phi.T @ (weights[:, None] * phi))
    axes = axes.flip(1)
    moment = moment.flip(0).clamp(min=0.0)
    phi = phi @ axes
    r = _n_needed(phi, negligible)
    if with_remote:
        transform = torch.cat([whitening[:, :m] @ axes, whitening[:, m:]], 1)
    else:
        kept = kept[:m]
        transform = whitening[:m, :m] @ axes[:, :r]
    return Basis(mean, scale, kept, transform, width), phi[:, :r], moment[:r]


def _n_needed(phi: Tensor, tolerance: float) -> int:
    """Count the leading columns needed so that no row loses more than `tolerance` of its sum of squares."""
    lost = (phi * phi).flip(1).cumsum(1).flip(1).amax(0)
    return max(1, int((lost > tolerance).sum()))
