"""Quality flags of a run: when each stream is good, bad, or not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from dqm.alarm import Amendment, Overlay, Span, describe_p, find_span
from dqm.alarm.graded_time import TimePiece, cut_time
from dqm.errors import InputError, format_count
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
        Number of windows, and the reason of the worst of them; what the person said if it is amended.
    origin : str
        Where their events came from; empty without window.
    bundle : str
        Which reference bundles judged them; empty if none did.
    run : RunRecord or None
        Borders of the run in this stream; None if nothing is known of them.
    amended : Amendment or None
        What a person said of it instead; None if it is as the windows were judged.
    original_flag, original_comment : str
        What the windows say, if it is amended; empty otherwise.
    fault : str
        Name of the fault that a person has labelled it with; empty if nobody has.
    """

    stream: str
    start: float
    end: float
    flag: str
    comment: str
    origin: str
    bundle: str
    run: RunRecord | None = None
    amended: Amendment | None = None
    original_flag: str = ""
    original_comment: str = ""
    fault: str = ""

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
            "amended_by": self.amended.user if self.amended else None,
            "amended_at": self.amended.time if self.amended else None,
            "original_flag": self.original_flag or None,
            "original_comment": self.original_comment or None,
            "fault": self.fault or None,
        }


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
        Whether windows without times are allowed, see `dqm.alarm.find_span`.

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
        if not by_judgement and (window.start is None or window.end is None):
            raise InputError(
                f"window {window.seq} of run {window.run} has no times: its source has no clock",
                where=window.stream,
                fix="Take the times of the verdicts instead, with --by-judgement",
            )
        spans.append(find_span(verdict, before))
        before = verdict.judged_at
    return spans


def flag_run(
    spans: Mapping[str, Sequence[Span]],
    borders: Mapping[str, RunRecord] | None = None,
    amendments: Iterable[Amendment] = (),
) -> list[Flag]:
    """Flag a run, from the start of its first window to the end of its last, over all streams.

    If all windows are live, the time from the begin to the end of the run is flagged as well. Replayed or
    simulated windows have other times, which do not say when their run was.

    Parameters
    ----------
    spans : mapping
        By stream; a stream without windows is unknown for the whole time.
    borders : mapping of str to RunRecord, optional
        When the run began and ended, by stream, as far as it is known.
    amendments : iterable of Amendment, optional
        What people said of the run, without what is withdrawn; the last one counts.

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
    overlay = Overlay(amendments)
    return [
        replace(flag, run=borders.get(stream))
        for stream, found in spans.items()
        for flag in flag_stream(stream, found, min(moments), max(moments), overlay)
    ]


def flag_stream(
    stream: str, spans: Sequence[Span], start: float, end: float, overlay: Overlay | None = None
) -> list[Flag]:
    """Flag one stream; the worst of the windows that cover a moment decides.

    Parameters
    ----------
    stream, spans, start, end, overlay
        As of `dqm.alarm.graded_time.cut_time`; the interval contains all spans. Time without a window stays
        unknown, whatever people said.

    Returns
    -------
    list of Flag
        In order of time, from `start` to `end`; each begins where the one before ends. Neighbours differ in
        quality, in what a person said, or in that one is covered and the other is not.
    """
    pieces = cut_time(stream, spans, start, end, overlay or Overlay())
    return [_flag(stream, list(group)) for _, group in groupby(pieces, key=lambda piece: piece.kind)]


def _flag(stream: str, pieces: Sequence[TimePiece]) -> Flag:
    """Make a flag of neighbouring pieces of one kind."""
    first = pieces[0]
    start = first.start
    end = pieces[-1].end
    if first.quality is None or first.judged is None:
        return Flag(stream, start, end, UNKNOWN, _NO_WINDOW, "", "")
    covering = {id(span): span.verdict for piece in pieces for span in piece.covering}
    windows = [window for window in covering.values() if window.quality is first.judged]
    original = _comment(windows)
    amended = first.amended
    return Flag(
        stream, start, end, _name(first.quality),
        comment=amended.comment if amended else original,
        origin=", ".join(sorted({window.window.origin for window in windows})),
        bundle=", ".join(sorted({window.bundle for window in windows} - {""})),
        amended=amended,
        original_flag=_name(first.judged) if amended else "",
        original_comment=original if amended else "",
        fault=first.fault,
    )  # fmt: skip


def _name(quality: Quality) -> str:
    return UNKNOWN if quality is Quality.NULL else str(quality)


def _comment(windows: list[Verdict]) -> str:
    """Say how many windows there are, and the reason of the worst or of most of them."""
    counted = format_count(len(windows), "window")
    known = [window for window in windows if window.result.p is not None]
    if known:
        worst = min(known, key=lambda window: window.result.p or 0.0)
        smallest = describe_p(worst.result.p or 0.0)
        return f"{counted}, smallest {smallest}" + (f": {worst.reason}" if worst.reason else "")
    (reason, n), *others = Counter(window.reason for window in windows).most_common()
    return f"{counted}: {reason}" + (f" ({n} of them)" if others else "")
