"""Functions for classifiers that are linear in them: kernels of all features, and of each feature alone.

A classifier that is fitted by least squares on such functions needs their means in the two classes and their
covariance, and nothing else. So classifiers for many divisions of the same events only need sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import block_diag, solve_triangular

from dqm.events import FloatArray
from dqm.nplm.feature_kind import FeatureKind, views_of
from dqm.nplm.kernel import gaussian_kernel, independent_centers
from dqm.nplm.samples import Sample, choose_centers
from dqm.nplm.score import quantiles_of_distances
from dqm.nplm.setting import ScaledReference, ScaledSample, Setting, choose_kernels

__all__ = ["ClassifierBasis", "make_bases"]

SingleArray = NDArray[np.float32]

MAX_CENTERS = 300
"""Most centres of a kernel of all features."""

MAX_SINGLE = 100
"""The same for a single feature."""

WIDTHS = ((0.5, False), (0.05, True))
"""Kernels of all features: the width, as a quantile of the distances between two events, and whether the
features are decorrelated first. Other widths that were tried on a few runs did not differ beyond chance."""

REDUNDANT = 1e-8
"""Kernel variance at the centres that may be lost where they are redundant."""

LEARNED_EVENTS = 10_000
"""Most events from which means and principal axes are learned."""

MAX_FUNCTIONS = 200
"""Most functions of a basis: the principal axes with the largest variance."""

LEAST_VARIANCE = 1e-8
"""Variance of a function, as a share of that of all, below which it is left out."""

N_RIDGES = 400
"""Ridges from which those with the wanted effective numbers are taken."""

CHUNK_EVENTS = 8192
"""Events whose kernels are evaluated at a time, to bound memory."""


class ClassifierBasis:
    """Functions of mean 0 that are uncorrelated.

    Parameters
    ----------
    seen : ScaledReference
        Events from which the functions are learned, and the kernels' centres.
    settings : sequence of Setting
        Kernels; f is a sum of one function of each.
    has_classes : bool
        Whether single values of features that are steps or categories have functions of their own, too.

    Attributes
    ----------
    moments : ndarray, shape (r,)
        Variance of each function, descending.
    """

    def __init__(
        self, seen: ScaledReference, settings: Sequence[Setting], *, has_classes: bool = False
    ) -> None:
        self._seen = seen
        everything, single = ScaledSample(seen, seen.centers), ScaledSample(seen, seen.centers[:MAX_SINGLE])
        self._kernels = [
            (one, *_whiten((everything if one.feature is None else single).at(one), one.width))
            for one in settings
        ]
        self._classes = [(k, view) for k, view in enumerate(seen.views) if has_classes and len(view.classes)]
        raw = self._evaluate(seen.reference)
        whitenings = [whitening for _, _, whitening in self._kernels]
        n_kernels = sum(map(len, whitenings))
        transform = block_diag(*whitenings, np.eye(raw.shape[1] - n_kernels))
        functions = raw @ transform
        functions -= functions.mean(axis=0)
        moments, axes = np.linalg.eigh(functions.T @ functions / len(functions))
        chosen = np.flatnonzero(moments > LEAST_VARIANCE * moments.sum())[::-1][:MAX_FUNCTIONS]
        self.moments: FloatArray = moments[chosen]
        self._transform: FloatArray = transform @ axes[:, chosen]
        self._mean = raw.mean(axis=0) @ self._transform

    def __call__(self, x: FloatArray) -> SingleArray:
        """Evaluate at raw events, shape (n, d); gives shape (n, r)."""
        parts = [x[k : k + CHUNK_EVENTS] for k in range(0, len(x), CHUNK_EVENTS)]
        found = [(self._evaluate(part) @ self._transform - self._mean).astype(np.float32) for part in parts]
        return np.concatenate(found)

    def penalised(self, freedoms: Sequence[float]) -> FloatArray:
        """Give the inverse of the penalised variances for several penalties, shape (n_penalties, r).

        Parameters
        ----------
        freedoms : sequence of float
            Effective numbers of functions, ``sum m / (m + ridge)``; each stands for a ridge.
        """
        ridges = self.moments[0] * np.geomspace(1e-9, 1e4, N_RIDGES)
        n_effective = (self.moments / (self.moments + ridges[:, None])).sum(axis=1)
        nearest = [ridges[np.argmin(np.abs(n_effective - freedom))] for freedom in freedoms]
        inverse: FloatArray = 1.0 / (self.moments + np.array(nearest)[:, None])
        return inverse

    def _evaluate(self, x: FloatArray) -> FloatArray:
        scaled = ScaledSample(self._seen, x)
        kernels = [
            gaussian_kernel(torch.from_numpy(scaled.at(setting)), centers, setting.width).numpy()
            for setting, centers, _ in self._kernels
        ]
        values = [view.codes(x[:, k])[:, None] == np.arange(len(view.classes)) for k, view in self._classes]
        found: FloatArray = np.hstack([*kernels, *values]).astype(np.float64, copy=False)
        return found


def make_bases(x: FloatArray, kinds: Sequence[FeatureKind], seed: int) -> list[ClassifierBasis]:
    """Make the bases of a sample: of each kernel of all features, and of the features one by one.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        All events, raw; their classes are not used.
    kinds : sequence of FeatureKind
        What each feature is; empty if all are smooth.
    seed : int
        Chooses the centres.

    Raises
    ------
    InputError
        If the events cannot be used.
    """
    rng = np.random.default_rng([seed, 0])
    known = tuple(kinds) or (FeatureKind(),) * x.shape[1]
    sample = Sample(x)
    centers = choose_centers(min(MAX_CENTERS, len(np.unique(x, axis=0))), sample, rng)
    learned = x if len(x) <= LEARNED_EVENTS else sample.choose_rows(LEARNED_EVENTS, rng)
    shares = np.full(len(learned), 1.0 / len(learned))
    seen = ScaledReference(views_of(known, learned, shares), learned, centers, shares, float(len(x)))
    scaled = ScaledSample(seen, learned)
    bases = []
    for quantile, flag in WIDTHS:
        columns = scaled.at(Setting("kernel", is_decorrelated=flag))
        (width,) = quantiles_of_distances(columns, shares, (quantile,))
        bases.append(ClassifierBasis(seen, [Setting("kernel", None, width, is_decorrelated=flag)]))
    single = [one for one in choose_kernels(seen) if one.feature is not None]
    if single or any(kind.has_classes for kind in known):
        bases.append(ClassifierBasis(seen, single, has_classes=True))
    return bases


def _whiten(centers: FloatArray, width: float) -> tuple[torch.Tensor, FloatArray]:
    """Choose centres that are not redundant; also the matrix that makes their kernels orthonormal."""
    every = torch.from_numpy(centers)
    kept = every[independent_centers(every, width, REDUNDANT)]
    factor = torch.linalg.cholesky(gaussian_kernel(kept, kept, width)).numpy()
    return kept, solve_triangular(factor, np.eye(len(kept)), lower=True).T
