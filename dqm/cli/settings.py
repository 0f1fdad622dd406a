"""Arguments that several commands have: configurations and their keys, columns of files, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.config import parse_value
from dqm.errors import ConfigError

__all__ = [
    "LARGEST",
    "LONGEST_HOURS",
    "Chamber",
    "ConfigPath",
    "Features",
    "Figure",
    "Hours",
    "Overrides",
    "parse_settings",
    "split_names",
]

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


Chamber = Annotated[str | None, typer.Option(help="Only events with this value of 'chamber'.")]
Features = Annotated[
    str | None, typer.Option(help="Columns to use, separated by commas; default: all with numbers.")
]
Figure = Annotated[
    Path | None, typer.Option("--plot", "-o", metavar="FILE", help="Write a figure: .png, .pdf or .svg.")
]


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Read names with commas between them; None if there is no text."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def parse_settings(texts: list[str] | None) -> dict[str, object]:
    """Read ``KEY=VALUE``, values as in TOML; raises `ConfigError` if one has no key."""
    settings: dict[str, object] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not KEY=VALUE", where="--set")
        settings[key.strip()] = parse_value(value)
    return settings
