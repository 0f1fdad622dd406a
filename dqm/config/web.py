"""``[web]``: who may read and change something by HTTP, and what each may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, IPvAnyNetwork, StringConstraints, model_validator

from dqm.config.grafana import check_url
from dqm.config.values import KeyPath, Name, Section, is_local

__all__ = ["OidcSection", "PeerSection", "Role", "WebSection"]

_COMMON_HEADERS = {"authorization", "cookie", "host", "origin", "x-forwarded-for", "x-forwarded-proto"}
_SHORTEST_PREFIX = {4: 16, 6: 48}
"""The largest networks of proxies, by version of IP: those of one site."""


class Role(StrEnum):
    """What a user may do; each role includes those before it.

    `dqm.web.auth.roles` says which action needs which role.
    """

    VIEWER = "viewer"
    SHIFTER = "shifter"
    EXPERT = "expert"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what another one may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


def _check_header(name: str) -> str:
    if name.lower() in _COMMON_HEADERS:
        raise ValueError(f"{name!r} is also set by clients; use a header of its own, such as X-Remote-User")
    return name.lower()


def _check_proxy(network: IPvAnyNetwork) -> IPvAnyNetwork:
    shortest = _SHORTEST_PREFIX[network.version]
    if network.prefixlen < shortest:
        raise ValueError(
            f"{network} has {network.num_addresses} addresses, and whoever has one of them could claim to be "
            f"any user: list the proxies, or networks of /{shortest} and smaller"
        )
    return network


def _check_issuer(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]:{parts.port or 0}"
    except ValueError:
        raise ValueError(f"{url!r} is not https://HOST, perhaps with a path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not https://HOST, perhaps with a path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user and no password: the secret is read from client_secret")
    if parts.scheme == "http" and not is_local(host):
        raise ValueError(
            f"{url!r} is not https: anyone who can alter the traffic could sign in as any user; "
            "http is accepted for this host only (127.0.0.1, [::1], localhost)"
        )
    return url


Header = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"), AfterValidator(_check_header)
]
HostName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$", to_lower=True)
]
Proxy = Annotated[IPvAnyNetwork, AfterValidator(_check_proxy)]
Claim = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
Group = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class OidcSection(Section):
    """``[web.oidc]``: a provider of OpenID Connect that signs users in."""

    issuer: Annotated[str, AfterValidator(_check_issuer)] = Field(
        description="address of the provider, https://; its /.well-known/openid-configuration is read"
    )
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="name of this daemon at the provider"
    )
    client_secret: KeyPath = Field(
        description="file with the secret that belongs to client_id, mode 0600; relative to this file"
    )
    scopes: tuple[Claim, ...] = Field(
        ("openid", "profile"),
        max_length=16,
        description="scopes that the provider is asked for; openid is required",
    )
    name_claim: Claim = Field(
        "preferred_username", description="claim with the user's name; users must not be able to change it"
    )
    groups_claim: Claim = Field("groups", description="claim with the user's groups, a list of texts")

    @model_validator(mode="after")
    def _check_scopes(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("scopes must have 'openid'")
        return self


class PeerSection(Section):
    """``[[web.peers]]``: another daemon that the page also shows."""

    name: Name = Field(description="what the page calls it")
    url: Annotated[str, AfterValidator(check_url)] = Field(
        description="address of its page, http:// or https://, without user and password"
    )
    user: str | None = Field(
        None, min_length=1, max_length=128, description="user of that daemon, a viewer; default: none"
    )
    password_file: KeyPath | None = Field(
        None, description="file with the user's password, mode 0600; relative to this file"
    )

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.user is None) is not (self.password_file is None):
            raise ValueError("user and password_file belong together: give both or neither")
        if self.user is not None and self.url.startswith("http://"):
            host = urlsplit(self.url)
            if not is_local(f"[{host.hostname}]:{host.port or 0}"):
                raise ValueError("a password would be sent in clear text: use https://")
        return self


class WebSection(Section):
    """``[web]``: who may use page and API. Without users, proxy or provider nobody may change anything."""

    users: KeyPath | None = Field(
        None, description="file of users and password hashes, mode 0600, see 'dqm users add'; default: none"
    )
    proxy_header: Header | None = Field(
        None, description="header in which proxies name the signed-in user; default: proxies name none"
    )
    proxy_groups: Header | None = Field(
        None,
        description="header in which proxies name the user's groups, with commas; default: users named by "
        "proxies are experts",
    )
    proxies: tuple[Proxy, ...] = Field(
        (),
        max_length=64,
        description="addresses or networks of reverse proxies, whose headers are trusted; at most /16, "
        "or /48 of IPv6",
    )
    names: tuple[HostName, ...] = Field(
        (), max_length=64, description="host names of page and /metrics, besides those of this machine"
    )
    metrics: Literal["login", "open"] = Field(
        "login", description="/metrics for other hosts: login (with a password, Basic), or open (to all)"
    )
    session_hours: float = Field(8.0, gt=0.0, le=168.0, description="a sign-in ends after this time, hours")
    changes_per_minute: int = Field(30, ge=1, le=6000, description="most changes by one user in a minute")
    roles: dict[Group, Role] = Field(
        {},
        max_length=256,
        description="role of each group that a proxy or the provider names: viewer, shifter, expert or admin",
    )
    unmapped: Literal["viewer", "refuse"] = Field(
        "viewer", description="users without a group in roles: viewer (they may read), or refuse"
    )
    oidc: OidcSection | None = Field(
        None, description="provider of OpenID Connect that signs users in; default: none"
    )
    peers: tuple[PeerSection, ...] = Field(
        (), max_length=32, description="other daemons that the page also shows; default: none"
    )

    @model_validator(mode="after")
    def _check_proxies(self) -> Self:
        if self.proxy_header is not None and not self.proxies:
            raise ValueError("proxy_header: proxies must list the addresses that may set it")
        if self.proxy_groups is not None and self.proxy_header is None:
            raise ValueError("proxy_groups: proxy_header must name the header with the user")
        if self.proxy_groups is not None and self.proxy_groups == self.proxy_header:
            raise ValueError("proxy_groups: must differ from proxy_header")
        return self

    @model_validator(mode="after")
    def _check_peers(self) -> Self:
        names = [peer.name for peer in self.peers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"peers: {twice!r} is there twice")
        return self

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        if self.roles and self.proxy_groups is None and self.oidc is None:
            raise ValueError("roles: nobody names groups; set proxy_groups, or [web.oidc]")
        return self

    @property
    def has_login(self) -> bool:
        """Whether users can sign in: with a password, through a proxy or at a provider."""
        return self.users is not None or self.proxy_header is not None or self.oidc is not None
