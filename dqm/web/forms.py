"""Forms of the pages: what a POST does, which page follows, and what is shown if it cannot be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dqm.errors import InputError
from dqm.web.models import Problem
from dqm.web.problems import NotFoundError, NotSignedInError, RoleMissingError, describe_problem
from dqm.web.security import read_form

__all__ = ["Form", "answer_form", "describe_trouble"]

Form = Mapping[str, str]
"""Fields of a form that were filled in, by name."""


def answer_form(
    do: Callable[[Request, Form], str], show: Callable[[Request, Form, Problem], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """Make the endpoint of a form.

    Parameters
    ----------
    do : callable
        Does what the form asks for, in a thread, and gives the address of the page that it leads to.
    show : callable
        Shows the page of the form again, with the problem, if what was filled in cannot be done. What is not
        there, and who may not, have pages of their own.

    Returns
    -------
    callable
        For a route with POST.
    """

    async def answer(request: Request) -> Response:
        fields = await read_form(request)
        try:
            address = await run_in_threadpool(do, request, fields)
        except (NotFoundError, NotSignedInError, RoleMissingError):
            raise
        except (InputError, ValidationError) as error:
            return await run_in_threadpool(show, request, fields, describe_problem(error))
        return RedirectResponse(address, 303)

    return answer


def describe_trouble(problem: Problem | None) -> str:
    """Say a problem in one line beside a form; empty if there is none."""
    if problem is None:
        return ""
    where = f"{problem.where}: " if problem.where else ""
    return ". ".join(filter(None, [f"{where}{problem.detail}", problem.fix]))
