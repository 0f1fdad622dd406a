"""Hunt along a coordinate: a classifier without labels, trained and applied on different events.

A classifier separates events in a window of the coordinate from those in its sidebands. If nothing happens in
the window, there is nothing to learn. If a few of its events are of another kind, the classifier learns to
find this kind, although no event has a label. The events that are most like the window are selected. The
number of selected events in the window is compared with the number expected from the sidebands.

A classifier that selects events on which it was trained creates an excess. So the events are divided into k
folds. Those of each fold are selected by a classifier that was trained on the others; within these, its
functions and its penalty are chosen by cross-validation. A published analysis trains k
- 1 networks on k - 2 folds for each fold and takes their average. Ours is linear in the means of its
functions, so the average of such classifiers is the one that is trained on all k - 1 folds.

The classifiers of two folds share training events. So their counts are correlated: with a few functions the
excess is wider by up to sqrt(2) than that of independent counts. So no p is taken from the counts alone. The
features are permuted against the coordinate and the whole hunt is repeated, training included. If the
features do not depend on the coordinate, the hunt as observed is one more such permutation, and the rank of
its smallest p is exact: however many positions, widths and thresholds are looked at, and however much a
classifier overtrains. Smooth dependences are not permutations, but have no excess, see
`dqm.nplm.hunt_layout`.

References: Metodiev, Nachman and Thaler (2017), arXiv:1708.02949, for classification without labels; Collins,
Howe and Nachman (2018), arXiv:1805.02664, for the hunt, nested cross-training and the thresholds; Westfall
and Young (1993) for the smallest p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import rankdata

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.classifier_basis import SingleArray, make_bases
from dqm.nplm.feature_kind import FeatureKind
from dqm.nplm.hunt_layout import IndexArray, lay_out
from dqm.nplm.samples import check_sample

__all__ = ["SHARES", "Hunt", "HuntCounts", "Selected"]

SHARES = (0.1, 0.01, 0.002)
"""Shares of the events of window and sidebands that are selected."""

N_FOLDS = 5

FREEDOMS = (3.0, 12.0, 48.0)
"""Effective numbers of functions of a classifier; each stands for a penalty."""

JITTER = 1e-5
"""Smaller differences of scores, in units of their spread, are decided at random: many events may be
equal."""

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class HuntCounts:
    """Selected events in all windows, in every one of the shares; shapes (n_windows, n_shares).

    Parameters
    ----------
    z : ndarray
        Excess in standard deviations of independent counts. It makes windows comparable; it is not a
        significance.
    inside : ndarray
        Selected events in the window.
    excess : ndarray
        The same, minus the number expected from the sidebands.
    """

    z: FloatArray
    inside: FloatArray
    excess: FloatArray

    @property
    def expected(self) -> FloatArray:
        """Selected events expected in the window from the sidebands; a small number may be below 0."""
        return self.inside - self.excess


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """Events of a window and its sidebands, with the scores of its classifiers.

    Parameters
    ----------
    rows : ndarray, shape (n,)
        The events, as rows of the sample.
    scores : ndarray, shape (n,)
        The larger, the more like the window; in standard deviations of all events.
    is_inside, is_selected : ndarray, shape (n,)
        Whether an event is in the window, and whether it is selected.
    """

    rows: IndexArray
    scores: FloatArray
    is_inside: NDArray[np.bool_]
    is_selected: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Classifiers:
    """Classifiers of all folds and windows.

    Parameters
    ----------
    chosen : ndarray, shape (n_folds, n_windows)
        Which basis each of them has.
    directions : list of ndarray, shapes (n_folds, n_windows, r)
        Coefficients on each basis; scores have variance 1.
    """

    chosen: IndexArray
    directions: list[SingleArray]


class Hunt:
    """A hunt along a coordinate, prepared for permutations.

    Parameters
    ----------
    x : array_like, shape (n_events, d)
        Features, raw, without the coordinate.
    coordinate : array_like, shape (n_events,)
        Finite, not constant.
    kinds : sequence of FeatureKind
        What each feature is; empty if all are smooth.
    n_positions : int
        As in `lay_out`.
    seed : int
        Chooses the centres of the kernels and the folds, and throws the permutations.

    Raises
    ------
    InputError
        If the events cannot be used, as in `lay_out`, or if a feature is constant.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import Hunt, hunt_p
    >>> rng = numpy.random.default_rng(1)
    >>> time = numpy.sort(rng.uniform(0.0, 100.0, 2000))
    >>> x = rng.normal(size=(2000, 2))
    >>> x[(time > 40.0) & (time < 42.0)] *= 0.2  # for 2 s
    >>> hunt = Hunt(x, time, n_positions=10, seed=1)
    >>> found = hunt_p(hunt.scan().z, hunt.permuted(range(19)), hunt.layout.levels)
    >>> found.p
    0.05
    >>> low, high = time[hunt.layout.rows(hunt.layout.windows[found.place[0]])][[0, -1]]
    >>> bool(low < 42.0 and high > 40.0)
    True
    """

    def __init__(
        self,
        x: ArrayLike,
        coordinate: ArrayLike,
        kinds: Sequence[FeatureKind] = (),
        *,
        n_positions: int = 20,
        seed: int = 1,
    ) -> None:
        events = check_sample(x, "sample")
        along = np.asarray(coordinate, dtype=np.float64)
        if along.shape != (len(events),) or not np.isfinite(along).all():
            raise InputError(
                f"the coordinate of {format_count(len(events), 'event')} has shape {along.shape}"
                + (", and values that are not finite" if along.shape == (len(events),) else ""),
                fix="Give one finite number for each event",
            )
        self._x = events
        self._seed = seed
        self._order = np.argsort(along, kind="stable")
        self.layout = lay_out(along[self._order], n_positions)
        bases = make_bases(events, kinds, seed)
        self._phi = [basis(events) for basis in bases]
        self._weights = [basis.penalised(FREEDOMS) for basis in bases]
        self._moments = [basis.moments for basis in bases]
        rng = np.random.default_rng([seed, 1])
        n = len(events)
        self._n_bins = len(self.layout.edges) - 1
        # each fold has one of every N_FOLDS events in a row, so all folds have the same share of all parts of
        # the range
        fold = rng.permuted(np.tile(np.arange(N_FOLDS), (-(-n // N_FOLDS), 1)), axis=1).ravel()[:n]
        bins = np.repeat(np.arange(self._n_bins), np.diff(self.layout.edges))
        self._places = np.argsort(fold, kind="stable")  # fold by fold, each in the order of the coordinate
        self._bins = bins[self._places]
        counts = np.bincount(fold * self._n_bins + bins, minlength=N_FOLDS * self._n_bins)
        self._edges = np.concatenate([[0], np.cumsum(counts)])
        self._sums = sparse.csr_array(
            (np.ones(n, dtype=np.float32), np.arange(n), self._edges), shape=(len(counts), n)
        )
        self._sizes = [
            [_sizes(self._part(fold, window)) for fold in range(N_FOLDS)]
            for window in range(len(self.layout.windows))
        ]
        self._jitter = (JITTER * rng.standard_normal(n)).astype(np.float32)

    def scan(self) -> HuntCounts:
        """Hunt along the coordinate."""
        return self._scan(self._order)

    def permuted(self, indices: range) -> FloatArray:
        """Hunt in permutations of the features against the coordinate.

        Parameters
        ----------
        indices : range
            Numbers of the permutations; each is the same whatever the others are.

        Returns
        -------
        ndarray, shape (n, n_windows, n_shares)
            `HuntCounts.z` of each.
        """
        orders = (np.random.default_rng([self._seed, 2, k]).permutation(self._order) for k in indices)
        return np.array([self._scan(order).z for order in orders])

    def follows(self) -> FloatArray:
        """Give the share of each feature that the coordinate determines, shape (d,).

        This is the share of the variance of its ranks that is between the bins of the coordinate, less what
        chance puts there.
        """
        ranks = rankdata(self._x[self._order], axis=0)
        ranks -= ranks.mean(axis=0)
        edges = self.layout.edges
        full = np.flatnonzero(np.diff(edges))
        sums = np.add.reduceat(ranks, edges[full], axis=0)
        between = (sums**2 / np.diff(edges)[full, None]).sum(axis=0) / (ranks**2).sum(axis=0)
        by_chance = (len(full) - 1) / (len(ranks) - 1)
        share: FloatArray = (between - by_chance) / (1.0 - by_chance)
        return share

    def select(self, window: int, share: int) -> Selected:
        """Give the events of a window and its sidebands with the scores of its classifiers.

        Parameters
        ----------
        window, share : int
            Numbers of the window and of the share in `SHARES`.
        """
        phi = self._functions(self._order)
        classifiers = self._train(phi)
        place = self.layout.windows[window]
        rows = []
        scores = []
        selected = []
        for fold in range(N_FOLDS):
            part, found = self._score(phi, classifiers, fold, window)
            best = np.argsort(-found)[: self._sizes[window][fold][share]]
            rows.append(np.arange(part.start, part.stop))
            scores.append(found)
            selected.append(np.isin(np.arange(len(found)), best))
        at = np.concatenate(rows)
        bins = self._bins[at]
        return Selected(
            rows=self._order[self._places[at]],
            scores=np.concatenate(scores).astype(np.float64),
            is_inside=(bins >= place.first) & (bins < place.last),
            is_selected=np.concatenate(selected),
        )

    def _scan(self, order: IndexArray) -> HuntCounts:
        phi = self._functions(order)
        return self._count(phi, self._train(phi))

    def _functions(self, order: IndexArray) -> list[SingleArray]:
        """Give the functions of the events fold by fold; `order`: the events along the coordinate."""
        rows = order[self._places]
        return [phi[rows] for phi in self._phi]

    def _train(self, phi: Sequence[SingleArray]) -> _Classifiers:
        """Train the classifiers of all folds and windows.

        A classifier is that of Fisher: the excess of the functions in the window, in the other folds, over
        their covariance. The penalty is chosen by what the classifiers of k - 2 folds gain in the one that is
        left, summed over these: ``v^T A v - sum_j u_j^T A u_j`` with v the sum of all u_j, in units of what
        it fluctuates by if nothing happens.
        """
        others, gains = [], []
        for block, weights, moments in zip(phi, self._weights, self._moments, strict=True):
            sums = (self._sums @ block).reshape(N_FOLDS, self._n_bins, -1)
            excess = self.layout.contrasts.astype(np.float32) @ sums
            squares = excess**2
            rest = excess.sum(axis=0) - excess
            gain = (rest**2 - (squares.sum(axis=0) - squares)) @ weights.T.astype(np.float32)
            gains.append(gain / np.sqrt(((weights * moments) ** 2).sum(axis=1)))
            others.append(rest)
        n_penalties = len(FREEDOMS)
        best = np.concatenate(gains, axis=2).argmax(axis=2)
        directions = []
        for rest, weights, moments in zip(others, self._weights, self._moments, strict=True):
            found = rest * weights[best % n_penalties]
            spread = np.sqrt(found**2 @ moments)[:, :, None]
            directions.append((found / np.maximum(spread, TINY)).astype(np.float32))
        return _Classifiers(best // n_penalties, directions)

    def _part(self, fold: int, window: int) -> slice:
        """Give the places of the events of a fold in a window and its sidebands."""
        place = self.layout.windows[window]
        first = fold * self._n_bins
        return slice(int(self._edges[first + place.begin]), int(self._edges[first + place.end]))

    def _score(
        self, phi: Sequence[SingleArray], classifiers: _Classifiers, fold: int, window: int
    ) -> tuple[slice, SingleArray]:
        """Score the events of a fold in a window and its sidebands; also give where they are."""
        part = self._part(fold, window)
        basis = classifiers.chosen[fold, window]
        scores = phi[basis][part] @ classifiers.directions[basis][fold, window]
        return part, scores + self._jitter[part]

    def _count(self, phi: Sequence[SingleArray], classifiers: _Classifiers) -> HuntCounts:
        """Select the events of each fold, and count those in the windows."""
        shape = (len(self.layout.windows), len(SHARES))
        inside, excess, variance = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        spread = self.layout.spread
        for number, window in enumerate(self.layout.windows):
            n_all = 0
            n_selected = np.zeros(len(SHARES))
            for fold in range(N_FOLDS):
                part, scores = self._score(phi, classifiers, fold, number)
                sizes = self._sizes[number][fold]
                best = np.argpartition(scores, len(scores) - sizes[0])[len(scores) - sizes[0] :]
                bins = self._bins[part][best[np.argsort(-scores[best])]]
                is_inside = (bins >= window.first) & (bins < window.last)
                inside[number] += np.cumsum(is_inside)[sizes - 1]
                excess[number] += np.cumsum(self.layout.contrasts[number, bins])[sizes - 1]
                n_all += len(scores)
                n_selected += sizes
            share = n_selected / n_all
            variance[number] = share * (1.0 - share) * spread[number]
        return HuntCounts(excess / np.sqrt(variance), inside, excess)


def _sizes(part: slice) -> IndexArray:
    """Give how many of some events in a row each share selects."""
    sizes: IndexArray = np.maximum(1, np.round((part.stop - part.start) * np.array(SHARES))).astype(np.int64)
    return sizes
