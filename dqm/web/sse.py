"""Server-sent events: open pages learn when something has changed, and that the daemon runs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dqm.alarm import needs_response
from dqm.web.auth.principal import principal_of
from dqm.web.queries import Queries
from dqm.web.security import SESSION_COOKIE
from dqm.web.timeline import SLOT_SECONDS

__all__ = ["STOPPING", "ChangeFeed"]

STOPPING = "dqm.stopping"
"""Key of the ASGI scope: a callable that returns whether the server stops."""

_EVENT_SECONDS = 1.0
_READ_SECONDS = 0.5
_MOST_LISTENERS = 32
_MOST_OF_CLIENT = 4  # a browser opens six connections: two are left for pages
_BUSY = {"Retry-After": "15"}
_ADMITTED_SECONDS = 60.0


class ChangeFeed:
    """Counts changes of streams and alarms, and sends the number to each listener once a second.

    Parameters
    ----------
    queries : Queries
        What may change.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, queries: Queries, monotonic: Callable[[], float]) -> None:
        self._queries = queries
        self._monotonic = monotonic
        self._lock = Lock()
        self._number = 0
        self._seen: object = None
        self._event = ""
        self._read_at = float("-inf")
        self._listeners: Counter[str] = Counter()

    def present_event(self) -> str:
        """Give the present event: time, number of changes so far, alarms that need a response."""
        with self._lock:
            if self._monotonic() - self._read_at >= _READ_SECONDS:
                self._read_at = self._monotonic()
                self._event = self._read()
            return self._event

    async def listen(self, request: Request) -> Response:
        """Answer with a stream of events; 503 when too many listen, or too many of one client."""
        return _Stream(self, request)

    @contextmanager
    def admit(self, client: str) -> Iterator[bool]:
        """Count a listener as long as the body of the `with` statement runs; False if there are too many.

        Parameters
        ----------
        client : str
            Who listens.

        Yields
        ------
        bool
            Whether it may listen.
        """
        if self._listeners.total() >= _MOST_LISTENERS or self._listeners[client] >= _MOST_OF_CLIENT:
            yield False
            return
        self._listeners[client] += 1
        try:
            yield True
        finally:
            self._listeners[client] -= 1
            if not self._listeners[client]:
                del self._listeners[client]

    async def events(self, request: Request) -> AsyncIterator[str]:
        """Go on while somebody listens; remote listeners must authenticate again now and then."""
        ends = float("inf") if principal_of(request).is_local else self._monotonic() + _ADMITTED_SECONDS
        yield f"retry: 2000\ndata: {self.present_event()}\n\n"
        while not await request.is_disconnected():
            await asyncio.sleep(_EVENT_SECONDS)
            if request.scope[STOPPING]() or self._monotonic() >= ends:
                return
            yield f"data: {self.present_event()}\n\n"

    def _read(self) -> str:
        alarms = tuple(self._queries.alarm_service.alarms())
        seen = (
            self._queries.statuses.version,
            alarms,
            tuple(self._queries.alarm_service.masks()),
            tuple(peer.model_copy(update={"answered_at": None}) for peer in self._queries.peers()),
            int(self._queries.clock() // SLOT_SECONDS),  # a page with an axis of time goes on
        )
        if seen != self._seen:
            self._number = self._number + 1
            self._seen = seen
        raised = [
            {"id": f"{alarm.stream}/{alarm.cause}", "text": alarm.text, "priority": alarm.priority}
            for alarm in alarms
            if needs_response(alarm)
        ]
        return json.dumps({"time": self._queries.clock(), "number": self._number, "alarms": raised})


class _Stream(Response):
    """A stream of events, which counts as a listener from the first to the last moment of the answer."""

    def __init__(self, feed: ChangeFeed, request: Request) -> None:
        super().__init__()
        self._feed = feed
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if there are not too many."""
        with self._feed.admit(_client_of(self._request)) as is_admitted:
            answer: Response = Response(status_code=503, headers=_BUSY)
            if is_admitted:
                answer = StreamingResponse(self._feed.events(self._request), media_type="text/event-stream")
            await answer(scope, receive, send)


def _client_of(request: Request) -> str:
    """Identify the listener: the session of a browser, else the address (from the proxy) and the user."""
    principal = principal_of(request)
    session = request.cookies.get(SESSION_COOKIE, "") if principal.has_session else ""
    return session or f"{principal.address} {principal.user}"
