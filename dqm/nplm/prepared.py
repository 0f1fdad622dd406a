"""Everything about a kernel test that its reference alone decides: computed once, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.basis import Basis, build_basis
from dqm.nplm.loss import LossName
from dqm.nplm.nodes import choose_nodes
from dqm.nplm.samples import standardisation

__all__ = ["Prepared", "by_columns", "check_device"]

REDUNDANCY: dict[LossName, float] = {"logistic": 3e-2, "likelihood": 1e-2}
"""Kernel variance that may be lost with redundant centres, in units of the penalty lambda."""

NEGLIGIBLE: dict[LossName, float] = {"logistic": 3e-2, "likelihood": 3e-3}
"""The same for functions of the basis, which are ordered better: t moves by less than 5e-4 of itself."""

NODES, EVENTS_PER_NODE = 2000, 2
"""Events that stand for the reference in the first steps: as many at most, half of a small reference. A few
hundred describe five features; eight need so many, or the steps lead astray."""

PRECISION = torch.float32
"""Of the basis at the events. Sums over events, losses and everything else are float64."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Basis, its values at the reference and the nodes, for weights that sum to 1.

    Parameters
    ----------
    basis : Basis
        The r functions.
    phi : Tensor, shape (n_reference, r), float32
        Their values at the reference.
    second_moment : Tensor, shape (r,)
        Their weighted mean squares; mixed moments vanish.
    nodes : Tensor, shape (n_nodes,), int64
        Events that stand for others, see `dqm.nplm.nodes`.
    masses : Tensor, shape (n_nodes,)
        Their weights.
    """

    basis: Basis
    phi: Tensor
    second_moment: Tensor
    nodes: Tensor
    masses: Tensor

    @classmethod
    def compute(
        cls,
        events: FloatArray,
        shares: FloatArray,
        centers: FloatArray,
        width: float,
        penalty: float,
        loss: LossName,
    ) -> Prepared:
        """Compute it from reference events, their weights, and centres; see `KernelTest`."""
        mean, scale = map(torch.from_numpy, standardisation(events, shares))
        x, weights = torch.from_numpy(events), torch.from_numpy(shares)
        basis, phi, second_moment = build_basis(
            x,
            weights,
            torch.from_numpy(centers),
            mean,
            scale,
            width=width,
            tolerance=REDUNDANCY[loss] * penalty,
            negligible=NEGLIGIBLE[loss] * penalty,
        )
        n_nodes = min(NODES, max(1, len(x) // EVENTS_PER_NODE))
        nodes, masses = choose_nodes((x - mean) / scale, weights, width, n_nodes)
        return cls(basis, by_columns(phi.to(PRECISION)), second_moment, nodes, masses)

    def to(self, device: torch.device) -> Prepared:
        """Give it on a device."""
        on = [part.to(device) for part in (self.phi, self.second_moment, self.nodes, self.masses)]
        return Prepared(self.basis.to(device), *on)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give it as arrays by name; names have letters only."""
        basis = self.basis
        return {
            "standardisation": torch.stack([basis.mean, basis.scale]).numpy(),
            "independent": basis.centers.contiguous().numpy(),
            "transform": basis.transform.contiguous().numpy(),
            "phi": self.phi.T.numpy(),
            "moment": self.second_moment.numpy(),
            "nodes": torch.stack([self.nodes.to(torch.float64), self.masses]).numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], width: float, n_reference: int) -> Prepared:
        """Take up arrays as `arrays` gave them; raises `InputError` if they do not fit the reference."""
        try:
            tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
            (mean, scale), (nodes, masses) = tensors["standardisation"], tensors["nodes"]
            basis = Basis(mean, scale, tensors["independent"], tensors["transform"], width)
            phi, moment = tensors["phi"].T, tensors["moment"]
        except (KeyError, ValueError) as error:
            raise InputError(f"prepared arrays: {error}", fix="Rebuild the bundle") from error
        if phi.shape != (n_reference, basis.transform.shape[1]) or len(moment) != phi.shape[1]:
            raise InputError(
                f"prepared functions have shape {tuple(phi.shape)} for {n_reference} reference events",
                fix="Rebuild the bundle",
            )
        return cls(basis, phi, moment, nodes.long(), masses)


def by_columns(phi: Tensor) -> Tensor:
    """Store by columns: a product with one vector then reads memory in the faster order."""
    return phi.T.contiguous().T


def check_device(name: str) -> torch.device:
    """Find a device; raises `InputError` if this machine has none of that name."""
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    raise InputError(f"no device {name!r} here", where="device", fix="Use 'cpu', or 'cuda' beside a CUDA GPU")
