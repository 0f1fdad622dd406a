"""What the page and the API show and take of the certification of runs, as pydantic models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dqm.alarm import (
    AmendFlag,
    Amendment,
    Decision,
    Entry,
    LabelFault,
    RunJournal,
    Scope,
    SignOff,
    SignRun,
    StreamOutcome,
    Withdrawal,
    WithdrawAmendment,
    parse_windows,
)
from dqm.alarm.amendments import StreamOrAll
from dqm.alarm.certify_commands import StreamNames
from dqm.alarm.commands import Comment, Moment
from dqm.config import FaultName
from dqm.errors import InputError
from dqm.events import Quality
from dqm.events.summary import View
from dqm.export.certified_run import CertifiedRun
from dqm.web.models import SequenceNumber

__all__ = [
    "AmendBody",
    "EntryView",
    "LabelBody",
    "RunCertification",
    "RunLine",
    "RunList",
    "RunQuery",
    "SignBody",
    "WithdrawBody",
    "read_scope",
    "view_entry",
    "view_line",
    "view_run",
]


class EntryView(View):
    """What a person said of a run."""

    identifier: int = Field(description="its number; larger than that of all entries before it")
    action: str = Field(description="amend, label, withdraw or sign")
    time: float = Field(description="Unix seconds")
    user: str
    comment: str
    what: str = Field(description="what it concerns, in words")
    stream: str = Field(description="empty: all streams")
    first: int | None = Field(description="number of the first window; null if not chosen by number")
    last: int | None
    start: float | None = Field(description="from when, Unix seconds; null if not chosen by time")
    end: float | None
    quality: Quality | None = Field(description="the flag that it gives; null if it gives none")
    fault: str = Field(description="the fault that it names; empty if it names none")
    judged: dict[Quality, int] = Field(description="windows that it concerns, as they were judged")
    subject: int | None = Field(description="number of what it withdraws")
    is_withdrawn: bool


class RunLine(View):
    """A run and its last sign-off."""

    run: int
    version: int = Field(description="number of the last entry of its journal; 0 if there is none")
    decision: Decision | None = Field(description="null: nobody has signed it")
    without: tuple[str, ...]
    proposed: Decision | None = Field(description="what the program had proposed when it was signed")
    signed_by: str
    signed_at: float | None
    comment: str
    n_amendments: int = Field(description="amended flags that are not withdrawn")
    faults: tuple[str, ...] = Field(description="faults that it is labelled with")
    n_since: int = Field(description="entries after the sign-off")


class RunList(View):
    """Runs, the largest number first."""

    runs: tuple[RunLine, ...]


class StreamResult(View):
    """Result of a stream in a run, with amendments."""

    stream: str
    shares: dict[Quality, float] = Field(description="share of the time; time without a window is Null")
    keeps_rules: bool
    reason: str = Field(description="which rule it does not keep; empty if it keeps all")


class RunCertification(View):
    """A run as it can be certified."""

    line: RunLine
    n_windows: int
    n_later: int = Field(description="windows that came after the sign-off")
    n_deleted: int = Field(description="windows of the sign-off that are deleted since")
    open_streams: tuple[str, ...] = Field(description="streams in which nobody has ended it")
    proposed: Decision | None = Field(description="what the program proposes; null without windows")
    proposed_without: tuple[str, ...]
    reason: str = Field(description="why it proposes that")
    streams: tuple[StreamResult, ...]
    flags: tuple[dict[str, Any], ...] = Field(
        description="as dqm flags writes them; as signed if windows are deleted"
    )
    entries: tuple[EntryView, ...] = Field(description="all that people said, the newest first")
    faults: tuple[str, ...] = Field(description="names of faults that are configured or were used")
    sent_at: float | None = Field(description="when the registry took the sign-off, Unix seconds")


class _Body(BaseModel):
    """What a request carries; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    comment: Comment = Field(description="why")


class RunQuery(BaseModel):
    """Which runs to list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    below: SequenceNumber | None = Field(None, description="only runs with smaller numbers")
    limit: int = Field(50, ge=1, le=1000, description="most runs")


class _ScopeBody(_Body):
    """Something said of windows, of a stretch of time, or of a whole run."""

    stream: StreamOrAll = Field("", description="empty: all streams")
    first: SequenceNumber | None = Field(None, description="number of the first window")
    last: SequenceNumber | None = Field(None, description="number of the last window; with first")
    start: Moment | None = Field(None, description="from when, Unix seconds; instead of windows")
    end: Moment | None = Field(None, description="until when, Unix seconds; with start")
    known: SequenceNumber = Field(0, description="number of the last entry of the run that you have seen")

    def scope(self, run: int) -> Scope:
        """Make the scope; raises pydantic's `ValidationError` if its parts contradict each other."""
        return Scope(run, self.stream, self.first, self.last, self.start, self.end)


