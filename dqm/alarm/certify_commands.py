"""What people do with the data of a run: one frozen command for each action, and its result.

`certify` checks a command against the windows of the run and its journal, and gives the entry that is to be
stored. It stores nothing itself. What depends on neither is checked when the command is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from dqm.alarm.amendments import (
    Amendment,
    Decision,
    Entry,
    RunJournal,
    Scope,
    SequenceNumber,
    SignOff,
    Withdrawal,
    describe_entry,
)
from dqm.alarm.commands import Comment, shorten_target
from dqm.alarm.sign_off import Proposal
from dqm.alarm.spans import Span
from dqm.config import FaultName, Name
from dqm.errors import InputError, format_count, format_names
from dqm.events import Quality
from dqm.events.finite import format_moment

__all__ = [
    "AmendFlag",
    "CertifyCommand",
    "LabelFault",
    "RunFacts",
    "SignRun",
    "WithdrawAmendment",
    "certify",
    "parse_windows",
]

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_MOST_DIGITS = 18

StreamNames = Annotated[tuple[Name, ...], Field(max_length=4096)]


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class AmendFlag:
    """Give windows another flag; the same one confirms it.

    Parameters
    ----------
    scope : Scope
        Which windows.
    quality : Quality
        The flag; Null is Unknown Quality.
    comment : str
        Why.
    known : int
        Number of the last entry of the run's journal that the author has seen.
    """

    action: ClassVar[str] = "amend"

    scope: Scope
    quality: Quality
    comment: Comment
    known: SequenceNumber = 0

    @property
    def run(self) -> int:
        """Its run."""
        return self.scope.run

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return f"{self.scope}: {self.quality}"


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class LabelFault:
    """Say which fault windows show.

    Parameters
    ----------
    scope, comment, known
        As in `AmendFlag`.
    fault : str
        Name of the fault.
    """

    action: ClassVar[str] = "label"

    scope: Scope
    fault: FaultName
    comment: Comment
    known: SequenceNumber = 0

    @property
    def run(self) -> int:
        """Its run."""
        return self.scope.run

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return f"{self.scope}: {self.fault}"


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class WithdrawAmendment:
    """End an amendment or a label; what it overruled counts again.

    Parameters
    ----------
    run : int
        Its run.
    identifier : int
        Its number.
    comment : str
        Why.
    """

    action: ClassVar[str] = "withdraw"

    run: SequenceNumber
    identifier: SequenceNumber
    comment: Comment

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return f"run {self.run}, entry {self.identifier}"


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class SignRun:
    """Sign what a run may be used for.

    Parameters
    ----------
    run : int
        The run.
    decision : Decision
        Whether it may be used.
    comment : str
        Why; in a sign-off that follows the proposal, that it was checked.
    without : tuple of str
        Streams that are left out, if the decision is `Decision.WITHOUT`.
    known : int
        As in `AmendFlag`: whoever signs must have seen all that was said.
    """

    action: ClassVar[str] = "sign"

    run: SequenceNumber
    decision: Decision
    comment: Comment
    without: StreamNames = ()
    known: SequenceNumber = 0

    @property
    def target(self) -> str:
        """What the audit names as changed."""
        return shorten_target(f"run {self.run}: {self.decision} {', '.join(self.without)}".rstrip())


CertifyCommand = AmendFlag | LabelFault | WithdrawAmendment | SignRun
"""Every action of a person on the data of a run."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a command on a run is checked against.

    Parameters
    ----------
    spans : mapping of str to sequence of Span
        Windows of each stream that has any, in any order.
    journal : RunJournal
        What was said of the run before.
    proposal : Proposal
        What the program would sign.
    record : mapping
        Streams and flags as they stand, for a sign-off.
    faults : sequence of str
        Names of faults that are configured, or were used before.
    """

    spans: Mapping[str, Sequence[Span]]
    journal: RunJournal
    proposal: Proposal
    record: Mapping[str, Any]
    faults: Sequence[str] = ()

    @property
    def n_windows(self) -> int:
        """Windows of all streams."""
        return sum(map(len, self.spans.values()))


def certify(command: CertifyCommand, facts: RunFacts, *, user: str, now: float) -> Entry:
    """Make the entry that a command asks for; its number is 0 until it is stored.

    Parameters
    ----------
    command : CertifyCommand
        What is done.
    facts : RunFacts
        Of its run.
    user : str
        Who asks; that they may was checked before.
    now : float
        Unix seconds.

    Raises
    ------
    InputError
        If there are no such windows, streams or amendments, if the entry that the author knows does not
        exist, or if somebody has said something meanwhile: the message says who, when and what.
    """
    _check_known(command, facts.journal)
    match command:
        case WithdrawAmendment():
            return _withdraw(command, facts.journal, user, now)
        case SignRun():
            return _sign(command, facts, user, now)
        case AmendFlag(scope=scope):
            judged = _count(scope, facts)
            made = Amendment(0, now, user, command.comment, scope, quality=command.quality, judged=judged)
        case LabelFault(scope=scope):
            judged = _count(scope, facts)
            fault = _check_fault(command.fault, facts.faults)
            made = Amendment(0, now, user, command.comment, scope, fault=fault, judged=judged)
    unseen = facts.journal.find_unseen(made, command.known)
    if unseen is not None:
        raise _meanwhile(unseen, command.run)
    return made


def parse_windows(text: str) -> tuple[int, int]:
    """Read the numbers of the first and the last window, as in ``3-5`` or ``3``; raises `InputError`."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    ends = [first, last if dash else first]
    if not all(end.isascii() and end.isdigit() and len(end) <= _MOST_DIGITS for end in ends):
        raise InputError(f"{text!r:.60} is no window and no range of windows", fix="Write it as in 3-5, or 3")
    if int(ends[1]) < int(ends[0]):
        raise InputError(f"{text!r} ends before it begins", fix=f"Write {int(ends[1])}-{int(ends[0])}")
    return int(ends[0]), int(ends[1])


