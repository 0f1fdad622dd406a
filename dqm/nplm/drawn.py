"""Windows drawn from one pool: what is summed over their events is computed once for each event."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dqm.events import FloatArray
from dqm.nplm.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DrawnWindows"]

BLOCK = 1024
"""Events of the pool whose functions are computed together: they stay in the cache while they are summed."""


class DrawnWindows:
    """Some windows, by the places of their events in a pool.

    Parameters
    ----------
    pool : ndarray, shape (n_pool, d)
        Raw events.
    rows : sequence of ndarray of int, each of shape (n_data,)
        Places of the events of each window; at least one, none of them twice.
    weights : sequence of ndarray, each of shape (n_data,), optional
        Events that each row stands for; one each by default.
    """

    def __init__(
        self, pool: FloatArray, rows: Sequence[NDArray[np.int64]], weights: Sequence[FloatArray] | None = None
    ) -> None:
        self._pool = pool
        self._rows = rows
        self._weights = weights
        used, places = np.unique(np.concatenate(rows), return_inverse=True)
        self.x: FloatArray = pool[used]
        """Events that are in any of the windows, each once, shape (n_used, d)."""
        counts = np.ones(len(places)) if weights is None else np.concatenate(weights)
        of_window = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        order = np.argsort(places // BLOCK, kind="stable")  # by blocks, and in them by windows
        ends = np.searchsorted(places[order] // BLOCK, np.arange(1, -(-len(used) // BLOCK)))
        self._counts = []
        for number, chosen in enumerate(np.split(order, ends)):
            n_events = min(BLOCK, len(used) - number * BLOCK)
            begins = np.searchsorted(of_window[chosen], np.arange(len(rows) + 1))
            content = (counts[chosen], places[chosen] - number * BLOCK, begins)
            self._counts.append(_of_mkl(sparse.csr_array(content, shape=(len(rows), n_events))))

    def __len__(self) -> int:
        """Count the windows."""
        return len(self._rows)

    def sample(self, number: int) -> Sample:
        """Give the events of one window."""
        return Sample(
            self._pool[self._rows[number]], None if self._weights is None else self._weights[number]
        )

    def sum(self, functions: Callable[[FloatArray], FloatArray], columns: FloatArray) -> FloatArray:
        """Sum functions over the events of each window.

        Parameters
        ----------
        functions : callable
            Gives the values of m functions, shape (n, m), from rows of `columns`.
        columns : ndarray, shape (n_used, k)
            What the functions look at, of the events `x`.

        Returns
        -------
        ndarray, shape (n_windows, m)
        """
        blocks = (columns[begin : begin + BLOCK] for begin in range(0, len(columns), BLOCK))
        total: FloatArray = np.zeros((0, 0))
        for number, (counts, block) in enumerate(zip(self._counts, blocks, strict=True)):
            values = functions(block)
            if number == 0:
                total = np.zeros((len(self), values.shape[1]))
            _add_product(total, counts, values)
        return total


def _of_mkl(counts: sparse.csr_array) -> sparse.csr_array | Tensor:
    """Give a sparse matrix to torch, if that has MKL, whose products take half of the time of scipy's."""
    import torch  # imported here, because the class of a test alone does not need it

    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return counts
    begins, places, numbers = map(torch.from_numpy, (counts.indptr, counts.indices, counts.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(begins, places, numbers, list(counts.shape), check_invariants=False)


def _add_product(total: FloatArray, counts: sparse.csr_array | Tensor, values: FloatArray) -> None:
    """Add ``counts @ values`` to the total."""
    if isinstance(counts, sparse.csr_array):
        total += counts @ values
        return
    import torch

    torch.from_numpy(total).addmm_(counts, torch.from_numpy(values))
