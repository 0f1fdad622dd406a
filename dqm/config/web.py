"""``[web]``: who may read the page and its API, and who may change something."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, IPvAnyNetwork, StringConstraints, model_validator

from dqm.config.paths import KeyPath
from dqm.config.section import Section

__all__ = ["WebSection"]

_WRITTEN_BY_ALL = {"authorization", "cookie", "host", "origin", "x-forwarded-for", "x-forwarded-proto"}


def _check_header(name: str) -> str:
    if name.lower() in _WRITTEN_BY_ALL:
        raise ValueError(f"{name!r} is set by others than the proxy; take a header of its own: X-Remote-User")
    return name.lower()


Header = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"), AfterValidator(_check_header)
]
HostName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$", to_lower=True)
]


class WebSection(Section):
    """``[web]``: who may come in by HTTP. Without users and proxy nobody may change anything."""

    users: KeyPath | None = Field(
        None, description="file of users and password hashes, mode 0600, by 'dqm users add'; left out: none"
    )
    proxy_header: Header | None = Field(
        None, description="header in which proxies name the user they let in; left out: proxies name none"
    )
    proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), max_length=64, description="addresses or networks of reverse proxies, which are believed"
    )
    names: tuple[HostName, ...] = Field(
        (), max_length=64, description="names the page is served under, besides those of this machine"
    )
    metrics: Literal["login", "open"] = Field(
        "login", description="/metrics for other hosts: login: with a password (Basic), or open: to all"
    )
    session_hours: float = Field(8.0, gt=0.0, le=168.0, description="a sign-in ends after so long, hours")
    changes_per_minute: int = Field(30, ge=1, le=6000, description="most changes of one user in a minute")

    @model_validator(mode="after")
    def _check_proxies(self) -> Self:
        if self.proxy_header is not None and not self.proxies:
            raise ValueError("proxy_header: proxies must list the addresses that may set it")
        return self

    @property
    def has_login(self) -> bool:
        """Whether anybody can prove who they are."""
        return self.users is not None or self.proxy_header is not None
