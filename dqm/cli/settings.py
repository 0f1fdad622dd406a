"""Arguments that several commands have: a configuration file, and keys set on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.config import parse_value
from dqm.errors import ConfigError

__all__ = ["LARGEST", "LONGEST_HOURS", "ConfigPath", "Hours", "Overrides", "parse_settings"]

LARGEST = 2**63 - 1
"""Largest run number, as in the wire format and the store."""

LONGEST_HOURS = 1e6
"""Longest time that an option takes: a century."""

Hours = Annotated[float | None, typer.Option(min=0, max=LONGEST_HOURS, help="Only the last so many hours.")]

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a key, as in daemon.http=127.0.0.1:8080; repeatable."
    ),
]


def parse_settings(texts: list[str] | None) -> dict[str, object]:
    """Read ``KEY=VALUE``, values as in TOML; raises `ConfigError` if one has no key."""
    settings: dict[str, object] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not KEY=VALUE", where="--set")
        settings[key.strip()] = parse_value(value)
    return settings
