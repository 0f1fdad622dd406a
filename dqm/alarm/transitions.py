"""One alarm's way through the states of ANSI/ISA-18.2, as a function of what is inputs and of time.

A shelved, masked or disabled alarm forgets that it was raised: when that ends and the condition is still
there, it is a new alarm, which nobody has acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from pydantic import ConfigDict

from dqm.alarm.rules import Timing
from dqm.alarm.values import RAISED, Acknowledgement, AlarmState, Shelf
from dqm.errors import InputError

__all__ = ["TIMED", "AlarmInputs", "AlarmRecord", "acknowledge", "advance", "shelve", "unshelve"]

TIMED = frozenset({AlarmState.ON_DELAYED, AlarmState.OFF_DELAYED, AlarmState.SHELVED})
"""States that end by time alone."""

_ON = frozenset({AlarmState.ACTIVE, AlarmState.OFF_DELAYED})


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """All that is kept of one alarm.

    Parameters
    ----------
    state, since, raised_at, text, acknowledged, mask
        As in `dqm.alarm.Alarm`.
    changed : float
        When the condition last came or went, Unix seconds.
    condition : bool
        Whether it is there.
    shelf : Shelf or None
        Set until it ends, also beneath a mask.
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
        """Whether nothing moves it unless something is inputs."""
        return self.state is AlarmState.NORMAL and not self.condition and self.shelf is None


class AlarmInputs(NamedTuple):
    """What bears on an alarm at one moment.

    Parameters
    ----------
    condition : bool
        Whether what it watches for is there.
    text : str
        The same in words.
    disabled : bool
        Whether it is switched off.
    filtered : bool
        Whether windows count for nothing at present; what is raised stays so.
    mask : str
        Identifier of the mask over it; empty if there is none.
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
        As it was.
    inputs : AlarmInputs
        What is inputs now.
    timing : Timing
        Delays and latching.
    now : float
        Unix seconds. If it went back, delays begin anew.

    Returns
    -------
    AlarmRecord
        As it is; the same object if nothing has changed.
    """
    changed = now if inputs.condition != record.condition else min(record.changed, now)
    lasted = now - changed
    shelf = None if _shelf_ends(record.shelf, inputs.condition, lasted, timing, now) else record.shelf
    state = _suppression(record, inputs, shelf) or _follow(record, inputs.condition, lasted, timing)
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
    """Take a raised alarm over; raises `InputError` if it is not raised."""
    if record.state not in RAISED:
        raise InputError(
            f"nothing to acknowledge: the alarm is {record.state}",
            fix="Only an alarm that is Active, OffDelayed or Latched can be acknowledged",
        )
    return replace(record, acknowledged=acknowledgement)


def shelve(record: AlarmRecord, shelf: Shelf) -> AlarmRecord:
    """Put an alarm aside; raises `InputError` if the shelf would not end or ends at once."""
    if record.state is AlarmState.DISABLED:
        raise InputError("a disabled alarm cannot be shelved", fix="Enable it in the configuration first")
    if shelf.until is None and not shelf.one_shot:
        raise InputError("a shelf must end", fix="Give a time until when, or shelve it one-shot")
    if shelf.until is not None and shelf.until <= shelf.time:
        raise InputError("the shelf has ended before it begins", fix="Give a time in the future")
    if shelf.one_shot and not record.condition:
        raise InputError(
            "nothing to shelve one-shot: the condition of this alarm is not there",
            fix="Shelve it until a time instead",
        )
    return replace(record, shelf=shelf)


def unshelve(record: AlarmRecord) -> AlarmRecord:
    """Take an alarm off its shelf; raises `InputError` if it is on none."""
    if record.shelf is None:
        raise InputError(f"the alarm is not shelved, it is {record.state}")
    return replace(record, shelf=None)


def _shelf_ends(shelf: Shelf | None, condition: bool, lasted: float, timing: Timing, now: float) -> bool:
    """Tell whether time is up, or the condition of a one-shot shelf has gone for good."""
    if shelf is None:
        return False
    is_late = shelf.until is not None and now >= shelf.until
    return is_late or (shelf.one_shot and not condition and lasted >= timing.off_delay_seconds)


def _suppression(record: AlarmRecord, inputs: AlarmInputs, shelf: Shelf | None) -> AlarmState | None:
    if inputs.disabled:
        return AlarmState.DISABLED
    if inputs.mask:
        return AlarmState.MASKED
    if shelf is not None:
        return AlarmState.SHELVED
    if inputs.filtered and record.state not in RAISED:
        return AlarmState.FILTERED
    return None


def _follow(record: AlarmRecord, condition: bool, lasted: float, timing: Timing) -> AlarmState:
    """Give the state of an alarm that nothing suppresses."""
    is_on, is_latched = record.state in _ON, record.state is AlarmState.LATCHED
    if condition:
        if is_on or lasted >= timing.on_delay_seconds:
            return AlarmState.ACTIVE
        return AlarmState.LATCHED if is_latched else AlarmState.ON_DELAYED
    if is_on and lasted < timing.off_delay_seconds:
        return AlarmState.OFF_DELAYED
    if (is_on or is_latched) and timing.latching and record.acknowledged is None:
        return AlarmState.LATCHED
    return AlarmState.NORMAL
