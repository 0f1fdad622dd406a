"""Certification of runs for the page and the API; both show the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from dqm.alarm import CertifyCommand, Entry, Overlay, RunJournal, SignOff, SignOffRules, Span
from dqm.errors import InputError
from dqm.export.certified_run import CertifiedRun, registry_record
from dqm.export.registry import RegistryStatus
from dqm.web import models as m
from dqm.web.certification_models import RunCertification, RunList, view_line, view_run
from dqm.web.problems import NotFoundError

__all__ = ["CertificationActions", "find_record", "find_run", "find_said", "list_runs"]


class CertificationActions(Protocol):
    """Journals of runs, and commands on them; may be used from any thread."""

    @property
    def rules(self) -> SignOffRules:
        """Which sign-off is proposed, and who may sign."""

    @property
    def created_by(self) -> str:
        """Name and version of the program."""

    def last_runs(self, limit: int, below: int | None = None) -> list[RunJournal]:
        """Give the runs of the largest numbers, below another one, the largest first."""

    def read_run(self, run: int) -> CertifiedRun:
        """Read a run; raises `InputError` if nothing is known of it."""

    def journal(self, run: int) -> RunJournal:
        """Read what was said of a run."""

    def sign_off(self, identifier: int) -> SignOff:
        """Read a sign-off with its record."""

    def sent_at(self, signed: SignOff) -> float | None:
        """When the registry took a sign-off, Unix seconds."""

    def registry_status(self) -> RegistryStatus | None:
        """State of the registry; None without one."""

    def apply(self, command: CertifyCommand, user: str) -> Entry:
        """Carry out a command, durably; raises `InputError` if it cannot be done."""


def list_runs(actions: CertificationActions, limit: int, below: int | None = None) -> RunList:
    """Give the runs of the largest numbers with their sign-offs."""
    return RunList(runs=tuple(map(view_line, actions.last_runs(limit, below))))


def find_run(actions: CertificationActions, run: int) -> RunCertification:
    """Give a run with all that was said of it; raises `NotFoundError`."""
    try:
        found = actions.read_run(run)
    except InputError as error:
        raise NotFoundError(error.what, fix="See /certification for the runs that have windows") from None
    signed = found.journal.sign_off
    if signed is not None and found.n_deleted:
        signed = actions.sign_off(signed.identifier)
    return view_run(found, signed, actions.sent_at(signed) if signed else None, actions.created_by)


def find_said(actions: CertificationActions, span: Span) -> Iterator[m.WindowComment]:
    """Give what people said of a window, in its middle."""
    window = span.verdict.window
    overlay = Overlay(actions.journal(window.run).amendments)
    for one in (overlay.flag(window, span.middle), overlay.label(window, span.middle)):
        if one is not None:
            yield m.WindowComment(
                quality=one.quality, fault=one.fault, user=one.user, time=one.time, comment=one.comment
            )


def find_record(actions: CertificationActions, run: int) -> dict[str, Any]:
    """Give the last sign-off of a run as the registry gets it; raises `NotFoundError`."""
    journal = actions.journal(run)
    if journal.sign_off is None:
        find_run(actions, run)  # which says it if there is no such run
        raise NotFoundError(
            "nobody has signed it", where=f"run {run}", fix=f"Sign it at /certification/{run}"
        )
    signed = actions.sign_off(journal.sign_off.identifier)
    return registry_record(signed, journal, actions.created_by)
