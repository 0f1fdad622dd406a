"""The events of windows in the coordinates of the fit.

A window has few remote events (`dqm.nplm.basis`), but the basis may have hundreds of remote functions. Their
coefficients a enter the fit by the values ``R a`` at the remote events and by the penalty ``|a|^2`` only. Let
``R = L Q^T``, where Q has orthonormal columns, at most as many as there are remote events. Then ``a = Q b``
has the values ``L b`` and the penalty ``|b|^2``, and any other part of a only adds penalty. So each window is
fitted with functions of its own, with values L. If the loss is linear in the data, only the sum of the values
over the window matters, and one function is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dqm.nplm.nuisance import Nuisance, log_ratio_coefficients
from dqm.nplm.prepared import PRECISION, PreparedReference
from dqm.nplm.problem import Events, Totals
from dqm.nplm.samples import Sample

__all__ = ["RemoteAxes", "WindowEvents", "express"]


@dataclass(frozen=True, slots=True)
class RemoteAxes:
    """The remote functions of one window, and Q as the reflectors of LAPACK; on the CPU.

    Parameters
    ----------
    values : Tensor, shape (n_remote, w)
        L: values of the w functions of the window at its remote events, lower triangular.
    reflectors : Tensor, shape (n, w)
        Of the n remote functions of the basis.
    factors : Tensor, shape (w,)
        Scalar factors of the reflectors.
    """

    values: Tensor
    reflectors: Tensor
    factors: Tensor

    @classmethod
    def of(cls, functions: Tensor) -> RemoteAxes:
        """Rotate functions with values R of shape (n_remote, n)."""
        w = min(functions.shape)
        if w == 0:
            return cls(*(functions.new_empty(*shape) for shape in ((len(functions), 0), (0, 0), (0,))))
        reflectors, factors = torch.geqrf(functions.T)
        return cls(reflectors[:w].triu().T, reflectors[:, :w], factors)

    def rotate_back(self, b: Tensor, n: int) -> Tensor:
        """Give the coefficients Q b of the n functions of the basis; b may be padded."""
        a = b.new_zeros(n, 1)
        w = len(self.factors)
        if w == 0:
            return a[:, 0]
        a[:w, 0] = b[:w]
        return torch.ormqr(self.reflectors, self.factors, a)[:, 0]


@dataclass(frozen=True, slots=True)
class WindowEvents:
    """What the fit needs of b windows.

    Parameters
    ----------
    totals : Totals
        Sums over the events of each window.
    data : Events
        The events, padded to the same number; none if the loss is linear in them.
    remote : list of RemoteAxes
        Remote functions of each window: the last columns of `totals` and `data`, padded to the same number.
    """

    totals: Totals
    data: Events
    remote: list[RemoteAxes]


def express(
    samples: Sequence[Sample],
    fitted: PreparedReference,
    nuisances: Sequence[Nuisance],
    *,
    negligible: float,
    only_sums: bool,
) -> WindowEvents:
    """Evaluate the basis and the log ratios of the nuisance parameters at the events of windows.

    Parameters
    ----------
    samples : sequence of Sample
        Windows, b of them.
    fitted : PreparedReference
        Basis, on the device of the fit.
    nuisances : sequence of Nuisance
        Nuisance parameters.
    negligible : float
        Kernel variance below which the remote functions are 0.
    only_sums : bool
        Whether the loss is linear in the data: then the result has no events.
    """
    device = fitted.phi.device
    everything = np.concatenate([sample.x for sample in samples])
    rows = [len(sample.x) for sample in samples]
    counts = [torch.as_tensor(sample.weights, device=device) for sample in samples]
    columns = (
        torch.as_tensor(column, device=device) for column in log_ratio_coefficients(nuisances, everything)
    )
    first, second = (torch.split(column, rows) for column in columns)
    linear, quadratic = (_add_up(column, counts) for column in (first, second))
    x = torch.as_tensor(everything, device=device)
    basis = fitted.basis
    r = fitted.phi.shape[1]
    if only_sums and basis.transform.shape[1] == r:
        sums = _add_up(torch.split(basis.kernel(x), rows), counts) @ basis.transform
        axes = [RemoteAxes.of(sums.new_empty(0, 0))] * len(samples)
        return WindowEvents(Totals(sums, linear, quadratic), _no_events(fitted, r, linear, quadratic), axes)
    inner, at, functions = basis.split(x, r, negligible)
    found = _find_remote(samples, at.cpu(), functions.cpu(), only_sums=only_sums)
    axes = [one.axes for one in found]
    beyond = pad_sequence([one.sums for one in found], batch_first=True).to(device)
    sums = torch.cat([_add_up(torch.split(inner, rows), counts), beyond], 1)
    totals = Totals(sums, linear, quadratic)
    if only_sums:
        return WindowEvents(totals, _no_events(fitted, sums.shape[1], linear, quadratic), axes)
    phi = inner.new_zeros(len(rows), max(rows), sums.shape[1], dtype=PRECISION)
    for row, part, one in zip(phi, torch.split(inner, rows), found, strict=True):
        row[: len(part), :r] = part
        row[one.at.to(device), r : r + len(one.sums)] = one.axes.values.to(row)
    others = (pad_sequence(list(column), batch_first=True) for column in (first, second, counts))
    return WindowEvents(totals, Events(phi, *others), axes)


@dataclass(frozen=True, slots=True)
class _RemoteEvents:
    """Remote events of one window: their rows in it, its remote functions, and the sums of those."""

    at: Tensor
    axes: RemoteAxes
    sums: Tensor


def _find_remote(
    samples: Sequence[Sample], at: Tensor, functions: Tensor, *, only_sums: bool
) -> list[_RemoteEvents]:
    """Share out the remote events, rows `at` of all samples together, and rotate the functions of each."""
    ends = np.cumsum([len(sample.x) for sample in samples])
    sizes = np.diff(np.searchsorted(at.numpy(), ends), prepend=0).tolist()
    found = []
    for sample, end, rows, part in zip(
        samples, ends.tolist(), torch.split(at, sizes), torch.split(functions, sizes), strict=True
    ):
        local = rows - (end - len(sample.x))
        counts = torch.from_numpy(sample.weights)[local]
        axes = RemoteAxes.of((counts @ part)[None] if only_sums else part)
        found.append(_RemoteEvents(local, axes, axes.values[0] if only_sums else counts @ axes.values))
    return found


def _no_events(fitted: PreparedReference, n_functions: int, linear: Tensor, quadratic: Tensor) -> Events:
    b = len(linear)
    return Events(
        fitted.phi.new_empty(b, 0, n_functions),
        linear.new_empty(b, 0, *linear.shape[1:]),
        linear.new_empty(b, 0, *quadratic.shape[1:]),
        linear.new_empty(b, 0),
    )


def _add_up(parts: Sequence[Tensor], counts: Sequence[Tensor]) -> Tensor:
    """Sum the rows of each part, each as often as it counts."""
    return torch.stack([torch.tensordot(c, part, dims=1) for part, c in zip(parts, counts, strict=True)])
