"""The Python API by the docstrings, and the HTTP API by the description that the daemon gives of itself."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

from markdown_text import code, first_paragraph, table
from starlette.testclient import TestClient

import dqm
from dqm.web.api import create_api

__all__ = ["describe_http_api", "describe_python"]

Schema = Mapping[str, Any]

_PACKAGES = ("dqm.nplm", "dqm.reference")


def describe_python() -> str:
    """Write what ``import dqm`` offers, and directives of autodoc for what its packages export."""
    rows = [(code(f"dqm.{name}"), code(_home(name))) for name in dqm.__all__ if name != "__version__"]
    lines = [table(("name", "defined in"), rows)]
    for package in _PACKAGES:
        lines.append(f"## {package}\n\n```{{eval-rst}}\n.. currentmodule:: {package}\n")
        module = import_module(package)
        lines += (_directive(name, getattr(module, name)) for name in sorted(module.__all__, key=str.lower))
        lines.append("```\n")
    lines.append("## dqm.events\n\n```{eval-rst}\n.. currentmodule:: dqm.events\n")
    lines += [_directive("Window", dqm.Window), "```\n"]
    return "\n".join(lines)


def _home(name: str) -> str:
    """Give the package that a name of ``import dqm`` comes from."""
    return ".".join(getattr(dqm, name).__module__.split(".")[:2])


def _directive(name: str, value: object) -> str:
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n   :members:\n"
    if inspect.isfunction(value):
        return f".. autofunction:: {name}\n"
    return f".. py:data:: {name}\n   :value: {value!r}\n"


def describe_http_api() -> str:
    """Write the table of paths, and the fields of what they answer and take."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of each request
    nothing = cast("Any", SimpleNamespace(version=dqm.__version__))  # no question is asked of it
    description = TestClient(create_api(nothing, nothing, {})).get("/openapi.json").json()
    (server,) = description["servers"]
    routes = table(("request", "parameters", "answer", "meaning"), _routes(description, server["url"]))
    models = "\n".join(_models(description["components"]["schemas"]))
    return f"{description['info']['description']}\n\n{routes}\n## Fields\n\n{models}"


def _routes(description: Schema, server: str) -> Iterator[tuple[str, str, str, str]]:
    known = description["components"]["schemas"]
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            parameters = [code(each["name"]) for each in route.get("parameters", ())]
            body = route.get("requestBody", {})
            yield (
                code(f"{method.upper()} {server}{path}"),
                ", ".join([*parameters, *(f"body {name}" for name in _schemas(body, known))]),
                ", ".join(_schemas(route["responses"].get("200", {}), known)),
                first_paragraph(route.get("description") or route.get("summary")),
            )


def _schemas(part: Schema, known: Schema) -> Iterator[str]:
    """Yield the names of the models of a request or an answer, as links to their fields."""
    for content in part.get("content", {}).values():
        yield _type(content.get("schema", {}), known)


def _models(schemas: Schema) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        if "properties" not in schema:
            continue
        required = schema.get("required", ())
        rows = [
            (
                code(key),
                _type(value, schemas),
                "always" if key in required else "may be left out",
                value.get("description", "").replace("<", "&lt;"),
            )
            for key, value in schema["properties"].items()
        ]
        yield f"### {name}\n\n{table(('field', 'type', 'present', 'meaning'), rows)}"


def _type(schema: Schema, known: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found = known.get(name, {})
        return f"[{name}](#{name.lower()})" if "properties" in found else _type(found, known)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each, known) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(str(each)) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), known)}"
    return str(schema.get("type", "value"))
