"""Receivers of messages: a mail server in a process of its own, and a webhook."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.waiting import wait_until

TOKEN = "s3cr3t-T0ken-9f31"  # noqa: S105 - of a test
"""In the addresses of all targets: nothing that can be read may have it."""


@dataclass
class MailServer:
    """A server of `aiosmtpd` that keeps what it gets in a directory."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Its address for apprise, with a secret in the query."""
        return (
            f"mailto://127.0.0.1:{self.port}?from=dqm@example.org&to=crew@example.org&mode=insecure"
            f"&name={TOKEN}"
        )

    def mails(self) -> list[EmailMessage]:
        """Give what has come, the oldest first."""
        files = sorted((self.folder / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        parsed = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]
        return [mail for mail in parsed if isinstance(mail, EmailMessage)]


@contextmanager
def mail_server(folder: Path) -> Iterator[MailServer]:
    """Run a mail server."""
    port = free_port()
    mailbox = ["-c", "aiosmtpd.handlers.Mailbox", str(folder)]
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}", *mailbox]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(port), "the mail server")
            yield MailServer(port, folder)
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


@dataclass
class Webhook:
    """A server that notes what it gets, and answers as the test wants it."""

    port: int
    status: int = 200
    seen: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address for apprise, with a secret in the path."""
        return f"json://127.0.0.1:{self.port}/{TOKEN}"

    @property
    def titles(self) -> list[str]:
        """Titles of what it has taken."""
        return [str(each["title"]) for each in self.seen]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run a receiver of webhooks; it answers at once unless `Webhook.hold` is cleared."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.hold.wait(30.0)
            assert self.path == f"/{TOKEN}"
            if hook.status == 200:
                hook.seen.append(content)
            self.send_response(hook.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            """Stand for where a redirect leads to."""
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook = Webhook(server.server_port)
    hook.hold.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hook
    finally:
        hook.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
