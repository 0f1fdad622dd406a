"""Which reference judges a window, by the type of its run and by the conditions of the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dqm.config import ConditionRule
from dqm.events import Condition, Window

__all__ = ["ReferenceRule", "describe_unreferenced"]


@dataclass(frozen=True, slots=True)
class ReferenceRule:
    """Which windows a reference of a stream is for; the first of several references that fits is taken.

    Parameters
    ----------
    run_types : sequence of str
        Types of runs; empty: all.
    conditions : mapping of str to str, float or tuple of float
        What each named condition of the window must be: this text, this number, or a number within a range,
        ends included. A window without the condition does not fit.
    """

    run_types: Sequence[str] = ()
    conditions: Mapping[str, ConditionRule] = field(default_factory=dict)

    @property
    def takes_all(self) -> bool:
        """Whether it fits every window."""
        return not (self.run_types or self.conditions)

    def fits(self, window: Window) -> bool:
        """Tell whether the reference is for a window."""
        return self.is_for_run(window) and all(
            _agrees(window.conditions.get(name), wanted) for name, wanted in self.conditions.items()
        )

    def is_for_run(self, window: Window) -> bool:
        """Tell whether the reference is for runs of the window's type."""
        return not self.run_types or window.run_type in self.run_types

    def __str__(self) -> str:
        """Write it in words: ``runs of type beam with cathode_voltage = -1250 to -1150``."""
        of_type = f"runs of type {' or '.join(self.run_types)}" if self.run_types else "all runs"
        wanted = [f"{name} = {_write(value)}" for name, value in self.conditions.items()]
        return of_type + (f" with {', '.join(wanted)}" if wanted else "")


def describe_unreferenced(window: Window, rules: Sequence[ReferenceRule]) -> str:
    """Say why no reference of its stream fits a window.

    Parameters
    ----------
    window : Window
        That fits none of the rules.
    rules : sequence of ReferenceRule
        Of the references of its stream.

    Returns
    -------
    str
        ``no reference for runs of type beam``, or with the conditions that decide:
        ``no reference for runs of type beam with cathode_voltage = -1100, trigger not given``.
    """
    text = f"no reference for runs of type {window.run_type}"
    deciding = dict.fromkeys(name for rule in rules if rule.is_for_run(window) for name in rule.conditions)
    found = [_say(name, window.conditions.get(name)) for name in deciding]
    return text + (f" with {', '.join(found)}" if found else "")


def _agrees(found: Condition | None, wanted: ConditionRule) -> bool:
    if isinstance(wanted, tuple):
        return isinstance(found, float | int) and wanted[0] <= found <= wanted[1]
    return found == wanted


def _write(value: ConditionRule) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.10g} to {value[1]:.10g}"
    return value if isinstance(value, str) else f"{value:.10g}"


def _say(name: str, found: Condition | None) -> str:
    return f"{name} not given" if found is None else f"{name} = {_write(found)}"
