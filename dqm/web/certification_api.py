"""Routes of the JSON API for the certification of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request

from dqm.alarm import CertifyCommand
from dqm.web import certification_models as cm
from dqm.web.certification_queries import CertificationActions, find_record, find_run, list_runs
from dqm.web.changes import certify
from dqm.web.models import SequenceNumber

__all__ = ["add_certification"]

_AT = "/certification/{run}"

Decorate = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


def add_certification(get: Decorate, post: Decorate) -> None:
    """Add the routes.

    Parameters
    ----------
    get, post : callable
        Decorators of a router that take a path and a summary.
    """
    get("/certification", summary="Runs with their sign-offs, the largest number first")(runs)
    get(_AT, summary="A run: its flags, what was said of it, and the sign-off that is proposed")(run_of)
    get(f"{_AT}/record", summary="The last sign-off of a run, as a run registry gets it")(record)
    post(f"{_AT}/amend", summary="Give windows of a run another flag")(amend)
    post(f"{_AT}/label", summary="Say which fault windows of a run show")(label)
    post(f"{_AT}/withdraw", summary="End an amendment or a label")(withdraw)
    post(f"{_AT}/sign", summary="Sign a run")(sign)


def runs(request: Request, query: Annotated[cm.RunQuery, Query()]) -> cm.RunList:
    return list_runs(_actions(request), query.limit, query.below)


def run_of(request: Request, run: SequenceNumber) -> cm.RunCertification:
    return find_run(_actions(request), run)


def record(request: Request, run: SequenceNumber) -> dict[str, Any]:
    return find_record(_actions(request), run)


def amend(request: Request, run: SequenceNumber, body: cm.AmendBody) -> cm.EntryView:
    return _apply(request, body.command(run))


def label(request: Request, run: SequenceNumber, body: cm.LabelBody) -> cm.EntryView:
    return _apply(request, body.command(run))


def withdraw(request: Request, run: SequenceNumber, body: cm.WithdrawBody) -> cm.EntryView:
    return _apply(request, body.command(run))


def sign(request: Request, run: SequenceNumber, body: cm.SignBody) -> cm.EntryView:
    return _apply(request, body.command(run))


def _actions(request: Request) -> CertificationActions:
    actions: CertificationActions = request.app.state.queries.certification
    return actions


def _apply(request: Request, command: CertifyCommand) -> cm.EntryView:
    """Carry out a command, and give what was stored."""
    entry = certify(request.app.state.queries, request, command)
    return cm.view_entry(entry, _actions(request).journal(command.run))
