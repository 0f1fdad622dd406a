"""Values of a configuration as TOML text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

__all__ = ["write_keys", "write_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_value(value: object) -> str:
    """Write a value in TOML: text, numbers, truth values, lists and tables in one line.

    Raises
    ------
    TypeError
        If TOML has no such value.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int():
            return str(value)
        case float():
            text = repr(value)
            return text if re.search(r"[.enf]", text) else f"{text}.0"
        case list() | tuple():
            return f"[{', '.join(map(write_value, value))}]"
        case Mapping():
            inner = ", ".join(f"{_key(name)} = {write_value(one)}" for name, one in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def write_keys(table: Mapping[str, object]) -> str:
    """Write the keys of a table, one a line."""
    return "".join(f"{_key(name)} = {write_value(value)}\n" for name, value in table.items())


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else write_value(name)
