"""Plugins found by name among the installed entry points; built-in ones are found in the same way."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from dqm.errors import ConfigError, DqmError

__all__ = ["find_plugin"]


def find_plugin(
    group: str, name: str, *, error: type[DqmError] = ConfigError, where: str | None = None
) -> Any:
    """Load an entry point.

    Parameters
    ----------
    group : str
        Group of the entry point: ``dqm.`` and a plural, such as ``dqm.collectors``.
    name : str
        Name of the entry point.
    error : type of DqmError
        Exception to raise.
    where : str, optional
        File and key of the name, for the message.

    Raises
    ------
    DqmError
        If no entry point of this name is installed; the message lists the installed ones.
    """
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        what = group.removeprefix("dqm.").removesuffix("s").replace("_", " ")
        raise error(
            f"unknown {what} {name!r}",
            where=where,
            fix=f"Installed are: {', '.join(sorted(found)) or 'none'}",
        )
    return found[name].load()
