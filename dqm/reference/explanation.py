"""Where a window departs from its reference, for the shift crew: maps, ranking of features, known faults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from dqm.errors import InputError
from dqm.events import Explanation, FloatArray, Likeness, RatioMap
from dqm.nplm import KernelResult, RatioMaps, Setting, divergence
from dqm.nplm.samples import Sample
from dqm.reference.manifest import NullTableEntry
from dqm.reference.number_and_shape import Retest, separate
from dqm.reference.outside import Outside
from dqm.reference.parallel import evaluate_toys
from dqm.reference.plots import MapHistograms, draw_explanation, map_histograms
from dqm.reference.statistic import Outcome, PreparedStatistic, is_lower_bound
from dqm.reference.statistic_outcome import LearnedRatio
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.templates import KnownFaults
from dqm.reference.toys import Toy, ToySource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explainer", "Explains", "WindowExplanation", "departure", "describe_ranking", "rank_features"]

MAX_PAIRED = 8
"""Features whose pairs are mapped, the first of the ranking: 28 maps at most."""

SEEN_BY = {
    "order": "in the distribution (Kolmogorov-Smirnov)",
    "shares": "in the shares of the values",
}
"""What plain tests look at."""

N_HEALTHY = 16
"""Healthy toys with which the effect of chance on the departure of each feature is measured."""


@runtime_checkable
class Combined(Protocol):
    """What an outcome has if its statistic combines several settings: one of them is looked at.

    Properties must be quick: ``isinstance`` with a protocol evaluates them all.
    """

    @property
    def place(self) -> int:
        """Number of the setting in which the window departs most."""

    @property
    def seen_by(self) -> Setting:
        """That setting."""

    def describe_value(self) -> str:
        """Say which value departs, if its share does; empty otherwise."""

    def fitted_with(self, place: int, /) -> KernelResult:
        """Fit the window with one of the settings."""


class Explains(Protocol):
    """What explains windows of one kind."""

    def explain(
        self,
        window: Sample,
        outcome: Outcome,
        outside: Outside | None = None,
        *,
        range_decides: bool = False,
        retest: Retest | None = None,
    ) -> Explanation | None:
        """Explain a window, in the reference's features, by what the test gave for it.

        `outside` are the events beyond the reference; `range_decides`: whether their number decided on p;
        `retest` tests the window again, if its number of events has a meaning.
        """


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to look at in an outcome.

    `part` is what learned the ratio: the outcome itself, or the fit with the setting of number `place`, which
    `seen_by` has in words.
    """

    part: Outcome | KernelResult
    ratio: LearnedRatio
    place: int | None = None
    seen_by: str = ""


@dataclass(frozen=True, slots=True)
class WindowExplanation:
    """Where a window departs from its reference, to be looked at.

    Parameters
    ----------
    value : Explanation
        The maps and what they say.
    title : str
        The window's numbers in one line, for figures.
    """

    value: Explanation
    title: str

    def __str__(self) -> str:
        """Give the explanation in one sentence."""
        return self.value.text

    @property
    def text(self) -> str:
        """The explanation in one sentence."""
        return self.value.text

    @property
    def maps(self) -> tuple[RatioMap, ...]:
        """Map of every feature."""
        return self.value.maps

    @property
    def pairs(self) -> tuple[RatioMap, ...]:
        """Map of every pair of the first features of the ranking, of 8 at most."""
        return self.value.pairs

    @property
    def ranking(self) -> tuple[tuple[str, float], ...]:
        """Features and the share of the departure that they carry, the largest first."""
        return self.value.ranking

    @property
    def likenesses(self) -> tuple[Likeness, ...]:
        """Known faults, the most similar first; empty without templates."""
        return self.value.likenesses

    def histograms(self, *features: str) -> MapHistograms:
        """Give a map as histograms of the library ``hist``.

        Parameters
        ----------
        *features : str
            One feature, or two for the map of a pair, whose axes have the bundle's order.

        Returns
        -------
        MapHistograms
            Histograms `window`, `reference` and `fitted`.

        Raises
        ------
        InputError
            If there is no such map, or ``hist`` is not installed.
        """
        known = [*self.maps, *self.pairs]
        for one in known:
            if len(one.features) == len(features) and set(one.features) == set(features):
                return map_histograms(one)
        raise InputError(
            f"no map of {', '.join(map(repr, features)) or 'no feature'}",
            fix=f"Choose one of: {'; '.join(', '.join(one.features) for one in known)}",
        )

    def plot(self, *, pairs: bool = False, figure: Figure | None = None) -> Figure:
        """Draw the maps with matplotlib.

        One panel a feature, in the order of the ranking: the reference with its error, the window and the
        reference as fitted; below, the ratio of both to the reference. The outer bins contain everything
        beyond.

        Parameters
        ----------
        pairs : bool
            Draw the pairs too: the fitted density ratio in colours.
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw in, such as ``matplotlib.pyplot.figure()`` makes. By default a new one
            outside pyplot: save it, or show it in a notebook.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            If matplotlib is not installed.
        """
        return draw_explanation(self.value, self.title, pairs=pairs, figure=figure)


