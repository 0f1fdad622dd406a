"""The settings of a test of several kernels, and the statistic of each: one Newton step.

With f = 0 as the start, one Newton step lowers twice the penalised likelihood by ``T = g^T A^-1 g``. There g
is the gradient (the sums of the kernels at the window's events, less those expected) and A the Hessian of a
healthy window. Both losses have the same T, up to a constant: the loss is no setting here. A is factorised
when the reference is prepared, so T costs the kernels at the window's events and little more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from scipy.spatial.distance import pdist
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.samples import Sample, reference_shares, standardisation

__all__ = ["Score", "Setting", "choose_settings"]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.95)
"""Widths of the kernels of all features, as quantiles of the distances between two reference events."""

FEATURE_QUANTILES = (0.05, 0.5)
"""The same for the kernels of one feature."""

PENALTY = 1e-7
"""Penalty lambda of the kernels of all features."""

FEATURE_PENALTY = 1e-4
"""The same for the kernels of one feature. With a weak one a single event far from all others decides."""

SAMPLED_EVENTS = 1000
"""Reference events whose distances are computed."""

FEATURE_CENTERS = 100
"""Most centres of the kernels of one feature."""

JITTER = 1e-11
"""A second penalty, of ``|alpha|^2``, in units of the mean diagonal of A. It bears rounding, and holds back
functions that are differences of almost equal kernels."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One kernel.

    Parameters
    ----------
    width : float
        Its sigma, in standard deviations of the reference; for one feature in the feature's own unit.
    feature : int or None
        Column it looks at; None for all.
    """

    width: float
    feature: int | None = None

    @property
    def penalty(self) -> float:
        """Penalty lambda, in Falkon's normalisation."""
        return PENALTY if self.feature is None else FEATURE_PENALTY


def choose_settings(sample: Sample, widths: tuple[float, ...] | None = None) -> tuple[Setting, ...]:
    """Choose kernels for a reference: some of all features, and some of each feature by itself.

    Parameters
    ----------
    sample : Sample
        Reference; no feature is constant.
    widths : tuple of float, optional
        Widths of the kernels of all features; by default `QUANTILES` of the distances.

    Returns
    -------
    tuple of Setting
        Distances of 0 (ticks, categories) do not count: no kernel is narrower than the smallest step.

    References
    ----------
    Grosso et al. (2024), arXiv:2408.12296, for quantiles of the distances as widths.
    """
    x = _some_events(sample)
    if widths is None:
        mean, scale = standardisation(sample.x, reference_shares(sample, None))
        widths = _quantiles((x - mean) / scale, QUANTILES)
    settings = [Setting(width) for width in widths]
    if x.shape[1] > 1:
        for feature in range(x.shape[1]):
            found = _quantiles(x[:, feature : feature + 1], FEATURE_QUANTILES)
            settings += [Setting(width, feature) for width in found]
    return tuple(settings)


def _some_events(sample: Sample) -> FloatArray:
    """Take events evenly from the sample; of counted rows as many as each has its share."""
    if sample.counts is None:
        return sample.x[:: max(1, len(sample.x) // SAMPLED_EVENTS)]
    places = (np.arange(SAMPLED_EVENTS) + 0.5) / SAMPLED_EVENTS * sample.n_events
    return sample.x[np.searchsorted(np.cumsum(sample.counts), places, side="right")]


def _quantiles(x: FloatArray, quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """Give quantiles of the distances above 0, each once."""
    distances = pdist(x)
    distances = distances[distances > 0.0]
    return tuple(sorted({float(width) for width in np.quantile(distances, quantiles)}))


class Score:
    """The statistic of one setting, prepared for a reference.

    Parameters
    ----------
    setting : Setting
        The kernel.
    reference : Tensor, shape (n_reference, k)
        The columns that it looks at, in units of its width, around 0.
    shares : Tensor, shape (n_reference,)
        Weights that sum to 1.
    centers : Tensor, shape (m, k)
        Kernel centres, likewise.
    n_reference : float
        Number of reference events.
    """

    def __init__(
        self, setting: Setting, reference: Tensor, shares: Tensor, centers: Tensor, n_reference: float
    ) -> None:
        self.setting = setting
        self._centers = centers
        self._n_reference = n_reference
        kernel = self.kernel(reference)
        self._mean = shares @ kernel
        self._moments = kernel.T @ (shares[:, None] * kernel)
        self._gram = self.kernel(centers)

    def kernel(self, x: Tensor) -> Tensor:
        """Evaluate the kernel of each centre at events of shape (n, k); shape (n, m)."""
        return gaussian_kernel(x, self._centers, 1.0)

    def at(self, n_expected: float) -> SizedScore:
        """Prepare for windows of a size."""
        hessian = (
            n_expected * self._moments + self.setting.penalty * (self._n_reference + n_expected) * self._gram
        )
        hessian.diagonal().add_(JITTER * float(hessian.diagonal().mean()))
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if failed:
            raise InputError(
                f"the kernel of width {self.setting.width:g} is singular to rounding",
                fix="Give smaller widths, or fewer centres",
            )
        scatter = self._moments - torch.outer(self._mean, self._mean)
        scatter *= n_expected * (1.0 + n_expected / self._n_reference)
        half = torch.linalg.solve_triangular(factor, scatter, upper=False)
        whole = torch.linalg.solve_triangular(factor, half.T, upper=False)
        return SizedScore(
            self, n_expected * self._mean, factor, float(whole.trace()), float(whole.square().sum())
        )


@dataclass(frozen=True, slots=True)
class SizedScore:
    """The statistic of one setting for windows of one size.

    Parameters
    ----------
    score : Score
        The setting.
    expected : Tensor, shape (m,)
        Sums of the kernels that are expected.
    factor : Tensor, shape (m, m)
        Lower Cholesky factor of A.
    mean, squares : float
        Mean of T in healthy windows, and half its variance, for Gaussian sums.
    """

    score: Score
    expected: Tensor
    factor: Tensor
    mean: float
    squares: float

    def statistic(self, x: Tensor, counts: Tensor) -> float:
        """Give T of a window, whose rows stand for so many events."""
        gradient = counts @ self.score.kernel(x) - self.expected
        return float(
            torch.linalg.solve_triangular(self.factor, gradient[:, None], upper=False).square().sum()
        )

    def log_p(self, statistic: float, mean_ratio: float = 1.0, variance_ratio: float = 1.0) -> float:
        """Give the logarithm of about the probability of T or more: of a scaled chi-squared distribution.

        Its mean and variance are those of T (Satterthwaite). It makes settings comparable; it is no p-value.

        Parameters
        ----------
        statistic : float
            T.
        mean_ratio, variance_ratio : float
            Mean and variance of T in healthy windows, in units of `mean` and of twice `squares`. With a small
            reference and a narrow kernel they are far above 1: A is made of the very events that it is for.
        """
        mean, variance = self.mean * mean_ratio, 2.0 * self.squares * variance_ratio
        half_freedom = mean**2 / variance
        x = statistic * mean / variance
        p = float(special.gammaincc(half_freedom, x))
        if p > 1e-290:
            return float(np.log(p))
        tail = (half_freedom - 1.0) * np.log(x) - x - special.gammaln(half_freedom)
        return float(tail)
