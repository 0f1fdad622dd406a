"""The kernel test: how much better a learned density ratio describes a window than the reference does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import pad

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, NuisanceResult, Profiled
from dqm.nplm.fit import Fit, Nodes, minimise
from dqm.nplm.hessian import Hessian, variances
from dqm.nplm.loss import LOSSES, LossName
from dqm.nplm.nuisance import (
    Nuisance,
    check_nuisances,
    log_ratio_coefficients,
    measured_values,
    profiled,
)
from dqm.nplm.prepared import PreparedReference, by_columns, check_device, negligible_variance
from dqm.nplm.problem import Events, FitProblem, Totals
from dqm.nplm.result import KernelResult, LogRatio
from dqm.nplm.samples import Sample, check_windows, choose_centers, reference_shares
from dqm.nplm.single_fit import minimise_single
from dqm.nplm.window_events import RemoteAxes, express

__all__ = ["USUAL_WIDTH", "KernelTest"]

USUAL_WIDTH = 2.5
"""Default width of a single kernel, in standard deviations."""

BATCH_BYTES = 2**27
"""Memory for the events of the windows that are tested together; more is hardly faster."""

MAX_WINDOWS_ON_CPU = 25
"""Windows tested together on a CPU. With fewer the reference is read more often; more exceed the cache."""

NEAR = 1.25
"""Within this factor of its size a test starts the fits of another size; beyond it the start is computed
again."""


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """Fit of a batch of windows under one hypothesis; errors of the nuisance parameters, shape (b, k)."""

    fit: Fit
    errors: Tensor

    def profile(self, row: int, i: int, measured: float, sigma: float) -> Profiled:
        return profiled(float(self.fit.point.nu[row, i]), float(self.errors[row, i]), measured, sigma)


class KernelTest:
    """New Physics Learning Machine with Gaussian kernels, fitted to convergence.

    What depends on the reference alone is computed once, here; `evaluate` then takes milliseconds.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Reference events in raw features, at least two; they alone define the standardisation.
    n_expected : float
        Events expected in a healthy window, N(R_0) > 0.
    width : float
        Kernel sigma in standard deviations of the reference, > 0.
    penalty : float
        Falkon's lambda, > 0: the objective is ``mean loss + lambda/2 alpha^T K_MM alpha``, the mean over
        reference and data events together.
    centers : int or array_like, shape (m, d)
        Nystroem centres: how many to draw from the reference without replacement, or the centres themselves
        in raw features.
    weights : array_like, shape (n_reference,), optional
        Weights of the reference events, not negative; rescaled to sum to `n_expected`. All equal by default.
    counts : array_like, shape (n_reference,), optional
        Events that each row of the reference stands for, > 0: the bins of a histogram. t is that of the rows
        repeated so often, at the cost of the rows. One each by default.
    loss : {"logistic", "likelihood"}
        Loss that is minimised; t is the same functional of f for both. With nuisance parameters the
        likelihood is the one to use: tau and delta are its minima.
    rng : numpy.random.Generator, optional
        Draws the centres; required if `centers` is a number below n_reference.
    tolerance : float
        Largest change of t in the last step, relative to ``max(1, |t|)``; the remaining error is of that
        order.
    max_iterations : int
        Most Newton steps for a window far from the reference; after them its fit has failed.
    nuisances : sequence of Normalisation or Shape
        Changes of the reference that are not a fault.
    prepared : mapping of str to ndarray, optional
        `prepared` of an earlier test with the same reference, weights, centres, width, penalty and loss, so
        that it is not computed again.
    few_windows : bool
        Prepare faster (in a third to a ninth of the time), for a few windows, whose fits then take half as
        long again. t is the same within `tolerance`.
    is_standard : bool
        Take the features as they are, in units of the width, instead of standardising them.
    device : str
        Where windows are fitted: "cpu", or "cuda" for a GPU. What depends on the reference alone is always
        computed on the CPU, so both start from the same numbers.

    Raises
    ------
    InputError
        If an array has the wrong shape, a value that is not finite or a constant feature; if more centres are
        requested than there are distinct events; if a number is out of range; if the device does not exist.

    Notes
    -----
    With wide kernels ``K_MM`` is numerically singular: most centres are redundant. A pivoted Cholesky
    factorisation orders them by what they add. The last ones are dropped as long as the kernel variance lost
    at every reference event is a small share of lambda; after a rotation to the principal axes of the
    reference, functions that add little are dropped likewise. At an event of a window that is remote from all
    reference events, what was dropped may matter, and is used there. Together with `tolerance` this changes t
    by less than 1e-3 of its value (measured in ``tests/nplm/test_accuracy.py``); the value is that of all
    centres that float64 can distinguish (squared RKHS distance 1e-12). With a weak penalty an isolated event
    also depends on differences that float64 does not resolve: there another program may give a t that differs
    by about 1e-2. The basis at the events is kept in float32, all sums in float64.

    References
    ----------
    Letizia et al. (2022), arXiv:2204.02317; Grosso et al. (2023), arXiv:2303.05413; d'Agnolo et al. (2022),
    doi:10.1140/epjc/s10052-022-10226-y for the nuisance parameters (eq. 11, 18, 24, 25, 27).

    Examples
    --------
    >>> import numpy
    >>> import dqm
    >>> rng = numpy.random.default_rng(1)
    >>> reference = rng.normal(size=(1000, 2))
    >>> test = dqm.KernelTest(reference, n_expected=200, width=2.0, penalty=1e-6, centers=100, rng=rng)
    >>> healthy = test.evaluate(rng.normal(size=(200, 2)))
    >>> faulty = test.evaluate(rng.normal(size=(200, 2)) + [0.5, 0.0])
    >>> healthy.converged and faulty.converged
    True
    >>> healthy.t < faulty.t
    True
    >>> faulty.log_ratio.shape  # of the window's events
    (200,)
    """

    usual_settings: ClassVar[Mapping[str, object]] = {
        "width": USUAL_WIDTH,
        "penalty": 1e-7,
        "loss": "likelihood",
    }
    """Settings of a bundle if none are given, width in standard deviations.

    They separated faults from gas best on simulated chambers (``tests/studies/chamber_nuisance.py``).
    """

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        width: float,
        penalty: float,
        centers: int | ArrayLike,
        weights: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        loss: LossName = "logistic",
        rng: np.random.Generator | None = None,
        tolerance: float = 5e-4,
        max_iterations: int = 200,
        nuisances: Sequence[Nuisance] = (),
        prepared: Mapping[str, NDArray[Any]] | None = None,
        few_windows: bool = False,
        is_standard: bool = False,
        device: str = "cpu",
    ) -> None:
        for name, number in [
            ("n_expected", n_expected),
            ("width", width),
            ("penalty", penalty),
            ("tolerance", tolerance),
        ]:
            if not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {number}", fix="Give a finite number above 0")
        if loss not in LOSSES:
            raise InputError(f"unknown loss {loss!r}", fix=f"Choose one of {', '.join(LOSSES)}")
        sample = Sample.check(reference, counts, "reference")
        shares = reference_shares(sample, weights)
        events = sample.x
        self._n_reference = sample.n_events
        self.n_expected = float(n_expected)
        self.n_features = events.shape[1]
        self._low = events.min(axis=0)
        self._high = events.max(axis=0)
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self._t_enough = math.inf
        self._penalty = float(penalty)
        self._loss_name: LossName = loss
        self._loss = LOSSES[loss]
        self._negligible = negligible_variance(loss, penalty)
        self._device = check_device(device)
        ready = (
            PreparedReference.compute(
                events,
                shares,
                choose_centers(centers, sample, rng),
                float(width),
                float(penalty),
                loss,
                n_events=sample.n_events,
                n_expected=float(n_expected),
                few_windows=few_windows,
                is_standard=is_standard,
            )
            if prepared is None
            else PreparedReference.from_arrays(prepared, float(width), len(events))
        )
        self._ready = ready
        self._fitted = ready.to(self._device)
        self._second_moment = self._fitted.second_moment * self.n_expected
        self._nuisances = check_nuisances(nuisances)
        columns = (*log_ratio_coefficients(self._nuisances, events), shares * self.n_expected)
        linear, quadratic, weights_on_device = map(self._tensor, columns)
        self._reference = Events(self._fitted.phi, linear, quadratic, weights_on_device)
        self._reference_on_cpu = Events(ready.phi, *map(torch.from_numpy, columns))
        self._precision = self._tensor([n.sigma**-2.0 for n in self._nuisances])
        self._full_nodes, self._nuisance_nodes = self._make_nodes(self._choose_nodes())

    @property
    def prepared(self) -> dict[str, NDArray[Any]]:
        """What depends on the reference alone, as arrays, for another test of the same reference."""
        return self._ready.arrays()

    @property
    def n_independent(self) -> int:
        """Number of basis functions at the reference, r."""
        return self._fitted.phi.shape[1]

    def at(self, n_expected: float) -> KernelTest:
        """Give this test for windows of another expected size; what depends on the reference is shared.

        Parameters
        ----------
        n_expected : float
            Events expected in a healthy window, > 0.

        Returns
        -------
        KernelTest
            Made in less than a millisecond if the size is within `NEAR` of this one. t is that of a test made
            anew, within `tolerance`; `stopping_above` has to be asked for again.
        """
        if not (np.isfinite(n_expected) and n_expected > 0):
            raise InputError(f"n_expected is {n_expected}", fix="Give a finite number above 0")
        scale = n_expected / self.n_expected
        other = self.stopping_above(math.inf)
        other.n_expected = float(n_expected)
        other._second_moment = self._second_moment * scale
        other._reference = self._reference.scaled(scale)
        other._reference_on_cpu = self._reference_on_cpu.scaled(scale)
        full, alone = self._full_nodes, self._nuisance_nodes
        other._full_nodes = replace(full, events=full.events.scaled(scale))
        other._nuisance_nodes = replace(alone, events=alone.events.scaled(scale))
        if not 1.0 / NEAR <= scale <= NEAR:
            other._full_nodes, other._nuisance_nodes = other._make_nodes(other._full_nodes.events)
        return other

    def stopping_above(self, t: float) -> KernelTest:
        """Give this test for a user who does not distinguish statistics above a value.

        Parameters
        ----------
        t : float
            The value. Where the statistic is above it, the fit may end before it has converged: the result
            then has ``is_lower_bound``, and maps are those of the point reached. Other windows give the same
            numbers as before.

        Returns
        -------
        KernelTest
            Shares everything with this one.

        Notes
        -----
        With the likelihood loss, ``-2 (L + P)`` at any point of the fit, P the penalty, is a lower bound of
        tau, and Delta is fitted to the end. With the logistic loss t is not what is minimised: there the
        bound is a cautious estimate, half of tau at the point reached after ten times its estimated error was
        taken off.
        """
        other = copy(self)
        other._t_enough = float(t)
        return other

    def evaluate(
        self,
        data: ArrayLike,
        *,
        auxiliary: Mapping[str, float] | None = None,
        weights: ArrayLike | None = None,
    ) -> KernelResult:
        """Test one window.

        Parameters
        ----------
        data : array_like, shape (n_data, d)
            Events of the window in raw features, at least one.
        auxiliary : mapping of str to float, optional
            Measured value of each nuisance parameter; required for all that are not free.
        weights : array_like, shape (n_data,), optional
            Events that each row stands for, >= 0: the contents of the bins of a histogram, whose centres are
            `data`. t is that of the rows repeated so often. One each by default.

        Returns
        -------
        KernelResult
            `t` is NaN and `converged` False if a fit did not converge.

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference; if a weight
            is negative or not finite, or all are 0; if a measurement is missing or unknown.
        """
        return self.evaluate_many(
            [data], auxiliaries=None if auxiliary is None else [auxiliary], weights=[weights]
        )[0]

    @torch.inference_mode()
    def evaluate_many(
        self,
        windows: Sequence[ArrayLike],
        *,
        auxiliaries: Sequence[Mapping[str, float]] | None = None,
        weights: Sequence[ArrayLike | None] | None = None,
    ) -> list[KernelResult]:
        """Test several windows together, which is faster than one by one.

        Parameters
        ----------
        windows : sequence of array_like, each of shape (n_data, d)
            Windows; they may differ in size.
        auxiliaries : sequence of mappings, optional
            Measured nuisance parameters of each.
        weights : sequence of array_like or None, optional
            Events that each row of each window stands for.

        Returns
        -------
        list of KernelResult
            Equal to those of `evaluate` up to rounding.

        Raises
        ------
        InputError
            As `evaluate`.
        """
        samples = check_windows(windows, weights, self.n_features)
        given: Sequence[Mapping[str, float] | None] = auxiliaries or [None] * len(samples)
        if len(given) != len(samples):
            raise InputError(
                f"{format_count(len(samples), 'window')}, but auxiliary measurements of {len(given)}",
                fix="Give one mapping for each window",
            )
        measured = [measured_values(self._nuisances, one) for one in given]
        results: list[KernelResult] = []
        while len(results) < len(samples):
            batch = slice(len(results), len(results) + self._batch_size(samples[len(results) :]))
            results += self._evaluate_batch(samples[batch], np.array(measured[batch]))
        return results

    @property
    def _fits_alone(self) -> bool:
        """Whether a window by itself is fitted by `dqm.nplm.single_fit`."""
        return not self._nuisances and self._device.type == "cpu"

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float64), device=self._device)

    def _batch_size(self, samples: Sequence[Sample]) -> int:
        """Count the samples to test together."""
        if self._fits_alone and self._ready.cells is not None:
            return 1  # with cells that is quicker
        n_data = max(len(sample.x) for sample in samples)
        n_reference = len(self._reference.weights)
        numbers = n_data * (8 + len(self._fitted.basis.centers)) + n_reference * (
            8 + 2 * len(self._nuisances)
        )
        room = max(1, BATCH_BYTES // (8 * numbers))
        return min(room, MAX_WINDOWS_ON_CPU) if self._device.type == "cpu" else room

    def _evaluate_batch(self, samples: list[Sample], measured: FloatArray) -> list[KernelResult]:
        problem, remote = self._problem(samples, self._tensor(measured))
        alone = None
        if self._nuisances:
            alone = self._fit(problem.without_kernels(), self._nuisance_nodes, problem.measured)
            problem = replace(problem, enough=problem.enough + alone.fit.point.statistic)
        full = self._fit(problem, self._full_nodes, alone.fit.point.nu if alone else problem.measured)
        results = []
        for row, sample in enumerate(samples):
            is_known = alone is None or bool(alone.fit.converged[row])
            converged = is_known and bool(full.fit.converged[row])
            is_lower_bound = is_known and not converged and bool(full.fit.is_settled[row])
            tau = float((full.fit.point.statistic if converged else full.fit.bound)[row])
            delta = float(alone.fit.point.statistic[row]) if alone else 0.0
            is_known = converged or is_lower_bound
            results.append(
                KernelResult(
                    t=tau - delta if is_known else math.nan,
                    converged=converged,
                    is_lower_bound=is_lower_bound,
                    iterations=int(full.fit.iterations[row]),
                    tau=tau if is_known else math.nan,
                    delta=delta if is_known else math.nan,
                    nuisances=self._profile(row, measured[row], alone, full) if alone else {},
                    n_outside=sample.count_outside(self._low, self._high),
                    density=LogRatio(
                        sample.x,
                        self._coefficients(full.fit.point.a[row].cpu(), remote[row]),
                        self._ready.basis,
                        self._negligible,
                        full.fit.point.nu[row].cpu(),
                        self._reference_on_cpu,
                    ),
                )
            )
        return results

    def _coefficients(self, a: Tensor, remote: RemoteAxes) -> Tensor:
        """Turn coordinates of a fit into those of all functions of the basis."""
        r = self.n_independent
        return torch.cat([a[:r], remote.rotate_back(a[r:], self._ready.basis.transform.shape[1] - r)])

    def _profile(
        self, row: int, measured: FloatArray, alone: _Hypothesis, full: _Hypothesis
    ) -> dict[str, NuisanceResult]:
        return {
            nuisance.name: NuisanceResult(
                measured=float(measured[i]) if math.isfinite(nuisance.sigma) else None,
                reference=alone.profile(row, i, measured[i], nuisance.sigma),
                alternative=full.profile(row, i, measured[i], nuisance.sigma),
            )
            for i, nuisance in enumerate(self._nuisances)
        }

    def _fit(self, problem: FitProblem, nodes: Nodes, start: Tensor) -> _Hypothesis:
        is_lone = len(problem.ridge) == 1 and self._fits_alone
        alone, together = partial(minimise_single, cells=self._ready.cells), partial(minimise, start=start)
        method = alone if is_lone else together
        fit = method(problem, nodes, tolerance=self.tolerance, max_iterations=self.max_iterations)
        scale = problem.loss.healthy_curvature
        return _Hypothesis(fit, (scale * variances(problem, fit.point, fit.hessian)).sqrt())

    def _choose_nodes(self) -> Events:
        chosen = self._fitted.nodes
        linear = self._reference.linear
        quadratic = self._reference.quadratic
        masses = self._fitted.masses * self.n_expected
        return Events(by_columns(self._fitted.phi[chosen]), linear[chosen], quadratic[chosen], masses)

    def _make_nodes(self, events: Events) -> tuple[Nodes, Nodes]:
        """Make the nodes of the full fit, and those of the fit of nuisance parameters alone."""
        r, k = len(self._second_moment), len(self._nuisances)
        empty = Totals(*(self._tensor(np.zeros((1, *shape))) for shape in ((r,), (k,), (k, k))))
        size = self._tensor([self.n_expected])
        full = self._assemble(events, empty, size, self._tensor(np.zeros((1, k)))).on(events)
        alone = full.without_kernels()
        return Nodes(events, Hessian.healthy(full)), Nodes(alone.reference, Hessian.healthy(alone))

    def _problem(self, samples: list[Sample], measured: Tensor) -> tuple[FitProblem, list[RemoteAxes]]:
        windows = express(
            samples,
            self._fitted,
            self._nuisances,
            negligible=self._negligible,
            only_sums=self._loss.linear_in_data,
        )
        sizes = self._tensor([sample.n_events for sample in samples])
        return self._assemble(windows.data, windows.totals, sizes, measured), windows.remote

    def _assemble(self, data: Events, totals: Totals, sizes: Tensor, measured: Tensor) -> FitProblem:
        n_remote = totals.phi.shape[1] - self.n_independent
        return FitProblem(
            reference=self._reference,
            data=data,
            totals=totals,
            loss_name=self._loss_name,
            n_expected=self.n_expected,
            second_moment=pad(self._second_moment, (0, n_remote)),
            ridge=self._penalty * (self._n_reference + sizes),
            precision=self._precision,
            measured=measured,
            enough=torch.full_like(sizes, self._t_enough),
        )
