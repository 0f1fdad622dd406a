"""Parts found by name among the installed entry points: built-ins use the same door as anyone's plugin."""

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
        Its group, ``dqm.`` and a plural: ``dqm.collectors``.
    name : str
        Its name.
    error : type of DqmError
        What to raise.
    where : str, optional
        File and key it was named in, for the message.

    Raises
    ------
    DqmError
        If none of that name is installed; the message lists those that are.
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
