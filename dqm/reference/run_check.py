"""Check whether a reference can be made from events; used wherever such files are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dqm.errors import InputError, format_count, format_names
from dqm.events import FloatArray
from dqm.reference.features import FEWEST_DISTINCT, constant_features, refuse_scales
from dqm.reference.manifest import check_names

__all__ = ["FEWEST_EVENTS", "describe_pause", "refuse_jump", "refuse_run"]

FEWEST_EVENTS = 60
"""Events of the shortest run: a reference of 30, and three windows of 10."""

LONG_PAUSE = 0.5
"""A longer pause between two events, as a share of the rest of the time, separates two runs."""

RARE_GAP = 1000.0
"""Such a pause is also longer than the usual one by this factor."""

TOLD_PAUSE = 0.02
"""As `LONG_PAUSE`, of a pause that is told: it may lie between two runs, or in one."""

SINGLE_PAUSE = 3.0
"""Such a pause is longer than any other one by this factor: pauses between spills are alike."""


def refuse_run(x: FloatArray, names: Sequence[str], where: str | None = None) -> None:
    """Refuse events from which no reference can be made.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events, raw.
    names : sequence of str
        Names of the features.
    where : str, optional
        Their file, for the message.

    Raises
    ------
    InputError
        If there are too few or too few different ones, every feature is constant, or float64 cannot hold
        the variance of one.
    """
    check_names(names, where=where)
    if len(x) < FEWEST_EVENTS:
        raise InputError(
            f"{format_count(len(x), 'event')} are too few for a reference and toys of any window",
            where=where,
            fix=f"Give a run of {FEWEST_EVENTS} events at the very least",
        )
    refuse_scales(x, names, where)
    constant = constant_features(x, names)
    if len(constant) == len(names):
        raise InputError(
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are all'} constant "
            f"in {format_count(len(x), 'event')}",
            where=where,
            fix="Give a feature that varies, or name others with --features",
        )
    n_distinct = len(np.unique(x, axis=0))
    if n_distinct < FEWEST_DISTINCT:
        found = f"{names[0]} has {n_distinct} values"
        if len(names) > 1:
            found = f"{format_names(names)} have {n_distinct} combinations of values"
        raise InputError(
            f"{found} in {format_count(len(x), 'event')}; {FEWEST_DISTINCT} distinct events are needed",
            where=where,
            fix="Give a feature with more values, too. If a few events were written many times: another run",
        )


def refuse_jump(times: FloatArray, where: str | None = None) -> None:
    """Refuse a file in which the time jumps: events of two runs are not one run.

    Parameters
    ----------
    times : ndarray, shape (n_events,)
        Times of the events in their order, s.
    where : str, optional
        The file, for the message.

    Raises
    ------
    InputError
        If a pause is longer than half of the rest of the time.
    """
    gaps = np.diff(times)
    if not len(gaps):
        return
    at = int(gaps.argmax())
    rest = float(times[-1] - times[0] - gaps[at])
    if gaps[at] > LONG_PAUSE * rest and gaps[at] > RARE_GAP * float(np.median(gaps)):
        raise InputError(
            f"the time jumps by {gaps[at]:.4g} s after event {at + 1}, in a file of {rest:.4g} s: "
            "it holds two runs",
            where=where,
            fix="Give one run, or each run as a file of its own if both were good",
        )


def describe_pause(times: FloatArray) -> str:
    """Tell of one long pause in a file that is not refused; parameters as in `refuse_jump`.

    Returns
    -------
    str
        A sentence; empty if no pause is longer than all others by far.
    """
    if len(times) < FEWEST_EVENTS:
        return ""
    gaps = np.diff(times)
    second, longest = np.partition(gaps, -2)[-2:]
    rest = float(times[-1] - times[0] - longest)
    if longest <= max(TOLD_PAUSE * rest, SINGLE_PAUSE * second):
        return ""
    return (
        f"no event for {longest:.4g} s after event {int(gaps.argmax()) + 1} of {len(times)}. If another run "
        "begins there, give one of them; 'dqm reference validate' tells whether both parts are alike"
    )