class Explainer:
    """Explains windows of one kind.

    Parameters
    ----------
    bundle : StoredBundle
        Reference.
    entry : NullTableEntry
        Null table of the windows.
    test : PreparedStatistic
        The bundle's test for them.
    maps : RatioMaps
        Bins of the bundle's reference.
    """

    def __init__(
        self, bundle: StoredBundle, entry: NullTableEntry, test: PreparedStatistic, maps: RatioMaps
    ) -> None:
        self._bundle = bundle
        self._entry = entry
        self._test = test
        self._maps = maps
        self._healthy: dict[int | None, tuple[FloatArray, FloatArray]] = {}

    def explain(
        self,
        window: Sample,
        outcome: Outcome,
        outside: Outside | None = None,
        *,
        range_decides: bool = False,
        retest: Retest | None = None,
    ) -> Explanation | None:
        """Explain a window.

        Parameters
        ----------
        window : Sample
            Its events, the reference's features.
        outcome : Outcome
            What the test gave for it.
        outside : Outside, optional
            The events beyond the reference.
        range_decides : bool
            Whether their number decided on p. Then the sentence begins with them, and the setting in which
            the test saw most is not told: it is a smaller departure.
        retest : callable, optional
            Tests the window again, see `separate`. If the number of events alone departs, shares are 0 and
            there are no likenesses: both are of the shape.

        Returns
        -------
        Explanation or None
            None if the statistic learns no density ratio. Its maps compare with the reference deformed by the
            fitted nuisance parameters: what they explain is not a departure.
        """
        found = self._look_at(outcome)
        if found is None:
            return None
        n_expected = float(found.ratio.reference_weights.sum())
        departing = separate(round(window.n_events), n_expected, outcome, outside, retest)
        maps = self._map(window, found)
        texts = [outside.place if outside and range_decides else "", departing.number]
        likenesses: tuple[Likeness, ...] = ()
        if departing.shape is None:
            ranking = tuple((name, 0.0) for name in self._bundle.manifest.features)
        else:
            shape = found if departing.shape is outcome else self._look_at(departing.shape) or found
            ranking = self._rank(maps if shape is found else self._map(window, shape), shape, outside)
            _, t_healthy = self._healthy_windows(found.place)
            likenesses, unlike = self._known_faults.compare(window.x, found.part, t_healthy)
            texts += [
                describe_likeness(likenesses, unlike, is_bound=is_lower_bound(outcome)),
                describe_ranking(ranking),
                "" if range_decides else shape.seen_by,
            ]
        leading = [name for name, _ in ranking[:MAX_PAIRED]]
        pairs = self._maps.pairs(
            window.x, found.ratio.reference_weights, found.ratio.log_ratio_reference, leading, window.counts
        )
        return Explanation(maps, pairs, ranking, likenesses, text="; ".join(filter(None, texts)))

    def _look_at(self, outcome: Outcome) -> _Found | None:
        """Choose what to look at; None if there is no density ratio."""
        if not isinstance(outcome, Combined):
            ratio = self._learned(outcome)
            return None if ratio is None else _Found(outcome, ratio)
        part = outcome.fitted_with(outcome.place)
        ratio = self._learned(part)
        features = self._bundle.manifest.features
        seen_by = _describe_setting(outcome.seen_by, features, outcome.describe_value())
        return None if ratio is None else _Found(part, ratio, outcome.place, seen_by)

    def _map(self, window: Sample, found: _Found) -> tuple[RatioMap, ...]:
        ratio = found.ratio
        return self._maps.features(
            window.x, ratio.reference_weights, ratio.log_ratio_reference, window.counts
        )

    def _rank(
        self, maps: Sequence[RatioMap], found: _Found, outside: Outside | None
    ) -> tuple[tuple[str, float], ...]:
        by_chance, _ = self._healthy_windows(found.place)
        return rank_features(maps, by_chance, {outside.feature: -math.log(outside.p)} if outside else {})

    @cached_property
    def _known_faults(self) -> KnownFaults:
        return KnownFaults(self._bundle, self._entry)

    def _learned(self, outcome: object) -> LearnedRatio | None:
        return self._test.learned_ratio(outcome, len(self._bundle.reference))

    @cached_property
    def _toys(self) -> tuple[list[Toy], Sequence[Outcome]]:
        """Healthy toys, and what the test gives for them."""
        source = ToySource(self._bundle, self._entry.kind)
        toys = [source.throw(self._bundle.manifest.seed, index) for index in range(N_HEALTHY)]
        return toys, evaluate_toys(self._test, toys)

    def _healthy_windows(self, place: int | None) -> tuple[FloatArray, FloatArray]:
        """Give the mean departure of each feature in healthy windows, whose f is all noise, and their t.

        `place` is the setting, if there are several.
        """
        if place not in self._healthy:
            toys, outcomes = self._toys
            if place is not None:
                outcomes = [o.fitted_with(place) for o in outcomes if isinstance(o, Combined)]
            found = [
                [
                    departure(m)
                    for m in self._maps.features(
                        toy.x, o.reference_weights, o.log_ratio_reference, toy.weights
                    )
                ]
                for toy, o in zip(toys, map(self._learned, outcomes), strict=True)
                if o is not None
            ]
            table = self._bundle.toys(self._entry)[:, 0]
            t_healthy = table if place is None else np.array([outcome.t for outcome in outcomes])
            n_features = len(
                self._bundle.manifest.features
            )  # a statistic may learn a ratio of few windows only
            by_chance = np.mean(found, axis=0) if found else np.zeros(n_features)
            self._healthy[place] = by_chance, t_healthy
        return self._healthy[place]


