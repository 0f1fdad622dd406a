"""One result of the doctor: a light, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dqm.errors import DqmError
from dqm.reference import Light

__all__ = ["Diagnosis", "amber", "green", "guarded", "red"]

Check = Callable[[], Iterable["Diagnosis"]]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line.

    Parameters
    ----------
    name : str
        What was looked at, such as ``disk``; `dqm.service.doctor.NAMES` lists them.
    light : Light
        Green: nothing to do; amber: to note, or to be done some day; red: the monitor does not work, or
        soon will not.
    found : str
        What was found, with its value.
    action : str
        What to do; empty for green.
    """

    name: str
    light: Light
    found: str
    action: str = ""


def green(name: str, found: str) -> Diagnosis:
    """Say that nothing is wrong."""
    return Diagnosis(name, Light.GREEN, found)


def amber(name: str, found: str, action: str) -> Diagnosis:
    """Say what the user must know."""
    return Diagnosis(name, Light.AMBER, found, action)


def red(name: str, found: str, action: str) -> Diagnosis:
    """Say what is wrong."""
    return Diagnosis(name, Light.RED, found, action)


def guarded(name: str, check: Check) -> Iterator[Diagnosis]:
    """Run a check; an error of ours, or of the system, is a finding: the other checks go on."""
    try:
        yield from check()
    except DqmError as error:
        place = f"{error.where}: " if error.where else ""
        yield red(name, f"{place}{error.what}", error.fix or "See the message")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        yield red(name, f"{place}{error.strerror or error}", "Run this as the daemon's user, or as root")
