"""Errors of requests, and how they are described to whoever asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from dqm.errors import LARGEST_INTEGER, DqmError, InputError, StoreError
from dqm.web.models import Problem

__all__ = [
    "BusyError",
    "ForeignRequestError",
    "MalformedError",
    "NobodyMayChangeError",
    "NotFoundError",
    "NotSignedInError",
    "ProviderError",
    "RoleMissingError",
    "TooLargeError",
    "UnreadableError",
    "describe_problem",
]


class NotFoundError(InputError):
    """What the request asks for does not exist."""


class ForeignRequestError(InputError):
    """A request to change something that another site may have caused."""


class NotSignedInError(InputError):
    """A request that needs a user, without one."""


class NobodyMayChangeError(InputError):
    """A request to change something where no users are configured."""


class RoleMissingError(InputError):
    """A request of a user whose role does not allow it."""


class ProviderError(InputError):
    """A sign-in that the provider of OpenID Connect does not answer, or answers wrongly."""


class BusyError(InputError):
    """One request too many.

    Parameters
    ----------
    what : str
        What there was too much of.
    seconds : float
        When it may be tried again.
    """

    def __init__(self, what: str, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(what, fix=f"Try again in {self.seconds} s")


class TooLargeError(InputError):
    """A request that is too long."""


class MalformedError(InputError):
    """A request whose content is not of the type that it states."""


class UnreadableError(InputError):
    """A request that is not in the format it must have."""


_STATUS: dict[type[DqmError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ForeignRequestError: HTTPStatus.FORBIDDEN,
    NotSignedInError: HTTPStatus.UNAUTHORIZED,
    NobodyMayChangeError: HTTPStatus.FORBIDDEN,
    RoleMissingError: HTTPStatus.FORBIDDEN,
    ProviderError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MalformedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnreadableError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InputError: HTTPStatus.CONFLICT,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def describe_problem(error: Exception) -> Problem:
    """Say what was wrong, where, and what to do.

    Parameters
    ----------
    error : Exception
        Our own, or one of pydantic, FastAPI or Starlette; nothing is said about any other.

    Returns
    -------
    Problem
        With the HTTP status that fits.
    """
    match error:
        case DqmError():
            fits = (code for kind, code in _STATUS.items() if isinstance(error, kind))
            status = next(fits, HTTPStatus.INTERNAL_SERVER_ERROR)
            return _problem(status, error.what, error.where, error.fix)
        case ValidationError():
            return _invalid([(entry["loc"], _message(entry), entry["input"]) for entry in error.errors()])
        case RequestValidationError():  # the first part of each place is "path", "query" or "body"
            return _invalid([(entry["loc"][1:], _message(entry), entry["input"]) for entry in error.errors()])
        case HTTPException():
            status = HTTPStatus(error.status_code)
            return _problem(
                status, str(error.detail), None, "See / for the page, /api/v1/openapi.json for the API"
            )
        case _:
            return _problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the daemon failed to answer", None, "See the daemon's log"
            )


def _invalid(mistakes: Sequence[tuple[Sequence[int | str], str, object]]) -> Problem:
    """Describe mistakes in a request, each with its place, message and value."""
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "; ".join(_sentence(message, value) for _, message, value in mistakes),
        ", ".join(dict.fromkeys(".".join(map(str, place)) or "request" for place, _, _ in mistakes)),
        "Correct it and send it again",
    )


def _problem(status: HTTPStatus, detail: str, where: str | None, fix: str | None) -> Problem:
    return Problem(title=status.phrase, status=status.value, detail=detail, where=where, fix=fix)


def _message(entry: Mapping[str, Any]) -> str:
    """Give pydantic's message; its text for thousands of digits does not say what is allowed."""
    if entry["type"] == "int_parsing_size":
        return f"Input should be less than or equal to {LARGEST_INTEGER}"
    return str(entry["msg"])


def _sentence(message: str, value: object) -> str:
    text = message.removeprefix("Value error, ")
    return f"{text}, not {value!r:.60}" if isinstance(value, str | int | float) else text
