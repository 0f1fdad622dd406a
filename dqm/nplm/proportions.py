"""Learning from label proportions: a classifier from samples that mix two classes in known proportions.

No event has a label. But the means of any function in the samples are mixtures of its means in the classes,
with known fractions. With two or more samples of different fractions they give the means in the classes, and
the classifier of least squares needs nothing else: it is the one that labels would give, with errors that are
larger the less the fractions differ. For two samples it orders events as a classifier that separates the
samples themselves, without their fractions. The fractions give its scale, and combine more samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.classifier_basis import ClassifierBasis, make_bases
from dqm.nplm.feature_kind import FeatureKind
from dqm.nplm.hunt_layout import IndexArray
from dqm.nplm.samples import check_sample

__all__ = ["ProportionClassifier", "learn_proportions"]

N_FOLDS = 5

FREEDOMS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Effective numbers of functions of a classifier; each stands for a penalty."""

LEAST_DIFFERENCE = 1e-3
"""Difference of the largest fraction from the smallest below which they are taken as equal."""

FEWEST_EVENTS = 50
"""Fewest events of a sample."""


@dataclass(frozen=True, slots=True, eq=False)
class ProportionClassifier:
    """A classifier learned from proportions.

    Parameters
    ----------
    held_out : tuple of ndarray
        Score of the events of each sample, by a classifier that was not trained on them.
    auc, auc_error : float
        Area under the curve of these scores between the classes, and its error; 0.5 if they cannot be
        separated. Small samples may give more than 1.
    prior : float
        Share of the class in all samples together; scores are probabilities at this share.
    """

    held_out: tuple[FloatArray, ...]
    auc: float
    auc_error: float
    prior: float
    _basis: ClassifierBasis
    _mean: FloatArray
    _direction: FloatArray

    def score(self, x: ArrayLike) -> FloatArray:
        """Give the estimated probability of events, shape (n, d), to be of the class; shape (n,)."""
        events = check_sample(x, "sample")
        return np.clip(self.prior + (self._basis(events) - self._mean) @ self._direction, 0.0, 1.0)


