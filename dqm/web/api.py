"""The JSON API under ``/api/v1``, and its description after OpenAPI 3.1.

Handlers are plain functions, which run in the thread pool: they read the store. They only turn a request into
a query or a command. Who asks has been decided before (`dqm.web.auth`). Errors become
``application/problem+json`` (`dqm.web.problems`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dqm.alarm import (
    AcceptChange,
    AcknowledgeAlarm,
    Alarm,
    AlarmCommand,
    Cause,
    Mask,
    RemoveMask,
    Thresholds,
    UnshelveAlarm,
)
from dqm.web import models as m
from dqm.web.auth.accounts import Accounts
from dqm.web.certification_api import add_certification
from dqm.web.changes import acknowledge_group, administer, carry_out, require
from dqm.web.compare_pages import start_comparison
from dqm.web.comparisons import (
    Comparison,
    ComparisonBody,
    ComparisonDetail,
    ComparisonList,
    ComparisonName,
    KeptRun,
)
from dqm.web.queries import Queries
from dqm.web.security import JsonRequest
from dqm.web.trend import Trend, show_trend
from dqm.web.wall import Wall

__all__ = ["API", "create_api"]

API = "/api/v1"

_ON_READING = {
    401: "it needs a user",
    404: "it is not there",
    422: "the request is not as described",
    429: "too much was changed, or too many sign-ins failed; Retry-After tells for how long",
    503: "the store cannot be read or written",
}
_ON_CHANGES = {
    403: "the user's role does not allow it, another site asked for it, or no users are configured",
    409: "it cannot be done as things stand",
    413: "the request is too long",
    415: "the request does not say that it is JSON",
}
_DESCRIPTION = (
    "The daemon's streams, windows and alarms. Times are Unix seconds. Errors say what was wrong, where, "
    "and what to do. Reading needs a user only from other hosts, a change always."
)


class _JsonRoute(APIRoute):
    """Reads the body of a request as `JsonRequest` does, before anything else is done with it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give the handler of the route, with the check before it."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if self.body_field is not None:
                request = JsonRequest(request.scope, request.receive)
                await request.json()  # kept in the request
            return await handle(request)

        return handle_json


def _problems(texts: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}


async def _queries_of(request: Request) -> Queries:
    queries: Queries = request.app.state.queries
    return queries


async def _accounts_of(request: Request) -> Accounts:
    accounts: Accounts = request.app.state.accounts
    return accounts


Asked = Annotated[Queries, Depends(_queries_of)]
Known = Annotated[Accounts, Depends(_accounts_of)]

_router = APIRouter(route_class=_JsonRoute, responses=_problems(_ON_READING))
_get = _router.get
_post = functools.partial(
    _router.post, responses=_problems(_ON_CHANGES), openapi_extra={"security": [{"password": []}]}
)


@_get("/overview", summary="Everything at a glance")
def overview(queries: Asked) -> m.Overview:
    return queries.overview()


@_get("/streams/{stream}", summary="One stream")
def stream(queries: Asked, stream: m.StreamName) -> m.Stream:
    return queries.stream(stream)


@_get("/streams/{stream}/windows", summary="Verdicts of a stream, the newest first")
def windows(queries: Asked, stream: m.StreamName, query: Annotated[m.WindowQuery, Query()]) -> m.WindowList:
    return queries.windows(stream, query.run, query.quality, query.limit)


@_get("/streams/{stream}/windows/{run}/{seq}", summary="One window, with its maps in full")
def window(
    queries: Asked, stream: m.StreamName, run: m.SequenceNumber, seq: m.SequenceNumber
) -> m.WindowDetail:
    return queries.window(stream, run, seq)


@_get(
    "/streams/{stream}/trend", summary="The runs of a stream side by side, and since when windows are worse"
)
def trend(queries: Asked, stream: m.StreamName, query: Annotated[m.TrendQuery, Query()]) -> Trend:
    return show_trend(queries.trend(stream, query))


