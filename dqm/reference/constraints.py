"""What slow control says about the nuisance parameters of one window, and whether it can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dqm.events import Measurement, Window
from dqm.reference.manifest import NuisanceEntry

__all__ = ["Constraints", "ReadingPolicy", "read_constraints", "read_value"]

TOLERANCE = 1.01
"""An error may exceed the reference's by this factor, because of rounding."""


@dataclass(frozen=True, slots=True)
class ReadingPolicy:
    """What to do without a usable measurement of a nuisance parameter.

    Parameters
    ----------
    max_age_seconds : float
        A reading further from the end of its window than this is stale.
    unmeasured : {"null", "free"}
        Whether such a window is ``Null``, or the parameter is fitted without its constraint; the second
        takes a null table of its own.
    """

    max_age_seconds: float = 600.0
    unmeasured: Literal["null", "free"] = "null"


@dataclass(frozen=True, slots=True)
class Constraints:
    """Measurements that a test may use.

    Parameters
    ----------
    measured : dict of str to float
        Values by name.
    free : tuple of str
        Parameters that should have a measurement but are fitted without.
    remarks : tuple of str
        Why, for each of them.
    obstacle : str
        Why the window cannot be tested; empty if it can.
    """

    measured: dict[str, float]
    free: tuple[str, ...]
    remarks: tuple[str, ...]
    obstacle: str


def read_constraints(entries: Sequence[NuisanceEntry], window: Window, policy: ReadingPolicy) -> Constraints:
    """Take the measurements of a bundle's nuisance parameters out of a window.

    The null table was made for the errors in the bundle. A reading with a smaller error is used as if it had
    the bundle's. A reading with a larger error would make p wrong and is not used. Readings with other names
    are ignored.

    Parameters
    ----------
    entries : sequence of NuisanceEntry
        Parameters of the bundle.
    window : Window
        With its readings.
    policy : ReadingPolicy
        What is stale, and what then.

    Returns
    -------
    Constraints
    """
    measured: dict[str, float] = {}
    faults: dict[str, str] = {}
    for entry in entries:
        if entry.sigma is None or not entry.concerns(window.cut):
            continue
        value, fault = read_value(entry, window, policy)
        if value is None:
            faults[entry.name] = f"{entry.name} {fault}"
        else:
            measured[entry.name] = value
    if policy.unmeasured == "null":
        return Constraints(measured, (), (), "; ".join(faults.values()))
    remarks = tuple(f"{fault}: fitted without it" for fault in faults.values())
    return Constraints(measured, tuple(faults), remarks, "")


def read_value(entry: NuisanceEntry, window: Window, policy: ReadingPolicy) -> tuple[float | None, str]:
    """Take the measurement of one nuisance parameter out of a window.

    Parameters
    ----------
    entry : NuisanceEntry
        A parameter that is measured.
    window : Window
        With its readings.
    policy : ReadingPolicy
        What is stale.

    Returns
    -------
    value : float or None
        The measurement; None if there is none that can be used.
    fault : str
        Why it cannot be used; empty if it can.
    """
    reading = next((one for one in window.auxiliary if one.name == entry.name), None)
    fault = _fault(reading, entry.sigma or 0.0, window.end, policy.max_age_seconds)
    return (None, fault) if fault or reading is None else (reading.value, "")


def _fault(reading: Measurement | None, sigma: float, end: float | None, max_age: float) -> str:
    """Say why a reading cannot be used; empty if it can. Without a clock its age is not known."""
    if reading is None:
        return "has no measurement"
    if end is not None and abs(end - reading.time) > max_age:
        relation = "older" if reading.time < end else "later"
        return f"has a measurement {abs(end - reading.time):.0f} s {relation} than the window"
    if reading.sigma > TOLERANCE * sigma:
        return f"is measured with an error of {reading.sigma:.3g}, the reference is made for {sigma:.3g}"
    return ""
