"""The reference has every key, command, metric, request and name that the code has."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel

import dqm.nplm
import dqm.reference
from dqm.cli.main import COMMANDS, load_command
from dqm.config import CollectorConfig, DaemonConfig, find_plugin, installed_plugins
from dqm.export.metric_table import METRICS


def made(module: str, function: str) -> str:
    return str(getattr(import_module(module), function)())


def keys_of(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield key and description of all tables that a configuration may have."""
    schema = model.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for key, value in part.get("properties", {}).items():
            if "description" in value and "$ref" not in str(value):
                yield key, value["description"]


@pytest.mark.parametrize(
    ("model", "function"), [(DaemonConfig, "describe_daemon"), (CollectorConfig, "describe_collector")]
)
def test_every_key_of_a_configuration_is_there_with_its_meaning(
    model: type[BaseModel], function: str
) -> None:
    text = made("reference_configuration", function)
    keys = list(keys_of(model))
    assert len(keys) > 20
    for key, meaning in keys:
        rows = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        rows = [row for row in rows if _has(row, meaning)]
        assert rows, key
        assert {row.count(" | ") for row in rows} == {4}


def _has(line: str, meaning: str) -> bool:
    return meaning in line.replace(r"\[", "[").replace(r"\|", "|").replace("&lt;", "<")


def test_ranges_and_defaults_are_those_of_the_models() -> None:
    text = made("reference_configuration", "describe_daemon")
    assert "| `k` | integer | ≥ 1, ≤ 16 | `2` |" in text
    assert "| `bad_p` | number | > 0, < 1 | none |" in text
    assert "### `[[streams.references]]`" in text
    assert "### `[groups.NAME]`" in text


def test_every_option_of_a_source_is_there() -> None:
    text = made("reference_configuration", "describe_options")
    for group in ("dqm.collectors", "dqm.slow_control"):
        for name in installed_plugins(group):
            for key in find_plugin(group, name).Options.model_fields:
                assert f"| `{key}` |" in text


def options_of(path: str, command: Any) -> Iterator[tuple[str, str]]:
    """Yield path and long name of each option of a command and of the commands within it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_of(f"{path} {name}", inner)
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield path, parameter.opts[0]


def test_every_command_and_option_is_there() -> None:
    text = made("reference_commands", "describe_commands")
    sections = dict(part.split("\n", 1) for part in text.replace("\n### ", "\n## ").split("\n## ")[1:])
    found = [pair for name in COMMANDS for pair in options_of(f"dqm {name}", load_command(name))]
    assert len(found) > 100
    for path, option in found:
        assert option in sections[path]


def test_every_metric_is_there() -> None:
    text = made("reference_metrics", "describe_metrics")
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in text


def test_every_request_is_there_and_every_model_has_its_fields() -> None:
    text = made("reference_api", "describe_http_api")
    for request in ("GET /api/v1/streams", "GET /api/v1/streams/{stream}", "POST /api/v1/alarms/"):
        assert f"| `{request}" in text
    links = {part.partition(")")[0] for part in text.split("](#")[1:]}
    headings = {line[4:].lower() for line in text.splitlines() if line.startswith("### ")}
    assert links
    assert links <= headings


def test_every_exported_name_is_there() -> None:
    text = made("reference_api", "describe_python")
    for package in (dqm.nplm, dqm.reference):
        for name in package.__all__:
            assert any(f".. {kind}:: {name}\n" in text for kind in ("autoclass", "autofunction", "py:data"))
