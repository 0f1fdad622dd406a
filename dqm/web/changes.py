"""Changes that users ask for: the one way from a page or the API to the alarms."""

from __future__ import annotations

from starlette.requests import Request

from dqm.alarm import Command
from dqm.web.auth.principal import principal_of
from dqm.web.auth.roles import NEEDED
from dqm.web.problems import RoleMissingError
from dqm.web.queries import Queries

__all__ = ["carry_out", "require"]

_LONGEST_TARGET = 256
"""Of a row of the audit."""


def carry_out(queries: Queries, request: Request, command: Command) -> None:
    """Carry out a command in the name of whoever asks.

    Parameters
    ----------
    queries : Queries
        What is changed.
    request : Request
        Who asks.
    command : Command
        What is done.

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
    queries.alarm_service.apply(command, principal_of(request).user)


def require(queries: Queries, request: Request, action: str, target: str) -> None:
    """Refuse an action for which the user has no role, and write that to the audit.

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
    RoleMissingError
        If the user's role does not allow it.
    StoreError
        If the refusal cannot be stored.
    """
    principal = principal_of(request)
    if principal.may(action):
        return
    needed, has = NEEDED[action], principal.role or "without a role"
    what = f"this needs the role {needed}; {principal.user} is {has}"
    shown = "".join(letter if letter.isprintable() else "?" for letter in target[:_LONGEST_TARGET])
    queries.history.record(queries.clock(), principal.user, f"{action} refused", shown, what)
    raise RoleMissingError(what, where=action, fix="Ask somebody who has that role, or whoever gives roles")
