"""Explanation of a departure: maps, ranking of the features, and similar known faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import InstanceOf, PlainSerializer, WithJsonSchema

from dqm.events.window import FloatArray

__all__ = [
    "Explanation",
    "Likeness",
    "RatioMap",
    "ReferenceCurve",
]


_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TO_LIST = PlainSerializer(np.ndarray.tolist)

Edges = Annotated[FloatArray, InstanceOf(), _TO_LIST, WithJsonSchema(_NUMBERS)]
"""Array of shape (n_bins + 1,); in JSON a list."""

Bins = Annotated[
    FloatArray,
    InstanceOf(),
    _TO_LIST,
    WithJsonSchema({"anyOf": [_NUMBERS, {"type": "array", "items": _NUMBERS}]}),
]
"""Array of shape (n_bins,) or (n_bins, n_bins); in JSON a list, or a list of lists."""

CERTAIN_EVENTS = 10.0
"""Expected events above which maps show a ratio in full colour; its error is then a third."""

LARGEST_BACKGROUND = 1e9
"""Events of a reference without error, as `RatioMap.significance` takes it."""


@dataclass(frozen=True, slots=True)
class RatioMap:
    """A window and its reference in bins of one or two features.

    Parameters
    ----------
    features : tuple of str
        One name or two.
    edges : tuple of ndarray
        Bin edges of each feature, ascending, raw units.
    reference, reference_error : ndarray, shape (n_bins,) or (n_bins, n_bins)
        Events expected in each bin (the reference scaled to N(R_0)), and their one-sigma error.
    data : ndarray, same shape
        Events of the window.
    fitted : ndarray, same shape
        Events of the reference weighted by the learned density ratio exp(f).
    """

    features: tuple[str, ...]
    edges: tuple[Edges, ...]
    reference: Bins
    reference_error: Bins
    data: Bins
    fitted: Bins

    @property
    def confidence(self) -> FloatArray:
        """How reliable each ratio is, 0 to 1, from the events expected in the bin; shape of `reference`.

        It is the square root of their number as a share of `CERTAIN_EVENTS`, as the error of a ratio is;
        1 above that.
        """
        return np.sqrt(np.clip(self.reference / CERTAIN_EVENTS, 0.0, 1.0))

    @property
    def significance(self) -> FloatArray:
        """Standard deviations by which each bin has more or fewer events than expected; NaN if none are.

        Of the shape of `reference`, signed, with the error of the reference: eq. 17 of Li and Ma, Astrophys.
        J. 272 (1983) 317, where the background is as many events as have the relative error of the reference.
        """
        seen = self.data
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(self.reference > 0, self.reference, np.nan)
            n_off = np.minimum((expected / self.reference_error) ** 2, LARGEST_BACKGROUND)
            alpha = expected / n_off
            share_off = (1 + alpha) * n_off / (seen + n_off)
            share_on = np.where(seen > 0, (1 + alpha) / alpha * seen / (seen + n_off), 1.0)
            squared = 2 * (seen * np.log(share_on) + n_off * np.log(share_off))
            distance: FloatArray = np.sqrt(np.maximum(squared, 0.0))
        return np.copysign(distance, seen - expected)


@dataclass(frozen=True, slots=True)
class ReferenceCurve:
    """Events of a reference in the bins of maps that were made without it.

    Parameters
    ----------
    label : str
        What it is called.
    events : mapping of str to ndarray, shape (n_bins,)
        By feature; the sum is the number of events of the maps.
    """

    label: str
    events: Mapping[str, Bins]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Similarity of an anomalous window to a known fault.

    Parameters
    ----------
    fault : str
        Name of the fault's template.
    share : float
        Probability, 0 to 1; the alternatives are the other known faults and "unlike anything known".
    """

    fault: str
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of the departure of a window from its reference.

    Parameters
    ----------
    maps : tuple of RatioMap
        One map for each feature.
    pairs : tuple of RatioMap
        One map for each pair of features.
    ranking : tuple of (str, float)
        Features and their share of the departure, 0 to 1, largest first.
    likenesses : tuple of Likeness
        Known faults, most similar first; empty without templates.
    occupancy : RatioMap or None
        Hits of every wire of every layer; None if the test is not one of channels, or their places are not
        known.
    text : str
        Summary: "looks like lowered cathode voltage, 92 %", "unlike anything known".
    """

    maps: tuple[RatioMap, ...]
    pairs: tuple[RatioMap, ...]
    ranking: tuple[tuple[str, float], ...]
    likenesses: tuple[Likeness, ...] = ()
    text: str = ""
    occupancy: RatioMap | None = None
