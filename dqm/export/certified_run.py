"""A run as people certify it: its flags with what was said, the proposal, and the JSON for a run registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dqm.alarm import (
    Decision,
    Proposal,
    RunFacts,
    RunJournal,
    SignOff,
    SignOffRules,
    Span,
    propose_sign_off,
)
from dqm.events import Quality, RunRecord
from dqm.export.flags import UNKNOWN, Flag
from dqm.export.run_windows import RunWindows, read_run_windows
from dqm.store import CertificationStore, VerdictStore

__all__ = ["FORMAT", "CertifiedRun", "read_run", "registry_record"]

FORMAT = "dqm-run-certification-1"
"""Version of the JSON for registries; it changes when the meaning changes."""


@dataclass(frozen=True, slots=True)
class CertifiedRun:
    """What is known about a run, and what people said about it.

    Parameters
    ----------
    run : int
        Its number.
    facts : RunFacts
        Its windows, journal and proposal.
    flags : list of Flag
        With amendments laid over; empty without windows.
    borders : mapping of str to RunRecord
        When it began and ended, by stream, as far as it is known.
    """

    run: int
    facts: RunFacts
    flags: Sequence[Flag]
    borders: Mapping[str, RunRecord]

    @property
    def journal(self) -> RunJournal:
        """What was said of it."""
        return self.facts.journal

    @property
    def n_deleted(self) -> int:
        """Windows that were deleted since it was signed."""
        signed = self.journal.sign_off
        return 0 if signed is None else max(0, signed.n_windows - self.facts.n_windows)

    @property
    def n_later(self) -> int:
        """Windows that came since it was signed."""
        signed = self.journal.sign_off
        return 0 if signed is None else max(0, self.facts.n_windows - signed.n_windows)

    @property
    def open_streams(self) -> list[str]:
        """Streams in which it has not ended."""
        return sorted(name for name, record in self.borders.items() if record.ended_at is None)


def read_run(
    store: VerdictStore, run: int, *, streams: Sequence[str], rules: SignOffRules, created_by: str
) -> CertifiedRun:
    """Read a run, and propose its sign-off.

    Parameters
    ----------
    store : VerdictStore
        Its verdicts, and the journal beside them.
    run : int
        Its number.
    streams : sequence of str
        Streams that should be there, besides those that are.
    rules : SignOffRules
        What a good run is.
    created_by : str
        Who makes flags, as in `Flag.as_row`.

    Returns
    -------
    CertifiedRun
        A run without windows is as it was signed, if it was signed.

    Raises
    ------
    InputError
        If the run has no windows and nothing was said of it.
    """
    # windows without times have those of their verdicts, so that they can be certified as others can
    windows = read_run_windows(store, run, streams)
    if not windows.journal.entries:
        windows.refuse_empty()
    flags = windows.flag()
    proposal = propose_sign_off(rules, _seconds(windows.spans, flags))
    record = _record(windows, flags, proposal, created_by)
    faults = dict.fromkeys([*rules.faults, *CertificationStore(store.database).faults()])
    facts = RunFacts(windows.spans, windows.journal, proposal, record, tuple(faults))
    return CertifiedRun(run, facts, flags, windows.borders)


def registry_record(signed: SignOff, journal: RunJournal, created_by: str) -> dict[str, Any]:
    """Give a sign-off as run registries take it: decision, streams and flags.

    Parameters
    ----------
    signed : SignOff
        The sign-off.
    journal : RunJournal
        Of its run: tells whether something was said after it.
    created_by : str
        Name and version of the program.

    Returns
    -------
    dict
        JSON values.
    """
    is_usable = signed.decision is not Decision.BAD
    streams = [
        one | {"used": is_usable and one["stream"] not in signed.without} for one in signed.record["streams"]
    ]
    return {
        "format": FORMAT,
        "run": signed.run,
        "version": signed.identifier,
        "decision": signed.decision.value,
        "without": list(signed.without),
        "signed_by": signed.user,
        "signed_at": signed.time,
        "comment": signed.comment,
        "proposed": signed.proposed.value,
        "n_windows": signed.n_windows,
        "amended_since": bool(journal.since_sign_off),
        "created_by": created_by,
        **signed.record,
        "streams": streams,
    }


def _seconds(spans: Mapping[str, Sequence[Span]], flags: Sequence[Flag]) -> dict[str, dict[Quality, float]]:
    """Add up how long each stream had each flag; time without a window is Null."""
    seconds: dict[str, dict[Quality, float]] = {stream: {} for stream in spans}
    for flag in flags:
        quality = Quality.NULL if flag.flag == UNKNOWN else Quality(flag.flag)
        of_stream = seconds[flag.stream]
        of_stream[quality] = of_stream.get(quality, 0.0) + flag.end - flag.start
    return seconds


def _record(
    windows: RunWindows, flags: Sequence[Flag], proposal: Proposal, created_by: str
) -> dict[str, Any]:
    """Give what a sign-off keeps: it outlives the verdicts."""
    verdicts = windows.verdicts
    return {
        "run_types": sorted({verdict.window.run_type for verdict in verdicts} - {""}),
        "origins": sorted({verdict.window.origin for verdict in verdicts}),
        "from": min((flag.start for flag in flags), default=None),
        "to": max((flag.end for flag in flags), default=None),
        "reason": proposal.reason,
        "streams": [
            {
                "stream": outcome.stream,
                "keeps_rules": outcome.is_good,
                "reason": outcome.reason,
                "good": outcome.shares[Quality.GOOD],
                "medium": outcome.shares[Quality.MEDIUM],
                "bad": outcome.shares[Quality.BAD],
                "unknown": 1.0 - outcome.covered_share,
            }
            for outcome in proposal.streams
        ],
        "flags": [flag.as_row(created_by) for flag in flags],
    }
