"""What a statistic gave for a window: checked in every member, and completed.

This is the one place that looks at the values of an outcome. A value that cannot be used becomes a
`PluginError` that names the statistic and the member, so that no other module meets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from dqm.config import plugin_errors
from dqm.errors import PluginError, format_count, format_names
from dqm.events import FloatArray, NuisanceResult, Profiled
from dqm.reference.statistic_interface import Outcome

__all__ = ["CompletedOutcome", "LearnedRatio", "complete_outcome", "is_number", "read_ratio"]

_MEMBERS = ("t", "tau", "delta", "converged", "nuisances", "n_outside")


@dataclass(frozen=True, slots=True)
class CompletedOutcome:
    """Outcome of a statistic that gives a number, or an object without some members.

    Parameters
    ----------
    t, tau, delta, converged, nuisances, n_outside
        As in `Outcome`.
    own : object
        What the statistic gave.
    """

    t: float
    tau: float
    delta: float
    converged: bool
    nuisances: Mapping[str, NuisanceResult]
    n_outside: int
    own: object = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class LearnedRatio:
    """Density ratio that a statistic has learned; without it there is no explanation.

    Parameters
    ----------
    reference_weights : ndarray, shape (n_reference,)
        Events each reference event stands for, at the fitted nuisance parameters.
    log_ratio_reference : ndarray, shape (n_reference,)
        Learned log ratio f at the reference events.
    """

    reference_weights: FloatArray
    log_ratio_reference: FloatArray


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a plugin gave a number; a truth value does not count."""
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_ | np.complexfloating)


def complete_outcome(
    label: str,
    found: Any,
    *,
    n_rows: int,
    nuisances: Collection[str],
    count_outside: Callable[[], int],
) -> Outcome:
    """Check what a statistic gave for a window, and add what it left out.

    Parameters
    ----------
    label : str
        Name of the statistic in messages.
    found : object
        What it gave.
    n_rows : int
        Rows of the window.
    nuisances : collection of str
        Nuisance parameters that it was given.
    count_outside : callable
        Counts the events where the reference has none, if the statistic does not.

    Returns
    -------
    Outcome
        `found` itself if it has every member.

    Raises
    ------
    PluginError
        If a member is not what `Outcome` says. With ``converged`` False, ``t``, ``tau`` and ``delta`` may be
        any numbers.
    """
    with plugin_errors(label):  # members may be properties
        given = (
            {}
            if is_number(found)
            else {name: getattr(found, name) for name in _MEMBERS if hasattr(found, name)}
        )
    values: dict[str, Any] = {"t": found} if is_number(found) else given
    if not is_number(values.get("t")):
        what = f"t = {values['t']!r:.80}" if "t" in values else f"an object of type {type(found).__name__}"
        raise PluginError(
            f"{label} gave {what} for a window", fix="It must give a number, or an object with 't'"
        )
    converged = values.get("converged", True)
    if not isinstance(converged, bool | np.bool_):
        raise _wrong(label, "converged", converged, "True or False")
    t = _as_float(values["t"])
    numbers = {"tau": t, "delta": 0.0} | {name: values[name] for name in ("tau", "delta") if name in values}
    if converged and not math.isfinite(t):
        raise PluginError(
            f"{label} gave t = {t} for a window of {format_count(n_rows, 'row')}",
            fix="It must give a finite number, or converged = False",
        )
    for name, value in numbers.items():
        if not is_number(value) or (converged and not math.isfinite(_as_float(value))):
            raise _wrong(label, name, value, "a finite number")
    _check_nuisances(label, values.get("nuisances", {}), nuisances)
    n_outside = values["n_outside"] if "n_outside" in values else count_outside()
    if not (is_number(n_outside) and n_outside >= 0 and _as_float(n_outside).is_integer()):
        raise _wrong(label, "n_outside", n_outside, "a number of events")
    if len(given) == len(_MEMBERS):
        return found  # type: ignore[no-any-return]
    return CompletedOutcome(
        t=t,
        tau=_as_float(numbers["tau"]),
        delta=_as_float(numbers["delta"]),
        converged=bool(converged),
        nuisances=values.get("nuisances", {}),
        n_outside=int(n_outside),
        own=found,
    )


def read_ratio(label: str, outcome: object, n_reference: int) -> LearnedRatio | None:
    """Give the density ratio that an outcome has learned.

    Parameters
    ----------
    label : str
        Name of the statistic in messages.
    outcome : object
        As of `complete_outcome`, or a part of it.
    n_reference : int
        Rows of the reference.

    Returns
    -------
    LearnedRatio or None
        None if the statistic learns no density ratio.

    Raises
    ------
    PluginError
        If it has one of the two arrays only, or one that does not have a finite number for each row of the
        reference.
    """
    own = outcome.own if isinstance(outcome, CompletedOutcome) else outcome
    names = ("log_ratio_reference", "reference_weights")
    with plugin_errors(label):
        given = {name: getattr(own, name) for name in names if hasattr(own, name)}
    if not given:
        return None
    if len(given) < len(names):
        (has,), (lacks,) = given, set(names) - set(given)
        raise PluginError(
            f"{label} gave {has!r} without {lacks!r}", fix="Give both, or none: then there are no maps"
        )
    return LearnedRatio(
        **{name: _as_array(label, name, values, n_reference) for name, values in given.items()}
    )


def _as_array(label: str, name: str, values: object, n_reference: int) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise _wrong(label, name, values, f"an array of shape ({n_reference},)") from None
    n_bad = int((~np.isfinite(array)).sum())
    if array.shape != (n_reference,):
        gave = f"of shape {array.shape}"
    elif n_bad:
        gave = f"with {n_bad} of {format_count(n_reference, 'number')} not finite"
    else:
        return array
    raise PluginError(
        f"{label} gave {name!r} {gave}",
        fix=f"It must have shape ({n_reference},), one finite number for each reference event",
    )


def _check_nuisances(label: str, found: object, known: Collection[str]) -> None:
    if not isinstance(found, Mapping):
        raise _wrong(label, "nuisances", found, "a mapping of names to dqm.events.NuisanceResult")
    for name, result in found.items():
        if name not in known:
            listed = format_names(sorted(known)) or "none"
            raise PluginError(
                f"{label} gave a result for the nuisance parameter {name!r}, which it was not given",
                fix=f"It was given: {listed}",
            )
        if not (
            isinstance(result, NuisanceResult)
            and all(map(_is_profiled, (result.reference, result.alternative)))
        ):
            raise _wrong(label, f"nuisances[{name!r}]", result, "a dqm.events.NuisanceResult of numbers")


def _is_profiled(value: object) -> bool:
    return (
        isinstance(value, Profiled)
        and is_number(value.value)
        and is_number(value.error)
        and (value.pull is None or is_number(value.pull))
    )


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of Python that no float can hold
        return math.inf if value > 0 else -math.inf


def _wrong(label: str, member: str, value: object, must: str) -> PluginError:
    return PluginError(f"{label} gave {member} = {value!r:.80} for a window", fix=f"It must be {must}")
