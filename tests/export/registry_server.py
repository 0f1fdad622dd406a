"""A run registry over real HTTP: takes a POST of JSON, or does not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeRegistry:
    """What the registry has taken; `status` is an answer to all, `refused` are runs that it refuses."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 201
        self.refused: set[int] = set()
        self.delay = 0.0
        self.url = ""

    def take(self, record: dict[str, Any], headers: dict[str, str]) -> int:
        time.sleep(self.delay)
        self.headers.append(headers)
        if record["run"] in self.refused:
            return 422
        if self.status < 300:
            self.records.append(record)
        return self.status


@contextmanager
def run_registry() -> Iterator[FakeRegistry]:
    """Serve a registry at a free port."""
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = registry.take(json.loads(body), {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")  # is not followed
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_address[1]}/runs"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
