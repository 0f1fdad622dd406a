"""Server-sent events: tells open pages when something has changed, and that the daemon lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dqm.alarm import needs_response
from dqm.web.auth.authenticator import principal_of
from dqm.web.queries import Queries

__all__ = ["STOPPING", "ChangeFeed"]

STOPPING = "dqm.stopping"
"""Key of the scope with a callable that tells whether the server stops."""

_BEAT_SECONDS = 1.0
_READ_SECONDS = 0.5
_MOST_LISTENERS = 32
_ADMITTED_SECONDS = 60.0


class ChangeFeed:
    """Counts changes of streams and alarms, and tells each listener once a second.

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
        self._beat = ""
        self._read_at = float("-inf")
        self._n_listeners = 0

    def beat(self) -> str:
        """Give the present event: time, number of changes so far, alarms that need a response."""
        with self._lock:
            if self._monotonic() - self._read_at >= _READ_SECONDS:
                self._read_at = self._monotonic()
                self._beat = self._read()
            return self._beat

    async def listen(self, request: Request) -> Response:
        """Answer with a stream of beats; 503 when too many listen."""
        if self._n_listeners >= _MOST_LISTENERS:
            return Response(status_code=503, headers={"Retry-After": "15"})
        return StreamingResponse(self._beats(request), media_type="text/event-stream")

    async def _beats(self, request: Request) -> AsyncIterator[str]:
        """Go on while somebody listens; remote listeners must authenticate again now and then."""
        ends = float("inf") if principal_of(request).is_local else self._monotonic() + _ADMITTED_SECONDS
        self._n_listeners += 1
        try:
            yield f"retry: 2000\ndata: {self.beat()}\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(_BEAT_SECONDS)
                if request.scope[STOPPING]() or self._monotonic() >= ends:
                    return
                yield f"data: {self.beat()}\n\n"
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
