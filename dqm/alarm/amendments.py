"""What people say about the data of a run: amended flags, labels of faults, withdrawals and sign-offs. Pure.

A verdict never changes. What a person says stands beside it, as an entry in the journal of the run. A journal
only grows: an entry is overruled or withdrawn by a later one, and stays readable. If several entries concern
a window at a moment, the last one that was not withdrawn counts. An author names the last entry that they
knew, so that nobody overrules what they have not seen (`RunJournal.find_unseen`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from dqm.alarm.commands import Moment
from dqm.config import NAME_PATTERN
from dqm.errors import LARGEST_INTEGER
from dqm.events import Quality, WindowHeader
from dqm.events.finite import format_moment

__all__ = [
    "Amendment",
    "Decision",
    "Entry",
    "Overlay",
    "RunJournal",
    "Scope",
    "SequenceNumber",
    "SignOff",
    "StreamOrAll",
    "Withdrawal",
    "describe_entry",
]

SequenceNumber = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
"""Number of a run, of a window, or of an entry."""

StreamOrAll = Annotated[str, StringConstraints(pattern=rf"^$|{NAME_PATTERN}")]
"""Name of a stream; empty: all streams."""


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Scope:
    """What an entry concerns: windows of a stream, a stretch of time, or a whole run.

    Parameters
    ----------
    run : int
        Number of the run.
    stream : str
        Name of the stream; empty: all streams.
    first, last : int or None
        Numbers of the first and the last window; None: not chosen by number. They need a stream.
    start, end : float or None
        From when until when, Unix seconds; None: not chosen by time.
    """

    run: SequenceNumber
    stream: StreamOrAll = ""
    first: SequenceNumber | None = None
    last: SequenceNumber | None = None
    start: Moment | None = None
    end: Moment | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.first is None) != (self.last is None) or (self.start is None) != (self.end is None):
            raise ValueError("a stretch has two ends: give first and last window, or start and end")
        if self.first is not None and self.start is not None:
            raise ValueError("a stretch is chosen by windows or by time: give one of them")
        if self.first is not None and not self.stream:
            raise ValueError("windows are numbered within a stream: name the stream")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError(f"the stretch ends before it begins: windows {self.first} to {self.last}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            ends = f"{format_moment(self.start)} to {format_moment(self.end)}"
            raise ValueError(f"the stretch ends before it begins, or has no length: {ends}")
        return self

    def covers(self, window: WindowHeader, moment: float | None) -> bool:
        """Tell whether it concerns a window at a moment, Unix seconds; None: no scope by time does."""
        if self.run != window.run or self.stream not in ("", window.stream):
            return False
        if self.first is not None and self.last is not None:
            return self.first <= window.seq <= self.last
        if self.start is None or self.end is None:
            return True
        return moment is not None and self.start <= moment < self.end

    def meets(self, other: Scope) -> bool:
        """Tell whether both may concern one window: true wherever numbers and times cannot be compared."""
        if self.run != other.run or ("" not in (self.stream, other.stream) and self.stream != other.stream):
            return False
        if None not in (self.first, other.first):
            return self._numbers[0] <= other._numbers[1] and other._numbers[0] <= self._numbers[1]
        if None not in (self.start, other.start):
            return self._times[0] < other._times[1] and other._times[0] < self._times[1]
        return True

    @property
    def _numbers(self) -> tuple[int, int]:
        return self.first or 0, self.last or 0

    @property
    def _times(self) -> tuple[float, float]:
        return self.start or 0.0, self.end or 0.0

    def __str__(self) -> str:
        text = f"run {self.run} {self.stream or 'all streams'}"
        if self.first is not None:
            which = (
                f"window {self.first}" if self.first == self.last else f"windows {self.first} to {self.last}"
            )
            return f"{text}, {which}"
        if self.start is not None and self.end is not None:
            return f"{text}, {format_moment(self.start)} to {format_moment(self.end)}"
        return text


class Decision(StrEnum):
    """What a sign-off says about a run."""

    GOOD = "good"
    WITHOUT = "good without"
    """Good, if some streams are left out."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Amendment:
    """Another flag of some windows, or the fault that they show.

    Parameters
    ----------
    identifier : int
        Its number; larger than that of all entries before it. 0 before it is stored.
    time : float
        When it was made, Unix seconds.
    user, comment : str
        Who made it, and why.
    scope : Scope
        What it is about.
    quality : Quality or None
        The flag; None if it labels a fault.
    fault : str
        Name of the fault; empty if it amends the flag.
    judged : mapping of Quality to int
        Windows of each quality in the scope, as they were judged when it was made.
    """

    identifier: int
    time: float
    user: str
    comment: str
    scope: Scope
    quality: Quality | None = None
    fault: str = ""
    judged: Mapping[Quality, int] = field(default_factory=dict)

    def rivals(self, other: Amendment) -> bool:
        """Tell whether both may say something different about one window."""
        return bool(self.fault) == bool(other.fault) and self.scope.meets(other.scope)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The end of an amendment.

    Parameters
    ----------
    identifier, time, user, comment
        As in `Amendment`.
    withdrawn : Amendment
        What does not count any more.
    """

    identifier: int
    time: float
    user: str
    comment: str
    withdrawn: Amendment


@dataclass(frozen=True, slots=True)
class SignOff:
    """What a person signs for a whole run.

    Parameters
    ----------
    identifier, time, user, comment
        As in `Amendment`.
    run : int
        The run.
    decision : Decision
        Whether it may be used.
    without : tuple of str
        Streams that are left out, if the decision is `Decision.WITHOUT`.
    proposed : Decision
        What the program had proposed.
    n_windows : int
        Windows that the run had.
    record : mapping
        Streams and flags of the run as they were signed, as JSON values: they outlive the verdicts. Empty in
        a journal, because it is large.
    """

    identifier: int
    time: float
    user: str
    comment: str
    run: int
    decision: Decision
    without: tuple[str, ...]
    proposed: Decision
    n_windows: int
    record: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.decision} {', '.join(self.without)}" if self.without else str(self.decision)


Entry = Amendment | Withdrawal | SignOff


@dataclass(frozen=True, slots=True)
class RunJournal:
    """All that people have said about a run.

    Parameters
    ----------
    run : int
        The run.
    entries : tuple of Entry
        In the order of their numbers.
    """

    run: int
    entries: tuple[Entry, ...] = ()

    @property
    def version(self) -> int:
        """Number of the last entry; 0 if there is none."""
        return self.entries[-1].identifier if self.entries else 0

    @property
    def withdrawals(self) -> dict[int, Withdrawal]:
        """Withdrawals, by the number of what they withdraw."""
        return {e.withdrawn.identifier: e for e in self.entries if isinstance(e, Withdrawal)}

    @property
    def amendments(self) -> tuple[Amendment, ...]:
        """Amendments that are not withdrawn, in the order of their numbers."""
        withdrawn = self.withdrawals
        return tuple(e for e in self.entries if isinstance(e, Amendment) and e.identifier not in withdrawn)

    @property
    def sign_off(self) -> SignOff | None:
        """The last sign-off."""
        return next((e for e in reversed(self.entries) if isinstance(e, SignOff)), None)

    @property
    def since_sign_off(self) -> tuple[Entry, ...]:
        """What was said after the last sign-off; empty without one."""
        signed = self.sign_off
        return () if signed is None else tuple(e for e in self.entries if e.identifier > signed.identifier)

    def find(self, identifier: int) -> Amendment | None:
        """Find an amendment, withdrawn or not; None if there is none of this number."""
        found = (e for e in self.entries if isinstance(e, Amendment) and e.identifier == identifier)
        return next(found, None)

    def find_unseen(self, amendment: Amendment, known: int) -> Entry | None:
        """Find the last entry that an amendment would overrule or that ends such a one, if it was not seen.

        Parameters
        ----------
        amendment : Amendment
            What is to be added.
        known : int
            Number of the last entry that its author has seen.
        """
        for entry in reversed(self.entries):
            if entry.identifier <= known:
                return None
            subject = entry.withdrawn if isinstance(entry, Withdrawal) else entry
            if isinstance(subject, Amendment) and subject.rivals(amendment):
                return entry
        return None


class Overlay:
    """Finds what counts for a window at a moment: the last amendment of its flag, and the last label.

    Parameters
    ----------
    amendments : iterable of Amendment
        Those that are not withdrawn, in the order of their numbers.
    """

    def __init__(self, amendments: Iterable[Amendment] = ()) -> None:
        newest_first = list(amendments)[::-1]
        self._flags = [one for one in newest_first if not one.fault]
        self._labels = [one for one in newest_first if one.fault]

    def __bool__(self) -> bool:
        """Tell whether anything was said at all."""
        return bool(self._flags or self._labels)

    def flag(self, window: WindowHeader, moment: float | None) -> Amendment | None:
        """Find what amends the flag; None if nothing does. `moment` as of `Scope.covers`."""
        return next((one for one in self._flags if one.scope.covers(window, moment)), None)

    def label(self, window: WindowHeader, moment: float | None) -> Amendment | None:
        """Find what names the fault; None if nothing does. `moment` as of `Scope.covers`."""
        return next((one for one in self._labels if one.scope.covers(window, moment)), None)

    def borders(self, stream: str) -> Iterator[float]:
        """Give the moments at which amendments of a stream begin or end, Unix seconds."""
        for one in (*self._flags, *self._labels):
            if one.scope.stream in ("", stream) and one.scope.start is not None and one.scope.end is not None:
                yield from (one.scope.start, one.scope.end)


def describe_entry(entry: Entry) -> str:
    """Say what an entry does, in words, with its number: ``3, chamber-1 is Bad``."""
    match entry:
        case Amendment(fault=""):
            return f"entry {entry.identifier}: {entry.scope} is {entry.quality}"
        case Amendment():
            return f"entry {entry.identifier}: {entry.scope} is {entry.fault!r}"
        case Withdrawal():
            return f"entry {entry.identifier} withdraws {describe_entry(entry.withdrawn)}"
        case SignOff():
            return f"entry {entry.identifier}: run {entry.run} signed {entry}"
