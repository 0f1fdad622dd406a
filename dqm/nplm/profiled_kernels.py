"""Several kernels beside nuisance parameters, which are fitted once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.nuisance import Normalisation, Nuisance, profiled
from dqm.nplm.nuisance_fit import NuisanceFit, NuisancePoint
from dqm.nplm.profiled_score import ProfiledScore
from dqm.nplm.samples import Sample

__all__ = ["ProfiledKernels", "ProfiledWindow"]


@dataclass(frozen=True, slots=True, eq=False)
class ProfiledWindow:
    """A window beside nuisance parameters.

    Parameters
    ----------
    kernels : ProfiledKernels
        What tested it.
    measured : ndarray, shape (k,)
        Measured parameters.
    point : NuisancePoint
        Their fit without f.
    statistics : ndarray, shape (n_kernels,) or (n_kernels + 1,)
        T of each kernel; then that of the pulls, if a parameter is measured.
    changes : list of ndarray, each of shape (k,)
        Change of the parameters when each kernel is fitted with them.
    """

    kernels: ProfiledKernels
    measured: FloatArray
    point: NuisancePoint
    statistics: FloatArray
    changes: list[FloatArray]

    def describe(self, kernel: int) -> dict[str, NuisanceResult]:
        """Give the fitted parameters, without f and beside one kernel."""
        errors = np.sqrt(np.linalg.pinv(self.point.curvature, hermitian=True).diagonal())
        beside = self.point.nu + self.changes[kernel]
        errors_beside = self.kernels.errors_beside(kernel)
        found = {}
        for k, nuisance in enumerate(self.kernels.nuisances):
            constraint = float(self.measured[k]), nuisance.sigma
            found[nuisance.name] = NuisanceResult(
                measured=float(self.measured[k]) if math.isfinite(nuisance.sigma) else None,
                reference=profiled(float(self.point.nu[k]), float(errors[k]), *constraint),
                alternative=profiled(float(beside[k]), float(errors_beside[k]), *constraint),
            )
        return found


class ProfiledKernels:
    """Several kernels beside nuisance parameters, for windows of one size.

    Parameters
    ----------
    nuisances : sequence of Normalisation or Shape
        The parameters.
    fit : NuisanceFit
        Their fit without f.
    scores : sequence of ProfiledScore
        The kernels.
    n_reference : float
        Events of the reference.

    Attributes
    ----------
    moments : list of (float, float)
        Mean and variance of each statistic in healthy windows, for Gaussian sums.
    """

    def __init__(
        self,
        nuisances: Sequence[Nuisance],
        fit: NuisanceFit,
        scores: Sequence[ProfiledScore],
        n_reference: float,
    ) -> None:
        self.nuisances = nuisances
        self._fit = fit
        self._n_reference = n_reference
        nominal = fit.nominal()
        is_poisson = any(isinstance(one, Normalisation) for one in nuisances)
        self._sized = [score.profile(nominal, fit.precision, is_poisson=is_poisson) for score in scores]
        self.moments = [(one.mean, one.variance) for one in self._sized]
        self._is_measured = fit.precision > 0
        n_measured = int(self._is_measured.sum())
        if n_measured:
            self._precision_of_pulls = np.linalg.pinv(self._covariance_of_pulls(nominal), hermitian=True)
            self.moments.append((float(n_measured), 2.0 * n_measured))

    @property
    def has_pulls(self) -> bool:
        """Whether the pulls of measured parameters are a statistic, too."""
        return bool(self._is_measured.any())

    def evaluate(
        self, point: NuisancePoint, sample: Sample, columns: Sequence[FloatArray], measured: FloatArray
    ) -> ProfiledWindow:
        """Test a window.

        Parameters
        ----------
        point : NuisancePoint
            Its fit without f.
        sample : Sample
            The window.
        columns : sequence of ndarray
            What each kernel looks at, of its events.
        measured : ndarray, shape (k,)
            Measured parameters.
        """
        pairs = zip(self._sized, columns, strict=True)
        found = [sized.statistic(x, sample.weights, point) for sized, x in pairs]
        statistics = [t for t, _ in found]
        if self.has_pulls:
            pull = (point.nu - measured)[self._is_measured]
            statistics.append(float(pull @ self._precision_of_pulls @ pull))
        return ProfiledWindow(self, measured, point, np.array(statistics), [change for _, change in found])

    def errors_beside(self, kernel: int) -> FloatArray:
        """Give the errors of the parameters beside a kernel."""
        return self._sized[kernel].errors

    def _covariance_of_pulls(self, nominal: NuisancePoint) -> FloatArray:
        """Give the covariance of fitted less measured values, of the parameters that are measured.

        Both fluctuate: the events of window and reference, and the measurements.
        """
        chosen = self._is_measured
        precision = self._fit.precision
        inverse = np.linalg.pinv(nominal.curvature, hermitian=True)
        by_events = (nominal.curvature - np.diag(precision)) * (
            1.0 + self._fit.n_expected / self._n_reference
        )
        by_measurement = (inverse * precision - np.eye(len(precision)))[np.ix_(chosen, chosen)]
        found: FloatArray = (inverse @ by_events @ inverse)[np.ix_(chosen, chosen)]
        return found + (by_measurement / precision[chosen]) @ by_measurement.T
