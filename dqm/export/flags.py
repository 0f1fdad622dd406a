"""Quality flags of a run: which time of which stream is good, bad, or not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from dqm.alarm import describe_p, worst
from dqm.errors import InputError
from dqm.events import Origin, Quality, RunRecord, Verdict

__all__ = ["UNKNOWN", "Flag", "Span", "describe_state", "flag_run", "flag_stream", "take_spans"]

UNKNOWN = "Unknown Quality"
"""Flag of time that no window covers, or whose windows are ``Null``."""

_NO_WINDOW = "no window"


@dataclass(frozen=True, slots=True)
class Flag:
    """Quality of one stream over one interval of time.

    Parameters
    ----------
    stream : str
        The stream.
    start, end : float
        From when until when, Unix seconds; ``start < end``.
    flag : str
        ``Good``, ``Medium``, ``Bad`` or `UNKNOWN`.
    comment : str
        Number of windows, and the reason of the worst of them.
    origin : str
        Where their events came from; empty without window.
    bundle : str
        Which reference bundles judged them; empty if none did.
    run : RunRecord or None
        Borders of the run in this stream; None if nothing is known of them.
    """

    stream: str
    start: float
    end: float
    flag: str
    comment: str
    origin: str
    bundle: str
    run: RunRecord | None = None

    def as_row(self, created_by: str) -> dict[str, object]:
        """Give the row of an export."""
        return {
            "stream": self.stream,
            "from": self.start,
            "to": self.end,
            "flag": self.flag,
            "comment": self.comment,
            "origin": self.origin,
            "bundle": self.bundle,
            "created_by": created_by,
            "run_state": describe_state(self.run),
            "run_began": self.run.began_at if self.run else None,
            "run_ended": self.run.ended_at if self.run else None,
        }


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a window covers.

    Parameters
    ----------
    start, end : float
        Unix seconds, ``start <= end``; a window without duration covers nothing.
    verdict : Verdict
        Verdict on the window.
    """

    start: float
    end: float
    verdict: Verdict


def describe_state(run: RunRecord | None) -> str:
    """Say whether a run is ``complete``: it ended; ``open``: it did not; or ``unknown``: nobody said."""
    if run is None:
        return "unknown"
    return "open" if run.ended_at is None else "complete"


def take_spans(verdicts: Iterable[Verdict], *, by_judgement: bool = False) -> list[Span]:
    """Find the time that windows of one stream and run cover.

    Parameters
    ----------
    verdicts : iterable of Verdict
        In the order in which they were judged.
    by_judgement : bool
        Whether a window without times covers the time from the verdict before it to its own.

    Returns
    -------
    list of Span
        In the same order.

    Raises
    ------
    InputError
        If a window has no times and `by_judgement` is not set.
    """
    spans = []
    before: float | None = None
    for verdict in verdicts:
        window = verdict.window
        start, end = window.start, window.end
        if start is None or end is None:
            if not by_judgement:
                raise InputError(
                    f"window {window.seq} of run {window.run} has no times: its source has no clock",
                    where=window.stream,
                    fix="Take the times of the verdicts instead, with --by-judgement",
                )
            end = verdict.judged_at
            start = min(end, verdict.judged_at - verdict.seconds if before is None else before)
        before = verdict.judged_at
        spans.append(Span(start, end, verdict))
    return spans


def flag_run(
    spans: Mapping[str, Sequence[Span]], borders: Mapping[str, RunRecord] | None = None
) -> list[Flag]:
    """Flag a run, from the start of its first window to the end of its last, over all streams.

    If all windows are live, the time from the begin to the end of the run is flagged as well. Windows that
    are replayed or simulated have times of their own, which say nothing of when their run was.

    Parameters
    ----------
    spans : mapping
        By stream; a stream without windows is unknown for the whole time.
    borders : mapping of str to RunRecord, optional
        When the run began and ended, by stream, as far as it is known.

    Returns
    -------
    list of Flag
        Stream by stream, in order of time, without gaps or overlaps.
    """
    borders = borders or {}
    everything = [span for found in spans.values() for span in found]
    if not everything:
        return []
    moments = [moment for span in everything for moment in (span.start, span.end)]
    if all(span.verdict.window.origin is Origin.LIVE for span in everything):
        known = [moment for run in borders.values() for moment in (run.began_at, run.ended_at)]
        moments += [moment for moment in known if moment is not None]
    return [
        replace(flag, run=borders.get(stream))
        for stream, found in spans.items()
        for flag in flag_stream(stream, found, min(moments), max(moments))
    ]


def flag_stream(stream: str, spans: Sequence[Span], start: float, end: float) -> list[Flag]:
    """Flag one stream; of the windows that cover a moment, the worst decides.

    Parameters
    ----------
    stream : str
        Its name.
    spans : sequence of Span
        Its windows, in any order; they may overlap.
    start, end : float
        Interval to cover, Unix seconds; it contains all spans.

    Returns
    -------
    list of Flag
        In order of time, from `start` to `end`, each beginning where the one before ends. Neighbours differ
        in quality, or in that one is covered and the other is not.
    """
    pieces = _cut(spans, start, end)
    flags = []
    for quality, group in groupby(pieces, key=lambda piece: piece[2]):
        run = list(group)
        windows = {id(span): span.verdict for *_, covering in run for span in covering}
        flags.append(_flag(stream, run[0][0], run[-1][1], quality, list(windows.values())))
    return flags


_Piece = tuple[float, float, Quality | None, tuple[Span, ...]]


def _cut(spans: Sequence[Span], start: float, end: float) -> Iterator[_Piece]:
    """Cut the time where windows begin or end; give each piece its quality and its windows."""
    opening: dict[float, list[Span]] = {}
    closing: dict[float, list[Span]] = {}
    for span in spans:
        if span.start < span.end:
            opening.setdefault(span.start, []).append(span)
            closing.setdefault(span.end, []).append(span)
    covering: dict[int, Span] = {}
    for begin, stop in pairwise(sorted({start, end, *opening, *closing})):
        for span in closing.get(begin, []):
            del covering[id(span)]
        covering |= {id(span): span for span in opening.get(begin, [])}
        qualities = {span.verdict.quality for span in covering.values()}
        found = worst(qualities) if qualities else None
        yield begin, stop, found, tuple(s for s in covering.values() if s.verdict.quality is found)


def _flag(stream: str, start: float, end: float, quality: Quality | None, windows: list[Verdict]) -> Flag:
    if quality is None:
        return Flag(stream, start, end, UNKNOWN, _NO_WINDOW, "", "")
    name = UNKNOWN if quality is Quality.NULL else str(quality)
    origins = ", ".join(sorted({window.window.origin for window in windows}))
    bundles = ", ".join(sorted({window.bundle for window in windows} - {""}))
    return Flag(stream, start, end, name, _comment(windows), origins, bundles)


def _comment(windows: list[Verdict]) -> str:
    """Say how many windows there are, and the reason of the worst or of most of them."""
    counted = f"{len(windows)} window{'' if len(windows) == 1 else 's'}"
    known = [window for window in windows if window.result.p is not None]
    if known:
        worst = min(known, key=lambda window: window.result.p or 0.0)
        smallest = describe_p(worst.result.p or 0.0)
        return f"{counted}, smallest {smallest}" + (f": {worst.reason}" if worst.reason else "")
    (reason, n), *others = Counter(window.reason for window in windows).most_common()
    return f"{counted}: {reason}" + (f" ({n} of them)" if others else "")
