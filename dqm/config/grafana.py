"""``[grafana]``: the Grafana server that shows alarms as annotations; checks of its address and token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from dqm.config.values import Section
from dqm.errors import ConfigError

__all__ = ["TOKEN_VARIABLE", "GrafanaSection", "check_url", "read_token"]

TOKEN_VARIABLE = "DQM_GRAFANA_TOKEN"  # noqa: S105 - the name of the variable, not its value
_OTHERS_MAY_READ = 0o004


def check_url(url: str) -> str:
    """Return the address of a server; raises `ValueError` if it is malformed or holds a password."""
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if not port_is_number or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT; a path may follow")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "must hold no user, password or query: a token is read from a file or the environment"
        )
    return url.rstrip("/")


class GrafanaSection(Section):
    """``[grafana]``: a Grafana server that shows alarms as annotations."""

    url: Annotated[str, AfterValidator(check_url)] = Field(
        description="address of the server, http:// or https://, without user and password"
    )
    token_file: Path | None = Field(
        None,
        description="file with a service-account token; relative to this file; default: the environment "
        "variable DQM_GRAFANA_TOKEN",
    )
    annotations: bool = Field(True, description="whether alarms become annotations")

    @field_validator("token_file")
    @classmethod
    def _resolve(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        base = (info.context or {}).get("base")
        return path if path is None or base is None else base / path.expanduser()


def read_token(file: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """Read the token of a Grafana service account.

    Parameters
    ----------
    file : Path or None
        File with the token, readable by its owner and group only; None: the environment variable
        ``DQM_GRAFANA_TOKEN`` is used.
    environ : mapping of str to str, optional
        Environment; that of the process by default.

    Returns
    -------
    str
        Token.

    Raises
    ------
    ConfigError
        If there is no token, or if everybody can read the file; the message never contains the token.
    """
    if file is None:
        token = (os.environ if environ is None else environ).get(TOKEN_VARIABLE, "").strip()
        if not token:
            raise ConfigError(
                "no token for Grafana", fix=f"Give a file with the token, or set {TOKEN_VARIABLE}"
            )
        return _checked(token, TOKEN_VARIABLE)
    try:
        if file.stat().st_mode & _OTHERS_MAY_READ:
            raise ConfigError("everybody can read this token", where=str(file), fix=f"Run 'chmod o= {file}'")
        return _checked(file.read_text(encoding="utf-8").strip(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(
            f"the token cannot be read: {reason}",
            where=str(file),
            fix="Correct the path, or the rights of the file",
        ) from None


def _checked(token: str, where: str) -> str:
    """Refuse a token that cannot be sent in a header; the HTTP library would print it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            "this is not a token: it must be one line of letters and digits",
            where=where,
            fix="Copy the token of the service account once more",
        )
    return token
