"""Plugins found by name among the installed entry points; built-in ones are found in the same way."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dqm.config.interface import plugin_errors
from dqm.errors import ConfigError, DqmError, PluginError

__all__ = ["PLUGIN_GROUPS", "find_plugin", "installed_plugins", "label_of", "origin_of_plugin"]

PLUGIN_GROUPS = ("dqm.statistics", "dqm.collectors", "dqm.slow_control", "dqm.transformations")
"""Groups of entry points that packages may add to."""


def find_plugin(
    group: str, name: str, *, error: type[DqmError] = ConfigError, where: str | None = None
) -> Any:
    """Load an entry point.

    Parameters
    ----------
    group : str
        Group of the entry point, one of `PLUGIN_GROUPS`.
    name : str
        Name of the entry point.
    error : type of DqmError
        Exception to raise if there is none.
    where : str, optional
        File and key of the name, for the message.

    Raises
    ------
    DqmError
        If no entry point of this name is installed; the message lists the installed ones.
    PluginError
        If several packages have one of this name, or it cannot be imported.
    """
    points = list(entry_points(group=group))
    found = [point for point in points if point.name == name]
    if not found:
        raise error(
            f"unknown {_what(group)} {name!r}",
            where=where,
            fix=f"Installed: {', '.join(sorted(point.name for point in points)) or 'none'}",
        )
    if len({point.value for point in found}) > 1:
        raise PluginError(
            f"{label_of(group, name)} is installed by several packages: "
            f"{', '.join(sorted(map(_describe, found)))}",
            where=where,
            fix="Remove all but one, or rename the entry point",
        )
    with plugin_errors(f"{label_of(group, name)} ({_describe(found[0])}) cannot be loaded: it"):
        return found[0].load()


def installed_plugins(group: str) -> list[str]:
    """List the names of the plugins of a group."""
    return sorted({point.name for point in entry_points(group=group)})


def label_of(group: str, name: str) -> str:
    """Name a plugin in messages: ``the statistic 'energy'``."""
    return f"the {_what(group)} {name!r}"


def origin_of_plugin(group: str, name: str) -> str:
    """Say where a plugin comes from: ``dqm_energy:Energy of dqm-energy 1.0``; empty if there is none."""
    return next((_describe(point) for point in entry_points(group=group) if point.name == name), "")


def _what(group: str) -> str:
    kinds = {"dqm.slow_control": "source of readings"}
    return kinds.get(group, group.removeprefix("dqm.").removesuffix("s"))


def _describe(point: EntryPoint) -> str:
    package = point.dist
    return f"{point.value} of {package.name} {package.version}" if package else point.value
