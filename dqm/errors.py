"""One tree of exceptions. Every message says what was wrong, where, and what to do.

::

    DqmError
    ├── InputError            arrays or events that cannot be used
    │   └── FileError         a file that cannot be read as what it should be
    ├── ConfigError           a configuration key that is missing, unknown or out of range
    ├── BundleError           a reference bundle that is damaged or does not fit
    ├── GrafanaError          a Grafana server refuses or does not answer
    ├── StoreError            the store of verdicts cannot be read or written
    ├── WorkerError           parallel processes or a cluster that cannot do the work
    └── PeerError             a message from outside that breaks the wire format; counted and dropped
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "ConfigError",
    "DqmError",
    "FileError",
    "GrafanaError",
    "InputError",
    "PeerError",
    "StoreError",
    "WorkerError",
]


class DqmError(Exception):
    """Base of everything this project raises on purpose.

    Parameters
    ----------
    what : str
        What was wrong, with the offending value.
    where : str, optional
        File, key, stream or window it was found in.
    fix : str, optional
        What the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f". {self.fix}" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class InputError(DqmError, ValueError):
    """Arrays or events that cannot be used as given."""


class FileError(InputError):
    """A file that is missing, unreadable or not in the format it should have."""


class ConfigError(DqmError, ValueError):
    """A configuration that cannot be followed: a key is missing, unknown or out of range."""


class BundleError(DqmError):
    """A reference bundle that is damaged, incomplete or of another kind than asked for."""


class GrafanaError(DqmError):
    """A Grafana server that refuses or does not answer.

    Parameters
    ----------
    what, where, fix
        As of every `DqmError`.
    is_final : bool
        Whether the same request would be refused again.
    """

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, is_final: bool = False
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.is_final = is_final


class StoreError(DqmError):
    """The store of verdicts cannot be read or written."""


class WorkerError(DqmError):
    """Work cannot be done in parallel: no scheduler, workers that are lost or not set up for it."""


class PeerError(DqmError):
    """A message from outside that breaks the wire format.

    Parameters
    ----------
    reason : str
        Short machine-readable word; the daemon counts refused messages by it.
    what : str
        What was wrong, for the log.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason
