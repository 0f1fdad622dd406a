"""The neural test: how much better a small network describes a window than the reference does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.neural.clipping import ClippingChoice, ClippingTrial, choose_clipping, draw_windows
from dqm.nplm.neural.fit import Expansion, NetworkFit, NetworkProblem, Rows, minimise
from dqm.nplm.neural.network import BATCH_BYTES, PRECISION, Perceptron
from dqm.nplm.nuisance import Nuisance, check_nuisances, log_ratio_coefficients, measured_values, profiled
from dqm.nplm.samples import Sample, check_windows, reference_shares, standardisation

__all__ = ["NeuralResult", "NeuralTest"]

TUNING_WINDOWS = 60
"""Healthy windows from which a bundle's clipping is chosen."""

NUISANCE_TOLERANCE = 1e-8
"""Tolerance of the fit of the nuisance parameters alone."""

NUISANCE_STEPS = 200
"""Most steps of this fit, which is quick."""


@dataclass(frozen=True)
class NeuralResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        ``tau - delta``; NaN if the fit of no start is stable.
    tau, delta : float
        Twice the log likelihood ratio to the nominal reference of the best network and nuisance parameters,
        and of the nuisance parameters alone.
    converged : bool
        Whether t is stable.
    n_steps : int
        Steps of the best fit.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name.
    n_outside : int
        As in `KernelResult`.
    weights : ndarray, shape (n_parameters,)
        Of the best network, whose features are standardised.
    test : NeuralTest
        Where it comes from.
    nu : ndarray, shape (k,)
        Nuisance parameters fitted with the network.
    """

    t: float
    tau: float
    delta: float
    converged: bool
    n_steps: int
    nuisances: Mapping[str, NuisanceResult]
    n_outside: int
    weights: FloatArray
    test: NeuralTest
    nu: FloatArray

    def log_ratio(self, x: ArrayLike) -> FloatArray:
        """Evaluate f at raw events of shape (n, d); shape (n,)."""
        return self.test.log_ratio(self.weights, x)

    @cached_property
    def log_ratio_reference(self) -> FloatArray:
        """Fitted f at the reference events, shape (n_reference,)."""
        return self.test.log_ratio(self.weights)

    @cached_property
    def reference_weights(self) -> FloatArray:
        """Weight of each reference event, at the fitted nuisance parameters; shape (n_reference,)."""
        return self.test.deformed_weights(self.nu)


class NeuralTest:
    """New Physics Learning Machine with a small neural network.

    The network has sigmoid units, and no weight is larger than `clipping`. It is fitted with the loss of
    eq. 29, and with nuisance parameters of eq. 25.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Reference events in raw features, at least two; they alone define the standardisation.
    n_expected : float
        Events expected in a healthy window, N(R_0) > 0.
    layers : sequence of int
        Neurons of each hidden layer: (4,) is the (d, 4, 1) network.
    clipping : float
        Largest weight and offset, > 0. `choose_clipping` finds the one at which t of healthy windows follows
        a chi-square distribution.
    starts : int
        Fits of each window, from different first weights; the best counts.
    seed : int
        Of the first weights, the same for all windows.
    tolerance : float
        Change of t within 10 steps, relative to ``max(1, t)``, below which it is stable.
    max_steps : int
        Most steps of a fit; after them it has failed.
    weights : array_like, shape (n_reference,), optional
        Weights of the reference events; rescaled to sum to `n_expected`.
    counts : array_like, shape (n_reference,), optional
        Events that each row of the reference stands for, > 0.
    nuisances : sequence of Normalisation or Shape
        Changes of the reference that are not a fault.

    Raises
    ------
    InputError
        If the reference cannot be used or a number is out of range.

    References
    ----------
    d'Agnolo et al. (2022), doi:10.1140/epjc/s10052-022-10226-y.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm.neural import NeuralTest
    >>> rng = numpy.random.default_rng(1)
    >>> test = NeuralTest(rng.exponential(size=(2000, 1)), n_expected=200, layers=[4], clipping=9.0)
    >>> healthy = test.evaluate(rng.exponential(size=(200, 1)))
    >>> faulty = test.evaluate(rng.exponential(size=(200, 1)) * 1.5)
    >>> healthy.t < faulty.t
    True
    """

    usual_settings: ClassVar[Mapping[str, object]] = {
        "layers": (4,), "clipping": 9.0, "starts": 4, "seed": 1,
    }  # fmt: skip

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        layers: Sequence[float] = (4,),
        clipping: float = 9.0,
        starts: int = 4,
        seed: int = 1,
        tolerance: float = 1e-3,
        max_steps: int = 2000,
        weights: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        nuisances: Sequence[Nuisance] = (),
    ) -> None:
        _check_numbers(
            {"n_expected": n_expected, "clipping": clipping, "tolerance": tolerance},
            {"starts": starts, "max_steps": max_steps},
        )
        sample = Sample.check(reference, counts, "reference")
        shares = reference_shares(sample, weights)
        self._mean, self._scale = standardisation(sample.x, shares)
        self._low, self._high = sample.x.min(axis=0), sample.x.max(axis=0)
        self._shares = shares
        self.n_expected = float(n_expected)
        self.network = Perceptron(sample.x.shape[1], _whole(layers))
        self.clipping = float(clipping)
        self._starts = int(starts)
        self._tolerance = float(tolerance)
        self._max_steps = int(max_steps)
        self._nuisances = check_nuisances(nuisances)
        self._precision = torch.tensor([n.sigma**-2.0 for n in self._nuisances], dtype=PRECISION)
        self._reference = self._rows(sample.x)
        generator = torch.Generator().manual_seed(int(seed))
        self._first = self.network.draw(self._starts, self._reference.x, generator, torch.from_numpy(shares))

    @classmethod
    def tune(
        cls,
        events: FloatArray,
        *,
        n_reference: int,
        n_expected: float,
        rng: np.random.Generator,
        given: Mapping[str, object] | None = None,
        counts: FloatArray | None = None,
        progress: Callable[[int, None], None] = lambda _done, _total: None,
    ) -> dict[str, float]:
        """Choose the clipping, unless it is given: see `choose_clipping`.

        Parameters
        ----------
        events : ndarray, shape (n_events, d)
            Healthy events in any order, more than `n_reference`.
        n_reference, n_expected
            Events of the reference and of a window.
        rng : numpy.random.Generator
            Draws reference and windows.
        given : mapping
            Settings that are given.
        counts : ndarray, shape (n_events,), optional
            Events that each row stands for.
        progress : callable
            Called with the number of clippings tried so far, and None: nobody knows how many there will be.
        """
        if given and "clipping" in given:
            return {}
        wanted = {name: value for name, value in (given or {}).items() if name in cls.usual_settings}
        tried = count(1)
        choice = cls.choose_clipping(
            Sample(events, counts),
            n_reference=n_reference,
            n_expected=n_expected,
            rng=rng,
            settings=wanted,
            progress=lambda _trial: progress(next(tried), None),
        )
        return {"clipping": round(choice.best.clipping, 2)}

    @classmethod
    def choose_clipping(
        cls,
        sample: Sample,
        *,
        n_reference: int,
        n_expected: float,
        rng: np.random.Generator,
        n_windows: int = TUNING_WINDOWS,
        progress: Callable[[ClippingTrial], None] = lambda _: None,
        settings: Mapping[str, Any] | None = None,
    ) -> ClippingChoice:
        """Choose the clipping with healthy windows of a sample.

        Parameters
        ----------
        sample : Sample
            Healthy events, more than `n_reference`; the windows are drawn from those that are not in it.
        n_reference, n_expected, rng
            As in `tune`.
        n_windows : int
            Healthy windows.
        progress : callable
            Told each clipping that was tried.
        settings : mapping, optional
            Of `NeuralTest`, without the clipping.
        """
        n_window = max(1, round(n_expected))
        if sample.n_events < n_reference + 2 * n_window:
            raise InputError(
                f"{sample.n_events:.0f} events do not make a reference of {n_reference} and two windows of "
                f"{n_window}, from which the clipping is chosen",
                fix="Give more events, a smaller reference or smaller windows",
            )
        reference, pool = sample.split([n_reference], rng, [True] * sample.x.shape[1])
        windows = draw_windows(pool, n_windows, n_window, rng)

        def make(bound: float) -> NeuralTest:
            return cls(
                reference.x,
                n_expected=n_expected,
                counts=reference.counts,
                clipping=bound,
                **(settings or {}),
            )

        def statistics(bound: float, samples: Sequence[Sample]) -> FloatArray:
            test = make(bound)
            found = test.evaluate_many([one.x for one in samples], weights=[one.counts for one in samples])
            return np.array([one.t for one in found])

        return choose_clipping(
            statistics,
            windows,
            n_parameters=make(1.0).network.n_parameters,
            inflation=1.0 + n_expected / n_reference,
            progress=progress,
        )

    def at(self, n_expected: float) -> NeuralTest:
        """Give this test for windows of another expected size, > 0."""
        _check_numbers({"n_expected": n_expected}, {})
        other = copy(self)
        other.n_expected = float(n_expected)
        return other

    def evaluate(
        self,
        data: ArrayLike,
        *,
        auxiliary: Mapping[str, float] | None = None,
        weights: ArrayLike | None = None,
    ) -> NeuralResult:
        """Test one window; parameters and errors as in `KernelTest.evaluate`."""
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
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[NeuralResult]:
        """Test several windows together, which is faster than one by one.

        Parameters
        ----------
        windows, auxiliaries, weights
            As in `KernelTest.evaluate_many`.
        progress : callable
            Told the number of windows done.

        Returns
        -------
        list of NeuralResult
            Equal to those of `evaluate` up to rounding.
        """
        samples = check_windows(windows, weights, self.network.n_features)
        given: Sequence[Mapping[str, float] | None] = auxiliaries or [None] * len(samples)
        if len(given) != len(samples):
            raise InputError(
                f"{format_count(len(samples), 'window')}, but auxiliary measurements of {len(given)}",
                fix="Give one mapping for each window",
            )
        measured = [measured_values(self._nuisances, one) for one in given]
        n_rows = len(self._shares) + max((len(one.x) for one in samples), default=0)
        size = max(1, BATCH_BYTES // (8 * n_rows * self._starts * self.network.n_parameters))
        results: list[NeuralResult] = []
        for begin in range(0, len(samples), size):
            batch = slice(begin, begin + size)
            results += self._evaluate_batch(samples[batch], np.array(measured[batch]))
            progress(len(results))
        return results

    def log_ratio(self, weights: FloatArray, x: ArrayLike | None = None) -> FloatArray:
        """Evaluate a network at raw events, shape (n, d); at those of the reference by default."""
        events = self._reference.x if x is None else self._standard(np.asarray(x, dtype=np.float64))
        values: FloatArray = self.network.evaluate(torch.from_numpy(weights)[None], events)[0].numpy()
        return values

    def deformed_weights(self, nu: FloatArray) -> FloatArray:
        """Weights of the reference events at nuisance parameters, shape (n_reference,)."""
        weights = self._shares * self.n_expected
        if self._reference.expansion is None:
            return weights
        log_r, _ = self._reference.expansion(torch.from_numpy(nu)[None])
        deformed: FloatArray = weights * log_r[0].exp().numpy()
        return deformed

    def _standard(self, x: FloatArray) -> Tensor:
        return torch.from_numpy((x - self._mean) / self._scale)

    def _rows(self, x: FloatArray) -> Rows:
        """Make rows of raw events, without weights."""
        if not self._nuisances:
            return Rows(self._standard(x))
        linear, quadratic = log_ratio_coefficients(self._nuisances, x)
        expansion = Expansion(torch.from_numpy(linear), torch.from_numpy(quadratic))
        return Rows(self._standard(x), expansion=expansion)

    def _evaluate_batch(self, samples: list[Sample], measured: FloatArray) -> list[NeuralResult]:
        n, k = len(samples), len(self._nuisances)
        nominal = replace(self._reference, expected=torch.from_numpy(self._shares * self.n_expected))
        windows = self._stack(samples)
        problem = NetworkProblem(
            network=None,
            rows=(nominal, windows),
            bounds=torch.empty(0, dtype=PRECISION),
            measured=torch.from_numpy(measured),
            precision=self._precision,
        )
        alone = (
            minimise(problem, problem.measured, tolerance=NUISANCE_TOLERANCE, max_steps=NUISANCE_STEPS)
            if k
            else None
        )
        places = torch.arange(n).repeat_interleave(self._starts)
        first = self._first.repeat(n, 1)
        start = first if alone is None else torch.cat([first, alone.points[places]], dim=1)
        full = minimise(
            replace(problem.take(places), network=self.network, bounds=self.network.bounds(self.clipping)),
            start,
            tolerance=self._tolerance,
            max_steps=self._max_steps,
        )
        best = full.best_of(self._starts)
        return [self._result(row, sample, measured[row], alone, best) for row, sample in enumerate(samples)]

    def _result(
        self, row: int, sample: Sample, measured: FloatArray, alone: NetworkFit | None, best: NetworkFit
    ) -> NeuralResult:
        p = self.network.n_parameters
        converged = bool(best.converged[row]) and (alone is None or bool(alone.converged[row]))
        tau = -2.0 * float(best.loss[row])
        delta = -2.0 * float(alone.loss[row]) if alone is not None else 0.0
        return NeuralResult(
            t=tau - delta if converged else math.nan,
            tau=tau if converged else math.nan,
            delta=delta if converged else math.nan,
            converged=converged,
            n_steps=int(best.n_steps[row]),
            nuisances=self._profile(row, measured, alone, best) if alone is not None else {},
            n_outside=sample.count_outside(self._low, self._high),
            weights=best.points[row, :p].numpy().copy(),
            test=self,
            nu=best.points[row, p:].numpy().copy(),
        )

    def _profile(
        self, row: int, measured: FloatArray, alone: NetworkFit, best: NetworkFit
    ) -> dict[str, NuisanceResult]:
        found = {}
        sides = [(fit.points[row, -len(measured) :], fit.errors(len(measured))[row]) for fit in (alone, best)]
        for i, nuisance in enumerate(self._nuisances):
            reference, alternative = (
                profiled(float(nu[i]), float(errors[i]), measured[i], nuisance.sigma) for nu, errors in sides
            )
            found[nuisance.name] = NuisanceResult(
                measured=float(measured[i]) if math.isfinite(nuisance.sigma) else None,
                reference=reference,
                alternative=alternative,
            )
        return found

    def _stack(self, samples: list[Sample]) -> Rows:
        """Put windows into arrays of one size; rows that fill them up count 0 times."""
        sizes = [len(one.x) for one in samples]
        rows = self._rows(np.concatenate([one.x for one in samples]))

        def pad(values: Tensor) -> Tensor:
            return pad_sequence(list(torch.split(values, sizes)), batch_first=True)

        expansion = rows.expansion
        if expansion is not None:
            expansion = Expansion(pad(expansion.linear), pad(expansion.quadratic))
        seen = torch.from_numpy(np.concatenate([one.weights for one in samples]))
        return Rows(pad(rows.x), seen=pad(seen), expansion=expansion)


def _whole(layers: Sequence[float]) -> tuple[int, ...]:
    """Read whole numbers, which a bundle keeps as floats; the network refuses others."""
    given = np.atleast_1d(np.asarray(layers, dtype=np.float64))
    return tuple(int(n) if n == int(n) else n for n in given.tolist())


def _check_numbers(positive: Mapping[str, float], counts: Mapping[str, float]) -> None:
    for name, number in positive.items():
        if not (number > 0 and (np.isfinite(number) or name == "clipping")):
            raise InputError(f"{name} is {number}", fix="Give a finite number above 0")
    for name, number in counts.items():
        if number != int(number) or number < 1:
            raise InputError(f"{name} is {number}", fix="Give a whole number of 1 or more")
