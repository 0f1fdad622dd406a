from __future__ import annotations

import pytest

from dqm.errors import DqmError, format_count


@pytest.mark.parametrize(
    ("n", "nouns", "text"),
    [
        (0, ("window",), "0 windows"),
        (1, ("window",), "1 window"),
        (2, ("window",), "2 windows"),
        (1, ("mass", "masses"), "1 mass"),
        (2, ("mass", "masses"), "2 masses"),
    ],
)
def test_a_noun_agrees_with_its_count(n: int, nouns: tuple[str, ...], text: str) -> None:
    assert format_count(n, *nouns) == text


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, "a key is missing"),
        ({"where": "a.toml"}, "a.toml: a key is missing"),
        ({"where": "a.toml", "fix": "Add it"}, "a.toml: a key is missing. Add it"),
    ],
)
def test_a_message_says_what_is_wrong_where_and_what_to_do(details: dict[str, str], text: str) -> None:
    assert str(DqmError("a key is missing", **details)) == text
