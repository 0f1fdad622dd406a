"""A window against the windows before it: the statistic of several kernels, with its permutation null.

The kernels and their basis are those of the frozen reference, so they are chosen once. A window is compared
with the mean of the functions over the events of the past windows. All divisions of these events into
"window" and "past" are alike if nothing has changed. The healthy Hessian is that of all these events
together, so it is the same for all divisions; events far from the frozen reference would have too much weight
otherwise. Each kernel sums its functions for all divisions in one sparse matrix product, and nothing is
fitted again.

A nuisance parameter may have another value now than in the past. To first order this moves the mean of a
function by its covariance with the coefficients of log r. This part is subtracted from the sums (the
efficient score of Neyman), so the test does not depend on it, whatever slow control measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.feature_kind import FeatureKind, views_of
from dqm.nplm.nuisance import Normalisation, Nuisance, log_ratio_coefficients
from dqm.nplm.samples import Sample, check_sample, reference_shares
from dqm.nplm.score import Score, log_chi_squared, weigh_functions
from dqm.nplm.setting import ScaledReference, ScaledSample, Setting, choose_kernels, make_score, weigh_kernels

__all__ = ["RollingStatistics", "RollingTest"]

MAX_CENTERS = 300
"""Most centres of a kernel of all features: as in `TwoSampleTest`."""

LEAST_SPREAD = 1e-9
"""Singular values of the nuisance coefficients below this, relative to the largest, count as 0."""


@dataclass(frozen=True, slots=True)
class RollingStatistics:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        -2 log of the smallest approximate p of the kernels, as that of `SeveralTest`.
    permuted : ndarray, shape (n_permutations,)
        The same of random divisions of the same events.
    seen_by : Setting
        Kernel with the smallest p.
    """

    t: float
    permuted: FloatArray
    seen_by: Setting


