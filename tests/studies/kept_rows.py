"""What studies of many parts share: each part that is done keeps a row, and a new start goes on there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dqm.reference.processes import one_thread

__all__ = ["complete", "show"]


def complete(
    kept: Path,
    parts: Sequence[tuple[Any, ...]],
    judge: Callable[..., dict[str, Any]],
    table: Callable[[list[dict[str, Any]]], Iterable[str]],
) -> Iterator[str]:
    """Judge each part that has no row yet, on one thread; write the table of all rows after each.

    Parameters
    ----------
    kept : Path
        File of the rows, one JSON object a line, ``.jsonl``. The table stands beside it, as ``.md``.
    parts : sequence of tuple
        Arguments of `judge`.
    judge : callable
        Gives the row of a part; ``part`` is added to it.
    table : callable
        Gives the lines of the table of all rows so far.

    Yields
    ------
    str
        What is done, after each part.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {tuple(row["part"]) for row in rows}
    for place, part in enumerate(parts):
        if part in known:
            continue
        with one_thread():
            rows.append({"part": list(part), **judge(*part)})
        with kept.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        kept.with_suffix(".md").write_text("\n".join(table(rows)) + "\n")
        yield f"{place + 1} of {len(parts)}"


def show(lines: Iterable[str]) -> None:
    """Write lines as they come."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
