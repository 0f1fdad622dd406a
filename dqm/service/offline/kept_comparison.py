"""Comparison of runs, windows or chambers by the events that a daemon kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import RatioMap, ReferenceCurve
from dqm.reference import (
    CHANNEL,
    SampleComparison,
    StoredBundle,
    Workers,
    compare_samples,
    reference_curve,
)
from dqm.reference.sample_comparison import Model
from dqm.service.offline.feature_files import RunEvents
from dqm.service.offline.kept_selection import KeptSide
from dqm.service.offline.sample_pair import SamplePair, pair_samples
from dqm.store import KeptWindow, read_kept_window

__all__ = ["MOST_EVENTS", "KeptComparison", "KeptEvents", "compare_kept", "read_side"]

MOST_EVENTS = 10_000
"""Most events of a side: time and memory grow with them."""


@dataclass(frozen=True, slots=True)
class KeptEvents:
    """Events of one side.

    Parameters
    ----------
    run : RunEvents
        The events, with the features that all of its windows have.
    bundles : tuple of str
        Bundles that judged them, that of most windows first.
    told : str
        How many events were taken, of how many.
    left_out : tuple of str
        Features that only some of its windows have.
    """

    run: RunEvents
    bundles: tuple[str, ...]
    told: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptComparison:
    """Outcome of a comparison of kept events.

    Parameters
    ----------
    found : SampleComparison
        p and maps.
    names, left_out : tuple of str
        Features that were compared, and those of one side only.
    labels, told : tuple of str
        What A and B are, and what was taken of them.
    references : tuple of ReferenceCurve
        The references that judged A and B, scaled to the events of A, as far as they are available.
    """

    found: SampleComparison
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, str]
    told: tuple[str, str]
    references: tuple[ReferenceCurve, ...]


def read_side(side: KeptSide, bundles: Mapping[str, Path], seed: int = 1) -> KeptEvents:
    """Read the events of one side, at most `MOST_EVENTS` of them.

    Parameters
    ----------
    side : KeptSide
        What to read.
    bundles : mapping of str to Path
        Directories of bundles; they say which column of older files has counts.
    seed : int
        Draws the events, if there are more.

    Raises
    ------
    InputError
        If windows have no feature in common, or are of channels.
    StoreError
        If a file is gone or damaged.
    """
    windows: list[KeptWindow] = []
    n_rows = 0
    for path in side.paths:
        windows.append(read_kept_window(path))
        n_rows += len(windows[-1].x)
        if n_rows >= MOST_EVENTS:
            break
    judged = Counter(window.bundle for window in windows if window.bundle)
    counts = windows[0].counts or _counts_of(judged, bundles)
    names = tuple(name for name in windows[0].names if all(name in window.names for window in windows))
    features = tuple(name for name in names if name != counts)
    _refuse_strange(features, side.label)
    x = np.concatenate([window.x[:, [window.names.index(name) for name in names]] for window in windows])
    is_whole = np.isfinite(x).all(axis=1)
    told = side.told
    if not is_whole.all():
        told += f"; {format_count(int((~is_whole).sum()), 'event')} with NaN left out"
    x = x[is_whole]
    if len(windows) < len(side.paths) or len(x) > MOST_EVENTS:
        chosen = np.random.default_rng(seed).permutation(len(x))[:MOST_EVENTS]
        told += f"; {format_count(len(chosen), 'event')} of them, drawn at random"
        x = x[chosen]
    values = x[:, [names.index(name) for name in features]]
    column = x[:, names.index(counts)] if counts else None
    seen = dict.fromkeys(name for window in windows for name in window.names)
    return KeptEvents(
        RunEvents(values, features, [], counts=column, column=counts or None),
        tuple(bundle for bundle, _ in judged.most_common()),
        told,
        tuple(name for name in seen if name not in names),
    )


def compare_kept(
    sides: tuple[KeptSide, KeptSide],
    bundles: Mapping[str, Path],
    *,
    n_permutations: int,
    seed: int,
    workers: Workers,
    progress: Callable[[int], None],
    features: Sequence[str] | None = None,
    model: Model = "kernel",
) -> KeptComparison:
    """Compare the kept events of two sides.

    Parameters
    ----------
    sides : tuple of KeptSide
        A and B.
    bundles : mapping of str to Path
        Directories of bundles by identifier; the references are drawn beside A and B.
    n_permutations, seed, workers, progress, model
        As in `dqm.reference.compare_samples`.
    features : sequence of str, optional
        Only these.

    Raises
    ------
    InputError
        If they cannot be compared, as by `dqm.reference.refuse_pair`.
    StoreError
        If a file is gone or damaged.
    WorkerError
        If the workers are lost.
    """
    first, second = (read_side(side, bundles, seed + place) for place, side in enumerate(sides))
    labels = sides[0].label, sides[1].label
    pair = pair_samples((_only(first.run, features), _only(second.run, features)), labels)
    found = compare_samples(
        pair.first,
        pair.second,
        pair.names,
        n_permutations=n_permutations,
        seed=seed,
        workers=workers,
        model=model,
        progress=progress,
    )
    left_out = (*pair.left_out, *first.left_out, *second.left_out)
    return KeptComparison(
        found,
        pair.names,
        tuple(dict.fromkeys(left_out)),
        labels,
        (first.told, second.told),
        _curves((first.bundles, second.bundles), bundles, found.explanation.maps, pair),
    )


def _only(run: RunEvents, features: Sequence[str] | None) -> RunEvents:
    """Take some of the columns."""
    if features is None:
        return run
    missing = [name for name in features if name not in run.names]
    if missing:
        raise InputError(
            f"no feature {', '.join(missing)}", where="--features", fix=f"Choose from {', '.join(run.names)}"
        )
    columns = [run.names.index(name) for name in features]
    return RunEvents(run.x[:, columns], tuple(features), run.sources, counts=run.counts, column=run.column)


def _counts_of(judged: Counter[str], bundles: Mapping[str, Path]) -> str:
    """Give the column with counts that the bundle names which judged the windows."""
    found = [StoredBundle.read(bundles[one]).manifest.counts for one in judged if one in bundles]
    return next((counts for counts in found if counts), "")


def _refuse_strange(features: Sequence[str], label: str) -> None:
    """Refuse windows that have no common features, and those of channels."""
    if not features:
        raise InputError(
            "its windows have no feature in common", where=label, fix="Choose runs of one reference"
        )
    if tuple(features) == (CHANNEL,):
        raise InputError(
            "is of channels: their hits are not a sample of independent events",
            where=label,
            fix="Look at the maps of its windows, or take 'dqm compare BUNDLE FILE' on files",
        )


def _curves(
    judged: tuple[Sequence[str], Sequence[str]],
    bundles: Mapping[str, Path],
    maps: Sequence[RatioMap],
    pair: SamplePair,
) -> tuple[ReferenceCurve, ...]:
    """Draw the reference of A, and that of B if it is another."""
    chosen: dict[str, list[str]] = {}
    for side, identifiers in zip("AB", judged, strict=True):
        known = [one for one in identifiers if one in bundles]
        if known:
            chosen.setdefault(known[0], []).append(side)
    curves = []
    for identifier, of in chosen.items():
        bundle = StoredBundle.read(bundles[identifier])
        if bundle.identifier == identifier:  # a bundle that was replaced on disk judged none of these
            label = f"reference of {' and '.join(of)}"
            curves.append(reference_curve(bundle, maps, pair.first.n_events, label))
    return tuple(curves)