class RollingTest:
    """Whether a window comes from the same distribution as windows before it.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Events of the frozen reference, raw: they choose the kernels, and nothing is compared with them.
    centers : array_like, shape (m, d)
        Kernel centres, raw; if there are more than `MAX_CENTERS`, the first are taken.
    kinds : sequence of FeatureKind, optional
        What each feature is; all smooth by default.
    nuisances : sequence of Nuisance
        Changes that this test allows. Their measurements are not used.

    Raises
    ------
    InputError
        If an array cannot be used.

    Notes
    -----
    Permutations of events are exact for independent events. Windows that differ among each other by more than
    their events' fluctuation, and not by a nuisance parameter that is given, have too small p.

    References
    ----------
    Neyman (1959), "Optimal asymptotic tests of composite statistical hypotheses", for the nuisance
    parameters; Phipson and Smyth (2010), doi:10.2202/1544-6115.1585, for p from permutations.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import RollingTest
    >>> rng = numpy.random.default_rng(1)
    >>> reference = rng.normal(size=(2000, 2))
    >>> test = RollingTest(reference, reference[:100])
    >>> past = [rng.normal(size=(200, 2)) for _ in range(5)]
    >>> same = test.evaluate(past, rng.normal(size=(200, 2)), n_permutations=200, rng=rng)
    >>> moved = test.evaluate(past, rng.normal(size=(200, 2)) + 0.4, n_permutations=200, rng=rng)
    >>> bool(same.t < numpy.quantile(same.permuted, 0.99)), bool(moved.t > moved.permuted.max())
    (True, True)
    """

    def __init__(
        self,
        reference: ArrayLike,
        centers: ArrayLike,
        *,
        kinds: Sequence[FeatureKind] = (),
        nuisances: Sequence[Nuisance] = (),
    ) -> None:
        sample = Sample.check(reference, None, "reference")
        n_features = sample.x.shape[1]
        chosen = check_sample(centers, "array of centres", n_features)[:MAX_CENTERS]
        shares = reference_shares(sample, None)
        views = views_of(kinds or [FeatureKind()] * n_features, sample.x, shares)
        self._seen = ScaledReference(views, sample.x, chosen, shares, sample.n_events)
        self.settings = tuple(choose_kernels(self._seen))
        samples = ScaledSample(self._seen, sample.x), ScaledSample(self._seen, chosen)
        self._scores = [make_score(Score, self._seen, *samples, setting) for setting in self.settings]
        self._handicaps = np.array(weigh_kernels(self.settings, n_features))
        self._nuisances = [one for one in nuisances if not isinstance(one, Normalisation)]

    def evaluate(
        self,
        past: Sequence[ArrayLike],
        window: ArrayLike,
        *,
        n_permutations: int,
        rng: np.random.Generator,
    ) -> RollingStatistics:
        """Test a window against others.

        Parameters
        ----------
        past : sequence of array_like, shapes (n_i, d)
            Events of the windows before it, raw; at least one window.
        window : array_like, shape (n, d)
            Events of the window, raw.
        n_permutations : int
            Random divisions of all these events into n and the others, at least 1.
        rng : numpy.random.Generator
            Divides.

        Raises
        ------
        InputError
            If there is no past window, or an array cannot be used.
        """
        if not past:
            raise InputError("no window to compare with", fix="Give at least one window before it")
        d = self._seen.reference.shape[1]
        x = check_sample(window, "window", d)
        events = np.concatenate([x, *(check_sample(one, "window of the past", d) for one in past)])
        n = len(x)
        n_past = len(events) - len(x)
        log_p = self._log_p(events, _divide(len(events), n, n_permutations, rng), n, n_past)
        t = -2.0 * log_p.min(axis=1)
        return RollingStatistics(float(t[0]), t[1:], self.settings[int(log_p[0].argmin())])

    def _log_p(self, events: FloatArray, chosen: sparse.csr_array, n: int, n_past: int) -> FloatArray:
        """Give the log of an approximate p for each division and each kernel."""
        scaled = ScaledSample(self._seen, events)
        axes = self._nuisance_axes(events)
        ratio = n / n_past
        explained = chosen @ axes
        t, means, variances = [], [], []
        for score, setting in zip(self._scores, self.settings, strict=True):
            phi = score.functions(scaled.at(setting))
            window = chosen @ phi - explained @ (axes.T @ phi)
            excess = (1.0 + ratio) * window - ratio * phi.sum(axis=0)
            inverse, mean, variance = weigh_functions(
                (phi**2).mean(axis=0), phi.mean(axis=0), score.penalty * len(events), n, n_past
            )
            t.append(excess**2 @ inverse)
            means.append(mean)
            variances.append(variance)
        log_p = log_chi_squared(np.column_stack(t), np.array(means), np.array(variances))
        weighed: FloatArray = log_p + self._handicaps
        return weighed

    def _nuisance_axes(self, events: FloatArray) -> FloatArray:
        """Give orthonormal columns that span the centred coefficients of log r, shape (n_events, k)."""
        if not self._nuisances:
            return np.empty((len(events), 0))
        linear, quadratic = log_ratio_coefficients(self._nuisances, events)
        columns = np.hstack([linear, np.diagonal(quadratic, axis1=1, axis2=2)])
        axes, sizes, _ = np.linalg.svd(columns - columns.mean(axis=0), full_matrices=False)
        kept: FloatArray = axes[:, sizes > LEAST_SPREAD * max(1.0, float(sizes.max()))]
        return kept


def _divide(n_events: int, n: int, n_permutations: int, rng: np.random.Generator) -> sparse.csr_array:
    """Say which events are in the window: first as observed, then in random divisions."""
    random = [rng.choice(n_events, size=n, replace=False) for _ in range(n_permutations)]
    places = np.concatenate([np.arange(n), *random])
    starts = n * np.arange(n_permutations + 2)
    return sparse.csr_array((np.ones(len(places)), places, starts), shape=(n_permutations + 1, n_events))
