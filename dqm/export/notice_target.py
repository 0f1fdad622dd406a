"""One receiver of messages, reached by the library apprise. Its address is a secret.

apprise only says that a message could not be sent. The reason is in its log, together with parts of the
address. So its log, and that of the HTTP library beneath it, is dropped, and only known words of it are
repeated.
"""

from __future__ import annotations

import logging
import re
import smtplib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import apprise
import requests

from dqm.errors import ConfigError, NoticeError
from dqm.export.answers import bounded_adapter
from dqm.export.notice_text import NoticeMessage

__all__ = ["NoticeTarget"]

_SCHEME = re.compile(r"([a-z][a-z0-9]{1,15})://", re.IGNORECASE)
_MOST_LINES = 200
_MOST_BYTES = 1_000_000
"""Longest part of an answer that is read; a few words say whether the message was taken."""
_REASONS: tuple[tuple[str, str], ...] = (
    (r"Connection refused", "the connection was refused"),
    (r"timed out", "no answer in time"),
    (r"Name or service not known|name resolution|nodename nor servname", "its host is not found"),
    (r"No route to host|Network is unreachable", "its host cannot be reached"),
    (r"certificate verify failed", "its certificate is not trusted"),
    (
        r"Connection reset|closed the connection|Connection unexpectedly closed|RemoteDisconnected",
        "it hung up",
    ),
)
"""Patterns in the log of apprise, and what the message says for each."""
_STATUS = re.compile(r"error=(\d{3})\b")
_SMTP_REPLY = re.compile(r"\((\d{3}), b['\"]")


class NoticeTarget:
    """Sends messages to one receiver; not more than one at a time.

    Parameters
    ----------
    name : str
        Its name.
    url : str
        Its address, as apprise writes it.

    Raises
    ------
    ConfigError
        If apprise does not know such an address; the message does not show it.
    """

    def __init__(self, name: str, url: str) -> None:
        _silence()
        _bound_answers()
        asset = apprise.AppriseAsset(
            app_id="dqm",
            app_desc="dqm",
            app_url="",
            image_url_mask="",
            image_url_logo="",
            async_mode=False,
            http_redirects=False,  # the library would follow with an empty request
            storage_mode="memory",
        )
        self._sender = apprise.Apprise(asset=asset)
        with _listening():
            is_known = self._sender.add(url)
        if not is_known:
            scheme = _SCHEME.match(url)
            kind = f"it begins with {scheme[1]}://" if scheme else "it does not begin with SERVICE://"
            raise ConfigError(
                f"apprise does not know this address: {kind}",
                where=f"notify.targets.{name}",
                fix="See the services in apprise's documentation for how their addresses are written",
            )

    def send(self, message: NoticeMessage) -> None:
        """Send a message; takes as long as the receiver does.

        Raises
        ------
        NoticeError
            If it was not taken, with the reason as far as it is known.
        """
        with _listening() as heard:
            try:
                is_sent = self._sender.notify(
                    body=message.body, title=message.title, body_format=apprise.NotifyFormat.TEXT
                )
            except Exception as error:
                raise NoticeError(f"apprise failed: {type(error).__name__}") from None
        if not is_sent:
            raise NoticeError(_find_reason(" ".join(heard.lines)))

    def reach(self, seconds: float) -> bool:
        """Connect to the receiver and hang up; a mail server is greeted, nothing is sent.

        Parameters
        ----------
        seconds : float
            Longest wait.

        Returns
        -------
        bool
            False if the place to connect to is not known: the service has no address of its own.

        Raises
        ------
        NoticeError
            If nobody is there, with the reason as far as it is known.
        """
        places = [place for place in map(_place_of, self._sender) if place is not None]
        for host, port, speaks_smtp in places:
            try:
                if speaks_smtp:
                    with smtplib.SMTP(host, port, timeout=seconds) as mail:
                        mail.ehlo()
                else:
                    socket.create_connection((host, port), timeout=seconds).close()
            except (OSError, smtplib.SMTPException) as error:
                raise NoticeError(_find_reason(str(error))) from None
        return bool(places)


def _place_of(service: Any) -> tuple[str, int, bool] | None:
    """Find where a service of apprise connects to, and whether it greets in SMTP; None if it is not known."""
    mail_host = getattr(service, "smtp_host", None)
    if mail_host:
        is_plain = getattr(service, "secure_mode", "") != "ssl"
        return str(mail_host), int(service.port or (25 if is_plain else 465)), is_plain
    for name in ("notify_url", "webhook_url", "api_url"):
        parts = urlsplit(str(getattr(type(service), name, "")))
        if parts.hostname and "{" not in parts.hostname:
            return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), False
    if service.host and any("{host}" in str(template) for template in getattr(service, "templates", ())):
        return str(service.host), int(service.port or (443 if service.secure else 80)), False
    return None


class _listening(logging.Handler):  # noqa: N801 - used as a function
    """Collects what apprise logs in this thread, in the body of a `with` statement."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        if record.thread == self._thread and len(self.lines) < _MOST_LINES:
            self.lines.append(record.getMessage())

    def __enter__(self) -> _listening:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _bound_answers() -> None:
    """Limit the answers that apprise reads in the sessions that it makes, one for each message."""
    bounded = bounded_adapter(requests.adapters.HTTPAdapter, _MOST_BYTES, None)
    requests.sessions.HTTPAdapter = bounded  # type: ignore[attr-defined]


def _silence() -> None:
    """Keep everything that may have an address out of our log."""
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).propagate = False
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    logging.getLogger("apprise").setLevel(logging.DEBUG)


def _find_reason(log: str) -> str:
    """Find why a message was not sent, in words that cannot have an address in them."""
    for pattern, reason in _REASONS:
        if re.search(pattern, log):
            return reason
    status = _STATUS.search(log)
    if status is not None:
        return f"it answered with HTTP status {status[1]}"
    reply = _SMTP_REPLY.search(log)
    if reply is not None:
        return f"it answered with SMTP code {reply[1]}"
    return "it was not taken; apprise gives no reason that can be shown"