@_get("/wall", summary="All streams from afar")
def wall(queries: Asked, query: Annotated[m.WallChoice, Query()]) -> Wall:
    return queries.wall(query.hours)


@_get("/alarms", summary="All alarms, the most urgent first")
def alarms(queries: Asked) -> m.AlarmList:
    return queries.alarms()


@_get("/alarms/history", summary="What happened to alarms, the newest first")
def history(queries: Asked, query: Annotated[m.ChangeQuery, Query()]) -> m.ChangeList:
    return queries.changes(query.stream, query.since, query.limit)


@_get("/alarms/{stream}/{cause}", summary="One alarm")
def alarm(queries: Asked, stream: m.StreamName, cause: Cause) -> Alarm:
    return queries.alarm(stream, cause)


@_post("/alarms/groups/acknowledge", summary="Take over the alarms of one cause in a group, at once")
def acknowledge_alarms(queries: Asked, request: Request, body: m.GroupBody) -> m.AcknowledgedGroup:
    return acknowledge_group(queries, request, body.command())


@_post("/alarms/{stream}/{cause}/acknowledge", summary="Take an alarm over")
def acknowledge(
    queries: Asked, request: Request, stream: m.StreamName, cause: Cause, body: m.CommentBody
) -> Alarm:
    return _apply(queries, request, AcknowledgeAlarm(stream, cause, body.comment))


@_post("/alarms/{stream}/{cause}/shelve", summary="Put an alarm aside; it comes back by itself")
def shelve(queries: Asked, request: Request, stream: m.StreamName, cause: Cause, body: m.ShelveBody) -> Alarm:
    return _apply(queries, request, body.command(stream, cause))


@_post("/alarms/{stream}/{cause}/unshelve", summary="End a shelf early")
def unshelve(
    queries: Asked, request: Request, stream: m.StreamName, cause: Cause, body: m.CommentBody
) -> Alarm:
    return _apply(queries, request, UnshelveAlarm(stream, cause, body.comment))


@_post("/alarms/{stream}/changed/accept", summary="Take the state after a sudden change as the usual one")
def accept(queries: Asked, request: Request, stream: m.StreamName, body: m.CommentBody) -> Alarm:
    return _apply(queries, request, AcceptChange(stream, body.comment))


@_get("/thresholds", summary="Limits that follow from the false-alarm budget")
def thresholds(queries: Asked) -> Thresholds:
    return queries.thresholds()


@_get("/masks", summary="Masks in force or to come")
def masks(queries: Asked) -> m.MaskList:
    return queries.masks()


@_post("/masks", summary="Suppress the alarms of streams, or leave out channels")
def mask(queries: Asked, request: Request, body: m.MaskBody) -> Mask:
    command = body.command()
    carry_out(queries, request, command)
    return queries.mask(command.identifier)


@_post("/masks/{identifier}/remove", summary="End a mask")
def unmask(queries: Asked, request: Request, identifier: str, body: m.CommentBody) -> m.MaskList:
    carry_out(queries, request, RemoveMask(identifier, body.comment))
    return queries.masks()


@_get("/streams/{stream}/kept", summary="Runs of a stream of which events are kept, the newest first")
def kept(queries: Asked, stream: m.StreamName) -> list[KeptRun]:
    queries.stream(stream)
    return list(queries.comparisons.kept_runs(stream))


@_get("/compare", summary="Comparisons that are remembered, the newest first")
def comparisons(queries: Asked) -> ComparisonList:
    return ComparisonList(comparisons=tuple(queries.comparisons.all()))


@_get("/compare/{identifier}", summary="One comparison, with its maps in full once it is done")
def comparison(queries: Asked, identifier: ComparisonName) -> ComparisonDetail:
    return queries.comparisons.find(identifier)


