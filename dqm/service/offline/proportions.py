"""Files that mix a class of events with the rest in known fractions: what the class looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import InputError
from dqm.events import Explanation, FloatArray
from dqm.nplm import RatioMaps, learn_proportions
from dqm.reference import constant_features, one_thread, refuse_common
from dqm.reference.explanation import MAX_PAIRED, describe_ranking, rank_features
from dqm.reference.features import choose_kinds
from dqm.service.offline.feature_files import Reading, read_run

__all__ = ["LearnedProportions", "MixtureSample", "learn_files"]


@dataclass(frozen=True, slots=True)
class MixtureSample:
    """One of the files.

    Parameters
    ----------
    label : str
        Its name.
    n_events : int
        Events.
    fraction : float
        Fraction of the class, as given.
    mean_score, score_error : float
        Mean score of its events, each by a classifier that did not see it, and its error.
    expected_score : float or None
        Mean score expected from the fractions of all others; None if fewer than two others differ.
    """

    label: str
    n_events: int
    fraction: float
    mean_score: float
    score_error: float
    expected_score: float | None


@dataclass(frozen=True, slots=True)
class LearnedProportions:
    """What was learned.

    Parameters
    ----------
    features : tuple of str
        What was looked at.
    samples : tuple of MixtureSample
        The files.
    auc, auc_error : float
        As of `dqm.nplm.ProportionClassifier`.
    explanation : Explanation
        Maps of the class over the rest, both from the scores.
    """

    features: tuple[str, ...]
    samples: tuple[MixtureSample, ...]
    auc: float
    auc_error: float
    explanation: Explanation


def learn_files(
    paths: Sequence[Path],
    fractions: Sequence[float],
    features: Sequence[str] | None = None,
    chamber: str | None = None,
    *,
    seed: int = 1,
    reading: Reading | None = None,
) -> LearnedProportions:
    """Learn to separate a class from the rest, from files with known fractions of the class.

    Parameters
    ----------
    paths : sequence of Path
        CSV, Parquet or ROOT files of features.
    fractions : sequence of float
        Fraction of the class in each.
    features : sequence of str, optional
        Columns to use; all that the files have by default.
    chamber : str, optional
        Only this chamber.
    seed : int
        Of folds and centres.
    reading : Reading, optional
        How the files are read, as of `dqm.service.offline.feature_files`.

    Raises
    ------
    InputError
        If a file cannot be read, files have different features or common events, or as
        `dqm.nplm.learn_proportions`.
    """
    runs = [read_run([path], features, chamber, reading=reading) for path in paths]
    names = runs[0].names
    for run, path in zip(runs, paths, strict=True):
        if run.names != names:
            raise InputError(
                f"has the features {', '.join(run.names)}, but {paths[0]} has {', '.join(names)}",
                where=str(path),
                fix="Choose common ones with --features",
            )
    pool = np.concatenate([run.x for run in runs])
    where = " and ".join(map(str, paths))
    refuse_common([run.x for run in runs], list(map(str, paths)))
    constant = constant_features(pool, names)
    if constant:
        raise InputError(
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are'} constant in all samples",
            where=where,
            fix="Choose other features with --features: a constant carries no information",
        )
    kinds = tuple(one.kind for one in choose_kinds(pool, names))
    try:
        with one_thread():
            learned = learn_proportions([run.x for run in runs], fractions, kinds, seed=seed)
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix) from error
    special = [kind.special for kind in kinds]
    return LearnedProportions(
        features=names,
        samples=tuple(_describe(place, paths, fractions, learned.held_out) for place in range(len(paths))),
        auc=learned.auc,
        auc_error=learned.auc_error,
        explanation=_explain(pool, names, np.concatenate(learned.held_out), special),
    )


def _describe(
    place: int, paths: Sequence[Path], fractions: Sequence[float], scores: Sequence[FloatArray]
) -> MixtureSample:
    own = scores[place]
    others = [k for k in range(len(paths)) if k != place]
    expected = None
    if len({fractions[k] for k in others}) > 1:
        sizes = np.sqrt([len(scores[k]) for k in others])
        line = np.polyfit([fractions[k] for k in others], [scores[k].mean() for k in others], 1, w=sizes)
        expected = float(np.polyval(line, fractions[place]))
    return MixtureSample(
        label=str(paths[place]),
        n_events=len(own),
        fraction=fractions[place],
        mean_score=float(own.mean()),
        score_error=float(own.std() / np.sqrt(len(own))),
        expected_score=expected,
    )


def _explain(
    pool: FloatArray, names: Sequence[str], scores: FloatArray, special: Sequence[Sequence[float]]
) -> Explanation:
    """Map the class over the rest: each event counts in both, by its score."""
    in_class = scores
    in_rest = 1.0 - scores
    made = RatioMaps(pool, names, counts=np.ones(len(pool)), special=special)
    weights = in_rest * in_class.sum() / in_rest.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(np.where(weights > 0, in_class / weights, 1.0))
    maps = made.features(pool, weights, log_ratio, in_class)
    ranking = rank_features(maps, np.zeros(len(maps)))
    leading = [name for name, _ in ranking[:MAX_PAIRED]]
    pairs = made.pairs(pool, weights, log_ratio, leading, in_class)
    return Explanation(maps, pairs, ranking, text=f"the class {describe_ranking(ranking)}")
