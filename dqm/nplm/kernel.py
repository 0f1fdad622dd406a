"""Gaussian kernel, and the choice of centres that are not redundant."""

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
    # |x|^2 + |c|^2 - 2 x.c in one product; rounding may make it slightly negative
    squared = torch.addmm((centers * centers).sum(1), x, centers.T, beta=1.0, alpha=-2.0)
    squared += (x * x).sum(1, keepdim=True)
    return squared.clamp_(min=0.0).mul_(-0.5 / width**2).exp_()


def independent_centers(
    centers: Tensor, width: float, tolerance: float, at_most: int | None = None
) -> Tensor:
    """Choose centres one by one until the chosen ones span the kernels of all within `tolerance`.

    Pivoted Cholesky factorisation of ``K_MM``: each step adds the centre whose kernel function the chosen
    ones describe worst. For every function f in the span of all centres there is then a function in the span
    of the chosen ones that differs by at most ``|f| sqrt(tolerance)`` anywhere; ``|f|`` is the RKHS norm.

    Parameters
    ----------
    centers : Tensor, shape (m, d)
        Candidate centres, standardised; duplicates are allowed and dropped.
    width : float
        Kernel sigma, in standard deviations.
    tolerance : float
        Largest squared RKHS distance that may remain, in (0, 1).
    at_most : int, optional
        Largest number of centres to choose.

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
        k = len(chosen)
        pivot = int(residual.argmax())
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
