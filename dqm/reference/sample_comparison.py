"""Comparison of two runs or two chambers: the symmetrised test with its permutation null, and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from dqm.errors import InputError, format_count
from dqm.events import Explanation, FloatArray
from dqm.nplm import FeatureKind, RatioMaps, Setting, TwoSampleTest, permutation_p
from dqm.nplm.neural import NetworkSetting, NeuralTwoSampleTest
from dqm.nplm.samples import Sample, merge
from dqm.reference.explanation import MAX_PAIRED, departure, describe_ranking, rank_features
from dqm.reference.features import choose_kinds, constant_features
from dqm.reference.processes import Workers, one_thread

__all__ = ["SampleComparison", "compare_samples", "refuse_common", "refuse_pair"]

Model = Literal["kernel", "neural"]
"""What describes the samples: kernels of several widths, or a small network."""

LARGEST_BATCH = 40
"""Most permutations in one unit of work."""

NUMBERS_AT_ONCE = 2 * 10**7
"""Most log ratios in one unit of work; large samples have fewer permutations in one."""

FEWEST_EVENTS = 2
"""Fewest events of a sample."""

FEW_EVENTS = 10
"""A sample with fewer events can hardly show anything; a bundle's windows have as many or more."""

FEWEST_DISTINCT = 10
"""Fewest distinct events of both samples together."""

N_BY_CHANCE = 12
"""Permutations with which the effect of chance on the departure of each feature is measured."""

SURPRISE = 5.0
"""Standard deviations by which common events may exceed the number expected from repeats within the
samples."""

TOLD_P = 0.05
"""p below which the samples are said to differ, and in which features; above it the ranking is chance."""

LEAST_EXPECTED = 0.1
"""Smallest expected number of common events: two may be chance, three are not."""


@dataclass(frozen=True, slots=True)
class SampleComparison:
    """Outcome of the comparison of samples A and B.

    Parameters
    ----------
    n_first, n_second : int
        Events of A and of B.
    p : float
        Exact: ``(1 + k)/(1 + n)`` with k of n permutations as extreme as the samples.
    z : float or None
        `p` as a one-sided Gaussian significance; None for p = 1.
    n_permutations : int
        n.
    settings : tuple of Setting or of NetworkSetting
        Kernels, or a network; `p` is that of the smallest p of all.
    p_of_settings : tuple of float
        p of each kernel alone.
    place : int
        Kernel with which the difference is largest; the next two and the maps are from it.
    t_first, t_second : float
        ``t_{A+B}(A)`` and ``t_{A+B}(B)``; their sum is t.
    explanation : Explanation
        Maps of A over B, with the learned density ratio of A to B.
    """

    n_first: int
    n_second: int
    p: float
    z: float | None
    n_permutations: int
    settings: tuple[Setting | NetworkSetting, ...]
    p_of_settings: tuple[float, ...]
    place: int
    t_first: float
    t_second: float
    explanation: Explanation

    @property
    def t(self) -> float:
        """``t_{A+B}(A) + t_{A+B}(B)``."""
        return self.t_first + self.t_second

    @property
    def remark(self) -> str:
        """What limits the meaning of p; empty if nothing does."""
        n = min(self.n_first, self.n_second)
        if n >= FEW_EVENTS:
            return ""
        label = "A" if self.n_first == n else "B"
        return (
            f"{label} has {n} events: so few show only a very large difference, and a large p says nothing. "
            f"Give {FEW_EVENTS} or more, better hundreds"
        )

    @property
    def is_told(self) -> bool:
        """Whether p is small enough to say that the samples differ."""
        return self.p < TOLD_P

    @property
    def settings_in_words(self) -> tuple[str, ...]:
        """Describe each kernel, or the network."""
        return tuple(map(_describe, self.settings))


def _describe(setting: Setting | NetworkSetting) -> str:
    if isinstance(setting, NetworkSetting):
        return f"network of {' + '.join(map(str, setting.layers))} neurons"
    decorrelated = ", decorrelated" if setting.is_decorrelated else ""
    return f"kernel of width {setting.width:.3g}, penalty {setting.penalty:.0e}{decorrelated}"