@_post("/compare", summary="Compare two runs, windows or streams by their kept events")
def compare(queries: Asked, request: Request, body: ComparisonBody) -> Comparison:
    return start_comparison(queries, request, body)


@_post("/compare/{identifier}/cancel", summary="End a comparison")
def cancel_comparison(queries: Asked, request: Request, identifier: ComparisonName) -> Comparison:
    require(queries, request, "compare", identifier)
    return queries.comparisons.cancel(identifier)


@_get(
    "/users",
    summary="Who can sign in with a password, and who is signed in; for admins",
    responses=_problems({403: "the user is not an admin"}),
)
def users(queries: Asked, known: Known, request: Request) -> m.AccountList:
    require(queries, request, "users", "list")
    return known.all()


@_post("/users/role", summary="Give a user another role")
def set_role(queries: Asked, known: Known, request: Request, body: m.RoleBody) -> m.AccountList:
    administer(
        queries, request, lambda: known.set_role(body.name, body.role),
        action="set role", target=f"{body.name} ({body.role})", comment=body.comment,
    )  # fmt: skip
    return known.all()


@_post("/users/sign-out", summary="Sign a user out of all browsers")
def sign_out_user(queries: Asked, known: Known, request: Request, body: m.AccountBody) -> m.AccountList:
    administer(
        queries, request, lambda: known.sign_out(body.name),
        action="sign out user", target=body.name, comment=body.comment,
    )  # fmt: skip
    return known.all()


@_post("/users/remove", summary="Remove a user, and sign them out")
def remove_user(queries: Asked, known: Known, request: Request, body: m.AccountBody) -> m.AccountList:
    administer(
        queries, request, lambda: known.remove(body.name),
        action="remove user", target=body.name, comment=body.comment,
    )  # fmt: skip
    return known.all()


add_certification(_get, _post)


def _apply(queries: Queries, request: Request, command: AlarmCommand) -> Alarm:
    """Carry out a command on an alarm that exists, and give the alarm."""
    queries.alarm(command.stream, command.cause)
    carry_out(queries, request, command)
    return queries.alarm(command.stream, command.cause)


def create_api(queries: Queries, accounts: Accounts, handlers: Mapping[Any, Any]) -> ASGIApp:
    """Make the API, to be mounted at `API`.

    Parameters
    ----------
    queries : Queries
        What it shows.
    accounts : Accounts
        Users, for admins.
    handlers : mapping
        Handlers of errors by kind of exception.

    Returns
    -------
    ASGI application
        With its description at ``/openapi.json``.
    """
    api = FastAPI(
        title="dqm",
        version=queries.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers=dict(handlers),
    )
    api.state.queries = queries
    api.state.accounts = accounts
    api.include_router(_router)
    describe = functools.cache(lambda: _describe(api))
    api.add_route("/openapi.json", lambda _request: JSONResponse(describe()))
    return _answer_head(api)


def _answer_head(app: ASGIApp) -> ASGIApp:
    """Answer HEAD like GET; the server leaves the body out."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)

    return answer


def _describe(api: FastAPI) -> dict[str, Any]:
    """Write the description of the API: what FastAPI knows, the model of problems, and how users sign in."""
    description = get_openapi(
        title=api.title,
        version=api.version,
        description=_DESCRIPTION,
        license_info={"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        servers=[{"url": API}],
        routes=api.routes,
    )
    components = description["components"]
    components["schemas"]["Problem"] = m.Problem.model_json_schema(mode="serialization")
    for shown in (Alarm, Mask, m.ShelveBody, m.MaskBody):  # FastAPI leaves out a default of null
        for name, schema in TypeAdapter(shown).json_schema(mode="serialization")["properties"].items():
            if schema.get("default", "") is None:
                components["schemas"][shown.__name__]["properties"][name]["default"] = None
    components["securitySchemes"] = {"password": {"type": "http", "scheme": "basic"}}
    description["security"] = [{"password": []}, {}]
    return description
