"""Packages that only some configurations need: each comes with an extra of ``dqm``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from dqm.config.interface import place_of, plugin_errors
from dqm.errors import ConfigError, PluginError

__all__ = ["NeedsPackages", "check_packages", "check_packages_of"]


@runtime_checkable
class NeedsPackages(Protocol):
    """A collector or a source of readings whose options may need further packages."""

    def packages(self) -> Mapping[str, str]:
        """Give the importable name of each package that these options need, and the extra that has it."""


def check_packages_of(label: str, plugin: object, where: str | None = None) -> None:
    """Refuse a plugin that needs packages that are not installed; what says nothing needs none.

    Parameters
    ----------
    label, where
        As in `check_packages`.
    plugin : object
        Perhaps a `NeedsPackages`.

    Raises
    ------
    ConfigError
        As `check_packages`.
    PluginError
        If it does not give names of packages and extras.
    """
    if not isinstance(plugin, NeedsPackages):
        return
    with plugin_errors(label):
        packages: object = plugin.packages()
    if not isinstance(packages, Mapping) or not all(
        isinstance(one, str) and one for pair in packages.items() for one in pair
    ):
        raise PluginError(
            f"{label} gave {packages!r:.80} in 'packages'{place_of(plugin.packages)}",
            fix="It must give a dict: the importable name of each package, with the extra of dqm that has it",
        )
    check_packages(label, packages, where)


def check_packages(label: str, packages: Mapping[str, str], where: str | None = None) -> None:
    """Refuse what needs packages that are not installed, before anything runs.

    Parameters
    ----------
    label : str
        What needs them, for the message.
    packages : mapping of str to str
        As of `NeedsPackages`.
    where : str, optional
        File and key, for the message.

    Raises
    ------
    ConfigError
        If one is missing; the message names all that are, and the extras to install.
    """
    missing = [name for name in packages if not _is_installed(name)]
    if not missing:
        return
    extras = sorted({packages[name] for name in missing})
    names = " and ".join(f"'{extra}'" for extra in extras)
    raise ConfigError(
        f"{label} needs {', '.join(missing)}: not installed",
        where=where,
        fix=f"Install dqm with its extra{'s' if len(extras) > 1 else ''} {names}, in its source by "
        f"pip install '.[{','.join(extras)}]'",
    )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is missing, or this is no name
        return False
