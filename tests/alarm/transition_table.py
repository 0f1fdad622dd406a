"""The table of `dqm.alarm.transitions` in ``docs/alarms.md``.

``python -m tests.alarm.transition_table`` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dqm.alarm import RAISED, AlarmState
from dqm.alarm.transitions import TRANSITIONS, Transition

DOCUMENT = Path(__file__).parents[2] / "docs" / "alarms.md"
BEGIN = "<!-- The table is made from the code: python -m tests.alarm.transition_table -->\n"
END = "<!-- end of the table -->\n"

_WHOLE = {frozenset(AlarmState): "any", frozenset(AlarmState) - RAISED: "any that is not raised"}
_TITLES = ("before", "suppressed by", "condition", "delay over", "latching", "after", "")


def render() -> str:
    """Write the table as Markdown."""
    rows = [_TITLES, ("---",) * len(_TITLES), *map(_cells, TRANSITIONS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def documented() -> str:
    """Read the table in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Write the table into the document."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}{render()}{END}{rest.partition(END)[2]}", encoding="utf-8")


def _cells(row: Transition) -> tuple[str, ...]:
    return (
        _WHOLE.get(row.before) or _names(row.before),
        " or ".join(_name(state) for state in [None, *AlarmState] if state in row.suppression),
        _answer(row.condition),
        _answer(row.is_delay_over),
        _answer(row.is_latching),
        f"`{row.after}`",
        row.text,
    )


def _names(states: Iterable[AlarmState]) -> str:
    return ", ".join(f"`{state}`" for state in AlarmState if state in states)


def _name(state: AlarmState | None) -> str:
    return "nothing" if state is None else f"`{state}`"


def _answer(values: frozenset[bool]) -> str:
    return "" if len(values) == 2 else "yes" if True in values else "no"


if __name__ == "__main__":
    write()
