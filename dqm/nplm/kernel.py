"""Gaussian kernel, and the few centres that span what many redundant ones do."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gaussian_kernel", "independent_centers"]


def gaussian_kernel(x: Tensor, centers: Tensor, width: float) -> Tensor:
    """Kernel matrix ``exp(-|x - c|^2 / (2 width^2))``.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Points, standardised.
    centers : Tensor, shape (m, d)
        Centres, standardised.
    width : float
        Kernel sigma, in standard deviations.

    Returns
    -------
    Tensor, shape (n, m)
        Values in [0, 1].
    """
    # |x|^2 + |c|^2 - 2 x.c in one product; rounding may leave it slightly below zero
    squared = torch.addmm((centers * centers).sum(1), x, centers.T, beta=1.0, alpha=-2.0)
    squared += (x * x).sum(1, keepdim=True)
    return squared.clamp_(min=0.0).mul_(-0.5 / width**2).exp_()


def independent_centers(
    centers: Tensor, width: float, tolerance: float, at_most: int | None = None
) -> Tensor:
    """Choose centres greedily until the kernel of all others is spanned to `tolerance`.

    Pivoted Cholesky factorisation of ``K_MM``: at each step the centre whose kernel function is worst
    described by the ones already taken is added. For every function f in the span of all centres there is
    one in the span of the chosen that differs by at most ``|f| sqrt(tolerance)`` anywhere, ``|f|`` its RKHS
    norm.

    Parameters
    ----------
    centers : Tensor, shape (m, d)
        Candidate centres, standardised; duplicates are allowed and drop out.
    width : float
        Kernel sigma, in standard deviations.
    tolerance : float
        Largest squared RKHS distance left, in (0, 1).
    at_most : int, optional
        Stop at as many.

    Returns
    -------
    Tensor, shape (r,), int64
        Indices of the chosen centres, most important first.

    References
    ----------
    Harbrecht, Peters and Schneider (2012), doi:10.1016/j.apnum.2011.10.001.
    """
    m = len(centers)
    limit = m if at_most is None else min(at_most, m)
    residual = torch.ones(m, dtype=centers.dtype)
    rows = torch.empty((min(m, 64), m), dtype=centers.dtype)
    chosen: list[int] = []
    while len(chosen) < limit:
        k, pivot = len(chosen), int(residual.argmax())
        height = float(residual[pivot])
        if height <= tolerance:
            break
        if k == len(rows):
            rows = torch.cat([rows, torch.empty((min(k, m - k), m), dtype=centers.dtype)])
        row = gaussian_kernel(centers[pivot : pivot + 1], centers, width)[0]
        row -= rows[:k, pivot] @ rows[:k]
        rows[k] = row / height**0.5
        residual -= rows[k] ** 2
        residual[pivot] = 0.0
        chosen.append(pivot)
    return torch.tensor(chosen)
