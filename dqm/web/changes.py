"""Changes that users ask for: the one way from a page or the API to alarms and users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request

from dqm.alarm import (
    AcknowledgeGroup,
    AlarmChange,
    CertifyCommand,
    Command,
    Entry,
    SignRun,
    may_sign,
    needs_response,
)
from dqm.alarm.commands import LONGEST_TARGET
from dqm.alarm.groups import is_within
from dqm.errors import InputError
from dqm.web import models as m
from dqm.web.auth.principal import READING, principal_of
from dqm.web.auth.roles import NEEDED
from dqm.web.problems import NotSignedInError, RoleMissingError
from dqm.web.queries import Queries

__all__ = ["acknowledge_group", "administer", "carry_out", "certify", "require"]


def carry_out(queries: Queries, request: Request, command: Command) -> Sequence[AlarmChange]:
    """Carry out a command in the name of whoever asks.

    Parameters
    ----------
    queries : Queries
        What is changed.
    request : Request
        Who asks.
    command : Command
        What is done.

    Returns
    -------
    sequence of AlarmChange
        What it has changed.

    Raises
    ------
    RoleMissingError
        If the user's role does not allow it.
    InputError
        If the alarms do not allow it.
    StoreError
        If it cannot be stored; nothing has changed then.
    """
    require(queries, request, command.action, command.target)
    return queries.alarm_service.apply(command, principal_of(request).user)


def acknowledge_group(queries: Queries, request: Request, command: AcknowledgeGroup) -> m.AcknowledgedGroup:
    """Acknowledge the alarms of a group, all of those named or none, and tell which came too late for it.

    Parameters
    ----------
    queries, request, command
        As in `carry_out`, which says what it raises.

    Returns
    -------
    AcknowledgedGroup
        For the answer.
    """
    changes = carry_out(queries, request, command)
    left = [
        alarm.stream
        for alarm in queries.alarm_service.alarms()
        if alarm.cause is command.cause and is_within(alarm.group, command.group) and needs_response(alarm)
    ]
    done = [change.alarm.stream for change in changes if change.action == command.action]
    return m.AcknowledgedGroup(acknowledged=tuple(sorted(done)), left=tuple(sorted(left)))


def certify(queries: Queries, request: Request, command: CertifyCommand) -> Entry:
    """Amend, label or sign the data of a run in the name of whoever asks.

    Parameters
    ----------
    queries, request
        As in `carry_out`.
    command : CertifyCommand
        What is done.

    Returns
    -------
    Entry
        What was stored.

    Raises
    ------
    RoleMissingError
        If the user's role does not allow it, or others are named to sign.
    InputError
        If there is nothing to amend, or somebody has amended it meanwhile.
    StoreError
        If it cannot be stored; nothing has changed then.
    """
    require(queries, request, command.action, command.target)
    user = principal_of(request).user
    if isinstance(command, SignRun) and not may_sign(user, queries.certification.rules.signers):
        what = f"[certification] signers names who may sign; {user} is not among them"
        _record_refusal(queries, user, command.action, command.target, what)
        raise RoleMissingError(what, where=command.action, fix="Ask one of those who are named")
    return queries.certification.apply(command, user)


def administer(
    queries: Queries,
    request: Request,
    change: Callable[[], object],
    *,
    action: str,
    target: str,
    comment: str,
) -> None:
    """Change a user or their sign-ins in the name of an admin, and write it to the audit.

    Parameters
    ----------
    queries : Queries
        Has the audit.
    request : Request
        Who asks.
    change : callable
        Does it; may raise `InputError`.
    action, target, comment : str
        For the audit: what is done with whom, and why.

    Raises
    ------
    RoleMissingError
        If the user is not an admin.
    InputError
        If it cannot be done.
    StoreError
        If it cannot be written to the audit; nothing has changed then.
    """
    require(queries, request, "users", target)
    user = principal_of(request).user
    queries.history.record(queries.clock(), user, action, target, comment)
    try:
        change()
    except InputError as error:
        queries.history.record(queries.clock(), user, f"{action} failed", target, error.what)
        raise


def require(queries: Queries, request: Request, action: str, target: str) -> None:
    """Refuse an action for which the user has no role; a change that is refused goes to the audit.

    Parameters
    ----------
    queries : Queries
        Has the audit.
    request : Request
        Who asks.
    action : str
        A key of `NEEDED`.
    target : str
        What would be changed.

    Raises
    ------
    NotSignedInError, RoleMissingError
        If there is no user, or the role does not allow it.
    StoreError
        If the refusal cannot be stored.
    """
    principal = principal_of(request)
    if principal.may(action):
        return
    if not principal.user:
        raise NotSignedInError(f"this needs a user of the role {NEEDED[action]}", fix="Sign in")
    what = f"this needs the role {NEEDED[action]}; that of {principal.user} is {principal.role}"
    if request.method not in READING:  # only changes: otherwise readers could fill the audit
        _record_refusal(queries, principal.user, action, target, what)
    raise RoleMissingError(what, where=action, fix="Ask somebody who has that role, or whoever gives roles")


def _record_refusal(queries: Queries, user: str, action: str, target: str, what: str) -> None:
    shown = "".join(letter if letter.isprintable() else "?" for letter in target[:LONGEST_TARGET])
    queries.history.record(queries.clock(), user, f"{action} refused", shown, what)
