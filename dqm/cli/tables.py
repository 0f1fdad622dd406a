"""Tables that commands print: complete on any terminal, and text from outside is data in them."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dqm.cli.output import ReaderGoneError, writing
from dqm.errors import escape_text

__all__ = ["cell", "open_console", "print_table"]

WIDE = 160
"""Columns of a table that is written to a file, at least."""

_WIDEST = 100_000


class _Console(Console):
    """A console that does not end the program by itself."""

    def on_broken_pipe(self) -> None:
        """Raise what `say` raises."""
        raise ReaderGoneError


def open_console(*, stderr: bool = False) -> Console:
    """Open a console that takes text as it is: no markup, no highlighting of numbers."""
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def cell(value: object, style: str = "") -> Text:
    """Make the cell of a table of text from outside; it cannot carry markup or control characters."""
    return Text(escape_text(str(value), keep="\n"), style=style)


def print_table(table: Table) -> None:
    """Print a table in full: where it is wider than the terminal, each row becomes a list of its cells.

    Titles and names of columns are escaped here, as cells are by `cell`.

    Raises
    ------
    ReaderGoneError, FileError
        As `say`.
    """
    _escape_titles(table)
    console = open_console()
    least = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    if not console.is_terminal:
        console.width = max(WIDE, least)
    with writing():
        console.print(table if least <= console.width else _list_rows(table))


def _escape_titles(table: Table) -> None:
    """Write titles and names of columns as `cell` writes cells: they may be of streams and features."""
    for text in (table, "title"), (table, "caption"), *((column, "header") for column in table.columns):
        value = getattr(*text)
        if isinstance(value, str):
            setattr(*text, escape_text(value, keep="\n"))


def _list_rows(table: Table) -> RenderableType:
    """Write a table as lines ``name: value``, an empty line after each row."""
    lines = Text(overflow="fold")
    if table.title:
        lines.append(f"{table.title}\n")
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for column, content in zip(table.columns, row, strict=True):
            name = f"{column.header}: " if table.show_header else ""
            lines.append(name).append_text(content if isinstance(content, Text) else Text(str(content)))
            lines.append("\n")
        lines.append("\n")
    if table.caption:
        lines.append(str(table.caption))
    lines.rstrip()
    return lines
