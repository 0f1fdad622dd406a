"""The examples in docstrings of functions that a user calls first."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

WITH_EXAMPLES = {
    "dqm.errors": {"escape_text", "format_count", "format_exit", "format_names"},
    "dqm.stream.wire": {"decode", "encode"},
    "dqm_collectors.chamber.conditions": {"Conditions"},
    "dqm_collectors.chamber.reconstruction": {"free_segments"},
    "dqm_collectors.chamber.simulation": {"simulate_hits"},
    "dqm_collectors.simulate": {"simulate_features"},
}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_give_what_they_say(module: str) -> None:
    found = {
        test.name.removeprefix(f"{module}."): test
        for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
        if test.examples
    }
    assert found.keys() == WITH_EXAMPLES[module]
    for test in found.values():
        output: list[str] = []
        assert doctest.DocTestRunner().run(test, out=output.append).failed == 0, "".join(output)
