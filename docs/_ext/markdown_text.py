"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["code", "first_paragraph", "table"]


def code(text: str) -> str:
    """Give text as code, for a cell of a table."""
    return f"`{text}`" if text else ""


def first_paragraph(text: str | None) -> str:
    """Give the first paragraph of a docstring on one line, with the backticks of Markdown."""
    return " ".join((text or "").strip().partition("\n\n")[0].split()).replace("``", "`")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; a cell holds one line of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
