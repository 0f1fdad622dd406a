"""One alarm's way through the states of ANSI/ISA-18.2, as a function of what is seen and of time.

A shelved, masked or disabled alarm forgets that it was raised: when that ends and the condition is still
there, it is a new alarm, which nobody has acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from pydantic import ConfigDict

from dqm.alarm.rules import Timing
from dqm.alarm.values import Acknowledgement, AlarmState, Shelf
from dqm.errors import InputError

__all__ = ["RAISED", "TIMED", "Seen", "Standing", "acknowledge", "advance", "shelve", "unshelve"]

RAISED = frozenset({AlarmState.ACTIVE, AlarmState.OFF_DELAYED, AlarmState.LATCHED})
"""States of an alarm that was raised and has not ended."""

TIMED = frozenset({AlarmState.ON_DELAYED, AlarmState.OFF_DELAYED, AlarmState.SHELVED})
"""States that end by time alone."""

_ON = frozenset({AlarmState.ACTIVE, AlarmState.OFF_DELAYED})


@dataclass(frozen=True, slots=True)
class Standing:
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
        """Whether nothing moves it unless something is seen."""
        return self.state is AlarmState.NORMAL and not self.condition and self.shelf is None


class Seen(NamedTuple):
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


def advance(standing: Standing, seen: Seen, timing: Timing, now: float) -> Standing:
    """Take one step.

    Parameters
    ----------
    standing : Standing
        As it was.
    seen : Seen
        What is seen now.
    timing : Timing
        Delays and latching.
    now : float
        Unix seconds. If it went back, delays begin anew.

    Returns
    -------
    Standing
        As it is; the same object if nothing has changed.
    """
    changed = now if seen.condition != standing.condition else min(standing.changed, now)
    lasted = now - changed
    shelf = None if _shelf_ends(standing.shelf, seen.condition, lasted, timing, now) else standing.shelf
    state = _suppression(standing, seen, shelf) or _follow(standing, seen.condition, lasted, timing)
    is_new = state is AlarmState.ACTIVE and standing.state not in _ON
    stays = state in RAISED and not is_new
    text = seen.text if seen.condition else standing.text if stays else ""
    stepped = Standing(
        state=state,
        since=standing.since if state is standing.state else now,
        changed=changed,
        condition=seen.condition,
        raised_at=changed if is_new else standing.raised_at,
        text=text,
        acknowledged=standing.acknowledged if stays else None,
        shelf=shelf,
        mask=seen.mask if state is AlarmState.MASKED else "",
    )
    return standing if stepped == standing else stepped


def acknowledge(standing: Standing, acknowledgement: Acknowledgement) -> Standing:
    """Take a raised alarm over; raises `InputError` if it is not raised."""
    if standing.state not in RAISED:
        raise InputError(
            f"nothing to acknowledge: the alarm is {standing.state}",
            fix="Only an alarm that is Active, OffDelayed or Latched can be acknowledged",
        )
    return replace(standing, acknowledged=acknowledgement)


def shelve(standing: Standing, shelf: Shelf) -> Standing:
    """Put an alarm aside; raises `InputError` if the shelf would not end or ends at once."""
    if standing.state is AlarmState.DISABLED:
        raise InputError("a disabled alarm cannot be shelved", fix="Enable it in the configuration first")
    if shelf.until is None and not shelf.one_shot:
        raise InputError("a shelf must end", fix="Give a time until when, or shelve it one-shot")
    if shelf.until is not None and shelf.until <= shelf.time:
        raise InputError("the shelf has ended before it begins", fix="Give a time in the future")
    if shelf.one_shot and not standing.condition:
        raise InputError(
            "nothing to shelve one-shot: the condition of this alarm is not there",
            fix="Shelve it until a time instead",
        )
    return replace(standing, shelf=shelf)


def unshelve(standing: Standing) -> Standing:
    """Take an alarm off its shelf; raises `InputError` if it is on none."""
    if standing.shelf is None:
        raise InputError(f"the alarm is not shelved, it is {standing.state}")
    return replace(standing, shelf=None)


def _shelf_ends(shelf: Shelf | None, condition: bool, lasted: float, timing: Timing, now: float) -> bool:
    """Tell whether time is up, or the condition of a one-shot shelf has gone for good."""
    if shelf is None:
        return False
    is_late = shelf.until is not None and now >= shelf.until
    return is_late or (shelf.one_shot and not condition and lasted >= timing.off_delay_seconds)


def _suppression(standing: Standing, seen: Seen, shelf: Shelf | None) -> AlarmState | None:
    if seen.disabled:
        return AlarmState.DISABLED
    if seen.mask:
        return AlarmState.MASKED
    if shelf is not None:
        return AlarmState.SHELVED
    if seen.filtered and standing.state not in RAISED:
        return AlarmState.FILTERED
    return None


def _follow(standing: Standing, condition: bool, lasted: float, timing: Timing) -> AlarmState:
    """Give the state of an alarm that nothing suppresses."""
    is_on, is_latched = standing.state in _ON, standing.state is AlarmState.LATCHED
    if condition:
        if is_on or lasted >= timing.on_delay_seconds:
            return AlarmState.ACTIVE
        return AlarmState.LATCHED if is_latched else AlarmState.ON_DELAYED
    if is_on and lasted < timing.off_delay_seconds:
        return AlarmState.OFF_DELAYED
    if (is_on or is_latched) and timing.latching and standing.acknowledged is None:
        return AlarmState.LATCHED
    return AlarmState.NORMAL
