"""The states of an alarm after ANSI/ISA-18.2: a table of transitions, and a function that takes a step by it.

The state before and four facts (`Facts`) decide on the state after. `TRANSITIONS` lists every case once:
exactly one row fits any state and any facts. Each row ends with the transition in the words of the standard;
its "acknowledged alarm" is here a raised alarm with an `Acknowledgement`.

A shelved, masked or disabled alarm is not raised any more: when that ends and the condition still holds, it
is a new alarm, which nobody has acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from pydantic import ConfigDict

from dqm.alarm.rules import Timing
from dqm.alarm.values import RAISED, Acknowledgement, AlarmState, Shelf
from dqm.errors import InputError

__all__ = [
    "TIMED",
    "TRANSITIONS",
    "AlarmInputs",
    "AlarmRecord",
    "Facts",
    "Transition",
    "acknowledge",
    "advance",
    "next_state",
    "shelve",
    "unshelve",
]

TIMED = frozenset({AlarmState.ON_DELAYED, AlarmState.OFF_DELAYED, AlarmState.SHELVED})
"""States that end by time alone."""


class Facts(NamedTuple):
    """What decides on the next state of an alarm, besides its state.

    Parameters
    ----------
    suppression : AlarmState or None
        The first of Disabled, Masked, Shelved, Filtered for which there is a reason; None if there is none.
    condition : bool
        Whether the condition holds.
    is_delay_over : bool
        Whether the condition has held for the on delay, or has been gone for the off delay.
    is_latching : bool
        Whether the alarm waits to be acknowledged: latching is configured, and nobody has acknowledged it.
    """

    suppression: AlarmState | None
    condition: bool
    is_delay_over: bool
    is_latching: bool


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table: states and facts that it fits, and the state that follows.

    Parameters
    ----------
    before : frozenset of AlarmState
        States that it fits.
    suppression, condition, is_delay_over, is_latching : frozenset
        Values of each fact that it fits, see `Facts`.
    after : AlarmState
        The next state.
    text : str
        The transition, in the words of the standard.
    """

    before: frozenset[AlarmState]
    suppression: frozenset[AlarmState | None]
    condition: frozenset[bool]
    is_delay_over: frozenset[bool]
    is_latching: frozenset[bool]
    after: AlarmState
    text: str

    def cases(self) -> Iterator[tuple[AlarmState, Facts]]:
        """Every state with every combination of facts that the row fits."""
        facts = product(self.suppression, self.condition, self.is_delay_over, self.is_latching)
        for before, found in product(self.before, facts):
            yield before, Facts(*found)


_S = AlarmState
_ANY = frozenset(AlarmState)
_NOT_RAISED = _ANY - RAISED
_ON = frozenset({_S.ACTIVE, _S.OFF_DELAYED})
_LATCHED = frozenset({_S.LATCHED})

_DISABLED = frozenset({_S.DISABLED})
_MASKED = frozenset({_S.MASKED})
_SHELVED = frozenset({_S.SHELVED})
_FILTERED = frozenset({_S.FILTERED})
_NONE = frozenset({None})
_NO_MORE = _NONE | _FILTERED  # what is raised is not filtered

_YES = frozenset({True})
_NO = frozenset({False})
_BOTH = _YES | _NO

TRANSITIONS = (
    # before, suppression, condition, delay over, latching, after, text
    Transition(_ANY, _DISABLED, _BOTH, _BOTH, _BOTH, _S.DISABLED, "out of service"),
    Transition(_ANY, _MASKED, _BOTH, _BOTH, _BOTH, _S.MASKED, "suppressed by design: a mask"),
    Transition(_ANY, _SHELVED, _BOTH, _BOTH, _BOTH, _S.SHELVED, "shelved"),
    Transition(_NOT_RAISED, _FILTERED, _BOTH, _BOTH, _BOTH, _S.FILTERED, "suppressed by design: the run"),
    Transition(_NOT_RAISED, _NONE, _YES, _NO, _BOTH, _S.ON_DELAYED, "normal: on delay"),
    Transition(_NOT_RAISED, _NONE, _YES, _YES, _BOTH, _S.ACTIVE, "alarm occurs"),
    Transition(_NOT_RAISED, _NONE, _NO, _BOTH, _BOTH, _S.NORMAL, "normal"),
    Transition(_ON, _NO_MORE, _YES, _BOTH, _BOTH, _S.ACTIVE, "alarm stays"),
    Transition(_ON, _NO_MORE, _NO, _NO, _BOTH, _S.OFF_DELAYED, "alarm stays: off delay"),
    Transition(_ON, _NO_MORE, _NO, _YES, _YES, _S.LATCHED, "returned to normal, unacknowledged"),
    Transition(_ON, _NO_MORE, _NO, _YES, _NO, _S.NORMAL, "returned to normal"),
    Transition(_LATCHED, _NO_MORE, _YES, _NO, _BOTH, _S.LATCHED, "on delay of a new alarm"),
    Transition(_LATCHED, _NO_MORE, _YES, _YES, _BOTH, _S.ACTIVE, "re-alarm"),
    Transition(_LATCHED, _NO_MORE, _NO, _BOTH, _YES, _S.LATCHED, "waits to be acknowledged"),
    Transition(_LATCHED, _NO_MORE, _NO, _BOTH, _NO, _S.NORMAL, "acknowledged: normal"),
)  # fmt: skip
"""Every transition."""

