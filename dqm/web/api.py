"""The JSON API: one table of endpoints, from which both the routes and their description are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dqm.alarm import Alarm, Cause, Mask, Thresholds
from dqm.events import Quality
from dqm.web import models as m
from dqm.web.auth.authenticator import principal_of
from dqm.web.problems import UnreadableError
from dqm.web.queries import Site
from dqm.web.security import read_json

__all__ = ["API", "ENDPOINTS", "PATH_VALUES", "Endpoint", "api_routes"]

API = "/api/v1"

PATH_VALUES: Mapping[str, TypeAdapter[Any]] = {
    "stream": TypeAdapter(str),
    "run": TypeAdapter(int),
    "seq": TypeAdapter(int),
    "cause": TypeAdapter(Cause),
    "identifier": TypeAdapter(str),
}
"""Types of the variable parts of paths."""


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _WindowQuery(_Query):
    run: int | None = Field(None, description="only of this run")
    quality: Quality | None = Field(None, description="only of this quality")
    limit: int = Field(100, ge=1, le=1000, description="the last so many")


class _ChangeQuery(_Query):
    stream: str | None = Field(None, description="only of this stream")
    since: float | None = Field(None, description="only since then, Unix seconds")
    limit: int = Field(100, ge=1, le=1000, description="the last so many")


@dataclass(frozen=True, slots=True)
class Call:
    """A request, checked.

    Parameters
    ----------
    path : mapping
        Variable parts of the path, by name.
    query, body : BaseModel or None
        As the endpoint declares them.
    user : str
        Who asks; empty only if nothing changes by it.
    """

    path: Mapping[str, Any]
    query: Any
    body: Any
    user: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API.

    Parameters
    ----------
    method : str
        HTTP method.
    path : str
        Below ``/api/v1``, with variables in braces.
    name : str
        Name of the operation, unique.
    text : str
        What it does.
    answer : type
        What it answers with.
    handle : callable
        Does it.
    query, body : type of BaseModel, optional
        What it takes.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    text: str
    answer: Any
    handle: Callable[[Site, Call], object]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None


def _acknowledge(site: Site, call: Call) -> Alarm:
    site.alarm(**call.path)
    site.alarm_service.acknowledge(**call.path, user=call.user, comment=call.body.comment)
    return site.alarm(**call.path)


def _shelve(site: Site, call: Call) -> Alarm:
    site.alarm(**call.path)
    site.shelve(**call.path, user=call.user, asked=call.body)
    return site.alarm(**call.path)


def _unshelve(site: Site, call: Call) -> Alarm:
    site.alarm(**call.path)
    site.alarm_service.unshelve(**call.path, user=call.user, comment=call.body.comment)
    return site.alarm(**call.path)


def _unmask(site: Site, call: Call) -> m.MaskList:
    site.alarm_service.remove_mask(**call.path, user=call.user, comment=call.body.comment)
    return site.masks()


ENDPOINTS = (
    Endpoint("GET", "/overview", "overview", "Everything at one look", m.Overview, lambda s, _: s.overview()),
    Endpoint("GET", "/streams/{stream}", "stream", "One stream", m.Stream, lambda s, c: s.stream(**c.path)),
    Endpoint(
        "GET", "/streams/{stream}/windows", "windows", "Verdicts of a stream, the newest first",
        m.WindowList, lambda s, c: s.windows(**c.path, **dict(c.query)), query=_WindowQuery,
    ),
    Endpoint(
        "GET", "/streams/{stream}/windows/{run}/{seq}", "window", "One window, with its maps in full",
        m.Window, lambda s, c: s.window(**c.path),
    ),
    Endpoint(
        "GET", "/alarms", "alarms", "All alarms, the most pressing first",
        m.AlarmList, lambda s, _: s.alarms(),
    ),
    Endpoint(
        "GET", "/alarms/history", "history", "What happened to alarms, the newest first",
        m.ChangeList, lambda s, c: s.changes(**dict(c.query)), query=_ChangeQuery,
    ),
    Endpoint("GET", "/alarms/{stream}/{cause}", "alarm", "One alarm", Alarm, lambda s, c: s.alarm(**c.path)),
    Endpoint(
        "POST", "/alarms/{stream}/{cause}/acknowledge", "acknowledge", "Take an alarm over",
        Alarm, _acknowledge, body=m.Signed,
    ),
    Endpoint(
        "POST", "/alarms/{stream}/{cause}/shelve", "shelve", "Put an alarm aside; it comes back by itself",
        Alarm, _shelve, body=m.Shelve,
    ),
    Endpoint(
        "POST", "/alarms/{stream}/{cause}/unshelve", "unshelve", "Take an alarm off its shelf",
        Alarm, _unshelve, body=m.Signed,
    ),
    Endpoint(
        "GET", "/thresholds", "thresholds", "Numbers that decide, as they follow from the false-alarm budget",
        Thresholds, lambda s, _: s.thresholds(),
    ),
    Endpoint("GET", "/masks", "masks", "Masks in force or to come", m.MaskList, lambda s, _: s.masks()),
    Endpoint(
        "POST", "/masks", "mask", "Suppress the alarms of streams",
        Mask, lambda s, c: s.add_mask(c.user, c.body), body=m.MakeMask,
    ),
    Endpoint(
        "POST", "/masks/{identifier}/remove", "unmask", "End a mask",
        m.MaskList, _unmask, body=m.Signed,
    ),
)  # fmt: skip
"""Every operation."""


def api_routes(site: Site) -> list[Route]:
    """Make the routes of the table, in its order.

    Parameters
    ----------
    site : Site
        What is shown.

    Returns
    -------
    list of Route
        For the application.
    """
    return [_route(site, endpoint) for endpoint in ENDPOINTS]


def _route(site: Site, endpoint: Endpoint) -> Route:
    answer = TypeAdapter(endpoint.answer)

    async def answer_request(request: Request) -> Response:
        path = {name: _path_value(name, text) for name, text in request.path_params.items()}
        query = endpoint.query.model_validate_strings(dict(request.query_params)) if endpoint.query else None
        body = _parse(endpoint.body, await read_json(request)) if endpoint.body else None
        call = Call(path, query, body, principal_of(request).user)
        told = await run_in_threadpool(lambda: answer.dump_json(endpoint.handle(site, call)))
        return Response(told, media_type="application/json")

    return Route(API + endpoint.path, answer_request, methods=[endpoint.method], name=endpoint.name)


def _path_value(name: str, text: str) -> object:
    return PATH_VALUES[name].validate_strings(text)


def _parse(model: type[BaseModel], body: bytes) -> BaseModel:
    try:
        values = json.loads(body)
    except ValueError as error:
        raise UnreadableError(f"not JSON: {error}", where="body", fix="Send a JSON object") from None
    return model.model_validate(values)
