"""The page on which admins see and change users and their sign-ins."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dqm.config import Role
from dqm.web import models as m
from dqm.web.auth.accounts import Accounts
from dqm.web.changes import administer, require
from dqm.web.forms import Form, answer_form, describe_trouble
from dqm.web.models import Problem
from dqm.web.queries import Queries
from dqm.web.render import render

__all__ = ["user_routes"]

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

    def change(do: Change) -> Callable[[Request, Form], str]:
        def answer(request: Request, fields: Form) -> str:
            do(queries, accounts, request, fields)
            return "/users"

        return answer

    def show_again(request: Request, _fields: Form, problem: Problem) -> Response:
        return _show(queries, accounts, request, problem)

    return [
        Route("/users", show),
        Route("/users/role", answer_form(change(_set_role), show_again), methods=["POST"]),
        Route("/users/sign-out", answer_form(change(_sign_out), show_again), methods=["POST"]),
        Route("/users/remove", answer_form(change(_remove), show_again), methods=["POST"]),
    ]


def _show(queries: Queries, accounts: Accounts, request: Request, problem: Problem | None = None) -> Response:
    require(queries, request, "users", "list")
    trouble = describe_trouble(problem)
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
