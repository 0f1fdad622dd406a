"""Paths in a configuration: where relative ones start, what systemd hands over, which files are private."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from dqm.errors import ConfigError

__all__ = ["CREDENTIALS", "ConfigPath", "KeyPath", "check_private"]

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Variable by which systemd tells a service where its credentials are."""

_OTHERS, _EVERYBODY_ELSE = 0o007, 0o077


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Read a relative path from the directory of the configuration file."""
    base = (info.context or {}).get("base")
    return path if base is None else base / path.expanduser()


def _find_credential(path: Path, info: ValidationInfo) -> Path:
    """Put the directory that systemd made in the place of its name."""
    if path.parts[:1] != (f"${CREDENTIALS}",):
        return path
    directory = (info.context or {}).get("environ", os.environ).get(CREDENTIALS)
    if not directory:
        raise ValueError(f"${CREDENTIALS} is not set: only systemd does so, by LoadCredential=")
    return Path(directory, *path.parts[1:])


ConfigPath = Annotated[Path, AfterValidator(_resolve)]
KeyPath = Annotated[Path, AfterValidator(_find_credential), AfterValidator(_resolve)]


def check_private(path: Path, what: str, fix: str) -> None:
    """Refuse a file with secrets that anybody but its owner may read.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it is, for the message.
    fix : str
        What to do besides closing it.

    Raises
    ------
    ConfigError
        If others may read or write it.
    OSError
        If it is not there.
    """
    credentials = os.environ.get(CREDENTIALS)
    # systemd lets the service's user in by an access list, which shows as a permission of the group
    is_credential = credentials is not None and path.resolve().is_relative_to(Path(credentials).resolve())
    mode = path.stat().st_mode
    if mode & (_OTHERS if is_credential else _EVERYBODY_ELSE):
        raise ConfigError(
            f"{what} is open to others (mode {mode & 0o777:04o})",
            where=str(path),
            fix=f"Run 'chmod 600 {path}', and {fix}",
        )
