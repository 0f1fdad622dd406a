"""Borders of runs: what a sender says about them, and what is known about one run of one stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["RunEvent", "RunNotice", "RunRecord"]


class RunEvent(StrEnum):
    """What a run does."""

    BEGIN = "begin"
    END = "end"


@dataclass(frozen=True, slots=True)
class RunNotice:
    """A sender says that a run begins or ends.

    Parameters
    ----------
    streams : str
        Name of a stream, or a pattern with ``*`` (any characters) and ``?`` (one character).
    run : int
        Run number.
    run_type : str
        Purpose of the run: ``physics``, ``cosmics``, ...
    event : RunEvent
        Begin or end.
    time : float
        When, Unix seconds.
    why : str
        Why it ends or begins, up to 256 characters; may be empty.
    """

    streams: str
    run: int
    run_type: str
    event: RunEvent
    time: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known about one run of one stream.

    Parameters
    ----------
    stream : str
        The stream.
    run : int
        Run number.
    run_type : str
        Purpose of the run.
    position : int
        Place among the runs of the stream, in the order in which they began: that of the largest is the run
        that the stream is in, or was in last. 0 if it never was.
    began_at : float or None
        When it began, Unix seconds; None if no sender said it, and a window began it.
    ended_at : float or None
        When it ended, Unix seconds; None while it is open.
    why : str
        Why it ended; empty while it is open.
    noted_at : float
        When the monitor last got news of it, Unix seconds.
    resumed_at : float or None
        When it last continued after a stop, Unix seconds; None if it never did.
    """

    stream: str
    run: int
    run_type: str
    position: int
    began_at: float | None = None
    ended_at: float | None = None
    why: str = ""
    noted_at: float = 0.0
    resumed_at: float | None = None

    def is_present_after(self, present: RunRecord | None) -> bool:
        """Tell whether the stream is in this run, if it was in `present` before this was known."""
        return self.position > 0 and (present is None or self.position >= present.position)
