"""Options that say what slow control measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqm.errors import ConfigError
from dqm.events import Measurement

if TYPE_CHECKING:
    from dqm.reference import Bundle

__all__ = ["parse_measured"]


def parse_measured(texts: list[str], bundle: Bundle) -> tuple[Measurement, ...]:
    """Read measurements; their errors are those the bundle was made for. Raises `ConfigError`."""
    entries = {entry.name: entry for entry in bundle.manifest.nuisances if entry.sigma is not None}
    found = []
    for text in texts:
        name, _, value = text.partition("=")
        entry = entries.get(name)
        if entry is None or entry.sigma is None:
            raise ConfigError(
                f"the bundle has no measured nuisance parameter {name!r}",
                where="--measured",
                fix=f"Give one of: {', '.join(entries) or 'none'}",
            )
        try:
            found.append(Measurement(name, float(value), entry.sigma, 0.0))
        except ValueError:
            raise ConfigError(
                f"{text!r} is not NAME=NUMBER", where="--measured", fix="Write it as in --measured gas=0.01"
            ) from None
    return tuple(found)
