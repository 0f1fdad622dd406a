"""Every key of the configurations with type, range, default and meaning, from the models that check them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from markdown_text import code, first_paragraph, table
from pydantic import BaseModel

from dqm.config import CollectorConfig, DaemonConfig, find_plugin, installed_plugins
from dqm.errors import format_count

__all__ = ["describe_collector", "describe_daemon", "describe_options"]

Schema = Mapping[str, Any]

_COLUMNS = ("key", "type", "range", "default", "meaning")
_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
_FORMATS = {"path": "path", "ipvanynetwork": "network", "time": "time", "duration": "duration"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_LENGTHS = {"minLength": ("at least", "character"), "maxLength": ("at most", "character")}
_NUMBERS = {
    "minItems": ("at least", "value"),
    "maxItems": ("at most", "value"),
    "maxProperties": ("at most", "key"),
}
_NO_BOUND = 2**63 - 1
"""What an integer can be at all."""


def describe_daemon() -> str:
    """Write the tables of the configuration of ``dqm run``."""
    return _describe(DaemonConfig)


def describe_collector() -> str:
    """Write the tables of the configuration of ``dqm collect``."""
    return _describe(CollectorConfig)


def describe_options() -> str:
    """Write the options of each collector and of each source of slow control that comes with dqm."""
    lines: list[str] = []
    for group, table_name in (("dqm.collectors", "options"), ("dqm.slow_control", "slow_control.options")):
        for name in sorted(installed_plugins(group)):
            options = find_plugin(group, name).Options
            lines.append(f"### `[{table_name}]` of {name}\n")
            lines.append(table(_COLUMNS, _rows(options.model_json_schema())))
    return "\n".join(lines)


def _describe(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    return "\n".join(_sections(schema, schema["$defs"], path="", brackets="[{}]"))


def _sections(schema: Schema, known: Mapping[str, Schema], *, path: str, brackets: str) -> Iterator[str]:
    """Yield the section of a table of TOML, and those of the tables within it."""
    inner = {key: _table_within(value, known) for key, value in schema["properties"].items()}
    if path:
        yield f"### `{brackets.format(path)}`\n"
        yield f"{first_paragraph(schema['description']).rpartition('`: ')[2].capitalize()}\n"
    own = {key: value for key, value in schema["properties"].items() if inner[key] is None}
    if own:
        yield table(_COLUMNS, _rows({**schema, "properties": own}))
    for key, found in inner.items():
        if found is not None:
            kind, deeper = found
            name = f"{path}.{key}" if path else key
            yield from _sections(
                deeper,
                known,
                path=f"{name}.NAME" if kind == "named" else name,
                brackets="[[{}]]" if kind == "list" else "[{}]",
            )


def _table_within(schema: Schema, known: Mapping[str, Schema]) -> tuple[str, Schema] | None:
    """Find the table that a key holds, and whether there is one, a list of them, or one for each name."""
    for choice in schema.get("anyOf", [schema]):
        named = _held(choice)
        for kind, part in (
            ("one", choice),
            ("list", choice.get("items", {})),
            ("named", named),
        ):
            found = known.get(part.get("$ref", "").rpartition("/")[2], {})
            if "properties" in found:
                return kind, found
    return None


def _rows(schema: Schema) -> Iterator[tuple[str, str, str, str, str]]:
    known = schema.get("$defs", {})
    for key, value in schema["properties"].items():
        choices = [each for each in value.get("anyOf", [value]) if each.get("type") != "null"]
        kinds = dict.fromkeys(_type(each, known) for each in choices)
        ranges = dict.fromkeys(filter(None, (_range(each) for each in choices)))
        required = key in schema.get("required", ())
        yield (
            code(key),
            " or ".join(kinds),
            "; ".join(ranges),
            "required" if required else _default(value.get("default")),
            value.get("description", "").replace("[", r"\[").replace("<", "&lt;"),
        )


def _type(schema: Schema, known: Mapping[str, Schema]) -> str:
    if "$ref" in schema:
        schema = known.get(schema["$ref"].rpartition("/")[2], schema)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(code(str(value)) if value != "" else "empty" for value in values)
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), known)}"
    if kind == "object":
        held = _held(schema)
        return f"table of {_type(held, known)}" if held else "table"
    return _FORMATS.get(schema.get("format", ""), _TYPES.get(str(kind), "value"))


def _held(schema: Schema) -> Schema:
    """Give what a table with names of the user holds under each; empty if that may be anything."""
    choices = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    return next((choice for choice in choices if isinstance(choice, dict)), {})


def _range(schema: Schema) -> str:
    signs = ((sign, schema[key]) for key, sign in _BOUNDS.items() if schema.get(key, _NO_BOUND) != _NO_BOUND)
    words = [f"{sign} {bound:g}" for sign, bound in signs]
    for key, (bound, thing) in (_LENGTHS | _NUMBERS).items():
        if key in schema:
            words.append(f"{bound} {format_count(schema[key], thing)}")
    return ", ".join(words)


def _default(value: object) -> str:
    return "none" if value is None else code(json.dumps(value, ensure_ascii=False))
