"""Every command with its arguments and options, from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markdown_text import code, first_paragraph, table
from typer import Context

from dqm.cli.main import COMMANDS, load_command

__all__ = ["describe_commands"]


def describe_commands() -> str:
    """Write one section for each command, and one within it for each command of a group."""
    return "\n".join(
        line for name in sorted(COMMANDS) for line in _describe(name, load_command(name), level=2)
    )


def _describe(path: str, command: Any, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} dqm {path}\n"
    yield "\n\n".join(first_paragraph(part) for part in command.help.split("\n\n")) + "\n"
    commands = getattr(command, "commands", {})
    if not commands:
        context = Context(command, info_name=f"dqm {path}")
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\ndqm {path} {usage}\n```\n"
        yield table(("argument or option", "meaning"), _rows(command, context))
    for name in sorted(commands):
        yield from _describe(f"{path} {name}", commands[name], level=level + 1)


def _rows(command: Any, context: Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        shown = parameter.get_help_record(context)
        if shown is not None and "--help" not in parameter.opts:
            names, meaning = shown
            yield code(names), meaning.replace("[", "\\[").replace("<", "&lt;")
