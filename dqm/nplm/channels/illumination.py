"""The part of a window that all channels share: its rate, and smooth changes of the illumination.

The logarithm of the expected hits is a sum of few *modes*, each with a coefficient a of its own in every
window: 1 (the rate), the first two Legendre polynomials of the wire's position, and the first one of the
layer's. Their Gaussian priors say by how much they may change in a healthy detector. The coefficients are
fitted to each window by a penalised quasi-likelihood (McCullagh and Nelder, Generalized Linear Models, 1989,
chapter 9).

A dead card or a wire that is noisy by a factor of 100 must not move the modes, for then every other channel
would seem to depart. So the first steps weigh a channel down by its distance (Huber, Robust Statistics, 1981,
section 3.5), and the last ones leave out channels that are far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray
from dqm.nplm.channels.channel_map import LAYER, UNKNOWN, WIRE

__all__ = ["IlluminationFit", "fit_illumination", "make_modes"]

BoolArray = NDArray[np.bool_]

HUBER_Z = 1.0
"""Standard deviations beyond which the influence of a channel does not grow."""

REJECT_Z = 3.5
"""Standard deviations beyond which a channel is left out of the fit."""

HUBER_STEPS = 7
REJECT_STEPS = 4
LONGEST_STEP = 1.0
COARSE = 1e-3
"""Size of a step below which the first steps end."""


@dataclass(frozen=True, slots=True, eq=False)
class IlluminationFit:
    """Modes fitted to one window.

    Parameters
    ----------
    coefficients : ndarray, shape (n_modes,)
        Fitted a.
    covariance : ndarray, shape (n_modes, n_modes)
        Their covariance, prior included.
    fitted : ndarray, shape (n_channels,)
        Expected hits with these modes.
    clean : ndarray of bool, shape (n_channels,)
        Channels that were used in the last step.
    """

    coefficients: FloatArray
    covariance: FloatArray
    fitted: FloatArray
    clean: BoolArray


def make_modes(channel_map: FloatArray) -> FloatArray:
    """Give the modes of a map, shape (n_channels, n_modes); the first is the rate.

    A channel without a place has only the rate; so has a map with fewer than three wires or layers.
    """
    columns = [np.ones(len(channel_map))]
    for place, degrees in ((WIRE, 2), (LAYER, 1)):
        position = channel_map[:, place]
        known = position != UNKNOWN
        values = np.unique(position[known])
        if len(values) < 3:
            continue
        x = np.where(known, 2.0 * (position - values[0]) / (values[-1] - values[0]) - 1.0, 0.0)
        columns.append(x)
        if degrees == 2:
            columns.append(np.where(known, 1.5 * x**2 - 0.5, 0.0))
    return np.column_stack(columns)


def fit_illumination(
    hits: FloatArray,
    expected: FloatArray,
    *,
    spread: FloatArray,
    modes: FloatArray,
    sigmas: FloatArray,
    used: BoolArray,
) -> IlluminationFit:
    """Fit the modes to the hits of one window.

    Parameters
    ----------
    hits, expected : ndarray, shape (n_channels,)
        Hits, and hits expected without modes, > 0.
    spread : ndarray, shape (n_channels,)
        Relative variance v beyond Poisson: the variance is ``m + v m^2``.
    modes : ndarray, shape (n_channels, n_modes)
        As of `make_modes`.
    sigmas : ndarray, shape (n_modes,)
        Standard deviations of the priors, > 0.
    used : ndarray of bool, shape (n_channels,)
        Channels that count.

    Returns
    -------
    IlluminationFit
    """
    a = np.zeros(modes.shape[1])
    prior = np.diag(sigmas**-2.0)
    chosen = used.astype(np.float64)
    fitted = expected
    weight = chosen
    step = a + LONGEST_STEP
    for number in range(HUBER_STEPS + REJECT_STEPS):
        if number < HUBER_STEPS and np.abs(step).max() < COARSE:
            continue
        scale = 1.0 + spread * fitted
        z = np.abs(hits - fitted) / np.sqrt(fitted * scale)
        if number < HUBER_STEPS:
            weight = chosen * np.minimum(1.0, HUBER_Z / np.maximum(z, HUBER_Z))
        else:
            weight = chosen * np.where(z <= REJECT_Z, 1.0, 0.0)
        gradient = modes.T @ (weight * (hits - fitted) / scale) - prior @ a
        hessian = (modes.T * (weight * fitted / scale)) @ modes + prior
        step = np.clip(np.linalg.solve(hessian, gradient), -LONGEST_STEP, LONGEST_STEP)
        a = a + step
        fitted = expected * np.exp(modes @ a)
    covariance = np.asarray(np.linalg.inv(hessian), dtype=np.float64)
    return IlluminationFit(a, covariance, fitted, weight > 0.0)
