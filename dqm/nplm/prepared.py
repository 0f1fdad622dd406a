"""What a kernel test computes from its reference alone: done once, kept in the bundle as plain arrays.

The first steps of a fit replace the reference by a few of its events, the nodes, with weights: a quadrature
of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.basis import Basis, build_basis
from dqm.nplm.cells import Cells, make_cells
from dqm.nplm.kernel import independent_centers
from dqm.nplm.loss import LossName
from dqm.nplm.samples import standardisation

__all__ = ["PreparedReference", "by_columns", "check_device", "negligible_variance"]

REDUNDANCY: dict[LossName, float] = {"logistic": 3e-2, "likelihood": 1e-2}
"""Kernel variance that may be lost with redundant centres, in units of the penalty lambda."""

NEGLIGIBLE: dict[LossName, float] = {"logistic": 3e-2, "likelihood": 3e-3}
"""The same for functions of the basis, which are ordered better: t changes by less than 5e-4 of its value."""

MAX_NODES = 2000
"""Most nodes. A few hundred describe five features; with fewer than this, eight features are described badly
and the first steps of the fit go in the wrong direction."""

EVENTS_PER_NODE = 2
"""Fewest reference events for each node: a small reference has fewer than `MAX_NODES` nodes."""

QUICK_NODES = 300
"""Nodes of a test that is prepared for a few windows only: they cost little to choose, and the fits take more
steps from them."""

NODE_CANDIDATES = 5000
"""Reference events that nodes are chosen from, evenly spread over the sample."""

NODE_TOLERANCE = 1e-6
"""No node is added when every kernel function is closer than this (squared) to the span of the chosen."""

CHUNK_EVENTS = 8192
"""Events assigned to their nodes at a time, to bound memory."""

PRECISION = torch.float32
"""Precision of the basis at the events. Sums over events, losses and everything else are float64."""


@dataclass(frozen=True, slots=True)
class PreparedReference:
    """Basis, its values at the reference, and the nodes; for weights that sum to 1.

    Parameters
    ----------
    basis : Basis
        The r functions, and the remote ones.
    phi : Tensor, shape (n_reference, r), float32
        Values of the r functions at the reference.
    second_moment : Tensor, shape (r,)
        Weighted mean squares of the functions; their mixed moments are 0.
    nodes : Tensor, shape (n_nodes,), int64
        Indices of the nodes among the reference events.
    masses : Tensor, shape (n_nodes,)
        Weights of the nodes.
    cells : Cells or None
        The reference in cells, if it is large.
    """

    basis: Basis
    phi: Tensor
    second_moment: Tensor
    nodes: Tensor
    masses: Tensor
    cells: Cells | None = None

    @classmethod
    def compute(
        cls,
        events: FloatArray,
        shares: FloatArray,
        centers: FloatArray,
        width: float,
        penalty: float,
        loss: LossName,
        *,
        n_events: float,
        n_expected: float | None = None,
        few_windows: bool = False,
        is_standard: bool = False,
    ) -> PreparedReference:
        """Compute from raw reference rows, their shares and centres; see `KernelTest` for the numbers.

        `n_events` is the number of events that the rows stand for, `n_expected` that of a usual window: where
        it is given, and there will be many windows, a large reference gets cells.
        """
        zero = np.zeros(events.shape[1])
        moments = (zero, zero + 1.0) if is_standard else standardisation(events, shares)
        mean, scale = map(torch.from_numpy, moments)
        x = torch.from_numpy(events)
        weights = torch.from_numpy(shares)
        basis, phi, second_moment = build_basis(
            x,
            weights,
            torch.from_numpy(centers),
            mean,
            scale,
            width=width,
            tolerance=REDUNDANCY[loss] * penalty,
            negligible=NEGLIGIBLE[loss] * penalty,
            with_remote=True,
        )
        standard = (x - mean) / scale
        if few_windows:
            nodes = _spread_evenly(len(x), min(QUICK_NODES, len(x)))
        else:
            n_nodes = min(MAX_NODES, max(1, int(n_events) // EVENTS_PER_NODE))
            nodes = _choose_nodes(standard, width, n_nodes)
        masses = _masses(standard, weights, nodes)
        functions = phi.to(PRECISION)
        cells = None
        if n_expected is not None and not few_windows:
            arrays = (part.numpy() for part in (standard, weights, functions, second_moment))
            cells = make_cells(*arrays, n_expected=n_expected, ridge=penalty * (n_events + n_expected))
        return cls(basis, by_columns(functions), second_moment, nodes, masses, cells)

    def to(self, device: torch.device) -> PreparedReference:
        """Copy to a device."""
        phi, moment, nodes, masses = (
            part.to(device) for part in (self.phi, self.second_moment, self.nodes, self.masses)
        )
        return PreparedReference(self.basis.to(device), phi, moment, nodes, masses, self.cells)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays by name, for `from_arrays`; names have letters only."""
        basis = self.basis
        return {
            "standardisation": torch.stack([basis.mean, basis.scale]).numpy(),
            "independent": basis.centers.contiguous().numpy(),
            "transform": basis.transform.contiguous().numpy(),
            "phi": self.phi.T.numpy(),
            "moment": self.second_moment.numpy(),
            "nodes": torch.stack([self.nodes.to(torch.float64), self.masses]).numpy(),
            **({} if self.cells is None else self.cells.arrays()),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], width: float, n_reference: int
    ) -> PreparedReference:
        """Rebuild from the result of `arrays`; raises `InputError` if it does not fit the reference."""
        try:
            tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
            mean, scale = tensors["standardisation"]
            nodes, masses = tensors["nodes"]
            basis = Basis(mean, scale, tensors["independent"], tensors["transform"], width)
            phi = tensors["phi"].T
            moment = tensors["moment"]
            cells = Cells.from_arrays(arrays, len(moment))
        except (KeyError, ValueError) as error:
            raise InputError(f"prepared arrays: {error}", fix="Rebuild the bundle") from error
        # bundles made before 0.3 have no remote functions
        is_narrow = phi.dim() == 2 and phi.shape[1] <= basis.transform.shape[1]
        if not is_narrow or len(phi) != n_reference or len(moment) != phi.shape[1]:
            raise InputError(
                f"prepared functions have shape {tuple(phi.shape)} for {n_reference} reference events",
                fix="Rebuild the bundle",
            )
        return cls(basis, phi, moment, nodes.long(), masses, cells)


