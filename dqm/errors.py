"""One tree of exceptions, and how messages are written. A message says what is wrong, where, and what to do.

::

    DqmError
    ├── InputError            arrays or events cannot be used
    │   ├── FileError         a file is missing, unreadable or in the wrong format
    │   └── NoEventsError     a source was read and has no events; a negative answer
    ├── ConfigError           a configuration key is missing, unknown or out of range
    ├── BundleError           a reference bundle is damaged or does not fit
    ├── PluginError           a statistic, collector or other plugin does not keep its interface, or fails
    ├── NoticeError           a message about alarms cannot be delivered
    ├── GrafanaError          a Grafana server refuses a request or does not answer
    ├── RegistryError         a run registry does not take a sign-off
    ├── StoreError            the store of verdicts cannot be read or written
    ├── WorkerError           parallel processes or a cluster cannot do the work
    └── PeerError             a message from another program breaks the wire format; counted and dropped
"""

from __future__ import annotations

import signal
import unicodedata
from collections.abc import Sequence

__all__ = [
    "LARGEST_INTEGER",
    "BundleError",
    "ConfigError",
    "DqmError",
    "FileError",
    "GrafanaError",
    "InputError",
    "NoEventsError",
    "NoticeError",
    "PeerError",
    "PluginError",
    "RegistryError",
    "StoreError",
    "WorkerError",
    "escape_text",
    "format_count",
    "format_exit",
    "format_names",
]

LARGEST_INTEGER = 2**63 - 1
"""Largest integer that is not refused: what wire, store and TOML can hold."""


class DqmError(Exception):
    """Base class of all exceptions that this project raises.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str, optional
        File, key, stream or window.
    fix : str, optional
        What the reader can do.
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
    """Arrays or events cannot be used."""


class FileError(InputError):
    """A file is missing, unreadable or in the wrong format."""


class NoEventsError(InputError):
    """A source was read to its end, or far enough, and has no events."""


class ConfigError(DqmError, ValueError):
    """A configuration key is missing, unknown or out of range."""


class BundleError(DqmError):
    """A reference bundle is damaged or incomplete, or is not of the requested kind."""


class PluginError(DqmError):
    """A plugin lacks a member, has a wrong one, gives something that cannot be used, or raises."""


class GrafanaError(DqmError):
    """A Grafana server refuses a request or does not answer.

    Parameters
    ----------
    what, where, fix
        As in `DqmError`.
    is_final : bool
        Whether the server would refuse the same request again.
    """

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, is_final: bool = False
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.is_final = is_final


class NoticeError(DqmError):
    """A message about alarms cannot be delivered; the text never has the address, which is a secret."""


class RegistryError(DqmError):
    """A run registry does not take a sign-off; the text never has the token.

    Parameters
    ----------
    what, where, fix
        As in `DqmError`.
    is_away : bool
        Whether it would not take any other sign-off either.
    """

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, is_away: bool = False
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.is_away = is_away


class StoreError(DqmError):
    """The store of verdicts cannot be read or written."""


class WorkerError(DqmError):
    """Parallel work failed: no scheduler, or workers that are lost or not set up for it."""


class PeerError(DqmError):
    """A message from another program breaks the wire format, or the program is not admitted.

    Parameters
    ----------
    reason : str
        Short machine-readable word; the daemon counts refused messages by this word.
    what : str
        What is wrong, for the log.

    Attributes
    ----------
    window : tuple of (str, int, int) or None
        Stream, run and number that the message claims for its window, if they can be read and its sender may
        send that stream.
    run : tuple of (str, int) or None
        Streams and run that a message about a run claims, if they can be read.
    sender : str
        Name of the sender's key; empty where no key is needed.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.window: tuple[str, int, int] | None = None
        self.run: tuple[str, int] | None = None
        self.sender = ""


def format_count(n: int, noun: str, plural: str | None = None) -> str:
    """Write a count with its noun: 0 windows, 1 window, 2 windows.

    Parameters
    ----------
    n : int
        Count.
    noun : str
        Singular.
    plural : str, optional
        Plural, if it is not the singular with an s.

    Returns
    -------
    str
        Text for messages and log lines.

    Examples
    --------
    >>> format_count(1, "window")
    '1 window'
    >>> format_count(0, "mass", "masses")
    '0 masses'
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def format_exit(code: int | None) -> str:
    """Say how a process ended: with an exit code, or by a signal, of which `code` is the negative number.

    Examples
    --------
    >>> format_exit(7)
    'with exit code 7'
    >>> format_exit(-11)
    'by signal 11 (SIGSEGV)'
    """
    if code is None or code >= 0:
        return f"with exit code {code}"
    known = {int(one): one.name for one in signal.Signals}
    return f"by signal {-code}" + (f" ({known[-code]})" if -code in known else "")


def format_names(names: Sequence[str], most: int = 8, *, separator: str = ", ") -> str:
    """Write names for a message, the first ones of many; empty if there is none.

    Parameters
    ----------
    names : sequence of str
        In the order in which they are written.
    most : int
        So many are written; of the others the message says how many they are.
    separator : str
        Between two of them; names that are phrases need ``"; "``.

    Examples
    --------
    >>> format_names(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def escape_text(text: str, *, keep: str = "") -> str:
    r"""Write as escapes what a terminal or a log would obey, and what nobody can see.

    These are control characters (C0 with escape, newline and tab; C1), marks of the direction of writing,
    characters without width, and halves of surrogate pairs. Spaces of all kinds and letters of all
    languages stay.

    Parameters
    ----------
    text : str
        Text from outside: a comment, a condition, the name of a file or of a user.
    keep : str
        Characters that stay all the same, such as the newline of a message of several lines.

    Returns
    -------
    str
        One line, unless `keep` has the newline.

    Examples
    --------
    >>> escape_text("HV trips\x1b[2J")
    'HV trips\\x1b[2J'
    >>> escape_text("12 µm, Müller")
    '12 µm, Müller'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()