def learn_proportions(
    samples: Sequence[ArrayLike],
    fractions: Sequence[float],
    kinds: Sequence[FeatureKind] = (),
    *,
    seed: int = 1,
) -> ProportionClassifier:
    """Learn to separate a class from the rest, from samples with known fractions of the class.

    Parameters
    ----------
    samples : sequence of array_like, shapes (n, d)
        Two or more samples of raw features. The class must be distributed alike in all of them, and so must
        the rest.
    fractions : sequence of float
        Fraction of the class in each, from 0 to 1; not all equal.
    kinds : sequence of FeatureKind
        What each feature is; empty if all are smooth.
    seed : int
        Chooses the centres of the kernels and the folds.

    Returns
    -------
    ProportionClassifier
        Its functions and penalty are chosen by cross-validation.

    Raises
    ------
    InputError
        If there are not as many fractions as samples, a fraction is not in [0, 1], all are equal, or the
        samples cannot be used.

    References
    ----------
    Quadrianto, Smola, Caetano and Le (2009), Journal of Machine Learning Research 10, 2349, for the means;
    Dery, Nachman, Rubbo and Schwartzman (2017), arXiv:1702.00414, for its use.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import learn_proportions
    >>> rng = numpy.random.default_rng(1)
    >>> def mix(n, n_class):
    ...     return rng.normal(numpy.repeat([2.0, 0.0], [n_class, n - n_class]), 1.0)[:, None]
    >>> found = learn_proportions([mix(2000, 200), mix(2000, 1200)], [0.1, 0.6])
    >>> low, high = found.score(numpy.array([[-1.0], [3.0]]))
    >>> bool(low < 0.1 and high > 0.8)
    True
    """
    events = [check_sample(sample, f"sample {place}") for place, sample in enumerate(samples)]
    known = _check(events, fractions)
    pool = np.concatenate(events)
    sizes = [len(sample) for sample in events]
    rng = np.random.default_rng([seed, 1])
    folds = np.concatenate([rng.permutation(np.arange(n) % N_FOLDS) for n in sizes])
    shares = _unmix(np.repeat(np.arange(len(sizes)), sizes), folds, known)
    prior = float(sizes @ known / len(pool))
    best = min(
        (_Candidate.of(basis, pool, folds, prior * shares[0]) for basis in make_bases(pool, kinds, seed)),
        key=lambda one: one.risk,
    )
    held_out = prior + best.held_out
    areas = [_area(held_out[folds == k], shares[:, folds == k]) for k in range(N_FOLDS)]
    return ProportionClassifier(
        held_out=tuple(np.split(np.clip(held_out, 0.0, 1.0), np.cumsum(sizes)[:-1])),
        auc=float(np.mean(areas)),
        auc_error=float(np.std(areas, ddof=1) / np.sqrt(N_FOLDS)),
        prior=prior,
        _basis=best.basis,
        _mean=best.mean,
        _direction=best.direction,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """The best classifier on one basis.

    Parameters
    ----------
    basis : ClassifierBasis
        Its functions.
    mean, direction : ndarray, shape (r,)
        Means of the functions in the pool, and the coefficients.
    held_out : ndarray, shape (n_pool,)
        Score above the prior of each event, by a classifier trained on the other folds.
    risk : float
        Mean squared error of these scores, up to a constant.
    """

    basis: ClassifierBasis
    mean: FloatArray
    direction: FloatArray
    held_out: FloatArray
    risk: float

    @classmethod
    def of(
        cls, basis: ClassifierBasis, pool: FloatArray, folds: IndexArray, labels: FloatArray
    ) -> _Candidate:
        """Choose the penalty by cross-validation.

        `labels` stand for the labels of the events: their mean with any function is that of true labels, up
        to chance. So the mean of ``score^2 - 2 label score`` over events held out is the squared error of the
        score, less that of the labels, which is the same for all.
        """
        phi = basis(pool)
        mean = phi.mean(axis=0, dtype=np.float64)
        phi -= mean.astype(np.float32)
        pulls = np.array([labels[folds == k] @ phi[folds == k] for k in range(N_FOLDS)])
        others = (pulls.sum(axis=0) - pulls) / (N_FOLDS - 1)
        inverse = basis.penalised(FREEDOMS)
        directions = inverse[:, None] * others
        risks = ((basis.moments * directions - 2.0 * pulls) * directions).sum(axis=(1, 2)) / N_FOLDS
        chosen = int(risks.argmin())
        held_out = np.empty(len(pool))
        for k in range(N_FOLDS):
            held_out[folds == k] = phi[folds == k] @ directions[chosen, k]
        return cls(basis, mean, inverse[chosen] * pulls.mean(axis=0), held_out, float(risks[chosen]))


def _check(events: Sequence[FloatArray], fractions: Sequence[float]) -> FloatArray:
    """Check samples and fractions, and give these as an array."""
    if len(events) < 2 or len(fractions) != len(events):
        raise InputError(
            f"{format_count(len(events), 'sample')} and {format_count(len(fractions), 'fraction')}",
            fix="Give two or more samples, and the fraction of the class in each",
        )
    known = np.array(fractions, dtype=np.float64)
    for fraction in known:
        if not 0.0 <= fraction <= 1.0:
            raise InputError(f"the fraction {fraction:g} is not in [0, 1]", fix="Give shares of events")
    if np.ptp(known) < LEAST_DIFFERENCE:
        raise InputError(
            f"all fractions are {known[0]:g}: samples of equal fractions do not separate the classes",
            fix="Give samples of different fractions",
        )
    for place, sample in enumerate(events):
        if sample.shape[1] != events[0].shape[1]:
            raise InputError(
                f"sample {place} has {format_count(sample.shape[1], 'feature')}, sample 0 has "
                f"{events[0].shape[1]}",
                fix="Give samples of the same features",
            )
        if len(sample) < FEWEST_EVENTS:
            raise InputError(
                f"sample {place} has {format_count(len(sample), 'event')}",
                fix=f"Give {FEWEST_EVENTS} or more",
            )
    return known


def _unmix(samples: IndexArray, folds: IndexArray, fractions: FloatArray) -> FloatArray:
    """Give the weight of each event in the mean of its fold over the class, and over the rest, shape (2, n).

    They are those of least squares: ``mean = fraction * mean in the class + (1 - fraction) * mean in the
    rest`` for each sample, which counts as many times as it has events.
    """
    mixing = np.column_stack([fractions, 1.0 - fractions])
    shares = np.empty((2, len(samples)))
    for k in range(N_FOLDS):
        inside = folds == k
        sizes = np.bincount(samples[inside], minlength=len(fractions))
        means = np.linalg.solve(mixing.T @ (sizes[:, None] * mixing), mixing.T)
        shares[:, inside] = means[:, samples[inside]]
    return shares


def _area(scores: FloatArray, shares: FloatArray) -> float:
    """Give the area under the curve between class and rest, by the weights of `_unmix`."""
    values, place = np.unique(scores, return_inverse=True)
    in_class, in_rest = (np.bincount(place, weights, len(values)) for weights in shares)
    return float(in_class @ (np.cumsum(in_rest) - 0.5 * in_rest))