_NEXT = {case: row.after for row in TRANSITIONS for case in row.cases()}


def next_state(before: AlarmState, facts: Facts) -> AlarmState:
    """Look up the row that fits, and give the state after."""
    return _NEXT[before, facts]


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """All that is stored of one alarm.

    Parameters
    ----------
    state, since, raised_at, text, acknowledged, mask
        As in `dqm.alarm.Alarm`.
    changed : float
        When the condition last came or went, Unix seconds.
    condition : bool
        Whether the condition holds.
    shelf : Shelf or None
        Set until it ends, also while a mask hides the alarm.
    """

    state: AlarmState
    since: float
    changed: float
    condition: bool = False
    raised_at: float | None = None
    text: str = ""
    acknowledged: Acknowledgement | None = None
    shelf: Shelf | None = None
    mask: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    @property
    def is_idle(self) -> bool:
        """Whether a step without condition and without suppression changes nothing."""
        return self.state is AlarmState.NORMAL and not self.condition and self.shelf is None


class AlarmInputs(NamedTuple):
    """Inputs of an alarm at one moment, besides the time and the actions of people.

    Parameters
    ----------
    condition : bool
        Whether its condition holds.
    text : str
        The same in words.
    disabled : bool
        Whether it is switched off.
    filtered : bool
        Whether windows do not count at present; what is raised stays raised.
    mask : str
        Identifier of the mask that hides it; empty if there is none.
    """

    condition: bool
    text: str = ""
    disabled: bool = False
    filtered: bool = False
    mask: str = ""


def advance(record: AlarmRecord, inputs: AlarmInputs, timing: Timing, now: float) -> AlarmRecord:
    """Take one step.

    Parameters
    ----------
    record : AlarmRecord
        The alarm before the step.
    inputs : AlarmInputs
        What bears on it now.
    timing : Timing
        Delays and latching.
    now : float
        Unix seconds. If the clock went back, delays begin again.

    Returns
    -------
    AlarmRecord
        The alarm after the step; the same object if nothing has changed.
    """
    changed = now if inputs.condition != record.condition else min(record.changed, now)
    lasted = now - changed
    shelf = None if _shelf_ends(record.shelf, inputs.condition, lasted, timing, now) else record.shelf
    delay = timing.on_delay_seconds if inputs.condition else timing.off_delay_seconds
    facts = Facts(
        suppression=_suppression(inputs, shelf),
        condition=inputs.condition,
        is_delay_over=lasted >= delay,
        is_latching=timing.latching and record.acknowledged is None,
    )
    state = next_state(record.state, facts)
    is_new = state is AlarmState.ACTIVE and record.state not in _ON
    stays = state in RAISED and not is_new
    text = inputs.text if inputs.condition else record.text if stays else ""
    stepped = AlarmRecord(
        state=state,
        since=record.since if state is record.state else now,
        changed=changed,
        condition=inputs.condition,
        raised_at=changed if is_new else record.raised_at,
        text=text,
        acknowledged=record.acknowledged if stays else None,
        shelf=shelf,
        mask=inputs.mask if state is AlarmState.MASKED else "",
    )
    return record if stepped == record else stepped


def acknowledge(record: AlarmRecord, acknowledgement: Acknowledgement) -> AlarmRecord:
    """Take over a raised alarm; raises `InputError` if it is not raised."""
    if record.state not in RAISED:
        raise InputError(
            f"nothing to acknowledge: the alarm is {record.state}",
            fix="Only an alarm that is Active, OffDelayed or Latched can be acknowledged",
        )
    return replace(record, acknowledged=acknowledgement)


def shelve(record: AlarmRecord, shelf: Shelf) -> AlarmRecord:
    """Put an alarm aside; raises `InputError` if it is disabled, or if the shelf would end at once."""
    if record.state is AlarmState.DISABLED:
        raise InputError("a disabled alarm cannot be shelved", fix="Enable it in the configuration first")
    if shelf.one_shot and not record.condition:
        raise InputError(
            "nothing to shelve one-shot: the condition of this alarm is not there",
            fix="Shelve it until a time instead",
        )
    return replace(record, shelf=shelf)


def unshelve(record: AlarmRecord) -> AlarmRecord:
    """End the shelf of an alarm; raises `InputError` if there is none."""
    if record.shelf is None:
        raise InputError(f"the alarm is not shelved, it is {record.state}")
    return replace(record, shelf=None)


def _shelf_ends(shelf: Shelf | None, condition: bool, lasted: float, timing: Timing, now: float) -> bool:
    """Return whether its time is over, or the condition of a one-shot shelf has gone for the off delay."""
    if shelf is None:
        return False
    is_over = shelf.until is not None and now >= shelf.until
    return is_over or (shelf.one_shot and not condition and lasted >= timing.off_delay_seconds)


def _suppression(inputs: AlarmInputs, shelf: Shelf | None) -> AlarmState | None:
    """Give the reason that goes before the others: out of service, then mask, shelf and run."""
    if inputs.disabled:
        return AlarmState.DISABLED
    if inputs.mask:
        return AlarmState.MASKED
    if shelf is not None:
        return AlarmState.SHELVED
    return AlarmState.FILTERED if inputs.filtered else None