def _check_known(command: CertifyCommand, journal: RunJournal) -> None:
    """Refuse an entry that does not exist: it would overrule what its author has not seen."""
    if isinstance(command, WithdrawAmendment) or command.known <= journal.version:
        return
    last = f"the last is {journal.version}" if journal.entries else "nobody has said anything about the run"
    raise InputError(
        f"known = {command.known}: there is no entry {command.known}; {last}",
        where=f"run {command.run}",
        fix=f"Look at the run, and give the number of the last entry that you have seen: {journal.version}",
    )


def _count(scope: Scope, facts: RunFacts) -> dict[Quality, int]:
    """Count the windows of a scope by their quality; refuse one without windows."""
    _require_windows(scope.run, facts)
    if scope.stream and not facts.spans.get(scope.stream):
        names = sorted(name for name, found in facts.spans.items() if found)
        raise InputError(
            f"stream {scope.stream!r} has no windows in it",
            where=f"run {scope.run}",
            fix=f"Streams with windows: {format_names(names)}",
        )
    candidates = [span for name, found in facts.spans.items() if scope.stream in ("", name) for span in found]
    counts = Counter(span.verdict.quality for span in candidates if _touches(scope, span))
    if not counts:
        raise InputError(
            f"there is no window in {scope}", where=f"run {scope.run}", fix=_extent(scope, candidates)
        )
    return {quality: counts[quality] for quality in Quality if counts[quality]}


def _touches(scope: Scope, span: Span) -> bool:
    """Tell whether a scope concerns any part of a window."""
    window = span.verdict.window
    if scope.start is None or span.start == span.end:
        return scope.covers(window, span.start)
    return span.end > scope.start and scope.covers(window, max(span.start, scope.start))


def _extent(scope: Scope, candidates: Sequence[Span]) -> str:
    """Say which windows there are, in the terms of a scope."""
    if scope.first is not None:
        numbers = [span.verdict.window.seq for span in candidates]
        return f"It has windows {min(numbers)} to {max(numbers)}"
    begin, end = min(span.start for span in candidates), max(span.end for span in candidates)
    return f"Its windows are from {format_moment(begin)} to {format_moment(end)}"


def _require_windows(run: int, facts: RunFacts) -> None:
    if not facts.n_windows:
        raise InputError(
            "the run has no windows",
            where=f"run {run}",
            fix="Check its number; verdicts older than [keep] verdict_days are deleted",
        )


def _check_fault(fault: str, known: Iterable[str]) -> str:
    """Refuse a name that another way of writing has already: templates would be learned of both."""
    folded = " ".join(fault.split()).casefold()
    for name in known:
        if name != fault and " ".join(name.split()).casefold() == folded:
            raise InputError(f"{fault!r} is a fault already, written {name!r}", fix=f"Write {name!r}")
    return fault


def _withdraw(command: WithdrawAmendment, journal: RunJournal, user: str, now: float) -> Withdrawal:
    found = journal.find(command.identifier)
    if found is None:
        raise InputError(
            f"there is no amendment and no label {command.identifier}",
            where=f"run {command.run}",
            fix=f"There are {format_names([str(one.identifier) for one in journal.amendments]) or 'none'}",
        )
    before = journal.withdrawals.get(command.identifier)
    if before is not None:
        raise InputError(
            f"{before.user} has withdrawn it at {format_moment(before.time)}: {before.comment}",
            where=f"run {command.run}, entry {command.identifier}",
            fix="Nothing is left to do",
        )
    return Withdrawal(0, now, user, command.comment, found)


def _sign(command: SignRun, facts: RunFacts, user: str, now: float) -> SignOff:
    _require_windows(command.run, facts)
    where = f"run {command.run}"
    before = facts.journal.sign_off
    if before is not None and facts.n_windows < before.n_windows:
        raise InputError(
            f"{before.n_windows - facts.n_windows} of its windows are deleted since it was signed",
            where=where,
            fix="The sign-off that it has stays; [keep] verdict_days says how long verdicts are kept",
        )
    if facts.journal.version > command.known:
        raise _meanwhile(facts.journal.entries[-1], command.run)
    known = [outcome.stream for outcome in facts.proposal.streams]
    strange = sorted(set(command.without) - set(known))
    if strange:
        raise InputError(
            f"there is no stream {strange[0]!r} in it", where=where, fix=f"There are {format_names(known)}"
        )
    left_out = tuple(dict.fromkeys(command.without))
    if (command.decision is Decision.WITHOUT) != bool(left_out):
        raise InputError(
            f"{command.decision!s} with {format_count(len(left_out), 'stream')} to leave out",
            where=where,
            fix=f"Name streams with {Decision.WITHOUT!s}, and with no other decision",
        )
    if left_out and len(left_out) == len(known):
        raise InputError(
            "all of its streams would be left out", where=where, fix=f"Sign it as {Decision.BAD!s}"
        )
    return SignOff(
        0, now, user, command.comment, command.run, command.decision, left_out,
        facts.proposal.decision, facts.n_windows, facts.record,
    )  # fmt: skip


def _meanwhile(entry: Entry, run: int) -> InputError:
    return InputError(
        f"{entry.user} has changed it meanwhile, at {format_moment(entry.time)}: "
        f"{describe_entry(entry)} ({entry.comment})",
        where=f"run {run}",
        fix=f"Look at it; if you want this all the same, say that you know entry {entry.identifier}: on the "
        f"command line --known {entry.identifier}, in the API known",
    )
