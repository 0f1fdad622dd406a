"""Nuisance parameters: changes that are not a fault, and their effect on the reference.

``log r(x; nu) = sum_i [ nu_i delta_i1(x) + nu_i^2 delta_i2(x) / 2 ] + sum_ij nu_i nu_j delta_ij(x)``
(d'Agnolo et al. 2022, doi:10.1140/epjc/s10052-022-10226-y, eq. 14).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, Profiled

__all__ = [
    "Delta",
    "Normalisation",
    "Nuisance",
    "Shape",
    "log_ratio_coefficients",
]

Delta = Callable[[FloatArray], FloatArray]
"""Coefficient function of the expansion: raw features of shape (n, d) to values of shape (n,) or (n, 2)."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Parameter of the expected number of events: it adds nu to ``log r``.

    Parameters
    ----------
    name : str
        Name of the parameter and of its auxiliary measurement.
    sigma : float
        Error of that measurement, > 0. Infinite for a free parameter: then only the shape is tested.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import KernelTest, Normalisation
    >>> rng = numpy.random.default_rng(1)
    >>> test = KernelTest(
    ...     rng.normal(size=(1000, 1)), n_expected=200, width=2.0, penalty=1e-6, centers=50, rng=rng,
    ...     loss="likelihood", nuisances=[Normalisation("rate", sigma=0.1)],
    ... )
    >>> result = test.evaluate(rng.normal(size=(240, 1)), auxiliary={"rate": 0.15})  # nu, measured
    >>> round(result.nuisances["rate"].reference.value, 1)  # nu, fitted: log(240 / 200) = 0.18
    0.2
    """

    name: str
    sigma: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameter that changes the shape of the distribution.

    Parameters
    ----------
    name : str
        Name of the parameter and of its auxiliary measurement.
    sigma : float
        Error of that measurement, > 0, in the unit of the parameter; infinite for a free parameter.
    linear : callable
        First-order coefficient delta_1 of raw features, (n, d) to (n,); or delta_1 and delta_2 as two
        columns, (n, 2), if one evaluation gives both.
    quadratic : callable, optional
        Second-order coefficient delta_2.
    mixed : mapping of str to callable
        Mixed coefficients delta_ij by the name of the other parameter; give each pair once.

    Examples
    --------
    A shift of a normal distribution by nu: ``log r = nu x - nu^2 / 2``.

    >>> import numpy
    >>> from dqm.nplm import KernelTest, Shape
    >>> gas = Shape("gas", sigma=0.1, linear=lambda x: x[:, 0], quadratic=lambda x: -numpy.ones(len(x)))
    >>> rng = numpy.random.default_rng(1)
    >>> test = KernelTest(
    ...     rng.normal(size=(1000, 1)), n_expected=400, width=2.0, penalty=1e-6, centers=50, rng=rng,
    ...     loss="likelihood", nuisances=[gas],
    ... )
    >>> result = test.evaluate(rng.normal(loc=0.3, size=(400, 1)), auxiliary={"gas": 0.3})
    >>> result.delta > 10 > result.t  # the shift is large, and explained
    True
    """

    name: str
    sigma: float
    linear: Delta
    quadratic: Delta | None = None
    mixed: Mapping[str, Delta] = field(default_factory=dict)


Nuisance = Normalisation | Shape


def check_nuisances(nuisances: Sequence[Nuisance]) -> tuple[Nuisance, ...]:
    """Raise `InputError` if a name is repeated or unknown, or an error is not above 0."""
    names = [nuisance.name for nuisance in nuisances]
    for nuisance in nuisances:
        if names.count(nuisance.name) > 1:
            raise InputError(f"two nuisance parameters are named {nuisance.name!r}", fix="Rename one of them")
        if not nuisance.sigma > 0:
            raise InputError(
                f"sigma is {nuisance.sigma}",
                where=f"nuisance {nuisance.name}",
                fix="Give one above 0, or infinity",
            )
        for other in nuisance.mixed if isinstance(nuisance, Shape) else ():
            if other not in names or other == nuisance.name:
                raise InputError(
                    f"mixed term with {other!r}",
                    where=f"nuisance {nuisance.name}",
                    fix=f"Parameters are: {', '.join(names)}",
                )
    return tuple(nuisances)


