"""Addresses in a configuration: what may stand there, and who can reach it."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

__all__ = ["Endpoint", "Http", "Listen", "StoreUrl", "is_local", "split_http"]

_LOWEST_EXPORTER_PORT, _HIGHEST_EXPORTER_PORT = 9100, 9999
_HIGHEST_PORT = 65_535
_LONGEST_IPC_PATH = 107  # of a Unix socket on Linux


def _split_port(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ValueError(f"{address!r} is not HOST:PORT with a port from 0 to {_HIGHEST_PORT}")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, [::1]:{port}")
    return host.strip("[]"), int(port)


def _check_endpoint(address: str) -> str:
    """Refuse what is neither a tcp nor an ipc address of ZeroMQ."""
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
    """Refuse what a socket cannot be bound to."""
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
    """Whether only this host reaches an address: ipc, the loopback, or ``localhost``.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``ipc://PATH`` of ZeroMQ, or ``HOST:PORT`` of HTTP.

    Returns
    -------
    bool
        False for everything that is not known to be local.
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
            f"port {port} lies within {_LOWEST_EXPORTER_PORT} to {_HIGHEST_EXPORTER_PORT}, which Prometheus "
            "exporters share among themselves; take another, such as 8787"
        )
    return address


def split_http(address: str) -> tuple[str, int]:
    """Host and port of a checked ``[daemon] http``.

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


def _check_store(url: str) -> str:
    """Refuse what is no address of a PostgreSQL database, or holds a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise ValueError("must begin with postgresql://; leave it out to keep everything in data_dir")
    if parts.password is not None or "password" in parts.query:
        raise ValueError("must hold no password: put it into ~/.pgpass, or into a file that PGPASSFILE names")
    return parts._replace(scheme="postgresql+psycopg").geturl()


Listen = Annotated[str, AfterValidator(_check_listen)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
StoreUrl = Annotated[str, AfterValidator(_check_store)]
Http = Annotated[str, AfterValidator(_check_http)]
