"""Checks of a learned log ratio; use samples that it was not learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.samples import check_sample, normalised_weights
from dqm.nplm.taylor.model import TaylorModel
from dqm.nplm.taylor.samples import ShiftedSample
from dqm.nplm.taylor.training import quadratic_loss

__all__ = ["BinnedRatio", "bin_log_ratio", "classification_gain", "effective_share"]


@dataclass(frozen=True, slots=True)
class BinnedRatio:
    """Log ratio of one sample to the reference in bins of one feature.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Bin edges, raw unit of the feature.
    binned, error : ndarray, shape (n_bins,)
        Log ratio of the two histograms and its statistical error; NaN where a sample has no events.
    reconstructed : ndarray, shape (n_bins,)
        The same with the reference, weighted by the learned r, in place of the sample.
    difference_error : ndarray, shape (n_bins,)
        Statistical error of ``binned - reconstructed``. Most of the error of the reference cancels in it.
    """

    edges: FloatArray
    binned: FloatArray
    error: FloatArray
    reconstructed: FloatArray
    difference_error: FloatArray

    @property
    def chi2(self) -> tuple[float, int]:
        """Sum of squared pulls and the number of bins in it."""
        pulls = (self.binned - self.reconstructed) / self.difference_error
        used = np.isfinite(pulls)
        return float((pulls[used] ** 2).sum()), int(used.sum())


def bin_log_ratio(
    model: TaylorModel,
    reference: ArrayLike,
    sample: ShiftedSample,
    feature: int,
    *,
    bins: int | ArrayLike = 30,
    weights: ArrayLike | None = None,
) -> BinnedRatio:
    """Compare the reconstructed with the binned log ratio in one feature at one nu.

    Parameters
    ----------
    model : TaylorModel
        Learned coefficients.
    reference : array_like, shape (n_reference, d)
        Events at nu = 0, raw.
    sample : ShiftedSample
        Events at nu.
    feature : int
        Column.
    bins : int or array_like, shape (n_bins + 1,)
        Number of bins of equal content in reference and sample together, or increasing edges.
    weights : array_like, shape (n_reference,), optional
        Weights of the reference events; all equal by default.

    Returns
    -------
    BinnedRatio

    Raises
    ------
    InputError
        If a sample cannot be used, the feature does not exist or the bins do not increase.

    References
    ----------
    d'Agnolo et al., EPJC 82, 275 (2022), figures 3 and 14.
    """
    events = check_sample(reference, "reference")
    shifted = check_sample(sample.x, f"sample at nu = {sample.nu:g}")
    if not 0 <= feature < events.shape[1]:
        raise InputError(f"feature is {feature}", fix=f"Give 0 to {events.shape[1] - 1}")
    w = normalised_weights(weights, len(events))
    v = normalised_weights(sample.weights, len(shifted)) * sample.yield_ratio
    r = np.exp(model.log_ratio(events, sample.nu))
    x, y = events[:, feature], shifted[:, feature]
    edges = _edges(bins, np.concatenate([x, y]))

    def histogram(values: FloatArray, weight: FloatArray) -> FloatArray:
        return np.histogram(values, edges, weights=weight)[0].astype(np.float64)

    n_x, n_y, n_r = histogram(x, w), histogram(y, v), histogram(x, w * r)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = histogram(y, v**2) / n_y**2
        return BinnedRatio(
            edges,
            *(
                np.where((n_x > 0) & (n_y > 0), values, np.nan)
                for values in (
                    np.log(n_y / n_x),
                    np.sqrt(variance + histogram(x, w**2) / n_x**2),
                    np.log(n_r / n_x),
                    np.sqrt(variance + histogram(x, (w * r) ** 2) / n_r**2),
                )
            ),
        )


def classification_gain(
    model: TaylorModel, reference: ArrayLike, sample: ShiftedSample, weights: ArrayLike | None = None
) -> float:
    """Share by which the learned log ratio lowers the loss of eq. 17 at one point, compared with r = 1.

    Parameters
    ----------
    model : TaylorModel
        Learned coefficients.
    reference : array_like, shape (n_reference, d)
        Events at nu = 0, raw; not those learned from.
    sample : ShiftedSample
        Events at nu; not those learned from.
    weights : array_like, shape (n_reference,), optional
        Weights of the reference events; all equal by default.

    Returns
    -------
    float
        Decrease of the loss as a share of the loss at r = 1, at most 1. The true ratio has the largest share;
        a model with a share below 0 is worse than none. For small nu it tends to ``nu^2 var(delta_1) / 4``.

    References
    ----------
    d'Agnolo et al., EPJC 82, 275 (2022), eq. 17.
    """
    events = check_sample(reference, "reference")
    shifted = check_sample(sample.x, f"sample at nu = {sample.nu:g}")
    w = normalised_weights(weights, len(events))
    v = normalised_weights(sample.weights, len(shifted)) * sample.yield_ratio
    at_reference, at_shifted = (
        quadratic_loss(torch.from_numpy(model.log_ratio(x, sample.nu)), shifted=flag).numpy()
        for x, flag in ((events, False), (shifted, True))
    )
    return float(1.0 - 4.0 * (w @ at_reference + v @ at_shifted) / (w.sum() + v.sum()))


def effective_share(log_ratio: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Effective size of the reference after it is reweighted to nu.

    Parameters
    ----------
    log_ratio : array_like, shape (n_reference,)
        ``log r(x; nu)`` at the reference events.
    weights : array_like, shape (n_reference,), optional
        Their weights; all equal by default.

    Returns
    -------
    float
        Kish's effective sample size over that at nu = 0, in (0, 1] for equal weights. Near 0 a few events of
        a tail determine the prediction: the reference does not cover the distribution at nu.

    References
    ----------
    Kish (1965), Survey Sampling, section 11.7.
    """
    f = np.asarray(log_ratio, dtype=np.float64)
    w = normalised_weights(weights, len(f))
    r = np.exp(f - f.max())
    return float((w @ r) ** 2 / ((w * r) @ (w * r)) * (w @ w))


def _edges(bins: int | ArrayLike, values: FloatArray) -> FloatArray:
    if isinstance(bins, int | np.integer):
        if bins < 1:
            raise InputError(f"bins is {bins}", fix="Give at least 1")
        return np.unique(np.quantile(values, np.linspace(0.0, 1.0, int(bins) + 1)))
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(
            f"bin edges have shape {edges.shape} or do not increase", fix="Give increasing edges"
        )
    return edges
