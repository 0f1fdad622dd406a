"""From the configuration to the keys that both ends need."""

from __future__ import annotations

from dqm.config import CollectorSection, DaemonSection
from dqm.stream import KeyRing, Sending, read_public, read_secret

__all__ = ["DAEMON_SECRET", "find_sending_keys", "open_ring"]

DAEMON_SECRET = "daemon.secret"  # noqa: S105 - the name of a file
"""Secret key of the daemon in its directory of keys, unless the configuration names another file."""


def open_ring(section: DaemonSection) -> KeyRing | None:
    """Read the keys of a daemon; None if it has none, `ConfigError` if they cannot be used."""
    if section.keys is None:
        return None
    return KeyRing(section.keys, section.key or section.keys / DAEMON_SECRET)


def find_sending_keys(section: CollectorSection) -> Sending | None:
    """Read the keys of a collector; None if it has none, `ConfigError` if they cannot be used."""
    if section.key is None or section.daemon_key is None:
        return None
    return Sending(read_secret(section.key), read_public(section.daemon_key))
