"""HTTP: ``/metrics`` for Prometheus, ``/healthz`` for a supervisor, pages for people."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import threading
from collections.abc import Callable, Sequence

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dqm.errors import ConfigError
from dqm.export.metrics import Metrics
from dqm.web.app import create_routes, error_handlers, respond_to_error
from dqm.web.auth.authenticator import HEALTH, Authenticator, AuthMiddleware
from dqm.web.auth.principal import principal_of
from dqm.web.connections import ConnectionLimits, ConnectionRoom, LimitedProtocol, Network, send_in_pieces
from dqm.web.queries import Queries
from dqm.web.security import OwnHost, SecurityHeaders
from dqm.web.sse import STOPPING

__all__ = ["HttpServer", "create_app"]

_BACKLOG = 128
_STOP_SECONDS = 2
_NEVER_SECONDS = 1_000_000_000
_SEND_BUFFER_BYTES = 131_072  # the kernel's own default grows to megabytes for each peer that does not read
_UNREACHABLE_MS = 30_000


def create_app(
    metrics: Metrics,
    silent_seconds: Callable[[], float],
    longest_silence_seconds: float = 30.0,
    queries: Queries | None = None,
    authenticator: Authenticator | None = None,
) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    metrics : Metrics
        What ``/metrics`` shows.
    silent_seconds : callable
        Seconds since the daemon's loop last made progress.
    longest_silence_seconds : float
        Seconds without progress after which ``/healthz`` answers 503.
    queries : Queries, optional
        What page and API show; without it there are none.
    authenticator : Authenticator, optional
        Who may read page and API, and change what; left out: on this host everybody, and nobody.

    Returns
    -------
    ASGI application
        For `HttpServer`.
    """

    async def show_metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # not in the threads of pages and API, which may all be busy with what many people ask
        content = await asyncio.to_thread(encode, metrics.registry)
        return Response(content, headers={"Content-Type": content_type})

    async def show_health(request: Request) -> Response:
        silence = silent_seconds()
        is_stuck = silence > longest_silence_seconds
        content: dict[str, object] = {"status": "stuck" if is_stuck else "ok"}
        if queries is None or principal_of(request).may_read:  # strangers get no more information
            content["seconds_since_progress"] = round(silence, 3)
            content["streams"] = list(metrics.streams)
            if queries is not None:
                content["untold"] = [each.model_dump() for each in queries.failing_targets()]
            if is_stuck:
                content["reason"] = (
                    f"no progress for {silence:.0f} s, at most {longest_silence_seconds:.0f} s allowed"
                )
        return JSONResponse(content, 503 if is_stuck else 200)

    routes = [Route("/metrics", show_metrics), Route(HEALTH, show_health)]
    if queries is None:
        return SecurityHeaders(Starlette(routes=routes))
    authenticator = authenticator or Authenticator()
    app = Starlette(
        routes=[*routes, *create_routes(queries, authenticator)],
        exception_handlers=error_handlers(queries),
        middleware=[Middleware(GZipMiddleware, minimum_size=2000, compresslevel=4)],
    )
    guarded = AuthMiddleware(app, authenticator, functools.partial(respond_to_error, queries))
    return SecurityHeaders(OwnHost(guarded, (HEALTH,), authenticator.names))


class HttpServer:
    """Serves an application from a thread of its own.

    The address is taken at once, so that a port in use is reported to the caller; requests are answered
    from `start` to `stop`.

    Parameters
    ----------
    app : ASGI application
        See `create_app`.
    host : str
        Address to listen at, without brackets.
    port : int
        Port; 0 takes a free one.
    proxies : sequence of networks
        Addresses of reverse proxies, which have many clients.
    limits : ConnectionLimits, optional
        How many peers there may be, and how slow.

    Raises
    ------
    ConfigError
        If the address is in use or does not belong to this machine.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        proxies: Sequence[Network] = (),
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._socket = _listen(host, port)
        room = ConnectionRoom(limits or ConnectionLimits(), proxies)
        config = uvicorn.Config(
            self._serve(app),
            http=functools.partial(LimitedProtocol, room),  # type: ignore[arg-type] # it is only called
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,  # the authenticator decides which proxy is believed
            backlog=_BACKLOG,
            timeout_keep_alive=_NEVER_SECONDS,  # the protocol has deadlines of its own
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    @property
    def address(self) -> str:
        """Address as taken, ``HOST:PORT``, with the port number chosen."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def _serve(self, app: ASGIApp) -> ASGIApp:
        """Send answers in pieces, and let those without end know when the server stops."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            scope[STOPPING] = lambda: self._server.should_exit
            with contextlib.suppress(ClientDisconnect):  # in the middle of its request
                await app(scope, receive, send_in_pieces(send))

        return serve

    def stop(self) -> None:
        """Finish what is being answered, then close."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * _STOP_SECONDS)
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # connections inherit it
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREACHABLE_MS)
        taken.bind((host, port))
        taken.listen(_BACKLOG)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{host}:{port} is already in use",
                where="[daemon] http",
                fix="Another daemon may be running; stop it or choose another port",
            ) from error
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error}",
            where="[daemon] http",
            fix="Use HOST:PORT of this machine",
        ) from error
    return taken
