"""Transformations that turn reference events into a sample at shifted conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dqm.errors import InputError
from dqm.events import FloatArray

__all__ = ["Transformation", "scale", "shift"]

Transformation = Callable[[FloatArray, float], FloatArray]
"""Maps events of shape (n, d) at nu = 0 to the same events at nu; a pure function."""


def scale(columns: Sequence[int]) -> Transformation:
    """Multiply features by ``exp(nu)``.

    Parameters
    ----------
    columns : sequence of int
        Features to scale; the others are not changed.

    Returns
    -------
    Transformation

    Raises
    ------
    InputError
        When called, if the events lack a column or nu is not finite.
    """
    return _on(columns, lambda values, nu: values * np.exp(nu))


def shift(columns: Sequence[int]) -> Transformation:
    """Add nu, in the unit of the features: for example a common t0 to drift times.

    Parameters
    ----------
    columns : sequence of int
        Features to shift; the others are not changed.

    Returns
    -------
    Transformation

    Raises
    ------
    InputError
        When called, if the events lack a column or nu is not finite.
    """
    return _on(columns, lambda values, nu: values + nu)


def _on(columns: Sequence[int], change: Transformation) -> Transformation:
    chosen = sorted(set(columns))

    def transform(x: FloatArray, nu: float) -> FloatArray:
        if not np.isfinite(nu):
            raise InputError(f"nu is {nu}", where="transformation", fix="Give a finite number")
        if not chosen or chosen[0] < 0 or chosen[-1] >= x.shape[1]:
            raise InputError(
                f"columns are {chosen}, the events have features 0 to {x.shape[1] - 1}",
                where="transformation",
                fix="Name columns that exist",
            )
        moved = np.array(x, dtype=np.float64)
        moved[:, chosen] = change(moved[:, chosen], nu)
        return moved

    return transform
