"""What is learned from the windows of a reference's run: shares of the channels, and how much they vary.

Windows of a healthy run vary by more than Poisson. Rate and illumination change, which `illumination` models;
afterpulses come together; thresholds and noise change slowly, channel by channel and card by card. So the
hits of a channel follow a negative binomial distribution with mean m and variance ``m + v m^2``. Its v has
two parts:

*  phi, the over-dispersion between windows, by the method of moments. Few windows say little about one
   channel, so each estimate is drawn to the median of all, as far as the scatter between them is chance
   (empirical Bayes: Morris, J. Am. Stat. Assoc. 78 (1983) 47). It is never below that median plus two
   standard errors. It counts twice or more: a slow change has another mean in the run than later. The factor
   is learned from the correlation of consecutive windows: see `wander`.
*  ``1 / K``, with the K hits of the channel in the whole run: the uncertainty of its share.

Bursts of hits come in changing channels and do not belong to one channel: see `bursts`. Layers and cards have
an additional variance: their sums vary more than their channels predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.channels.bursts import Bursts, find_bursts
from dqm.nplm.channels.channel_map import CARD, LAYER, Groups, check_map, groups_of
from dqm.nplm.channels.illumination import IlluminationFit, fit_illumination, make_modes
from dqm.nplm.channels.wander import LEAST_FACTOR, wander_factor

__all__ = ["MIN_WINDOWS", "ChannelModel", "learn_model"]

MIN_WINDOWS = 10
"""Fewest windows of a reference's run from which something is learned."""

SMALLEST_SPREAD = 1e-8
MEDIAN_CHI2 = 0.4549364231195724  # median of z^2 of a standard normal z
PASSES = 3
SAFETY = 2.5  # standard errors of the median of many phi, each 1.25 times that of their mean
UNSEEN = 0.5  # hits of a channel that had none (Jeffreys' prior)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelModel:
    """What a healthy window looks like.

    Parameters
    ----------
    channel_map : ndarray, shape (n_channels, 4)
        In the order of the channels' numbers.
    total : ndarray, shape (n_channels,)
        Hits of each channel in the reference's run.
    dispersion : ndarray, shape (n_channels,)
        phi, > 0.
    sigmas : ndarray, shape (n_modes,)
        Standard deviation of each mode.
    excess : ndarray, shape (2,)
        Relative variance that all channels of a layer, and of a card, have in common.
    bursts : Bursts
        Bursts of single channels in single windows.
    n_windows : int
        Windows of the run.
    wander : float
        How many times the dispersion counts, >= 2.
    """

    channel_map: FloatArray
    total: FloatArray
    dispersion: FloatArray
    sigmas: FloatArray
    excess: FloatArray
    bursts: Bursts
    n_windows: int
    wander: float = LEAST_FACTOR

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray]) -> Self:
        """Take it from the arrays that a bundle keeps."""
        return cls(
            arrays["map"],
            arrays["total"],
            arrays["dispersion"],
            arrays["sigmas"],
            arrays["excess"],
            Bursts.from_array(arrays["bursts"][:-1]),
            int(arrays["bursts"][-1]),
            float(arrays["wander"][0]) if "wander" in arrays else LEAST_FACTOR,  # not in bundles of 0.2
        )

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """Its arrays by name, for a bundle."""
        return {
            "map": self.channel_map,
            "total": self.total,
            "dispersion": self.dispersion,
            "sigmas": self.sigmas,
            "excess": self.excess,
            "bursts": np.append(self.bursts.array, self.n_windows),
            "wander": np.array([self.wander]),
        }

    @property
    def share(self) -> FloatArray:
        """Share of each channel in the expected hits, > 0; the sum is 1."""
        total = np.maximum(self.total, UNSEEN)
        return np.asarray(total / total.sum())

    @property
    def spread(self) -> FloatArray:
        """Relative variance v of the hits of each channel beyond Poisson."""
        return self.wander * self.dispersion + 1.0 / np.maximum(self.total, UNSEEN)


