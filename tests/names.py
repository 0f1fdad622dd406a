"""Functions that documents name in backticks: found, so that a name that is wrong is noticed."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any

import dqm

_CODE = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"(?:dqm(?:\.\w+)+|[A-Z][a-z]\w*(?:\.\w+)+)")


def dotted_names(text: str) -> Iterator[str]:
    """Yield ``dqm.module.thing`` and ``Class.method`` as far as they are alone between backticks."""
    for code in _CODE.findall(text):
        if _DOTTED.fullmatch(code):
            yield code


def names_in_first_column(text: str) -> list[str]:
    """List the names that rows of tables begin with, in order."""
    return [name for line in text.splitlines() if line.startswith("| `") for name in dotted_names(line[:80])]


@functools.cache
def _classes() -> dict[str, list[type]]:
    """Classes of `dqm` by name."""
    found: dict[str, list[type]] = {}
    for module in pkgutil.walk_packages(dqm.__path__, "dqm."):
        try:
            content = vars(importlib.import_module(module.name))
        except ModuleNotFoundError as error:  # an optional library
            if (error.name or "").startswith("dqm"):
                raise
            continue
        for name, value in content.items():
            if isinstance(value, type) and value.__module__ == module.name:
                found.setdefault(name, []).append(value)
    return found


def resolve_name(name: str) -> Any:
    """Find what a document names; raises `LookupError` if it is not there, or not in one place only."""
    first, _, rest = name.partition(".")
    if first == "dqm":
        return _resolve_path(name)
    found = [each for each in _classes().get(first, []) if hasattr(each, rest) or rest in _fields(each)]
    if len(found) != 1:
        raise LookupError(f"{name}: {len(found)} classes of this name have it")
    return getattr(found[0], rest, _fields(found[0]).get(rest))


def _fields(owner: type) -> dict[str, Any]:
    """Give the fields of a data class, which are not attributes of it."""
    return getattr(owner, "__dataclass_fields__", {})


def _resolve_path(name: str) -> object:
    """Find a module, or something in one."""
    parts = name.split(".")
    found: object = dqm
    for position, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:position]))
            except ModuleNotFoundError as error:
                raise LookupError(f"{name}: there is no {part}") from error
        found = getattr(found, part)
    return found


def code_of(name: str) -> CodeType:
    """Give the code of a function that a document names."""
    code: CodeType = resolve_name(name).__code__
    return code
