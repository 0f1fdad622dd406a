"""Description of the JSON API after OpenAPI 3.1, made from the table of its endpoints."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import TypeAdapter

from dqm.web.api import API, ENDPOINTS, PATH_VALUES, Endpoint
from dqm.web.models import Problem

__all__ = ["describe_api"]

_REF = "#/components/schemas/{model}"
_STATUS_TEXTS = {
    "401": "it needs a user",
    "403": "another site asked for it, or no users are configured",
    "404": "it is not there",
    "409": "it cannot be done as things stand",
    "413": "the request is too long",
    "415": "the request is not JSON",
    "422": "the request is not as described",
    "429": "too much was changed, or too many sign-ins failed; Retry-After tells for how long",
    "503": "the store cannot be read or written",
}
_ON_CHANGES = {"403", "409", "413", "415"}


def describe_api(version: str) -> dict[str, Any]:
    """Write the description.

    Parameters
    ----------
    version : str
        Version of dqm.

    Returns
    -------
    dict
        OpenAPI 3.1 document, ready for JSON.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dqm",
            "version": version,
            "description": "The daemon's streams, windows and alarms. Times are Unix seconds. "
            "Errors say what was wrong, where, and what to do. Reading needs a user from other hosts alone, "
            "a change always.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": API}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"password": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"password": []}, {}],
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return paths


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.text,
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {"200": _content("done", "application/json", endpoint.answer), **_problems(endpoint)},
    }
    if endpoint.body:
        operation["security"] = [{"password": []}]
        operation["requestBody"] = {"required": True, **_content("", "application/json", endpoint.body)}
        del operation["requestBody"]["description"]
    return operation


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": PATH_VALUES[name].json_schema(ref_template=_REF),
        }
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema(ref_template=_REF)
    return [
        {"name": name, "in": "query", "required": False, "schema": value}
        for name, value in schema["properties"].items()
    ]


def _problems(endpoint: Endpoint) -> dict[str, Any]:
    statuses = [s for s in _STATUS_TEXTS if endpoint.body or s not in _ON_CHANGES]
    return {s: _content(_STATUS_TEXTS[s], "application/problem+json", Problem) for s in statuses}


def _content(text: str, media_type: str, model: type) -> dict[str, Any]:
    reference = {"$ref": _REF.format(model=model.__name__)}
    return {"description": text, "content": {media_type: {"schema": reference}}}


def _schemas() -> dict[str, Any]:
    """Schemas of everything that is answered or taken, and of what these are made of."""
    inputs: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = []
    for endpoint in ENDPOINTS:
        inputs.append((endpoint.name, "serialization", TypeAdapter(endpoint.answer)))
        if endpoint.body:
            inputs.append((endpoint.name, "validation", TypeAdapter(endpoint.body)))
        if endpoint.query:
            inputs.append((f"{endpoint.name} query", "validation", TypeAdapter(endpoint.query)))
    inputs.append(("problem", "serialization", TypeAdapter(Problem)))
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return dict(schemas["$defs"])
