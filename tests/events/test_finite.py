"""JSON of what JSON cannot hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dqm.events.finite import dump_json


@pytest.mark.parametrize("options", [{}, {"indent": 2}])
def test_numbers_that_are_none_become_null(options: dict[str, int]) -> None:
    value = {"p": (1e-7, float("nan"), np.float64(2.5)), "z": float("-inf"), "n": 2**70}
    assert json.loads(dump_json(value, **options)) == {"p": [1e-7, None, 2.5], "z": None, "n": 2**70}


@pytest.mark.parametrize("text", ["\u00fc \u2028 \x00", "half a character: \ud800"])
def test_any_text_comes_back(text: str) -> None:
    assert json.loads(dump_json({"text": text})) == {"text": text}


@pytest.mark.parametrize("value", [0.1, 1e-300, 1.7976931348623157e308, -0.0, 123456789.123456789])
def test_numbers_keep_their_last_bit(value: float) -> None:
    assert json.loads(dump_json([value, int(1e15)])) == [value, int(1e15)]


def test_what_is_no_json_value_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        dump_json({"of": object()})
