"""What a known fault looks like: its log density ratio to the reference, from labelled events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.basis import Basis
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.kernel_test import KernelTest
from dqm.nplm.samples import check_sample

__all__ = ["Template", "learn_template"]

PENALTIES = (1e-6, 1e-7, 1e-8, 1e-9)
"""Tried in turn; labelled runs are long, and bear weaker ones than a window does."""

MAX_STEPS = 30
"""A fit that takes more has run to where the reference has no events; it would describe others badly."""

HELD_OUT = 0.2
"""Share of the labelled events that choose the penalty, and tell whether there is a fault to see."""

SMALLEST_GAIN = 10.0
"""Twice the log likelihood ratio, over the events held out, that a template must reach."""


@dataclass(frozen=True, slots=True)
class Template:
    """Log density ratio of a fault to the reference, as a function of raw features.

    Parameters
    ----------
    centers : Tensor, shape (m, d)
        Kernel centres, standardised.
    coefficients : Tensor, shape (m,)
        Of their kernels.
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
        """Give the log ratio at raw events of shape (n, d)."""
        standard = (torch.from_numpy(x) - self.mean) / self.scale
        values: FloatArray = (gaussian_kernel(standard, self.centers, self.width) @ self.coefficients).numpy()
        return values

    def arrays(self) -> dict[str, FloatArray]:
        """Give the numbers as arrays, for `from_arrays`."""
        return {
            "templatecenters": self.centers.numpy(),
            "templatecoefficients": self.coefficients.numpy(),
            "templatescaling": torch.stack([self.mean, self.scale]).numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], width: float) -> Template:
        """Rebuild a template; raises `InputError` if the arrays are not those of one."""
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
    """Learn a fault from labelled events.

    The penalty is the one that describes held-out events best.

    Parameters
    ----------
    labelled : ndarray, shape (n, d)
        Events taken under the fault, raw.
    nominal : ndarray, shape (n_nominal, d)
        Events taken without; at least a few times as many are best.
    check : ndarray, shape (n_check, d)
        More of them, to be compared with the events held out.
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
        Twice the log likelihood ratio to the reference, over one held-out event.

    Raises
    ------
    InputError
        If there are fewer than 100 events, they cannot be used, or they do not differ from the nominal ones.

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
        raise InputError(f"{len(events)} labelled events", fix="Give 100 at least, better thousands")
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
            break  # weaker penalties only learn more of the noise
    if best is None or best[0] * n_held_out < SMALLEST_GAIN:
        raise InputError(
            f"the labelled events do not differ from the reference, as far as {len(events)} events can tell",
            fix="Give more events, or features that the fault changes",
        )
    return best[1], best[0]


def _template(coefficients: Tensor, basis: Basis) -> Template:
    return Template(basis.centers, coefficients, basis.mean, basis.scale, basis.width)
