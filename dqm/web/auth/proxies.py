"""What reverse proxies say about a request, and which of them are trusted."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request

from dqm.config import Role, WebSection
from dqm.web.auth.roles import role_of_groups
from dqm.web.auth.users import normalise
from dqm.web.problems import ForeignRequestError

__all__ = ["LONGEST_NAME", "Address", "RequestSource", "network_of", "read_address", "read_source"]

LONGEST_NAME = 64
"""Most characters of a user's name."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class RequestSource:
    """How a request came.

    Parameters
    ----------
    address : Address or None
        From where, as far as it is known.
    is_proxied : bool
        Whether a trusted proxy has sent it.
    is_secure : bool
        Whether the browser used https.
    user : str
        Whom the proxy names; empty if nobody.
    role : Role or None
        What that user may do.
    """

    address: Address | None
    is_proxied: bool
    is_secure: bool
    user: str = ""
    role: Role | None = None


def read_source(request: Request, section: WebSection) -> RequestSource:
    """Find out how a request came; headers count only if they come from one of the proxies.

    Parameters
    ----------
    request : Request
        The request.
    section : WebSection
        Names the proxies and their headers.

    Returns
    -------
    RequestSource
        How it came.

    Raises
    ------
    ForeignRequestError
        If a proxy names more than one user, or a name that cannot be a user.
    """
    peer = read_address(request.client.host if request.client else "")
    if peer is None or not any(peer in network for network in section.proxies):
        return RequestSource(peer, is_proxied=False, is_secure=request.scope["scheme"] == "https")
    user = _named_user(request.headers, section)
    return RequestSource(
        _forwarded(request.headers, section) or peer,
        is_proxied=True,
        is_secure=request.headers.get("x-forwarded-proto", "") == "https",
        user=user,
        role=_role(request.headers, section) if user else None,
    )


def _forwarded(headers: Headers, section: WebSection) -> Address | None:
    """Give the address from which the proxies were asked: the last one that is not a proxy."""
    chain = ",".join(headers.getlist("x-forwarded-for")).split(",")
    for text in reversed(chain):
        address = read_address(text.strip())
        if address is None:
            break
        if not any(address in network for network in section.proxies):
            return address
    return None


def _named_user(headers: Headers, section: WebSection) -> str:
    if section.proxy_header is None:
        return ""
    found = [value.strip() for value in headers.getlist(section.proxy_header)]
    if not any(found):
        return ""
    name = _decode(found[0])
    if len(found) > 1 or len(name) > LONGEST_NAME or not name.isprintable():
        raise ForeignRequestError(
            "the proxy does not name exactly one user", where=section.proxy_header, fix="Correct the proxy"
        )
    return normalise(name)


def _role(headers: Headers, section: WebSection) -> Role | None:
    """Role of a user whom a proxy names; without a header for groups as before there were roles."""
    if section.proxy_groups is None:
        return Role.EXPERT
    text = ",".join(headers.getlist(section.proxy_groups))
    return role_of_groups((_decode(group.strip()) for group in text.split(",")), section)


def _decode(value: str) -> str:
    return value.encode("latin-1", "replace").decode(errors="replace")


def read_address(text: str) -> Address | None:
    """Read an address; None if it is not one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped  # of a socket that listens at both
    return address


def network_of(address: str) -> str:
    """Whom failures are counted against: an IPv4 address, or the network one IPv6 host may choose from."""
    found = read_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return address
