"""Template of a known fault: its log density ratio to the reference, learned from labelled events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.basis import Basis
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.kernel_test import KernelTest
from dqm.nplm.samples import check_sample

__all__ = ["Template", "learn_template"]

PENALTIES = (1e-6, 1e-7, 1e-8, 1e-9)
"""Penalties tried in this order; long labelled runs allow weaker penalties than a window does."""

MAX_STEPS = 30
"""Most Newton steps. A fit that takes more has moved to where the reference has no events; it is not used."""

HELD_OUT = 0.2
"""Share of the labelled events that choose the penalty and show whether the fault can be seen at all."""

SMALLEST_GAIN = 10.0
"""Twice the log likelihood ratio, summed over the events held out, that a template must reach."""


@dataclass(frozen=True, slots=True)
class Template:
    """Log density ratio of a fault to the reference, as a function of raw features.

    Parameters
    ----------
    centers : Tensor, shape (m, d)
        Kernel centres, standardised.
    coefficients : Tensor, shape (m,)
        Coefficients of the kernels.
    mean, scale : Tensor, shape (d,)
        Standardisation.
    width : float
        Kernel sigma, in standard deviations.
    """

    centers: Tensor
    coefficients: Tensor
    mean: Tensor
    scale: Tensor
    width: float

    def __call__(self, x: FloatArray) -> FloatArray:
        """Evaluate the log ratio at raw events of shape (n, d); shape (n,)."""
        standard = (torch.from_numpy(x) - self.mean) / self.scale
        values: FloatArray = (gaussian_kernel(standard, self.centers, self.width) @ self.coefficients).numpy()
        return values

    def arrays(self) -> dict[str, FloatArray]:
        """Return the template as arrays by name, for `from_arrays`."""
        return {
            "templatecenters": self.centers.numpy(),
            "templatecoefficients": self.coefficients.numpy(),
            "templatescaling": torch.stack([self.mean, self.scale]).numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], width: float) -> Template:
        """Rebuild a template; raises `InputError` if an array is missing or the shapes do not fit."""
        try:
            centers, coefficients, scaling = (
                torch.from_numpy(arrays[name])
                for name in ("templatecenters", "templatecoefficients", "templatescaling")
            )
        except KeyError as error:
            raise InputError(f"no array {error}") from error
        if coefficients.shape != centers.shape[:1] or scaling.shape != (2, centers.shape[1]):
            raise InputError(
                f"arrays of shapes {list(map(np.shape, arrays.values()))} do not belong together"
            )
        return cls(centers, coefficients, scaling[0], scaling[1], width)


def learn_template(
    labelled: FloatArray,
    nominal: FloatArray,
    check: FloatArray,
    centers: FloatArray,
    *,
    width: float,
    rng: np.random.Generator,
) -> tuple[Template, float]:
    """Learn the template of a fault from labelled events.

    The penalty is the one whose fit describes the held-out events best.

    Parameters
    ----------
    labelled : ndarray, shape (n, d)
        Events taken with the fault, raw.
    nominal : ndarray, shape (n_nominal, d)
        Events taken without the fault, raw; best a few times as many.
    check : ndarray, shape (n_check, d)
        More events without the fault, to normalise the template when it is compared with held-out events.
    centers : ndarray, shape (m, d)
        Kernel centres, raw.
    width : float
        Kernel sigma, in standard deviations.
    rng : numpy.random.Generator
        Splits the labelled events.

    Returns
    -------
    template : Template
    gain : float
        Twice the log likelihood ratio to the reference for each held-out event, on average.

    Raises
    ------
    InputError
        If there are fewer than 100 labelled events, if they cannot be used, or if they do not differ from the
        nominal ones.

    Examples
    --------
    >>> import numpy
    >>> from dqm.nplm import learn_template
    >>> rng = numpy.random.default_rng(1)
    >>> nominal, check = rng.normal(size=(1000, 1)), rng.normal(size=(1000, 1))
    >>> labelled = rng.normal(loc=0.5, size=(500, 1))  # taken under a fault that shifts the feature
    >>> template, gain = learn_template(labelled, nominal, check, nominal[:50], width=2.0, rng=rng)
    >>> low, high = template(numpy.array([[-1.0], [1.0]]))  # the true log ratio is x / 2 - 1 / 8
    >>> bool(low < 0 < high)
    True
    """
    events = rng.permutation(check_sample(labelled, "labelled sample"))
    n_held_out = round(HELD_OUT * len(events))
    if len(events) < 100:
        raise InputError(
            f"only {format_count(len(events), 'labelled event')}", fix="Give at least 100, better thousands"
        )
    held_out, learned = events[:n_held_out], events[n_held_out:]
    best: tuple[float, Template] | None = None
    for penalty in PENALTIES:
        test = KernelTest(
            nominal,
            n_expected=len(learned),
            width=width,
            penalty=penalty,
            centers=centers,
            loss="likelihood",
            max_iterations=MAX_STEPS,
        )
        result = test.evaluate(learned)
        if not result.converged:
            continue
        template = _template(result.density.basis.transform @ result.density.a, result.density.basis)
        gain = 2 * float(template(held_out).mean() - np.log(np.exp(template(check)).mean()))
        if best is None or gain > best[0]:
            best = gain, template
        elif gain < best[0]:
            break  # weaker penalties would only fit more noise
    if best is None or best[0] * n_held_out < SMALLEST_GAIN:
        raise InputError(
            f"the labelled events do not differ significantly from the reference, with {len(events)} events",
            fix="Give more events, or features that the fault changes",
        )
    return best[1], best[0]


def _template(coefficients: Tensor, basis: Basis) -> Template:
    return Template(basis.centers, coefficients, basis.mean, basis.scale, basis.width)
