"""``[notify]``: whom to tell of alarms, about which of them, and at which hours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from dqm.config.grafana import check_url
from dqm.config.values import GroupPath, KeyPath, Name, Section, check_private
from dqm.errors import ConfigError

__all__ = ["NotifyRuleSection", "NotifySection", "NotifyTargetSection", "PriorityName", "read_target_url"]

PriorityName = Literal["P1", "P2", "P3", "P4"]

_VARIABLE_PREFIX = "DQM_NOTIFY_URL_"
_LONGEST_URL = 4096


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone that this machine knows; write it as in Europe/Zurich, or UTC"
        ) from None
    return name


def _check_hours(text: str) -> str:
    begin, end = (time.fromisoformat(part) for part in text.split("-"))
    if begin == end:
        raise ValueError(f"{text!r} begins when it ends; leave hours out for all day")
    return text


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_zone)]
HoursOfDay = Annotated[
    str,
    StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"),
    AfterValidator(_check_hours),
]


def _refuse_address(value: object) -> object:
    """Refuse an address in the place of a file, before a message can quote it."""
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            "is an address, which is a secret: write it into a file of mode 0600 and name that file"
        )
    return value


class NotifyTargetSection(Section):
    """``[notify.targets.NAME]``: one receiver; its address is a secret, and never in this file."""

    url_file: Annotated[KeyPath, BeforeValidator(_refuse_address)] | None = Field(
        None,
        description="file with the address as apprise writes it, mode 0600; relative to this file; default: "
        "environment variable DQM_NOTIFY_URL_NAME, with NAME in capital letters and _ for '-' and '.'",
    )


def _refuse_text(value: object) -> object:
    """Refuse text in the place of a table; it may be an address, so no message may quote it."""
    if isinstance(value, dict | NotifyTargetSection):
        return value
    raise ValueError("must be a table: [notify.targets.NAME], with url_file or nothing in it")


class NotifyRuleSection(Section):
    """``[[notify.rules]]``: alarms that some targets get. A target without a rule gets all alarms."""

    targets: tuple[Name, ...] = Field(min_length=1, max_length=64, description="who is told")
    groups: tuple[GroupPath, ...] = Field(
        (), max_length=256, description="only of streams in these groups and in groups within; empty: of all"
    )
    priorities: tuple[PriorityName, ...] = Field(
        (), max_length=4, description="only of alarms of these priorities; empty: of all"
    )
    causes: tuple[Name, ...] = Field(
        (), max_length=32, description="only of alarms of these causes; empty: of all"
    )
    hours: tuple[HoursOfDay, ...] = Field(
        (),
        max_length=24,
        description="only at these hours of the time zone, such as 22:00-06:00; empty: at all hours",
    )


class NotifySection(Section):
    """``[notify]``: messages about alarms, by mail, chat and webhooks."""

    timezone: TimeZone = Field(
        "UTC", description="time zone of hours and of the times in messages, such as Europe/Zurich"
    )
    page: Annotated[str, AfterValidator(check_url)] | None = Field(
        None, description="address of the page for the links in messages, https://HOST; default: no links"
    )
    collect_seconds: float = Field(
        15.0,
        ge=0.0,
        le=3600.0,
        description="alarms within this time after the first share its message, s",
    )
    pause_seconds: float = Field(
        60.0, ge=0.0, le=86_400.0, description="least time between two messages to one target, s"
    )
    remind_minutes: float | None = Field(
        None,
        ge=1.0,
        le=10_080.0,
        description="an alarm that nobody acknowledges is told again after this time, min; default: never",
    )
    deadline_seconds: float = Field(
        20.0, ge=1.0, le=600.0, description="a try that takes longer has failed, s"
    )
    targets: dict[Name, Annotated[NotifyTargetSection, BeforeValidator(_refuse_text)]] = Field(
        min_length=1, max_length=64, description="receivers, each with a name of your choice"
    )
    rules: tuple[NotifyRuleSection, ...] = Field(
        (), max_length=256, description="which target is told of what"
    )

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        known = ", ".join(self.targets)
        for number, rule in enumerate(self.rules):
            unknown = [name for name in rule.targets if name not in self.targets]
            if unknown:
                raise ValueError(f"rules[{number}].targets: no target {unknown[0]!r}; there are {known}")
        return self

    @model_validator(mode="after")
    def _check_variables(self) -> Self:
        taken: dict[str, str] = {}
        for name, target in self.targets.items():
            if target.url_file is None:
                other = taken.setdefault(variable_of(name), name)
                if other != name:
                    raise ValueError(
                        f"targets: {other} and {name} would share the variable {variable_of(name)}; "
                        "rename one, or give it a url_file"
                    )
        return self


def variable_of(target: str) -> str:
    """Name the environment variable with the address of a target: one underscore for what is not a letter."""
    return _VARIABLE_PREFIX + re.sub(r"[^A-Z0-9]+", "_", target.upper())


def read_target_url(name: str, target: NotifyTargetSection, environ: Mapping[str, str] | None = None) -> str:
    """Read the address of a target.

    Parameters
    ----------
    name : str
        Name of the target.
    target : NotifyTargetSection
        Where its address is.
    environ : mapping of str to str, optional
        Environment; that of the process by default.

    Returns
    -------
    str
        Address, a secret.

    Raises
    ------
    ConfigError
        If there is none, if others can read the file, or if it is not one line of text; the message never
        has the address.
    """
    where = f"notify.targets.{name}"
    if target.url_file is None:
        variable = variable_of(name)
        url = (os.environ if environ is None else environ).get(variable, "").strip()
        if not url:
            raise ConfigError(
                "no address", where=where, fix=f"Set url_file, or the environment variable {variable}"
            )
        return _checked(url, f"{where}: {variable}")
    where = f"{where}: {target.url_file}"
    try:
        check_private(target.url_file, "the address", "get another one if somebody may have read it")
        with target.url_file.open(encoding="utf-8") as file:
            return _checked(file.read(_LONGEST_URL + 2).strip(), where)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(
            f"the address cannot be read: {reason}",
            where=where,
            fix="Correct the path, or the rights of the file",
        ) from None


def _checked(url: str, where: str) -> str:
    if not url or len(url) > _LONGEST_URL or not url.isprintable():
        raise ConfigError(
            f"this is not an address: it must be one line of at most {_LONGEST_URL} characters",
            where=where,
            fix="Write the address as one line, as in apprise's documentation",
        )
    return url
