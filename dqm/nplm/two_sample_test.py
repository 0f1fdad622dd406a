"""The symmetrised test with several kernels and its permutation null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.feature_kind import FeatureKind, views_of
from dqm.nplm.pool import Pool
from dqm.nplm.samples import Sample, choose_centers
from dqm.nplm.setting import ScaledReference, ScaledSample, choose_kernels

__all__ = ["Divisions", "PermutationP", "TwoSampleTest", "permutation_p"]

MAX_CENTERS = 300
"""Most centres of a kernel of all features."""

LARGEST = 1e100
"""Stands for a statistic that is not known, because its fit did not converge."""


class Divisions:
    """Random divisions of the events of two samples.

    Parameters
    ----------
    sample : Sample
        Events of both samples.
    n_first : int
        How many of them are in the first sample, A.
    seed : int
        Throws the permutations.
    """

    def __init__(self, sample: Sample, n_first: int, seed: int) -> None:
        self._sample = sample
        self._n_first = n_first
        self._seed = seed

    def permute(self, indices: range) -> FloatArray:
        """Divide the events again.

        Parameters
        ----------
        indices : range
            Numbers of the permutations; each is the same whatever the others are.

        Returns
        -------
        ndarray, shape (n, n_rows)
            Events of each row that are in A then.
        """
        return np.array([self._divide(np.random.default_rng([self._seed, 1, index])) for index in indices])

    def _divide(self, rng: np.random.Generator) -> FloatArray:
        if self._sample.counts is None:
            first = np.zeros(len(self._sample.x))
            first[rng.permutation(len(first))[: self._n_first]] = 1.0
            return first
        counts = self._sample.counts.astype(np.int64)
        drawn = rng.multivariate_hypergeometric(counts, self._n_first, method="marginals")
        return drawn.astype(np.float64)


class TwoSampleTest(Divisions):
    """Kernels of two samples together, for many ways to divide their events.

    Nothing in it depends on the division, so that p from permutations is exact.

    Parameters
    ----------
    sample : Sample
        Events of both samples.
    n_first : int
        How many of them are in the first sample, A.
    kinds : sequence of FeatureKind
        What each feature is.
    seed : int
        Chooses the centres and throws the permutations.

    Attributes
    ----------
    settings : tuple of Setting
        The kernels: of all features, with the widths and penalties that `SeveralTest` chooses.
    """

    def __init__(self, sample: Sample, n_first: int, kinds: Sequence[FeatureKind], seed: int) -> None:
        super().__init__(sample, n_first, seed)
        shares = sample.weights / sample.n_events
        n_centers = min(MAX_CENTERS, len(np.unique(sample.x, axis=0)))
        centers = choose_centers(n_centers, sample, np.random.default_rng([seed, 0]))
        seen = ScaledReference(views_of(kinds, sample.x, shares), sample.x, centers, shares, sample.n_events)
        at_sample, at_centers = ScaledSample(seen, sample.x), ScaledSample(seen, centers)
        # smooth kernels see means, but with their large penalties f is far too small for maps
        self.settings = tuple(
            one for one in choose_kernels(seen) if one.feature is None and not one.is_smooth
        )
        self._pools = [
            Pool.of(
                Sample(at_sample.at(one), sample.counts),
                at_centers.at(one),
                width=one.width,
                penalty=one.penalty,
                is_standard=True,
            )
            for one in self.settings
        ]

    def statistics(self, first: FloatArray) -> FloatArray:
        """Give ``t_{A+B}(A)`` and ``t_{A+B}(B)`` for each kernel.

        Parameters
        ----------
        first : ndarray, shape (n, n_rows)
            Divisions.

        Returns
        -------
        ndarray, shape (n, n_settings, 2)
            NaN where a fit did not converge.
        """
        return np.stack([pool.statistics(first) for pool in self._pools], axis=1)

    def log_ratio(self, first: FloatArray, place: int) -> FloatArray:
        """Give the learned log density ratio of A to B at all rows by one kernel; `first`: (n_rows,)."""
        return self._pools[place].log_ratio(first)


@dataclass(frozen=True, slots=True)
class PermutationP:
    """What permutations say.

    Parameters
    ----------
    p : float
        p of the smallest p of all settings; ``(1 + k)/(1 + n)`` with k of n permutations as extreme.
    each : tuple of float
        p of each setting alone.
    place : int
        The setting with the smallest.
    """

    p: float
    each: tuple[float, ...]
    place: int


def permutation_p(observed: FloatArray, permuted: FloatArray) -> PermutationP:
    """Compare statistics with those of permutations.

    The smallest p of the settings is a statistic like any other: each permutation has one, by its ranks among
    all divisions, the observed one included. If ranks are equal, the largest distance from the mean decides,
    in standard deviations. So p is exact with any number of settings.

    Parameters
    ----------
    observed : ndarray, shape (n_settings,)
        Statistics as observed. NaN is as extreme as can be, as it is in permutations.
    permuted : ndarray, shape (n, n_settings)
        Of permutations.

    References
    ----------
    Phipson and Smyth (2010), doi:10.2202/1544-6115.1585; Westfall and Young (1993) for the smallest p.
    """
    t = np.nan_to_num(np.concatenate([observed[None], permuted]), nan=LARGEST, posinf=LARGEST)
    n = len(t)
    n_above = np.column_stack([n - np.searchsorted(np.sort(column), column, "left") for column in t.T])
    pull = (t - t.mean(axis=0)) / np.maximum(t.std(axis=0), 1.0 / LARGEST)
    smallest = n_above.min(axis=1)
    largest = pull.max(axis=1)
    is_as_extreme = (smallest < smallest[0]) | ((smallest == smallest[0]) & (largest >= largest[0]))
    return PermutationP(
        p=float(is_as_extreme.mean()),
        each=tuple((n_above[0] / n).tolist()),
        place=int(np.lexsort((-pull[0], n_above[0]))[0]),
    )
