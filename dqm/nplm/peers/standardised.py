"""Common to these tests: features in standard deviations of the reference, and the library that they need."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.samples import check_sample, standardisation

__all__ = ["PACKAGES", "Standardised", "log_ks_p", "need_sklearn"]

PACKAGES: Mapping[str, str] = {"sklearn": "peers"}
"""Package that these statistics need, and the extra of dqm that has it: ``dqm check`` looks for it."""

SMALLEST_P = 1e-300


class Standardised:
    """A reference in its own standard deviations.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.

    Raises
    ------
    InputError
        If the reference cannot be used, or a feature is constant.
    """

    def __init__(self, reference: ArrayLike) -> None:
        x = check_sample(reference, "reference")
        self._mean, self._scale = standardisation(x, np.full(len(x), 1.0 / len(x)))
        self.reference: FloatArray = (x - self._mean) / self._scale

    def window(self, data: ArrayLike) -> FloatArray:
        """Give a window in the same units; raises `InputError` if it cannot be tested."""
        x = check_sample(data, "window", len(self._mean))
        return (x - self._mean) / self._scale


def log_ks_p(values: FloatArray, reference: FloatArray) -> float:
    """Give log p of the Kolmogorov-Smirnov test of two samples of a number, asymptotic; at least -690."""
    p = float(stats.ks_2samp(values, reference, method="asymp").pvalue)
    return float(np.log(max(p, SMALLEST_P)))


def need_sklearn(statistic: str) -> None:
    """Refuse a statistic whose library is not installed; raises `InputError` that says what to install."""
    if find_spec("sklearn") is None:
        raise InputError(
            f"the statistic {statistic!r} needs scikit-learn, which is not installed",
            fix="Install it: pip install 'dqm[peers]'",
        )