def learn_model(hits: FloatArray, channel_map: FloatArray, illumination: float) -> ChannelModel:
    """Learn from the windows of a healthy run.

    Parameters
    ----------
    hits : ndarray, shape (n_windows, n_channels)
        Hits of each channel in windows of equal length; channels in the order of the map's numbers.
    channel_map : ndarray, shape (n_channels, 4)
        The map, see `check_map`.
    illumination : float
        Relative change of rate and illumination that is not a fault, one standard deviation, (0, 1].

    Returns
    -------
    ChannelModel

    Raises
    ------
    InputError
        If there are too few windows, or no hits.
    """
    channel_map = check_map(channel_map)
    n_windows = len(hits)
    total = hits.sum(axis=0)
    if n_windows < MIN_WINDOWS:
        raise InputError(
            f"{format_count(n_windows, 'window')} in the reference's run, too few to see how windows vary",
            fix=f"Give a run of at least {MIN_WINDOWS} windows, or make the windows shorter",
        )
    if not total.sum():
        raise InputError(
            "the reference's run has no hits", fix="Give the hits of a run in which the detector worked"
        )
    modes = make_modes(channel_map)
    sigmas = np.full(modes.shape[1], illumination)
    expected = np.maximum(total, UNSEEN) / n_windows
    dispersion = np.full(len(total), SMALLEST_SPREAD)
    fits: list[IlluminationFit] = []
    for number in range(PASSES):
        fits = [
            fit_illumination(
                row,
                expected,
                spread=dispersion,
                modes=modes,
                sigmas=sigmas,
                used=np.ones(len(total), dtype=bool),
            )
            for row in hits
        ]
        fitted = np.stack([fit.fitted for fit in fits])
        if number == 0:
            dispersion = _typical_dispersion(hits, fitted)
            is_burst = find_bursts(hits, fitted, dispersion + 1.0 / np.maximum(total, UNSEEN))
        else:
            dispersion = _dispersion(np.where(is_burst, fitted, hits), fitted, dispersion, modes.shape[1])
    bursts = Bursts.learn((hits - fitted)[is_burst], hits.size)
    hits = np.where(is_burst, fitted, hits)
    seen = np.stack([fit.coefficients for fit in fits]).std(axis=0, ddof=1)
    excess = np.array(
        [_excess(hits, fitted, dispersion, groups_of(channel_map, column)) for column in (LAYER, CARD)]
    )
    return ChannelModel(
        channel_map,
        total,
        dispersion,
        np.maximum(sigmas, seen),
        excess,
        bursts,
        n_windows,
        wander_factor(hits, fitted, dispersion),
    )


def _typical_dispersion(hits: FloatArray, fitted: FloatArray) -> FloatArray:
    """Estimate one phi for all from the median of z^2, which a few extreme channels do not change."""
    z2 = (hits - fitted) ** 2 / fitted
    busy = fitted >= min(5.0, float(np.median(fitted)))
    excess = max(0.0, float(np.median(z2[busy])) / MEDIAN_CHI2 - 1.0)
    return np.full(hits.shape[1], max(SMALLEST_SPREAD, excess / float(np.median(fitted[busy]))))


def _dispersion(hits: FloatArray, fitted: FloatArray, before: FloatArray, n_modes: int) -> FloatArray:
    """Estimate phi of each channel by moments, drawn to their median."""
    n, n_channels = hits.shape
    freedom = n_channels / max(1, n_channels - n_modes)  # each window has its own modes
    mean = fitted.mean(axis=0)
    scatter = ((hits - fitted) ** 2).sum(axis=0) * n / (n - 1) * freedom
    own = (scatter - fitted.sum(axis=0)) / (fitted**2).sum(axis=0)
    # as if all channels were alike: a restless one must not count only as uncertain
    error = np.sqrt(2.0 / (n - 1)) * (1.0 / mean + float(np.median(before)))
    weight = error**-2.0
    order = np.argsort(own)
    common = float(own[order][np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())])
    between = max(0.0, float(weight @ ((own - common) ** 2 - error**2) / weight.sum()))
    beyond = np.maximum(0.0, own - common) * between / (between + error**2)
    floor = max(0.0, common) + SAFETY * weight.sum() ** -0.5
    return np.asarray(np.maximum(SMALLEST_SPREAD, floor + beyond))


def _excess(hits: FloatArray, fitted: FloatArray, dispersion: FloatArray, groups: Groups) -> float:
    """Estimate the relative variance that the channels of a group have in common."""
    n = len(hits)
    if not len(groups.numbers):
        return 0.0
    seen, mean = np.stack([groups.sum(row) for row in hits]), np.stack([groups.sum(row) for row in fitted])
    variance = np.stack([groups.sum(row + dispersion * row**2) for row in fitted])
    beyond = ((seen - mean) ** 2).sum(axis=0) * n / (n - 1) - variance.sum(axis=0)
    weight = 1.0 / variance.mean(axis=0) ** 2
    return max(0.0, float(weight @ beyond / (weight @ (mean**2).sum(axis=0))))