def refuse_pair(first: Sample, second: Sample, names: Sequence[str], labels: tuple[str, str]) -> None:
    """Refuse two samples that cannot be compared.

    Parameters
    ----------
    first, second : Sample
        A and B.
    names : sequence of str
        Their features.
    labels : tuple of str
        What A and B are called.

    Raises
    ------
    InputError
        If a sample has too few events, all features are constant or one is, or events are in both samples.
    """
    for sample, label in zip((first, second), labels, strict=True):
        if sample.n_events < FEWEST_EVENTS:
            raise InputError(
                f"has {format_count(int(sample.n_events), 'event')}",
                where=label,
                fix=f"Give {FEWEST_EVENTS} events or more",
            )
    both = np.concatenate([first.filled.x, second.filled.x])
    n_distinct = len(np.unique(both, axis=0))
    if n_distinct < FEWEST_DISTINCT:
        raise InputError(
            f"have {format_count(n_distinct, 'distinct event')} together",
            where=" and ".join(labels),
            fix=f"Give samples of which {FEWEST_DISTINCT} or more are distinct",
        )
    constant = constant_features(both, names)
    if constant:
        raise InputError(
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are'} constant in both samples",
            where=" and ".join(labels),
            fix="Choose other features with --features: a constant carries no information",
        )
    if first.counts is None and second.counts is None:
        _refuse_overlap(first.x, second.x, labels)
    elif _is_same(first, second):
        raise InputError(
            "are the same sample: all rows and counts are equal",
            where=" and ".join(labels),
            fix="Give two samples",
        )


