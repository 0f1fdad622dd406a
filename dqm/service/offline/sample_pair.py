"""Events of two runs or chambers that can be compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqm.errors import InputError
from dqm.nplm.samples import Sample
from dqm.reference import refuse_pair
from dqm.service.offline.feature_files import RunEvents

__all__ = ["SamplePair", "pair_samples"]


@dataclass(frozen=True, slots=True, eq=False)
class SamplePair:
    """Two samples with their common features.

    Parameters
    ----------
    first, second : Sample
        The events.
    names : tuple of str
        Common features, in the order of the first.
    left_out : tuple of str
        Features of one of them only.
    labels : tuple of str
        What they are called.
    """

    first: Sample
    second: Sample
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, str]


def pair_samples(runs: tuple[RunEvents, RunEvents], labels: tuple[str, str]) -> SamplePair:
    """Make two samples of what was read.

    Parameters
    ----------
    runs : tuple of RunEvents
        A and B.
    labels : tuple of str
        What they are called.

    Raises
    ------
    InputError
        If they have no feature in common, or counts that are not whole numbers, or as `refuse_pair`.
    """
    first, second = runs
    common = tuple(name for name in first.names if name in second.names)
    if not common:
        raise InputError(
            f"no common feature: {', '.join(first.names)} and {', '.join(second.names)}",
            where=" and ".join(labels),
            fix="Compare events of the same features",
        )
    samples = [_sample(run, common, label) for run, label in zip(runs, labels, strict=True)]
    refuse_pair(samples[0], samples[1], common, labels)
    left_out = tuple(dict.fromkeys(name for run in runs for name in run.names if name not in common))
    return SamplePair(samples[0], samples[1], common, left_out, labels)


def _sample(run: RunEvents, names: Sequence[str], label: str) -> Sample:
    columns = [run.names.index(name) for name in names]
    sample = Sample.check(run.x[:, columns], run.counts, label)
    if sample.counts is not None and (sample.counts != np.round(sample.counts)).any():
        raise InputError(
            "has counts that are not whole numbers", where=label, fix="Permutations need single events"
        )
    return sample.filled