def departure(ratio_map: RatioMap) -> float:
    """Give how much of the departure one map shows; twice its value compares with t.

    The learned ratio says nothing where the reference has few events or none: there the events themselves
    count, those of the bin with the most significant excess.
    """
    expected, seen = ratio_map.reference, ratio_map.data
    excess = np.square(np.maximum(ratio_map.significance, 0.0)) / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        of_one_event = np.nanmin(ratio_map.reference_error**2 / expected)
    # the limit of the same for bins where the reference has no events
    excess = np.where(expected > 0, excess, seen * np.log1p(1.0 / of_one_event))
    return max(divergence(ratio_map), float(excess.max()))


def rank_features(
    maps: Sequence[RatioMap], by_chance: FloatArray, least: Mapping[str, float] | None = None
) -> tuple[tuple[str, float], ...]:
    """Give the share of each feature in the sum of what single features show, beyond chance.

    Parameters
    ----------
    maps : sequence of RatioMap
        Of each feature.
    by_chance : ndarray, shape (n_features,)
        Mean `departure` of healthy windows.
    least : mapping of str to float, optional
        What some features show at least, whatever their map says.
    """
    least = least or {}
    shown = np.array([departure(m) for m in maps]) - by_chance
    beyond = np.maximum([least.get(m.features[0], 0.0) for m in maps], shown)
    shares = beyond / (beyond.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")
    return tuple((maps[k].features[0], float(shares[k])) for k in order)


def _describe_setting(setting: Setting, features: Sequence[str], value: str) -> str:
    if setting.test == "pulls":
        return "seen in the nuisance parameters, which are not what was measured"
    if setting.feature is None:
        decorrelated = ", decorrelated" if setting.is_decorrelated else ""
        of_all = f" of all features{decorrelated}" if len(features) > 1 else ""
        return f"seen by a kernel of width {setting.width:.3g}{of_all}"
    name = features[setting.feature]
    if value:
        return f"seen in {name} alone: {value}"
    if setting.test == "kernel":
        return f"seen by a kernel of width {setting.width:.3g} of {name} alone"
    return f"seen {SEEN_BY[setting.test]} of {name} alone"


def describe_likeness(likenesses: Sequence[Likeness], unlike: float, *, is_bound: bool) -> str:
    """Name the known fault that a window looks like; empty without templates.

    Parameters
    ----------
    likenesses : sequence of Likeness
        Of each fault, the most probable first.
    unlike : float
        Probability that it is none of them.
    is_bound : bool
        Whether `unlike` is a lower bound, because t is.

    Returns
    -------
    str
        Part of a sentence.
    """
    if not likenesses:
        return ""
    first = likenesses[0]
    if unlike >= first.share:
        return f"unlike anything known, {_percent(unlike)}"
    if is_bound:  # what the fault leaves unexplained is not known, only that it is not less than this
        return f"of the known faults most like {first.fault}; it may be unlike all"
    return f"looks like {first.fault}, {_percent(first.share)}"


def describe_ranking(ranking: Sequence[tuple[str, float]]) -> str:
    """Name the features that carry half of the departure; `ranking` is that of `Explanation`."""
    if ranking[0][1] == 0:
        if len(ranking) == 1:
            return ""
        return "no feature departs by itself: see the pairs"
    n_named = int(np.searchsorted(np.cumsum([share for _, share in ranking]), 0.5)) + 1
    names = [name for name, _ in ranking[:n_named]]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"departs mostly in {listed} ({_percent(sum(share for _, share in ranking[:n_named]))})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
