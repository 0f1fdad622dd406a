"""Keys of collectors and users of the page: who may send which stream, and who may change something."""

from __future__ import annotations

from collections.abc import Iterator

from dqm.config import DaemonConfig, is_local
from dqm.errors import format_count, format_names
from dqm.service.doctor.diagnosis import Diagnosis, amber, green, red
from dqm.stream import open_key_ring

__all__ = ["look_at_keys", "look_at_users"]


def look_at_keys(config: DaemonConfig) -> Iterator[Diagnosis]:
    """Look at the keys of a daemon and at their rights; raises `ConfigError` if one cannot be used."""
    ring = open_key_ring(config.daemon)
    if ring is None:
        yield green("keys", "none are needed: windows come from this host alone")
        return
    streams = [stream.name for stream in config.streams]
    for key in ring.collectors:
        if not any(map(key.may_send, streams)):
            rights = ", ".join(key.streams) or "nothing"
            yield amber(
                "keys",
                f"{key.name} may send {rights}, which is not a stream of this daemon",
                f"Correct 'streams' in {config.daemon.keys}/{key.name}.public, or remove the file",
            )
    needed = config.daemon.keyed == "all" or not any(map(is_local, config.daemon.listen))
    orphans = [name for name in streams if not any(key.may_send(name) for key in ring.collectors)]
    if needed and orphans:
        yield red(
            "keys",
            f"no key may send {format_names(orphans, 5)}",
            f"Run 'dqm keys new NAME --stream STREAM', and put NAME.public into {config.daemon.keys}",
        )
    else:
        yield green(
            "keys", f"{format_count(len(ring.collectors), 'key')} of collectors: {', '.join(ring.names)}"
        )


def look_at_users(config: DaemonConfig) -> Iterator[Diagnosis]:
    """Look at who can sign in; raises `ConfigError` if the file of users cannot be used."""
    web = config.web
    if not web.has_login:
        yield amber(
            "users",
            "nobody can sign in, so nobody can acknowledge an alarm",
            "Run 'dqm users add NAME --file users.toml', and set [web] users",
        )
        return
    if web.users is not None:
        from dqm.web.auth.users import UserFile

        names = UserFile(web.users).names
        if not names and web.oidc is None and web.proxy_header is None:
            yield amber("users", f"{web.users} has no user", f"Run 'dqm users add NAME --file {web.users}'")
            return
        yield green("users", f"{format_count(len(names), 'user')} with a password")
    else:
        yield green("users", "they sign in at a provider or a proxy")
