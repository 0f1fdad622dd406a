"""A few events that stand for many: a quadrature of the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from dqm.nplm.kernel import independent_centers

__all__ = ["choose_nodes"]

CANDIDATES = 5000
"""Reference events that nodes are chosen from, evenly spread over the sample."""

REDUNDANT = 1e-6
"""Squared distance of a kernel function from the span of the chosen ones, below which no node is added."""

CHUNK = 8192
"""Events assigned to their nodes at a time, to bound memory."""


def choose_nodes(standard: Tensor, weights: Tensor, width: float, n_nodes: int) -> tuple[Tensor, Tensor]:
    """Choose events that cover the reference, and give each the weight of the events nearest to it.

    Hessians and gradients of the fit are sums of products of two kernel functions, which are functions of a
    kernel narrower by sqrt(2). Events are added where that kernel is described worst, so none of the
    reference is far from all of them; the weights are positive, so a convex sum stays convex.

    Parameters
    ----------
    standard : Tensor, shape (n, d)
        Reference events, standardised.
    weights : Tensor, shape (n,)
        Their weights.
    width : float
        Kernel sigma of the fit, in standard deviations.
    n_nodes : int
        Nodes at most.

    Returns
    -------
    index : Tensor, shape (n_nodes,), int64
        Which events.
    masses : Tensor, shape (n_nodes,)
        Their weights; the sum is that of all events.
    """
    n = len(standard)
    candidates = torch.linspace(0, n - 1, min(n, CANDIDATES), dtype=torch.float64).round().long()
    found = independent_centers(standard[candidates], width / 2**0.5, REDUNDANT, at_most=n_nodes)
    index = candidates[found]
    masses = torch.zeros(len(index), dtype=weights.dtype)
    squares = 0.5 * (standard[index] ** 2).sum(1)
    for x, weight in zip(torch.split(standard, CHUNK), torch.split(weights, CHUNK), strict=True):
        nearest = (x @ standard[index].T - squares).argmax(1)
        masses.index_add_(0, nearest, weight)
    return index, masses
