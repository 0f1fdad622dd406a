"""The page on which admins see and change users and their sign-ins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dqm.config import Role
from dqm.errors import InputError
from dqm.web import models as m
from dqm.web.auth.accounts import Accounts
from dqm.web.changes import administer, require
from dqm.web.problems import NotSignedInError, RoleMissingError, describe_problem
from dqm.web.queries import Queries
from dqm.web.render import render
from dqm.web.security import read_form

__all__ = ["user_routes"]

Form = Mapping[str, str]
Change = Callable[[Queries, Accounts, Request, Form], None]


def user_routes(queries: Queries, accounts: Accounts) -> list[Route]:
    """Make the routes of the page of users.

    Parameters
    ----------
    queries : Queries
        What is shown, with the audit.
    accounts : Accounts
        Users and their sign-ins.

    Returns
    -------
    list of Route
        For the application.
    """

    def show(request: Request) -> Response:
        return _show(queries, accounts, request)

    def change(do: Change) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            fields = await read_form(request)
            try:
                await run_in_threadpool(do, queries, accounts, request, fields)
            except (NotSignedInError, RoleMissingError):
                raise
            except (InputError, ValidationError) as error:
                return await run_in_threadpool(_show, queries, accounts, request, error)
            return RedirectResponse("/users", 303)

        return answer

    return [
        Route("/users", show),
        Route("/users/role", change(_set_role), methods=["POST"]),
        Route("/users/sign-out", change(_sign_out), methods=["POST"]),
        Route("/users/remove", change(_remove), methods=["POST"]),
    ]


def _show(queries: Queries, accounts: Accounts, request: Request, error: Exception | None = None) -> Response:
    require(queries, request, "users", "list")
    problem = describe_problem(error) if error else None
    trouble = ". ".join(filter(None, [problem.detail, problem.fix])) if problem else ""
    status = problem.status if problem else 200
    page = accounts.all()
    return render(queries, request, "users.html", status, page=page, roles=list(Role), trouble=trouble)


def _set_role(queries: Queries, accounts: Accounts, request: Request, fields: Form) -> None:
    asked = m.RoleBody.model_validate_strings(dict(fields))
    administer(
        queries, request, lambda: accounts.set_role(asked.name, asked.role),
        action="set role", target=f"{asked.name} ({asked.role})", comment=asked.comment,
    )  # fmt: skip


def _sign_out(queries: Queries, accounts: Accounts, request: Request, fields: Form) -> None:
    asked = m.AccountBody.model_validate_strings(dict(fields))
    administer(
        queries, request, lambda: accounts.sign_out(asked.name),
        action="sign out user", target=asked.name, comment=asked.comment,
    )  # fmt: skip


def _remove(queries: Queries, accounts: Accounts, request: Request, fields: Form) -> None:
    asked = m.AccountBody.model_validate_strings(dict(fields))
    administer(
        queries, request, lambda: accounts.remove(asked.name),
        action="remove user", target=asked.name, comment=asked.comment,
    )  # fmt: skip