class AmendBody(_ScopeBody):
    """Give windows another flag."""

    quality: Quality

    def command(self, run: int) -> AmendFlag:
        """Make the command."""
        return AmendFlag(self.scope(run), self.quality, self.comment, self.known)


class LabelBody(_ScopeBody):
    """Say which fault windows show."""

    fault: FaultName

    def command(self, run: int) -> LabelFault:
        """Make the command."""
        return LabelFault(self.scope(run), self.fault, self.comment, self.known)


class WithdrawBody(_Body):
    """End an amendment or a label."""

    identifier: SequenceNumber = Field(description="its number")

    def command(self, run: int) -> WithdrawAmendment:
        """Make the command."""
        return WithdrawAmendment(run, self.identifier, self.comment)


class SignBody(_Body):
    """Sign a run."""

    decision: Decision
    without: StreamNames = Field((), description="streams that are left out, with 'good without'")
    known: SequenceNumber = Field(0, description="number of the last entry of the run that you have seen")

    def command(self, run: int) -> SignRun:
        """Make the command."""
        return SignRun(run, self.decision, self.comment, self.without, self.known)


def read_scope(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn what the form of the page has of a scope into what `AmendBody` and `LabelBody` have.

    Parameters
    ----------
    fields : dict
        With ``windows``, as in 3-5, and ``start`` and ``end``, as a browser writes times; they are UTC.

    Returns
    -------
    dict
        Other fields as they are.

    Raises
    ------
    InputError
        If a part cannot be read.
    """
    read = dict(fields)
    windows = read.pop("windows", "")
    if windows:
        read["first"], read["last"] = parse_windows(windows)
    for name in ("start", "end"):
        if name in read:
            read[name] = _moment(read[name])
    return read


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InputError(
            f"{text!r} is not a time", fix="Write it as in 2026-11-28 18:00:00, in UTC"
        ) from None


def view_line(journal: RunJournal) -> RunLine:
    """Show a run in the list."""
    signed = journal.sign_off
    amendments = journal.amendments
    return RunLine(
        run=journal.run,
        version=journal.version,
        decision=signed.decision if signed else None,
        without=signed.without if signed else (),
        proposed=signed.proposed if signed else None,
        signed_by=signed.user if signed else "",
        signed_at=signed.time if signed else None,
        comment=signed.comment if signed else "",
        n_amendments=sum(not one.fault for one in amendments),
        faults=tuple(dict.fromkeys(one.fault for one in amendments if one.fault)),
        n_since=len(journal.since_sign_off),
    )


def view_run(
    found: CertifiedRun, signed: SignOff | None, sent_at: float | None, created_by: str
) -> RunCertification:
    """Show a run with all that was said of it; `signed` has its record if windows are deleted."""
    facts = found.facts
    flags = [flag.as_row(created_by) for flag in found.flags]
    if signed is not None and found.n_deleted:
        flags = signed.record["flags"]
    return RunCertification(
        line=view_line(found.journal),
        n_windows=facts.n_windows,
        n_later=found.n_later,
        n_deleted=found.n_deleted,
        open_streams=tuple(found.open_streams),
        proposed=facts.proposal.decision if facts.n_windows else None,
        proposed_without=facts.proposal.without,
        reason=facts.proposal.reason,
        streams=tuple(map(_view_stream, facts.proposal.streams)),
        flags=tuple(flags),
        entries=tuple(view_entry(entry, found.journal) for entry in reversed(found.journal.entries)),
        faults=tuple(facts.faults),
        sent_at=sent_at,
    )


def view_entry(entry: Entry, journal: RunJournal) -> EntryView:
    """Show an entry of a journal."""
    subject = entry.withdrawn if isinstance(entry, Withdrawal) else entry
    scope = subject.scope if isinstance(subject, Amendment) else Scope(journal.run)
    said = entry if isinstance(entry, Amendment) else None
    match entry:
        case Amendment():
            action = "label" if entry.fault else "amend"
            what = str(scope)
        case Withdrawal():
            action = "withdraw"
            what = f"entry {entry.withdrawn.identifier}, {scope}"
        case SignOff():
            action = "sign"
            what = f"run {journal.run}: {entry}"
    return EntryView(
        identifier=entry.identifier,
        action=action,
        time=entry.time,
        user=entry.user,
        comment=entry.comment,
        what=what,
        stream=scope.stream,
        first=scope.first,
        last=scope.last,
        start=scope.start,
        end=scope.end,
        quality=said.quality if said else None,
        fault=said.fault if said else "",
        judged=dict(said.judged) if said else {},
        subject=entry.withdrawn.identifier if isinstance(entry, Withdrawal) else None,
        is_withdrawn=entry.identifier in journal.withdrawals,
    )


def _view_stream(outcome: StreamOutcome) -> StreamResult:
    return StreamResult(
        stream=outcome.stream,
        shares=dict(outcome.shares),
        keeps_rules=outcome.is_good,
        reason=outcome.reason,
    )
