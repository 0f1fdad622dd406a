"""Test of the windows of files against the last good ones before them, beside their test against a bundle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dqm.alarm import RollingAlarmState, RollingReference
from dqm.events import RollingResult, Verdict, Window
from dqm.reference import RollingEvaluator

__all__ = ["FEWEST_PERMUTATIONS", "USUAL_PERMUTATIONS", "compare_rolling"]

USUAL_PERMUTATIONS = 200
FEWEST_PERMUTATIONS = 100

LEAST_P = 0.01
"""p against the last good windows below which a window has changed: there is no budget without a shift."""

K = 2
"""If this number of the last `N` windows changed, nothing enters until fewer have, as during an alarm."""

N = 3
"""Windows that are looked at for this."""


@dataclass(slots=True)
class _Stream:
    """The rolling reference of one stream, and what it needs."""

    reference: RollingReference = field(default_factory=RollingReference)
    windows: dict[tuple[int, int], Window] = field(default_factory=dict)
    has_changed: deque[bool] = field(default_factory=lambda: deque(maxlen=N))


def compare_rolling(
    evaluator: RollingEvaluator,
    pairs: Iterable[tuple[Window, Verdict]],
    n_windows: int,
    files: Mapping[int, Path],
) -> Iterator[tuple[Window, Verdict]]:
    """Test windows against the last good ones of their stream.

    Parameters
    ----------
    evaluator : RollingEvaluator
        Of the bundle that judged them.
    pairs : iterable of (Window, Verdict)
        Windows in the order in which they were taken, with their verdicts.
    n_windows : int
        Good windows that each is compared with.
    files : mapping of int to Path
        File of each run. A window without a chamber is named after its file. All such windows are one stream,
        so kept windows may be given.

    Yields
    ------
    tuple of (Window, Verdict)
        As given, with the outcome in ``result.rolling``. Quality and reason stay as they are.
    """
    streams: dict[str, _Stream] = {}
    for window, verdict in pairs:
        has_chamber = window.stream != files[window.run].stem
        stream = streams.setdefault(window.stream if has_chamber else "", _Stream())
        yield window, _add(stream, evaluator, window, verdict, n_windows)


def _add(
    stream: _Stream, evaluator: RollingEvaluator, window: Window, verdict: Verdict, n_windows: int
) -> Verdict:
    past, reason = stream.reference.find_past(verdict.window, verdict.bundle, n_windows)
    if reason:
        rolling = RollingResult(len(past), reason=reason)
    else:
        rolling = evaluator.evaluate(window, [stream.windows[number] for number in past])
    if rolling.p is not None:
        stream.has_changed.append(rolling.p < LEAST_P)
    judged = replace(verdict, result=replace(verdict.result, rolling=rolling))
    freezes = RollingAlarmState(freezes=sum(stream.has_changed) >= K)
    stream.reference = stream.reference.add(judged, n_windows=n_windows, least_p=LEAST_P, alarms=freezes)
    known = {**stream.windows, (window.run, window.seq): window}
    stream.windows = {number: known[number] for number in stream.reference.held}
    return judged
