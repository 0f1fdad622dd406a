"""Hunts along a coordinate of a run's events: the files, the permutations, and what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from dqm.errors import FileError, InputError, format_count
from dqm.events import EventBatch, Explanation, FloatArray
from dqm.nplm import SHARES, FeatureKind, Hunt, HuntCounts, HuntP, RatioMaps, Selected, hunt_p
from dqm.reference import Workers, constant_features, one_thread, refuse_common
from dqm.reference.explanation import MAX_PAIRED, describe_ranking, rank_features
from dqm.reference.features import choose_kinds
from dqm.service.offline.feature_files import Reading, read_features

__all__ = [
    "EventsAlong",
    "HuntBin",
    "HuntOutcome",
    "HuntWindow",
    "WindowShare",
    "hunt_along",
    "read_along",
]

TIME = "time"

PERMUTATIONS_AT_ONCE = 5
"""Permutations in one unit of work."""

FOLLOWS = 0.5
"""Share of the variance of a feature's ranks between bins of the coordinate; above it the feature follows the
coordinate."""

MOST_LEADING = 10
"""Most windows that stand out."""

LEADING_P = 0.05
"""Largest p of the whole hunt with which a window stands out."""

FEWEST_PERMUTATIONS = math.ceil(1.0 / LEADING_P) - 1
"""With fewer no window can stand out."""


@dataclass(frozen=True, slots=True, eq=False)
class EventsAlong:
    """Events with a coordinate.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Features.
    coordinate : ndarray, shape (n_events,)
        Value of the coordinate of each event.
    names : tuple of str
        The features; the coordinate is none of them.
    along : str
        The coordinate.
    where : str
        The files.
    """

    x: FloatArray
    coordinate: FloatArray
    names: tuple[str, ...]
    along: str
    where: str


@dataclass(frozen=True, slots=True)
class WindowShare:
    """Selected events in a window.

    Parameters
    ----------
    share : float
        Share of the events of window and sidebands that is selected.
    selected : int
        Selected events in the window.
    expected : float
        The number expected from the sidebands.
    p : float
        p of such an excess in one window and one share alone.
    """

    share: float
    selected: int
    expected: float
    p: float


@dataclass(frozen=True, slots=True)
class HuntWindow:
    """A window, and what was found in it.

    Parameters
    ----------
    low, high : float
        First and last value of the coordinate in it.
    side_low, side_high : float
        The same with its sidebands.
    n_events : int
        Events in it.
    p : float
        p of the whole hunt: how often it has such a window somewhere without any cause.
    shares : tuple of WindowShare
        One for each share.
    """

    low: float
    high: float
    side_low: float
    side_high: float
    n_events: int
    p: float
    shares: tuple[WindowShare, ...]

    @property
    def leading(self) -> WindowShare:
        """The share with the smallest p."""
        return min(self.shares, key=lambda one: one.p)


@dataclass(frozen=True, slots=True)
class HuntBin:
    """A bin of the coordinate in or beside the window with the smallest p.

    Parameters
    ----------
    low, high : float
        First and last value of the coordinate.
    n_events, n_selected : int
        Events, and those of them that are selected.
    """

    low: float
    high: float
    n_events: int
    n_selected: int


@dataclass(frozen=True, slots=True)
class HuntOutcome:
    """Outcome of a hunt.

    Parameters
    ----------
    along : str
        The coordinate.
    features : tuple of str
        What was looked at.
    n_events : int
        Events.
    p : float
        p of the whole hunt: ``(1 + k)/(1 + n)`` with k of n permutations in which something is as extreme.
    z : float or None
        `p` as a one-sided Gaussian significance; None for p = 1.
    n_permutations : int
        n.
    windows : tuple of HuntWindow
        All windows, the widest first.
    leading : tuple of int
        Windows that stand out, the smallest p first; only the best of windows that overlap.
    bins : tuple of HuntBin
        Bins in and beside the window with the smallest p.
    explanation : Explanation
        Maps of the events selected there over those of the sidebands, with the learned shape of the excess.
    """

    along: str
    features: tuple[str, ...]
    n_events: int
    p: float
    z: float | None
    n_permutations: int
    windows: tuple[HuntWindow, ...]
    leading: tuple[int, ...]
    bins: tuple[HuntBin, ...]
    explanation: Explanation

    @property
    def best(self) -> HuntWindow:
        """The window with the smallest p."""
        return min(self.windows, key=lambda one: one.leading.p)


def read_along(
    paths: Sequence[Path],
    along: str,
    features: Sequence[str] | None = None,
    chamber: str | None = None,
    *,
    reading: Reading | None = None,
) -> EventsAlong:
    """Read the files of a run.

    Parameters
    ----------
    paths : sequence of Path
        CSV, Parquet or ROOT files of features.
    along : str
        Coordinate: ``time``, or any other column.
    features : sequence of str, optional
        Columns to look at; all except the coordinate by default.
    chamber : str, optional
        Only this chamber.
    reading : Reading, optional
        How the files are read, as of `dqm.service.offline.feature_files`.

    Raises
    ------
    InputError
        If a file cannot be read, has no such column or no events, two files have events in common, or
        nothing is left to look at.
    """
    where = " and ".join(map(str, paths))
    looked_at = None if features is None else [name for name in features if name != along]
    if looked_at == []:
        raise _nothing_left(along, where)
    wanted = looked_at if looked_at is None or along == TIME else [*looked_at, along]
    parts, places = [], []
    ends = []
    names: tuple[str, ...] | None = None
    for path in paths:
        for batch in _read(path, wanted, chamber, along, reading):
            if names is not None and batch.names != names:
                raise InputError(
                    f"has the features {', '.join(batch.names)}, but files before it have {', '.join(names)}",
                    where=str(path),
                    fix="Choose common ones with --features",
                )
            names = batch.names
            parts.append(batch.x)
            places.append(_coordinate(batch.x, batch.times, names, along, path))
        ends.append(sum(map(len, parts)))
    n_events = sum(map(len, parts))
    if names is None or not n_events:
        raise FileError(
            f"no events{f' of chamber {chamber}' if chamber else ''}",
            where=where,
            fix="Give a file with a row for each event, and a chamber that it has",
        )
    kept = [place for place, name in enumerate(names) if name != along]
    if not kept:
        raise _nothing_left(along, where)
    x, coordinate = np.concatenate(parts), np.concatenate(places)
    # the time tells apart events that are equal by chance
    refuse_common(np.split(np.column_stack([x, coordinate]), ends[:-1]), list(map(str, paths)))
    return EventsAlong(x[:, kept], coordinate, tuple(names[place] for place in kept), along, where)


def _read(
    path: Path, wanted: Sequence[str] | None, chamber: str | None, along: str, reading: Reading | None
) -> Iterator[EventBatch]:
    """Read a file; say of a coordinate that is no number what can be done about it."""
    try:
        yield from read_features(path, wanted, chamber, reading=reading)
    except FileError as error:
        is_coordinate = error.where is not None and error.where.endswith(f"column {along!r}")
        if not is_coordinate or "not numbers" not in error.what:
            raise
        raise FileError(error.what, where=error.where, fix="Hunt along a column of numbers") from error


def _nothing_left(along: str, where: str) -> InputError:
    return InputError(f"no feature but {along}", where=where, fix="Look at other columns")


def _coordinate(
    x: FloatArray, times: FloatArray | None, names: Sequence[str], along: str, path: Path
) -> FloatArray:
    if along in names:
        return x[:, list(names).index(along)]
    if along == TIME and times is not None:
        return times
    known = ", ".join(names if times is None else (TIME, *names))
    raise FileError(f"no column {along!r} of numbers", where=str(path), fix=f"There are: {known}")


def hunt_along(
    events: EventsAlong,
    *,
    n_positions: int,
    n_permutations: int,
    seed: int,
    workers: Workers,
    progress: Callable[[int], None] = lambda _: None,
) -> HuntOutcome:
    """Hunt along a coordinate.

    Parameters
    ----------
    events : EventsAlong
        The events.
    n_positions : int
        Windows of the widest kind beside each other.
    n_permutations : int
        Permutations of the features against the coordinate, at least `FEWEST_PERMUTATIONS`; p is not below
        ``1/(1 + n)``.
    seed : int
        Seed of the permutations and the folds.
    workers : Workers
        That hunt in the permutations; the result does not depend on them.
    progress : callable
        Told the permutations done.

    Raises
    ------
    InputError
        If the coordinate is constant, a feature is or follows the coordinate, or there are too few events or
        permutations.
    WorkerError
        If the workers are lost.
    """
    if n_permutations < FEWEST_PERMUTATIONS:
        smallest = 1.0 / (1 + n_permutations)
        raise InputError(
            f"{format_count(n_permutations, 'permutation')}: p is never below {smallest:.2g}, and a place "
            f"stands out at p = {LEADING_P:g} or less",
            fix=f"Give at least {FEWEST_PERMUTATIONS}",
        )
    constant = constant_features(events.x, events.names)
    if constant:
        raise InputError(
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are'} constant",
            where=events.where,
            fix="Choose other features with --features: a constant carries no information",
        )
    kinds = tuple(one.kind for one in choose_kinds(events.x, events.names))
    task = _Permutations(events, kinds, n_positions, seed)
    with one_thread():
        hunt = task.make()
        _refuse_followers(events, hunt)
        counts = hunt.scan()
    size = PERMUTATIONS_AT_ONCE
    items = [range(i, min(i + size, n_permutations)) for i in range(0, n_permutations, size)]
    permuted = np.empty((n_permutations, *counts.z.shape))
    done = 0
    for place, values in workers.run(task, items):
        permuted[items[place].start : items[place].stop] = values
        done += len(items[place])
        progress(done)
    found = hunt_p(counts.z, permuted, hunt.layout.levels)
    with one_thread():
        selected = hunt.select(*found.place)
    windows = _windows(events, hunt, counts, found)
    return HuntOutcome(
        along=events.along,
        features=events.names,
        n_events=len(events.x),
        p=found.p,
        z=float(stats.norm.isf(found.p)) if found.p < 1.0 else None,
        n_permutations=n_permutations,
        windows=windows,
        leading=_leading(windows),
        bins=_bins(events, hunt, selected, found.place[0]),
        explanation=_explain(events, kinds, selected),
    )


@dataclass(frozen=True, slots=True)
class _Permutations:
    """Task of `Workers`: numbers of permutations in, their statistics out; it needs no bundle."""

    events: EventsAlong
    kinds: tuple[FeatureKind, ...]
    n_positions: int
    seed: int

    @property
    def bundle(self) -> Path:
        return Path()

    def make(self) -> Hunt:
        try:
            return Hunt(
                self.events.x,
                self.events.coordinate,
                self.kinds,
                n_positions=self.n_positions,
                seed=self.seed,
            )
        except InputError as error:
            raise InputError(
                error.what, where=f"{self.events.where}, {self.events.along}", fix=error.fix
            ) from error

    def prepare(self, _: Path) -> Callable[[range], FloatArray]:
        return self.make().permuted


def _refuse_followers(events: EventsAlong, hunt: Hunt) -> None:
    """Refuse features that follow the coordinate: they only show which window it is."""
    shares = hunt.follows()
    following = [
        f"{name} ({share:.0%})" for name, share in zip(events.names, shares, strict=True) if share > FOLLOWS
    ]
    if following:
        raise InputError(
            f"{', '.join(following)} {'follows' if len(following) == 1 else 'follow'} {events.along}: so "
            "much of the variance is between its bins",
            where=events.where,
            fix="Leave out by --features what depends on the coordinate by itself",
        )


def _windows(events: EventsAlong, hunt: Hunt, counts: HuntCounts, found: HuntP) -> tuple[HuntWindow, ...]:
    ordered = np.sort(events.coordinate)
    made = []
    for place, window in enumerate(hunt.layout.windows):
        rows, all_rows = (hunt.layout.rows(window, sidebands=sidebands) for sidebands in (False, True))
        shares = tuple(
            WindowShare(
                share,
                int(counts.inside[place, k]),
                float(counts.expected[place, k]),
                float(found.local[place, k]),
            )
            for k, share in enumerate(SHARES)
        )
        ends = (ordered[rows][0], ordered[rows][-1], ordered[all_rows][0], ordered[all_rows][-1])
        low, high, side_low, side_high = map(float, ends)
        n_events = rows.stop - rows.start
        p = float(found.of_window[place])
        made.append(HuntWindow(low, high, side_low, side_high, n_events, p, shares))
    return tuple(made)


def _leading(windows: Sequence[HuntWindow]) -> tuple[int, ...]:
    """Choose the windows that stand out; a window that overlaps a better one is left out."""
    order = sorted(range(len(windows)), key=lambda place: windows[place].leading.p)
    chosen: list[int] = []
    for place in order:
        one = windows[place]
        if one.p > LEADING_P or len(chosen) == MOST_LEADING:
            break
        if all(one.low > windows[k].high or one.high < windows[k].low for k in chosen):
            chosen.append(place)
    return tuple(chosen)


def _bins(events: EventsAlong, hunt: Hunt, selected: Selected, place: int) -> tuple[HuntBin, ...]:
    window = hunt.layout.windows[place]
    edges = hunt.layout.edges
    ordered = np.sort(events.coordinate)
    caught = np.sort(events.coordinate[selected.rows[selected.is_selected]])
    made = []
    for low, high in zip(
        edges[window.begin : window.end], edges[window.begin + 1 : window.end + 1], strict=True
    ):
        if high > low:
            first, last = ordered[low], ordered[high - 1]
            n_selected = np.searchsorted(caught, last, "right") - np.searchsorted(caught, first, "left")
            made.append(HuntBin(float(first), float(last), int(high - low), int(n_selected)))
    return tuple(made)


def _explain(events: EventsAlong, kinds: Sequence[FeatureKind], selected: Selected) -> Explanation:
    """Map the selected events of the window over those of the sidebands."""
    sidebands = events.x[selected.rows[~selected.is_inside]]
    caught = events.x[selected.rows[selected.is_inside & selected.is_selected]]
    # a score is the learned density ratio of window to sidebands, up to a factor and a constant
    scores = selected.scores[~selected.is_inside]
    excess = np.maximum(scores - scores.mean(), 0.0)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(excess / excess.mean())
    made = RatioMaps(sidebands, events.names, special=[kind.special for kind in kinds])
    weights = np.full(len(sidebands), max(1, len(caught)) / len(sidebands))
    maps = made.features(caught, weights, log_ratio)
    ranking = rank_features(maps, np.zeros(len(maps)))
    leading = [name for name, _ in ranking[:MAX_PAIRED]]
    pairs = made.pairs(caught, weights, log_ratio, leading)
    return Explanation(maps, pairs, ranking, text=f"what is selected {describe_ranking(ranking)}")
