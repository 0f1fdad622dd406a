"""Whether a window departs in the number of its events, in their shape, or in both.

Windows cut by time have a Poisson number of events, and most statistics see it beside the shape. A fit to
such a window makes the excess of events a departure of single features. So where the number is surprising,
the test is made again, with as many events expected as there are: it then sees the shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dqm.alarm import describe_number
from dqm.errors import InputError
from dqm.events import WindowCut
from dqm.nplm import count_p_value
from dqm.nplm.samples import Sample
from dqm.reference.manifest import WindowKind
from dqm.reference.null import NullTable
from dqm.reference.outside import Outside
from dqm.reference.statistic import Outcome, PreparedStatistic, is_lower_bound, resize
from dqm.reference.stored_bundle import StoredBundle

__all__ = ["NumberAndShape", "Retest", "make_retest", "separate"]

SURPRISING_P = 0.01
"""p of the number, and of the shape at that number, below which each is told. Of windows that depart in one
alone, about as many are said to depart in the other as well."""

Retest = Callable[[float], tuple[Outcome, float] | None]
"""Tests a window again with the number of expected events multiplied by a factor; gives the outcome and its
p, None if it cannot be tested."""


@dataclass(frozen=True, slots=True)
class NumberAndShape:
    """In what a window departs.

    Parameters
    ----------
    number : str
        The number of events in words; empty if it is not surprising.
    shape : Outcome or None
        The outcome that shows where the shape departs; None if the number alone departs.
    """

    number: str
    shape: Outcome | None


def make_retest(
    bundle: StoredBundle,
    test: PreparedStatistic,
    kind: WindowKind,
    table: NullTable,
    sample: Sample,
    measured: Mapping[str, float],
    device: str = "cpu",
) -> Retest | None:
    """Give what tests a window as one of another expected size; None if it is cut by count.

    Parameters
    ----------
    bundle : StoredBundle
        Whose test it is.
    test : PreparedStatistic
        Set up for windows of the kind.
    kind : WindowKind
        What the window is.
    table : NullTable
        Of this kind.
    sample : Sample
        The events, the reference's features.
    measured : mapping of str to float
        Measured value of each nuisance parameter that is not free.
    device : str
        As in `prepare_statistic`.
    """
    if kind.cut is WindowCut.COUNT:
        return None

    def retest(factor: float) -> tuple[Outcome, float] | None:
        other = kind.model_copy(update={"n_expected": factor * kind.n_expected})
        resized = resize(bundle, test, other, device)
        try:
            outcome = resized.evaluate(sample.x, auxiliary=measured, weights=sample.counts)
        except InputError:
            return None
        is_usable = outcome.converged or is_lower_bound(outcome)
        if not is_usable or not outcome.t >= table.t_implausible:
            return None
        return outcome, table.p_value(outcome.t).p

    return retest


def separate(
    n_events: int, n_expected: float, outcome: Outcome, outside: Outside | None, retest: Retest | None
) -> NumberAndShape:
    """Separate the departure of the number from that of the shape.

    The null table is that of the expected size; the p of the shape at another size is close to it, and above
    it for few events.

    Parameters
    ----------
    n_events : int
        Events in the window.
    n_expected : float
        Events expected, at the fitted nuisance parameters: a number that they explain is not surprising.
    outcome : Outcome
        What the test gave for the window.
    outside : Outside or None
        The events beyond the reference, which are a departure of the shape.
    retest : Retest or None
        None for windows whose number has no meaning, such as those cut by count.
    """
    if retest is None or count_p_value(n_events, n_expected)[0] >= SURPRISING_P:
        return NumberAndShape("", outcome)
    number = describe_number(n_events, n_expected)
    found = retest(n_events / n_expected)
    if found is None:
        return NumberAndShape(number, outcome)
    shape, p = found
    is_surprising = p < SURPRISING_P or (outside is not None and outside.p < SURPRISING_P)
    return NumberAndShape(number, shape if is_surprising else None)
