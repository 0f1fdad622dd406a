"""Verdicts on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from dqm.cli.tables import cell
from dqm.events import Origin, Quality, TestResult, Verdict, WindowCut, write_p
from dqm.events.finite import utc_time

__all__ = [
    "QUALITY_STYLE",
    "as_json_line",
    "flag_text",
    "quality_mark",
    "quality_text",
    "verdict_table",
    "write_events",
]

QUALITY_STYLE = {
    Quality.NULL: "bright_black",
    Quality.GOOD: "green",
    Quality.MEDIUM: "dark_orange",
    Quality.BAD: "bold red",
}
_SHORT = 8  # letters of a bundle's name: enough to tell those of a site apart
QUALITY_MARK = {Quality.NULL: "?", Quality.GOOD: "✓", Quality.MEDIUM: "!", Quality.BAD: "✗"}


def quality_mark(quality: Quality) -> Text:
    """Write a quality as a single coloured character."""
    return Text(QUALITY_MARK[quality], style=QUALITY_STYLE[quality])


def quality_text(quality: Quality) -> Text:
    """Write a quality with mark, word and colour: colour alone is not enough."""
    return Text(f"{QUALITY_MARK[quality]} {quality}", style=QUALITY_STYLE[quality])


def flag_text(flag: str) -> Text:
    """Write a flag as its quality; time about which nothing is known is like ``Null``."""
    quality = Quality(flag) if flag in [*Quality] else Quality.NULL
    return Text(f"{QUALITY_MARK[quality]} {flag}", style=QUALITY_STYLE[quality])


def verdict_table(verdicts: Iterable[Verdict], *, live: bool = True) -> Table:
    """Lay out verdicts, one in each row; `live` adds time, origin of the events and bundle."""
    verdicts = list(verdicts)
    is_rolling = any(verdict.result.rolling is not None for verdict in verdicts)
    table = Table(box=None, pad_edge=False)
    for name in [*(["judged (UTC)"] if live else []), "stream", "run", "seq", "quality"]:
        table.add_column(name, no_wrap=True)
    for name in ["events", "t", "p", "Z", *(["rolling p"] if is_rolling else [])]:
        table.add_column(name, no_wrap=True, justify="right")
    if live:
        table.add_column("bundle", no_wrap=True)
    table.add_column("why")
    for v in verdicts:
        r = v.result
        badge = f" ({v.window.origin})" if live and v.window.origin is not Origin.LIVE else ""
        judged = utc_time(v.judged_at).strftime("%m-%d %H:%M:%S")
        table.add_row(
            *([judged] if live else []),
            cell(v.window.stream + badge),
            str(v.window.run),
            str(v.window.seq),
            quality_text(v.quality),
            write_events(r),
            write_t(r),
            write_p(r.p, r.p_method),
            "-" if r.z is None else f"{r.z:.1f}",
            *([write_p(r.rolling.p, r.rolling.p_method) if r.rolling else "-"] if is_rolling else []),
            *([v.bundle[:_SHORT] or "-"] if live else []),
            cell("; ".join(filter(None, [v.reason, _looks(v), *v.warnings.values(), *r.remarks]))),
        )
    return table


def _looks(verdict: Verdict) -> str:
    """Say what a window looks like: a known fault by name; empty without an explanation."""
    return "" if verdict.explanation is None else verdict.explanation.text


def write_events(result: TestResult) -> str:
    """Write the number of events, and where it was tested the expected one."""
    if result.rate is None or result.rate.cut is WindowCut.COUNT:
        return str(result.n_data)
    return f"{result.n_data} of {result.rate.n_expected:.0f}"


def write_t(result: TestResult) -> str:
    """Write t; ``>`` marks a lower bound."""
    return "-" if result.t is None else f"{'> ' if result.is_lower_bound else ''}{result.t:.1f}"


def as_json_line(verdict: Verdict, *, explained: bool = False) -> str:
    """Write one JSON object without line breaks; what is not known, or not finite, is null.

    Parameters
    ----------
    verdict : Verdict
        Any verdict.
    explained : bool
        Add what the window looks like, as ``explained``; empty if it was not explained.
    """
    from dqm.events.summary import summarise  # loads pydantic, which tables do not need

    line = summarise(verdict).model_dump_json()
    if not explained:
        return line
    return json.dumps(json.loads(line) | {"explained": _looks(verdict)}, separators=(",", ":"))
