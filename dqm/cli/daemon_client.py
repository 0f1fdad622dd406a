"""Requests to a running daemon through its JSON API, in the name of the user at the terminal."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from dqm.cli.output import say_json
from dqm.config import check_private, load_daemon, url_on_host
from dqm.errors import ConfigError, DqmError, InputError

__all__ = ["AsJson", "Daemon", "Login", "PasswordFile", "User", "act", "ask"]

_API = "api/v1"
_TIMEOUT_SECONDS = 10.0
_LARGEST_ANSWER_BYTES = 256_000_000

Daemon = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|URL", help="The daemon's TOML file, or its address as in http://127.0.0.1:8787."
    ),
]
User = Annotated[
    str | None,
    typer.Option(envvar="DQM_USER", help="Who asks, if the daemon wants to know; default: the login's name."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        envvar="DQM_PASSWORD_FILE",
        help="File with the user's password, mode 0600; default: DQM_PASSWORD, else it is asked for.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="What the API answers.")]


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, for daemons that want to know.

    Parameters
    ----------
    user : str or None
        Who; None: the user who has logged in here.
    password_file : Path or None
        Where the password is; None: in the environment, or it is asked for.
    """

    user: str | None
    password_file: Path | None

    def find(self) -> tuple[str, str] | None:
        """Give name and password; None without a password."""
        name = self.user or getpass.getuser()
        if self.password_file is not None:
            return name, _read_password(self.password_file)
        password = os.environ.get("DQM_PASSWORD")
        if password is None and sys.stdin.isatty():
            password = getpass.getpass(f"Password of {name}: ")
        return None if password is None else (name, password)


def _read_password(path: Path) -> str:
    try:
        check_private(path, "the password", "take another one if somebody may have read it")
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(
            f"the password cannot be read: {reason}",
            where=str(path),
            fix="Give a file that you can read, or leave the option out: then you are asked",
        ) from None


def act(daemon: str, path: str, login: Login, **body: object) -> dict[str, Any]:
    """Change something in somebody's name."""
    return ask(daemon, "POST", path, login, body=body)


def ask(
    daemon: str,
    method: str,
    path: str,
    login: Login,
    *,
    query: dict[str, Any] | None = None,
    body: dict[str, object] | None = None,
    as_json: bool = False,
) -> dict[str, Any]:
    """Ask the daemon; raises `DqmError` with the daemon's reason if it refuses."""
    address = _address(daemon)
    asked = {key: value for key, value in (query or {}).items() if value is not None}
    send = functools.partial(_send, address, method, path, params=asked, json=body)
    answer = send()
    if answer.status_code == HTTPStatus.UNAUTHORIZED and (known := login.find()) is not None:
        answer = send(auth=known)
    _check(answer, address)
    if as_json:
        say_json(answer.text)
        raise typer.Exit
    found: dict[str, Any] = answer.json()
    return found


def _send(address: str, method: str, path: str, **request: Any) -> httpx.Response:
    from dqm.export.answers import get_plain  # help is to be quick: its package loads much

    try:
        return get_plain(
            method,
            f"{address}/{_API}/{path}",
            most_bytes=_LARGEST_ANSWER_BYTES,
            seconds=_TIMEOUT_SECONDS,
            **request,
        )
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise DqmError(
            f"no daemon answers: {error}", where=address, fix="Start it by 'dqm run', or give its address"
        ) from None
    except ValueError as error:  # of json
        raise InputError(f"cannot be asked: {error}", fix="Give finite numbers") from None


def _check(answer: httpx.Response, address: str) -> None:
    if answer.is_success:
        return
    if answer.headers.get("content-type") != "application/problem+json":
        raise DqmError(
            f"HTTP status {answer.status_code} {answer.reason_phrase}",
            where=address,
            fix="This is not the page of a dqm daemon, or not of this version",
        )
    problem = answer.json()
    raise InputError(problem["detail"], where=problem["where"], fix=problem["fix"])


def _address(daemon: str) -> str:
    """Address of the daemon's page, as given or as configured."""
    if daemon.startswith(("http://", "https://")):
        return daemon.rstrip("/")
    url = url_on_host(load_daemon(Path(daemon)).daemon.http)
    if url is None:
        raise ConfigError(
            "the port is chosen when the daemon starts",
            where=f"{daemon}: daemon.http",
            fix="Give its address",
        )
    return url
