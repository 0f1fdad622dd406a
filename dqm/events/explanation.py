"""Explanation of a departure: maps, ranking of the features, and similar known faults."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events.window import FloatArray

__all__ = [
    "Explanation",
    "Likeness",
    "RatioMap",
]


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
    edges: tuple[FloatArray, ...]
    reference: FloatArray
    reference_error: FloatArray
    data: FloatArray
    fitted: FloatArray


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
    text : str
        Summary: "looks like lowered cathode voltage, 92 %", "unlike anything known".
    """

    maps: tuple[RatioMap, ...]
    pairs: tuple[RatioMap, ...]
    ranking: tuple[tuple[str, float], ...]
    likenesses: tuple[Likeness, ...] = ()
    text: str = ""
