"""Tables that commands print: complete on any terminal, and text from outside is data in them."""

from __future__ import annotations

from operator import itemgetter

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dqm.cli.output import ReaderGoneError, writing
from dqm.errors import escape_text

__all__ = ["cell", "open_console", "print_table"]

WIDE = 160
"""Columns of a table that is written to a file, at least."""

LONGEST_UNWRAPPED = 30
"""Columns of a terminal beyond which a word, or a text that stays on one line where it can, is folded."""

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
    fits = _set_widths(table, console)
    with writing():
        console.print(table if fits else _list_rows(table))


def _set_widths(table: Table, console: Console) -> bool:
    """Set the widths of columns, so that no text is cut, and tell whether there is room for them.

    rich itself shrinks columns below their longest word, and cuts what may not be wrapped.
    """
    options = console.options.update(max_width=_WIDEST)
    longest = LONGEST_UNWRAPPED if console.is_terminal else _WIDEST
    needs = []
    for column in table.columns:
        shown = (column.header if table.show_header else "", *column.cells)
        sizes = [Measurement.get(console, options, text) for text in shown]
        widest = max(size.maximum for size in sizes)
        column.width = min(longest, widest if column.no_wrap else max(size.minimum for size in sizes))
        column.no_wrap, column.overflow = False, "fold"
        needs.append(widest - column.width)
    least = console.measure(table, options=options).minimum
    if console.is_terminal and least > console.width:
        table.collapse_padding = True  # one space between columns, not two
        least = console.measure(table, options=options).minimum
    if not console.is_terminal:
        console.width = max(WIDE, least)
    spare = console.width - least
    by_need = sorted(zip(needs, table.columns, strict=True), key=itemgetter(0))
    for n_left, (need, column) in zip(range(len(by_need), 0, -1), by_need, strict=True):
        more = max(0, min(need, spare // n_left))
        column.width = (column.width or 0) + more
        spare -= more
    return least <= console.width


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
            if not str(content):
                continue
            name = f"{column.header}: " if table.show_header and column.header else ""
            lines.append(name).append_text(content if isinstance(content, Text) else Text(str(content)))
            lines.append("\n")
        lines.append("\n")
    if table.caption:
        lines.append(str(table.caption))
    lines.rstrip()
    return lines
