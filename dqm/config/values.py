"""Kinds of values in a configuration: names, numbers, addresses and paths, each with its checks."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo

from dqm.errors import ConfigError

__all__ = [
    "CREDENTIALS",
    "FAULT_PATTERN",
    "NAME_PATTERN",
    "PATH_PATTERN",
    "ConfigPath",
    "Endpoint",
    "FaultName",
    "GroupPath",
    "HttpAddress",
    "KeyPath",
    "ListenAddress",
    "Name",
    "Probability",
    "Section",
    "StoreUrl",
    "check_private",
    "is_local",
    "read_secret",
    "split_http",
    "url_on_host",
]

NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Names of streams, features, run types and conditions; they become metric labels and file names."""

PATH_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}){0,7}$"
"""Paths of groups: up to eight names with ``/`` between them."""

FAULT_PATTERN = r"^[^\x00-\x1f\x7f]{1,64}$"
"""Names of faults: words of a shift crew, which can also be the label of a metric."""

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Environment variable in which systemd tells a service the directory of its credentials."""

_ACCESS_OF_OTHERS = 0o007
_ACCESS_OF_GROUP_AND_OTHERS = 0o077
_LOWEST_EXPORTER_PORT = 9100
_HIGHEST_EXPORTER_PORT = 9999
_HIGHEST_PORT = 65_535
_LONGEST_IPC_PATH = 107  # of a Unix socket on Linux

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
GroupPath = Annotated[str, StringConstraints(pattern=PATH_PATTERN)]


def _check_fault(name: str) -> str:
    if not name.isprintable():
        raise ValueError("the name of a fault must not have invisible characters")
    return name


FaultName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64),
    AfterValidator(_check_fault),
    Field(
        json_schema_extra={
            "pattern": r"^[^\x00-\x1f\x7f-\x9f\s]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s])?$"
        }
    ),
]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A table of a configuration; unknown keys are errors, and values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _split_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPV6]:PORT``."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ValueError(f"{address!r} is not HOST:PORT with a port from 0 to {_HIGHEST_PORT}")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, [::1]:{port}")
    return host.strip("[]"), int(port)


def _check_endpoint(address: str) -> str:
    """Refuse anything but a tcp or ipc address of ZeroMQ."""
    if address.startswith("tcp://"):
        _split_port(address.removeprefix("tcp://"))
    elif address.startswith("ipc://"):
        path = address.removeprefix("ipc://")
        if not 0 < len(path.encode()) <= _LONGEST_IPC_PATH:
            raise ValueError(f"{address!r}: the path must have 1 to {_LONGEST_IPC_PATH} bytes")
    else:
        raise ValueError(f"{address!r} must begin with tcp:// or ipc://")
    return address


def _check_listen(address: str) -> str:
    """Refuse an address that a socket cannot be bound to."""
    _check_endpoint(address)
    if address.startswith("tcp://"):
        host, _ = _split_port(address.removeprefix("tcp://"))
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(
                f"{address!r}: listen at an IP address, such as 127.0.0.1, not at a name"
            ) from None
    return address


def is_local(address: str) -> bool:
    """Whether an address can be reached from this host only: ipc, the loopback, or ``localhost``.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``ipc://PATH`` of ZeroMQ, or ``HOST:PORT`` of HTTP.

    Returns
    -------
    bool
        False for every address that is not known to be local.
    """
    if address.startswith("ipc://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_http(address: str) -> str:
    _, port = _split_port(address)
    if _LOWEST_EXPORTER_PORT <= port <= _HIGHEST_EXPORTER_PORT:
        raise ValueError(
            f"port {port} is in the range {_LOWEST_EXPORTER_PORT} to {_HIGHEST_EXPORTER_PORT}, reserved "
            "for Prometheus exporters; use another port, such as 8787"
        )
    return address


def split_http(address: str) -> tuple[str, int]:
    """Split a checked ``[daemon] http`` into host and port.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` or ``[IPV6]:PORT``.

    Returns
    -------
    tuple of str and int
        Host without brackets, port.
    """
    return _split_port(address)


def url_on_host(address: str) -> str | None:
    """Give the address at which this host reaches what listens at a checked ``[daemon] http``.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` or ``[IPV6]:PORT``.

    Returns
    -------
    str or None
        ``http://HOST:PORT``; None if the port is chosen when the daemon starts.
    """
    host, _, port = address.rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where it listens, not where we do
    return None if port == "0" else f"http://{everywhere.get(host, host)}:{port}"


def _check_store(url: str) -> str:
    """Refuse anything but an address of a PostgreSQL database without a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise ValueError("must begin with postgresql://; without this key the store is in data_dir")
    if parts.password is not None or "password" in parts.query:
        raise ValueError("must hold no password: write it into ~/.pgpass, or into the file in PGPASSFILE")
    return parts._replace(scheme="postgresql+psycopg").geturl()


ListenAddress = Annotated[str, AfterValidator(_check_listen)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
StoreUrl = Annotated[str, AfterValidator(_check_store)]
HttpAddress = Annotated[str, AfterValidator(_check_http)]


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Make a relative path start from the directory of the configuration file."""
    base = (info.context or {}).get("base")
    return path if base is None else base / path.expanduser()


def _find_credential(path: Path, info: ValidationInfo) -> Path:
    """Replace ``$CREDENTIALS_DIRECTORY`` by the directory that systemd made."""
    if path.parts[:1] != (f"${CREDENTIALS}",):
        return path
    directory = (info.context or {}).get("environ", os.environ).get(CREDENTIALS)
    if not directory:
        raise ValueError(f"${CREDENTIALS} is not set: systemd sets it for units with LoadCredential=")
    return Path(directory, *path.parts[1:])


ConfigPath = Annotated[Path, AfterValidator(_resolve)]
KeyPath = Annotated[Path, AfterValidator(_find_credential), AfterValidator(_resolve)]


def check_private(path: Path, what: str, fix: str) -> None:
    """Refuse a file with secrets that others can read.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Name of the file, for the message.
    fix : str
        What to do besides changing the mode, for the message.

    Raises
    ------
    ConfigError
        If others can read or write the file.
    OSError
        If the file does not exist.
    """
    credentials = os.environ.get(CREDENTIALS)
    # systemd gives access to the user of the service by an access list, which the mode shows as group access
    is_credential = credentials is not None and path.resolve().is_relative_to(Path(credentials).resolve())
    mode = path.stat().st_mode
    if mode & (_ACCESS_OF_OTHERS if is_credential else _ACCESS_OF_GROUP_AND_OTHERS):
        raise ConfigError(
            f"{what} is open to others (mode {mode & 0o777:04o})",
            where=str(path),
            fix=f"Run 'chmod 600 {path}', and {fix}",
        )


def read_secret(path: Path, what: str) -> str:
    """Read a file with one line that only its owner can read.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it holds, for the message.

    Returns
    -------
    str
        The line.

    Raises
    ------
    ConfigError
        If others can read the file, or if it is not one line of text; the message never has the secret.
    """
    try:
        check_private(path, what, "get another one if somebody may have read it")
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(
            f"{what} cannot be read: {reason}",
            where=str(path),
            fix="Correct the path, or the rights of the file",
        ) from None
    if not secret or not secret.isprintable():
        raise ConfigError(
            f"{what} must be one line of text",
            where=str(path),
            fix="Write it into the first line, and nothing else",
        )
    return secret
