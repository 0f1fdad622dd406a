"""The symmetrised test: whether a window and the reference come from one distribution, of any sizes.

Both together are the pool. Two fits start from its density ``p_0 = (A + B) / (N_A + N_B)``: f describes the
window A on top of it, g the reference B. The statistic is the sum of both. No event lies where the density of
the pool is 0, so no sample needs to be much larger than the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.nuisance import Nuisance
from dqm.nplm.pool import Pool
from dqm.nplm.prepared import PRECISION, PreparedReference, negligible_variance
from dqm.nplm.samples import Sample, check_sample, choose_centers, reference_shares
from dqm.nplm.window_events import RemoteAxes

__all__ = ["SymmetrisedResult", "SymmetrisedTest"]


@dataclass(frozen=True)
class SymmetrisedResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        ``t_window + t_reference``; NaN if a fit did not converge.
    t_window, t_reference : float
        ``t_{A+B}(A)`` and ``t_{A+B}(B)``.
    n_outside : int
        As in `KernelResult`.
    pool : Pool
        Window and reference together, the reference first.
    is_window : ndarray, shape (n_rows,)
        1 for rows of the window, 0 for those of the reference.
    """

    t: float
    t_window: float
    t_reference: float
    n_outside: int
    pool: Pool
    is_window: FloatArray
    delta: float = 0.0
    nuisances: Mapping[str, NuisanceResult] = field(default_factory=dict)

    @property
    def tau(self) -> float:
        """Equal to `t`: there are no nuisance parameters."""
        return self.t

    @property
    def converged(self) -> bool:
        """Whether both fits converged."""
        return math.isfinite(self.t)

    @cached_property
    def log_ratio_reference(self) -> FloatArray:
        """Learned log density ratio of window to reference, ``f - g``, at the reference events."""
        ratio: FloatArray = self.pool.log_ratio(self.is_window)[self.is_window == 0]
        return ratio

    @property
    def reference_weights(self) -> FloatArray:
        """Weight of each reference event; their sum is the number of events of the window."""
        n_window = self.is_window.sum()
        n = len(self.is_window)
        return np.full(n - int(n_window), n_window / (n - n_window))


class SymmetrisedTest:
    """Symmetrised New Physics Learning Machine with Gaussian kernels.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Reference events in raw features, at least two; they alone define the standardisation.
    n_expected : float
        Events expected in a healthy window, > 0. The test is one of shape: it takes the number of events of
        the window as it is.
    width, penalty, centers, rng
        As in `KernelTest`.
    loss : {"likelihood"}
        Loss that is minimised; no other has a fit for both samples.
    tolerance : float
        As in `KernelTest`.
    nuisances : sequence of Normalisation or Shape
        Must be empty: how nuisance parameters enter both fits is not known yet.

    Raises
    ------
    InputError
        As in `KernelTest`; also for another loss, or with nuisance parameters.

    Notes
    -----
    The weights of f are not clipped; the penalty replaces that.

    References
    ----------
    Bressler, Savoray and Zurgil (2024), arXiv:2401.09530. The open questions there include systematic
    uncertainties.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import SymmetrisedTest
    >>> rng = numpy.random.default_rng(1)
    >>> reference = rng.normal(size=(300, 2))
    >>> test = SymmetrisedTest(reference, n_expected=200, width=2.0, penalty=1e-6, centers=50, rng=rng)
    >>> healthy = test.evaluate(rng.normal(size=(200, 2)))
    >>> faulty = test.evaluate(rng.normal(size=(200, 2)) + [0.8, 0.0])
    >>> healthy.t < faulty.t
    True
    """

    takes_nuisances = False
    usual_settings: ClassVar[Mapping[str, object]] = {"width": 2.5, "penalty": 1e-7, "loss": "likelihood"}

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        width: float,
        penalty: float,
        centers: int | ArrayLike,
        loss: str = "likelihood",
        rng: np.random.Generator | None = None,
        tolerance: float = 5e-4,
        nuisances: Sequence[Nuisance] = (),
    ) -> None:
        numbers = {"n_expected": n_expected, "width": width, "penalty": penalty, "tolerance": tolerance}
        for name, number in numbers.items():
            if not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {number}", fix="Give a finite number above 0")
        if loss != "likelihood":
            raise InputError(
                f"the symmetrised test is not defined for the loss {loss!r}",
                fix="Use likelihood, or the kernel test",
            )
        if nuisances:
            raise InputError(
                f"nuisance terms of the symmetrised test are not known yet, got {len(nuisances)}: its paper "
                "leaves systematic uncertainties as an open question",
                fix="Use the kernel test, or a bundle without nuisance parameters",
            )
        sample = Sample.check(reference, None, "reference")
        self._low, self._high = sample.x.min(axis=0), sample.x.max(axis=0)
        self._penalty = float(penalty)
        self._tolerance = float(tolerance)
        self._ready = PreparedReference.compute(
            sample.x,
            reference_shares(sample, None),
            choose_centers(centers, sample, rng),
            float(width),
            float(penalty),
            "likelihood",
            n_events=sample.n_events,
            few_windows=True,
        )

    def evaluate(self, data: ArrayLike, *, auxiliary: Mapping[str, float] | None = None) -> SymmetrisedResult:
        """Test one window.

        Parameters
        ----------
        data : array_like, shape (n_data, d)
            Events of the window in raw features, at least one.
        auxiliary : mapping, optional
            Must be empty: there are no nuisance parameters.

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference.
        """
        if auxiliary:
            raise InputError(
                f"unknown nuisance parameters: {', '.join(auxiliary)}",
                fix="Leave them out: this test has no nuisance parameters",
            )
        x = check_sample(data, "window", len(self._low))
        n_reference = len(self._ready.phi)
        phi, moment = self._express(torch.from_numpy(x))
        pool = Pool(phi, moment, np.ones(len(phi)), penalty=self._penalty, tolerance=self._tolerance)
        is_window = np.repeat([0.0, 1.0], [n_reference, len(x)])
        ((t_window, t_reference),) = pool.statistics(is_window[None]).tolist()
        return SymmetrisedResult(
            t=t_window + t_reference,
            t_window=t_window,
            t_reference=t_reference,
            n_outside=int(((x < self._low) | (x > self._high)).any(axis=1).sum()),
            pool=pool,
            is_window=is_window,
        )

    def _express(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the functions at the pool, and their mean squares; remote ones are last."""
        ready = self._ready
        n_reference, r = ready.phi.shape
        negligible = negligible_variance("likelihood", self._penalty)
        inner, at, functions = ready.basis.split(x, r, negligible)
        remote = RemoteAxes.of(functions).values
        phi = ready.phi.new_zeros(n_reference + len(x), r + remote.shape[1])
        phi[:n_reference, :r] = ready.phi
        phi[n_reference:, :r] = inner
        phi[n_reference + at, r:] = remote.to(PRECISION)
        return phi, torch.cat([ready.second_moment, (remote**2).sum(0).to(ready.second_moment) / len(phi)])

    def evaluate_many(
        self, windows: Sequence[ArrayLike], *, auxiliaries: Sequence[Mapping[str, float]] | None = None
    ) -> list[SymmetrisedResult]:
        """Test several windows, one by one."""
        return [
            self.evaluate(window, auxiliary=auxiliaries[place] if auxiliaries else None)
            for place, window in enumerate(windows)
        ]
