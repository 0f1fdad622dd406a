"""Units of systemd for one installation: those of the project, with the installation's paths."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dqm.errors import ConfigError, DqmError

__all__ = ["UnitPlaces", "unit_files", "write_units"]

_MONITOR = "dqm@.service"
_COLLECTOR = "dqm-collector@.service"
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ``ProtectHome=`` hides."""


@dataclass(frozen=True, slots=True)
class UnitPlaces:
    """Values for the units of one installation.

    Parameters
    ----------
    directory : Path
        Of its configurations and references.
    name : str
        Its name.
    program : Path
        The program ``dqm``.
    user : str
        Who it runs as.
    inputs : tuple of Path
        Files that the collector reads.
    written : tuple of Path
        Directories of files that the collector writes, beside its spool.

    Raises
    ------
    ConfigError
        If a path cannot be in a unit.
    """

    directory: Path
    name: str
    program: Path
    user: str
    inputs: tuple[Path, ...] = ()
    written: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for path in (self.directory, self.program, *self.inputs, *self.written):
            if any(character.isspace() or character in "%\"'\\$" for character in str(path)):
                raise ConfigError(
                    "a path with white space, quotes, '%', '$' or '\\' cannot be in a unit of systemd",
                    where=str(path),
                    fix="Choose another directory",
                )

    @staticmethod
    def names(name: str) -> tuple[str, str]:
        """Names of the units of monitor and collector."""
        return f"dqm-{name}.service", f"dqm-{name}-collector.service"


def unit_files() -> Path:
    """Folder of the units: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / _MONITOR).is_file():
            return folder
    raise DqmError("the units of systemd are missing from this installation", fix="Install dqm again")


def write_units(folder: Path, places: UnitPlaces, *, daemon: str, collector: str) -> None:
    """Write the units of one installation.

    Parameters
    ----------
    folder : Path
        Directory to make.
    places : UnitPlaces
        What goes into them.
    daemon, collector : str
        Names of the configurations.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    folder.mkdir()
    of_monitor, of_collector = UnitPlaces.names(places.name)
    data = places.directory / "data"
    run = f"{places.program} run {places.directory / daemon}"
    collect = f"{places.program} collect {places.directory / collector}"
    common = _of_user(places) | _of_homes(places)
    changes = common | {
        "ExecStart=/opt/dqm/bin/dqm run /etc/dqm/%i.toml\n": f"ExecStart={run}\n",
        "Environment=DQM_DAEMON__DATA_DIR=%S/dqm/%i\n": "",
        "StateDirectory=dqm/%i\nStateDirectoryMode=0700\n": f"ReadWritePaths={data}\n",
        "WorkingDirectory=%S/dqm/%i\n": f"WorkingDirectory={data}\n",
    }
    _write(folder / of_monitor, _MONITOR, changes, places.name)
    changes = common | {
        "ExecStart=/opt/dqm/bin/dqm collect /etc/dqm/collectors/%i.toml\n": f"ExecStart={collect}\n"
    }
    if places.written:
        mode = "StateDirectoryMode=0700\n"  # of the spool
        changes[mode] = f"{mode}ReadWritePaths={' '.join(map(str, places.written))}\n"
    _write(folder / of_collector, _COLLECTOR, changes, places.name)
    for name in ("dqm.target", "sysusers.conf"):
        shutil.copyfile(unit_files() / name, folder / name)


def _of_user(places: UnitPlaces) -> dict[str, str]:
    return {} if places.user == "dqm" else {"User=dqm\nGroup=dqm\n": f"User={places.user}\n"}


def _of_homes(places: UnitPlaces) -> dict[str, str]:
    """Let the services read home directories, if something that they need is there."""
    needed = (places.directory, places.program, *places.inputs, *places.written)
    is_in_home = any(path.is_relative_to(home) for path in needed for home in _HOMES)
    return {"ProtectHome=yes\n": "ProtectHome=read-only\n"} if is_in_home else {}


def _write(path: Path, template: str, changes: Mapping[str, str], name: str) -> None:
    text = (unit_files() / template).read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    text = (
        f"# Written by 'dqm init' for {name}; see systemd/README.md of the project.\n{rest}"
        if first
        else rest
    )
    for old, new in changes.items():
        if text.count(old) != 1:
            raise DqmError(f"{template}: it has {text.count(old)} times {old!r}", fix="Install dqm again")
        text = text.replace(old, new)
    path.write_text(text.replace("%i", name), encoding="utf-8")
