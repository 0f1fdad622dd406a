"""Everything that asks over HTTP: an answer is not unpacked, and not read beyond a limit."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from dqm.cli.daemon_client import Login, ask
from dqm.config import RegistrySection
from dqm.errors import DqmError, GrafanaError
from dqm.export.grafana import FOLDER, Grafana
from dqm.export.notice_target import NoticeTarget
from dqm.export.notice_text import NoticeMessage
from dqm.export.registry import HttpRegistry
from dqm.service.doctor.running import ask_json
from dqm.web.auth.bounded_transport import BoundedTransport

N_UNPACKED = 100_000_000
ALLOWED_BYTES = 20_000_000
ONCE = gzip.compress(b" " * N_UNPACKED, 1)
BOMBS = {
    "gzip": ("gzip", ONCE),
    "gzip in gzip": ("gzip, gzip", gzip.compress(ONCE)),
    "gzip in gzip in gzip": ("gzip, gzip, gzip", gzip.compress(gzip.compress(ONCE))),
    "deflate": ("deflate", zlib.compress(b" " * N_UNPACKED, 1)),
    "gzip, told in capitals": ("GZIP", ONCE),
}


@contextmanager
def answering(coding: str, content: bytes, seen: list[str]) -> Iterator[str]:
    """Serve this content under every address, and note which codings were asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.headers.get("Accept-Encoding", ""))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if coding:
                self.send_header("Content-Encoding", coding)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:  # the other side has had enough
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def tell(url: str) -> None:
    NoticeTarget("hook", url.replace("http://", "json://")).send(NoticeMessage("title", "body"))


def push(url: str) -> None:
    with Grafana(url, "token") as grafana:
        grafana.push_folder(FOLDER, dry_run=False)


def sign_in(url: str) -> None:
    async def get() -> None:
        transport = BoundedTransport(ssl.create_default_context())
        async with httpx2.AsyncClient(transport=transport) as client:
            await client.get(url)

    asyncio.run(get())


CLIENTS: dict[str, tuple[Callable[[str], object], type[Exception] | None]] = {
    "the webhook": (tell, None),
    "the registry": (lambda url: HttpRegistry(RegistrySection(url=url)).send({}), None),
    "Grafana": (push, GrafanaError),
    "the doctor": (ask_json, DqmError),
    "dqm alarms": (lambda url: ask(url, "GET", "alarms", Login(None, None)), DqmError),
    "the provider": (sign_in, httpx2.DecodingError),
}
"""How each asks, and what it raises; None: the status alone counts, and it was 200."""


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_compressed_answer_is_not_unpacked(client: str, bomb: str) -> None:
    call, refusal = CLIENTS[client]
    seen: list[str] = []
    with answering(*BOMBS[bomb], seen) as url:
        tracemalloc.start()
        try:
            if refusal is None:
                call(url)
            else:
                with pytest.raises(refusal):
                    call(url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < ALLOWED_BYTES
    if client != "the registry":  # it reads no content
        assert set(seen) == {"identity"}, "it was not asked for"


@pytest.mark.parametrize("client", ["the webhook", "the registry", "the provider"])
def test_a_long_answer_is_not_read_to_its_end(client: str) -> None:
    call, refusal = CLIENTS[client]
    with answering("", b" " * N_UNPACKED, []) as url:
        tracemalloc.start()
        try:
            if refusal is None:
                call(url)
            else:
                with pytest.raises(refusal, match="more than 4 MB"):
                    call(url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < ALLOWED_BYTES
