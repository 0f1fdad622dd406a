"""What the daemon remembers: verdicts, each stored once and durably."""

from dqm.store.verdicts import STORE_FILE, VerdictStore, sqlite_url

__all__ = ["STORE_FILE", "VerdictStore", "sqlite_url"]
