"""Server-sent events: open pages learn when something has changed, and that the daemon runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dqm.alarm import needs_response
from dqm.web.auth.principal import principal_of
from dqm.web.queries import Queries

__all__ = ["STOPPING", "ChangeFeed"]

STOPPING = "dqm.stopping"
"""Key of the ASGI scope: a callable that returns whether the server stops."""

_EVENT_SECONDS = 1.0
_READ_SECONDS = 0.5
_MOST_LISTENERS = 32
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
        self._n_listeners = 0

    def present_event(self) -> str:
        """Give the present event: time, number of changes so far, alarms that need a response."""
        with self._lock:
            if self._monotonic() - self._read_at >= _READ_SECONDS:
                self._read_at = self._monotonic()
                self._event = self._read()
            return self._event

    async def listen(self, request: Request) -> Response:
        """Answer with a stream of events; 503 when too many listen."""
        if self._n_listeners >= _MOST_LISTENERS:
            return Response(status_code=503, headers={"Retry-After": "15"})
        return StreamingResponse(self._events(request), media_type="text/event-stream")

    async def _events(self, request: Request) -> AsyncIterator[str]:
        """Go on while somebody listens; remote listeners must authenticate again now and then."""
        ends = float("inf") if principal_of(request).is_local else self._monotonic() + _ADMITTED_SECONDS
        self._n_listeners += 1
        try:
            yield f"retry: 2000\ndata: {self.present_event()}\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(_EVENT_SECONDS)
                if request.scope[STOPPING]() or self._monotonic() >= ends:
                    return
                yield f"data: {self.present_event()}\n\n"
        finally:
            self._n_listeners -= 1

    def _read(self) -> str:
        alarms = tuple(self._queries.alarm_service.alarms())
        seen = (self._queries.statuses.version, alarms, tuple(self._queries.alarm_service.masks()))
        if seen != self._seen:
            self._number, self._seen = self._number + 1, seen
        raised = [
            {"id": f"{alarm.stream}/{alarm.cause}", "text": alarm.text, "priority": alarm.priority}
            for alarm in alarms
            if needs_response(alarm)
        ]
        return json.dumps({"time": self._queries.clock(), "number": self._number, "alarms": raised})
