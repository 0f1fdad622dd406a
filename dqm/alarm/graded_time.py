"""Quality of stretches of time: the worst window decides, each with what was said of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dqm.alarm.amendments import Amendment, Overlay
from dqm.alarm.quality import worst
from dqm.alarm.spans import Span
from dqm.events import Quality

__all__ = ["TimePiece", "cut_time"]


@dataclass(frozen=True, slots=True)
class TimePiece:
    """Time in which no window and no amendment begins or ends.

    Parameters
    ----------
    start, end : float
        Unix seconds.
    quality, judged : Quality or None
        What counts, and what the windows say; None without a window.
    covering : tuple of Span
        Windows that cover it.
    amended : Amendment or None
        What a person said that decides; None if it is as the windows were judged.
    fault : str
        Name of the fault that a person has labelled it with; empty if nobody has.
    """

    start: float
    end: float
    quality: Quality | None
    judged: Quality | None
    covering: tuple[Span, ...]
    amended: Amendment | None = None
    fault: str = ""

    @property
    def kind(self) -> tuple[object, ...]:
        """Pieces of one kind that follow each other are one flag."""
        return self.quality, self.judged, self.amended and self.amended.identifier, self.fault


def cut_time(
    stream: str, spans: Sequence[Span], start: float, end: float, overlay: Overlay
) -> Iterator[TimePiece]:
    """Cut the time of a stream where windows or amendments begin or end, and grade each piece.

    Parameters
    ----------
    stream : str
        Its name.
    spans : sequence of Span
        Its windows, in any order; they may overlap.
    start, end : float
        Interval to cover, Unix seconds.
    overlay : Overlay
        What people said of the windows.
    """
    opening: dict[float, list[Span]] = {}
    closing: dict[float, list[Span]] = {}
    for span in spans:
        if span.start < span.end:
            opening.setdefault(span.start, []).append(span)
            closing.setdefault(span.end, []).append(span)
    covering: dict[int, Span] = {}
    said = {moment for moment in overlay.borders(stream) if start < moment < end}
    for begin, stop in pairwise(sorted({start, end, *opening, *closing, *said})):
        for span in closing.get(begin, []):
            del covering[id(span)]
        covering |= {id(span): span for span in opening.get(begin, [])}
        yield _grade(begin, stop, tuple(covering.values()), overlay)


def _grade(start: float, end: float, covering: tuple[Span, ...], overlay: Overlay) -> TimePiece:
    """Let the worst window decide, each with what was said of it."""
    if not covering:
        return TimePiece(start, end, None, None, ())
    judged = worst({span.verdict.quality for span in covering})
    if not overlay:
        return TimePiece(start, end, judged, judged, covering)
    said = {id(span): overlay.flag(span.verdict.window, start) for span in covering}
    qualities = {key: one.quality for key, one in said.items() if one is not None and one.quality is not None}
    counting = [(qualities.get(id(span), span.verdict.quality), said[id(span)]) for span in covering]
    quality = worst({each for each, _ in counting})
    # an amendment that another window overrules changes nothing, and is not named
    decides = quality is not judged or any(each is quality and one for each, one in counting)
    amended = _newest(one for _, one in counting) if decides else None
    label = _newest(overlay.label(span.verdict.window, start) for span in covering)
    return TimePiece(start, end, quality, judged, covering, amended, label.fault if label else "")


def _newest(amendments: Iterable[Amendment | None]) -> Amendment | None:
    known = [one for one in amendments if one is not None]
    return max(known, key=lambda one: one.identifier, default=None)
