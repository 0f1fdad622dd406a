"""Arguments that several commands have: configurations and their keys, columns of files, figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dqm.config import parse_value
from dqm.errors import ConfigError, InputError

__all__ = [
    "LONGEST_HOURS",
    "TIMES",
    "Chamber",
    "ConfigPath",
    "Features",
    "Figure",
    "Hours",
    "Overrides",
    "Read",
    "ReadAs",
    "Runs",
    "conflict",
    "parse_overrides",
    "parse_reading",
    "parse_runs",
    "parse_settings",
    "refuse_given",
    "require_comment",
    "split_names",
]

LONGEST_HOURS = 1e6
"""Longest time that an option takes: a century."""

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
"""How options write a time."""

Hours = Annotated[
    float | None, typer.Option(min=0, max=LONGEST_HOURS, help="Only this number of hours, the last ones.")
]

Runs = Annotated[str | None, typer.Option(metavar="RUNS", help="Only these runs, as in 100-130,135.")]

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a key, as in daemon.http=127.0.0.1:8080; repeatable."
    ),
]


Chamber = Annotated[str | None, typer.Option(help="Only events with this value of 'chamber'.")]
Features = Annotated[
    str | None,
    typer.Option(
        help="Columns to use, separated by commas; default: all but time and chamber. They must have numbers."
    ),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="KEY=VALUE",
        help="How files are read, a key as in the table options of the collector replay: tree=events, "
        "derive.r='sqrt(x**2 + y**2)', decimal=','; repeatable.",
    ),
]
ReadAs = Annotated[
    Path | None,
    typer.Option(
        metavar="CONFIG",
        help="Read files as the collector of this TOML file does; --read changes single keys.",
    ),
]
Figure = Annotated[
    Path | None, typer.Option("--plot", "-o", metavar="FILE", help="Write a figure: .png, .pdf or .svg.")
]


def conflict(option: str, other: str, *, fix: str = "Give one of them") -> ConfigError:
    """Return the error for two options that cannot be given together."""
    return ConfigError(f"{option} cannot be given with {other}", fix=fix)


def refuse_given(options: Mapping[str, object], why: str, *, fix: str = "Leave it out") -> None:
    """Refuse options that were given although they mean nothing here.

    Parameters
    ----------
    options : mapping of str to object
        Values by the name of the option, without hyphens in front. None, False and an empty list mean that
        it was not given.
    why : str
        Continues the message after the option: ``needs --from``.
    fix : str
        What the user can do.

    Raises
    ------
    ConfigError
        If one of the options was given.
    """
    for name, value in options.items():
        if value is not None and value is not False and value != []:
            raise ConfigError(f"--{name} {why}", fix=fix)


def require_comment(text: str) -> str:
    """Give a comment; raises `ConfigError` if it is empty."""
    if not text.strip():
        raise ConfigError("the comment is empty", where="--comment", fix="Say why, and how you know")
    return text


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Read names with commas between them; None if there is no text."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def parse_runs(text: str | None) -> tuple[int, ...] | None:
    """Read run numbers as in ``10-12,15``; None if there is no text; raises `ConfigError`."""
    if text is None:
        return None
    from dqm import alarm

    try:
        return alarm.parse_runs(text)
    except InputError as error:
        raise ConfigError(error.what, where="--runs", fix=error.fix) from error


def parse_reading(read: list[str] | None, read_as: Path | None) -> dict[str, object]:
    """Read how files are read: keys of a collector's ``[options]``, from its file and from options.

    Raises
    ------
    ConfigError
        If the file is that of another collector, or a key says nothing about reading.
    """
    from dqm.config import load_collector, set_key
    from dqm.service.offline.feature_files import READING_KEYS

    reading: dict[str, object] = {}
    if read_as is not None:
        config = load_collector(read_as)
        if config.collector.name not in ("replay", "files"):
            raise ConfigError(
                f"the collector {config.collector.name!r} reads no files of features",
                where=f"--read-as {read_as}",
                fix="Give the file of a collector replay or files",
            )
        reading = {key: config.options[key] for key in READING_KEYS if key in config.options}
    for text in read or []:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or key.partition(".")[0] not in READING_KEYS:
            raise ConfigError(
                f"{text!r} does not say how files are read",
                where="--read",
                fix=f"Give KEY=VALUE with one of these keys: {', '.join(READING_KEYS)}",
            )
        if not set_key(reading, key, parse_value(value)):
            raise ConfigError(
                f"{key!r} is not a table",
                where="--read",
                fix="Give its keys with dots, as in columns.x.scale=10",
            )
    return reading


def parse_overrides(texts: list[str] | None) -> dict[str, object]:
    """Read ``KEY=VALUE`` by dotted key, as a configuration is overridden; values as in TOML.

    Raises
    ------
    ConfigError
        If a text has no key.
    """
    overrides: dict[str, object] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(
                f"{text!r} is not KEY=VALUE",
                where="--set",
                fix="Write it as in --set daemon.http=127.0.0.1:8080",
            )
        overrides[key.strip()] = parse_value(value)
    return overrides


def parse_settings(texts: list[str] | None) -> dict[str, object]:
    """Read ``KEY=VALUE`` into one table, in which a key with dots makes tables; values as in TOML.

    Raises
    ------
    ConfigError
        If a text has no key, or a part of a key is not a table.
    """
    from dqm.config import set_key

    settings: dict[str, object] = {}
    for key, value in parse_overrides(texts).items():
        if not set_key(settings, key, value):
            raise ConfigError(
                f"{key!r} is not a table",
                where="--set",
                fix="Give it once: as a value, or as a table with dots in the key",
            )
    return settings