def compare_samples(
    first: Sample,
    second: Sample,
    names: Sequence[str],
    *,
    n_permutations: int,
    seed: int,
    workers: Workers,
    model: Model = "kernel",
    progress: Callable[[int], None] = lambda _: None,
) -> SampleComparison:
    """Test whether two samples come from one distribution.

    Parameters
    ----------
    first, second : Sample
        A and B, as `refuse_pair` lets them pass.
    names : sequence of str
        Their features.
    n_permutations : int
        Random divisions of their events into samples of the same sizes; p is not below ``1/(1 + n)``.
    seed : int
        Chooses the centres of the kernels and throws the permutations.
    workers : Workers
        That test the permutations; the result does not depend on them.
    model : {"kernel", "neural"}
        What describes the samples.
    progress : callable
        Told the permutations done.

    Raises
    ------
    InputError
        If the fit of the samples does not converge.
    WorkerError
        If the workers are lost.
    """
    pool = merge(first, second)
    kinds = tuple(one.kind for one in choose_kinds(pool.x, names))
    task = _Permutations(pool, int(first.n_events), kinds, seed, model)
    with one_thread():
        test = task.make()
        division = _division(pool, first)
        observed = test.statistics(division[None])[0]
    if not np.isfinite(observed).all():
        raise InputError(
            "the fit did not converge", fix="Leave out features with far outliers, by --features"
        )
    size = max(1, min(LARGEST_BATCH, NUMBERS_AT_ONCE // (2 * len(pool.x))))
    items = [range(i, min(i + size, n_permutations)) for i in range(0, n_permutations, size)]
    permuted = np.empty((n_permutations, len(test.settings)))
    done = 0
    for place, values in workers.run(task, items):
        permuted[items[place].start : items[place].stop] = values
        done += len(items[place])
        progress(done)
    found = permutation_p(observed.sum(axis=1), permuted)
    with one_thread():
        explanation = _explain(test, pool, division, found.place, names, kinds)
    return SampleComparison(
        n_first=int(first.n_events),
        n_second=int(second.n_events),
        p=found.p,
        z=float(stats.norm.isf(found.p)) if found.p < 1.0 else None,
        n_permutations=n_permutations,
        settings=test.settings,
        p_of_settings=found.each,
        place=found.place,
        t_first=float(observed[found.place, 0]),
        t_second=float(observed[found.place, 1]),
        explanation=explanation,
    )


@dataclass(frozen=True, slots=True)
class _Permutations:
    """Task of `Workers`: numbers of permutations in, their statistics out; it needs no bundle."""

    pool: Sample
    n_first: int
    kinds: tuple[FeatureKind, ...]
    seed: int
    model: Model

    @property
    def bundle(self) -> Path:
        return Path()

    def make(self) -> TwoSampleTest | NeuralTwoSampleTest:
        if self.model == "neural":
            return NeuralTwoSampleTest(self.pool, self.n_first, self.seed)
        return TwoSampleTest(self.pool, self.n_first, self.kinds, self.seed)

    def prepare(self, _: Path) -> Callable[[range], FloatArray]:
        test = self.make()

        def run(indices: range) -> FloatArray:
            t: FloatArray = test.statistics(test.permute(indices)).sum(axis=2)
            return t

        return run


def _division(pool: Sample, first: Sample) -> FloatArray:
    """Give the events of each row of the pool that are in A, as `merge` put them together."""
    if pool.counts is None:
        return (np.arange(len(pool.x)) < len(first.x)).astype(np.float64)
    _, place = np.unique(np.concatenate([pool.x, first.x]), axis=0, return_inverse=True)
    return np.bincount(place.ravel()[len(pool.x) :], first.weights, len(pool.x)).astype(np.float64)


def _explain(
    test: TwoSampleTest | NeuralTwoSampleTest,
    pool: Sample,
    division: FloatArray,
    place: int,
    names: Sequence[str],
    kinds: Sequence[FeatureKind],
) -> Explanation:
    special = [kind.special for kind in kinds]

    def look(first: FloatArray) -> tuple[RatioMaps, tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
        second = pool.weights - first
        in_first, in_second = first > 0, second > 0
        counts = second[in_second]
        maps = RatioMaps(pool.x[in_second], names, counts=counts, special=special)
        ratio = test.log_ratio(first, place)[in_second]
        return maps, (pool.x[in_first], counts * first.sum() / second.sum(), ratio, first[in_first])

    chance = [look(first) for first in test.permute(range(N_BY_CHANCE))]
    by_chance = np.mean([[departure(m) for m in maps.features(*of)] for maps, of in chance], axis=0)
    made, seen = look(division)
    maps = made.features(*seen)
    ranking = rank_features(maps, by_chance)
    leading = [name for name, _ in ranking[:MAX_PAIRED]]
    x, weights, ratio, counts = seen
    pairs = made.pairs(x, weights, ratio, leading, counts)
    return Explanation(maps, pairs, ranking, text=describe_ranking(ranking))


def _is_same(first: Sample, second: Sample) -> bool:
    """Tell whether two counted samples are equal, whatever the order of their rows."""
    pool = merge(first, second)
    return bool(np.allclose(2.0 * _division(pool, first), pool.weights))


def refuse_common(samples: Sequence[FloatArray], labels: Sequence[str]) -> None:
    """Refuse samples of which two have more events in common than chance explains.

    Parameters
    ----------
    samples : sequence of ndarray, each of shape (n_events, d)
        Single events.
    labels : sequence of str
        What they are called.

    Raises
    ------
    InputError
        For the first such pair.
    """
    owner = np.repeat(np.arange(len(samples)), [len(x) for x in samples])
    _, place = np.unique(np.concatenate(samples), axis=0, return_inverse=True)
    held = np.unique(np.column_stack([place.ravel(), owner]), axis=0)
    shared = held[np.isin(held[:, 0], held[1:, 0][held[1:, 0] == held[:-1, 0]])]
    sharing = np.unique(shared[:, 1])
    for first, second in combinations(map(int, sharing), 2):
        _refuse_overlap(samples[first], samples[second], (labels[first], labels[second]))


def _refuse_overlap(first: FloatArray, second: FloatArray, labels: tuple[str, str]) -> None:
    """Refuse samples that have more events in common than chance explains.

    The number of repeats within a sample gives the number expected in the other by chance.
    """
    rows, place, total = np.unique(
        np.concatenate([first, second]), axis=0, return_inverse=True, return_counts=True
    )
    n, m = len(first), len(second)
    in_first = np.bincount(place.ravel()[:n], minlength=len(rows)).astype(np.float64)
    in_second = total - in_first
    common = float(np.minimum(in_first, in_second).sum())
    is_same = bool((in_first == in_second).all())
    pairs_within = (in_first * (in_first - 1)).sum() + (in_second * (in_second - 1)).sum()
    expected = pairs_within / (n * (n - 1) + m * (m - 1)) * n * m
    pairs = float((in_first * in_second).sum())
    most = expected + SURPRISE * np.sqrt(max(LEAST_EXPECTED, expected) * total.max())
    if is_same or pairs > most:
        what = "have the same events" if is_same else f"have {format_count(int(common), 'event')} in common"
        raise InputError(
            f"{what}, of {n} and {m}: these samples are not independent",
            where=" and ".join(labels),
            fix="Give two samples without common events",
        )