def negligible_variance(loss: LossName, penalty: float) -> float:
    """Give the kernel variance that the remote functions may have at an event of the reference."""
    return (REDUNDANCY[loss] + NEGLIGIBLE[loss]) * penalty


def by_columns(phi: Tensor) -> Tensor:
    """Store a matrix by columns; products with a vector are then faster."""
    return phi.T.contiguous().T


def check_device(name: str) -> torch.device:
    """Return the device of a name; raises `InputError` if this machine has no such device."""
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    raise InputError(f"no device {name!r} here", where="device", fix="Use 'cpu', or 'cuda' beside a CUDA GPU")


def _spread_evenly(n: int, n_chosen: int) -> Tensor:
    return torch.linspace(0, n - 1, n_chosen, dtype=torch.float64).round().long()


def _choose_nodes(standard: Tensor, width: float, n_nodes: int) -> Tensor:
    """Choose nodes that cover the reference.

    Hessians and gradients of the fit are sums of products of two kernel functions, and such a product is a
    function of a kernel narrower by sqrt(2). The next node is the event where that kernel is described worst
    so far, so that no reference event is far from all nodes.

    Parameters
    ----------
    standard : Tensor, shape (n, d)
        Reference events, standardised.
    width : float
        Kernel sigma of the fit, in standard deviations.
    n_nodes : int
        Most nodes.

    Returns
    -------
    Tensor, shape (n_nodes,), int64
        Indices of the nodes.
    """
    candidates = _spread_evenly(len(standard), min(len(standard), NODE_CANDIDATES))
    found = independent_centers(standard[candidates], width / 2**0.5, NODE_TOLERANCE, at_most=n_nodes)
    return candidates[found]


def _masses(standard: Tensor, weights: Tensor, nodes: Tensor) -> Tensor:
    """Give each node the weight of the events nearest to it; their sum is that of `weights`.

    They are positive, so a convex sum stays convex.
    """
    masses = torch.zeros(len(nodes), dtype=weights.dtype)
    squares = 0.5 * (standard[nodes] ** 2).sum(1)
    for x, weight in zip(
        torch.split(standard, CHUNK_EVENTS), torch.split(weights, CHUNK_EVENTS), strict=True
    ):
        nearest = (x @ standard[nodes].T - squares).argmax(1)
        masses.index_add_(0, nearest, weight)
    return masses
