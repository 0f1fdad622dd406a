"""Each command in the documents is one that the program has, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import Context

from dqm.cli.main import load_command

from .walk import ROOT, commands_of

SHELL = re.compile(r"^```(?:sh|shell|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "dashboards/*.md", "systemd/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts and path.name != "CHANGELOG.md"
)
load = cache(load_command)


def simple_commands(text: str) -> Iterator[list[str]]:
    """Split what a shell would run into its commands, without comments, redirections and variables."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();|&"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        elif set(token) <= set("<>"):
            words.append("<>")
        elif words and words[-1] == "<>":
            words.pop()  # the file of a redirection
            words = words[:-1] if words and words[-1] in ("1", "2") else words
        else:
            words.append(token)


def check_command(arguments: list[str]) -> None:
    """Parse arguments as the program does; raises for a command or an option that does not exist."""
    path, *rest = arguments
    command: Any = load(path)
    while getattr(command, "commands", None):
        assert rest, f"dqm {path}: which command?"
        if rest[0].startswith("-"):
            break
        name = rest.pop(0)
        assert name in command.commands, f"dqm {path} {name}: there is no such command"
        path, command = f"{path} {name}", command.commands[name]
    context = Context(command, info_name=f"dqm {path}")
    given, left, _ = command.make_parser(context).parse_args(list(rest))
    assert not left, f"dqm {path}: {left} is too much"
    if "--help" not in rest:
        missing = [p.name for p in command.params if p.required and given.get(p.name) in (None, ())]
        assert not missing, f"dqm {path}: {missing} must be given"


def dqm_commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in the blocks of a page."""
    text = (ROOT / page).read_text()
    for block in [*commands_of(text), *SHELL.findall(text)]:
        for words in simple_commands(block):
            if Path(words[0]).name == "dqm" and words[1:] and not words[1].startswith("-"):
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    for arguments in dqm_commands(page):
        check_command(arguments)


def test_most_commands_are_shown_in_some_page() -> None:
    assert len([arguments for page in PAGES for arguments in dqm_commands(page)]) > 60


@pytest.mark.parametrize(
    "wrong",
    ["check daemon.toml --strict", "reference bild x", "history", "compare b f --window", "keys"],
)
def test_wrong_commands_are_noticed(wrong: str) -> None:
    with pytest.raises(Exception, match=r"--strict|bild|must be given|--window|which"):
        check_command(wrong.split())