def log_ratio_coefficients(nuisances: Sequence[Nuisance], x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Evaluate the expansion of log r at events.

    Parameters
    ----------
    nuisances : sequence of Nuisance
        The k parameters.
    x : ndarray, shape (n, d)
        Raw features.

    Returns
    -------
    linear : ndarray, shape (n, k)
        L in ``log r = L nu + nu Q nu / 2``.
    quadratic : ndarray, shape (n, k, k)
        Q, symmetric.

    Raises
    ------
    InputError
        If a coefficient has the wrong shape or is not finite.
    """
    n, k = len(x), len(nuisances)
    linear = np.ones((n, k))
    quadratic = np.zeros((n, k, k))
    index = {nuisance.name: i for i, nuisance in enumerate(nuisances)}
    for i, nuisance in enumerate(nuisances):
        if isinstance(nuisance, Normalisation):
            continue
        values = np.asarray(nuisance.linear(x))
        if values.ndim == 2 and values.shape[1] == 2:
            quadratic[:, i, i] = _checked(values[:, 1], x, f"quadratic of {nuisance.name}")
            values = values[:, 0]
        linear[:, i] = _checked(values, x, f"linear of {nuisance.name}")
        if nuisance.quadratic is not None:
            quadratic[:, i, i] = _checked(nuisance.quadratic(x), x, f"quadratic of {nuisance.name}")
        for other, delta in nuisance.mixed.items():
            j = index[other]
            quadratic[:, i, j] = quadratic[:, j, i] = _checked(
                delta(x), x, f"mixed of {nuisance.name} and {other}"
            )
    return linear, quadratic


def _checked(found: FloatArray, x: FloatArray, what: str) -> FloatArray:
    values = np.asarray(found, dtype=np.float64)
    if values.shape != (len(x),) or not np.isfinite(values).all():
        raise InputError(
            f"the coefficient has shape {values.shape} for {format_count(len(x), 'event')}, or is not finite",
            where=what,
            fix="Give a function of (n, d) raw features that returns n finite values",
        )
    return values


def measured_values(nuisances: Sequence[Nuisance], auxiliary: Mapping[str, float] | None) -> FloatArray:
    """Arrange the auxiliary measurements of one window in the order of the parameters.

    Parameters
    ----------
    nuisances : sequence of Nuisance
        k parameters.
    auxiliary : mapping of str to float, optional
        Measurement of each parameter with a finite sigma.

    Returns
    -------
    ndarray, shape (k,)
        Measurements; 0 for free parameters.

    Raises
    ------
    InputError
        If a measurement is missing, unknown or not finite.
    """
    given = dict(auxiliary or {})
    names = [nuisance.name for nuisance in nuisances]
    unknown = [name for name in given if name not in names]
    missing = [n.name for n in nuisances if n.name not in given and math.isfinite(n.sigma)]
    if unknown or missing:
        raise InputError(
            f"auxiliary measurements: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}",
            fix=f"Give one for each of: {', '.join(names) or 'no parameter'}",
        )
    values = np.array([given.get(name, 0.0) for name in names], dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"an auxiliary measurement is not finite: {given}")
    return values


def profiled(value: float, error: float, measured: float, sigma: float) -> Profiled:
    """Compare a fitted value with its measurement; pull: ``(value - measured) / sqrt(sigma^2 - error^2)``."""
    free = sigma**2 - error**2
    has_pull = math.isfinite(sigma) and free > 1e-12 * sigma**2
    return Profiled(value, error, float(value - measured) / math.sqrt(free) if has_pull else None)
