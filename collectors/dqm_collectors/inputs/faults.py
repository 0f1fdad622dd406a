"""Faults of files that do not go away when they are read again."""

from __future__ import annotations

from dqm.errors import FileError

__all__ = ["LayoutError", "WrittenAnewError"]


class LayoutError(FileError):
    """A file has other columns than those before it."""


class WrittenAnewError(FileError):
    """A file has less than was read of it.

    Parameters
    ----------
    has, had : str
        What it has, and what was read of it.
    where : str
        The file.
    """

    def __init__(self, has: str, had: str, *, where: str) -> None:
        super().__init__(
            f"the file has {has}, and {had} were read: it was written anew",
            where=where,
            fix="Give each run a file of its own. To begin anew, give another state and another run",
        )
