"""Packages that only some configurations need: each comes with an extra of ``dqm``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from dqm.errors import ConfigError

__all__ = ["NeedsPackages", "check_packages"]


@runtime_checkable
class NeedsPackages(Protocol):
    """A collector or a source of readings whose options may need further packages."""

    def packages(self) -> Mapping[str, str]:
        """Give the importable name of each package that these options need, and the extra that has it."""


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
    missing = [name for name in packages if find_spec(name) is None]
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
