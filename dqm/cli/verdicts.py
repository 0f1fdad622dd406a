"""Verdicts on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from dqm.events import SMALLEST_P, Origin, PMethod, Quality, TestResult, Verdict

__all__ = ["QUALITY_STYLE", "as_json_line", "quality_mark", "quality_text", "verdict_table", "write_p"]

QUALITY_STYLE = {
    Quality.NULL: "bright_black",
    Quality.GOOD: "green",
    Quality.MEDIUM: "dark_orange",
    Quality.BAD: "bold red",
}
QUALITY_MARK = {Quality.NULL: "?", Quality.GOOD: "✓", Quality.MEDIUM: "!", Quality.BAD: "✗"}


def quality_mark(quality: Quality) -> Text:
    """Write a quality as a single coloured character."""
    return Text(QUALITY_MARK[quality], style=QUALITY_STYLE[quality])


def quality_text(quality: Quality) -> Text:
    """Write a quality so that it is told by mark and word, not by colour alone."""
    return Text(f"{QUALITY_MARK[quality]} {quality}", style=QUALITY_STYLE[quality])


def verdict_table(verdicts: Iterable[Verdict], *, live: bool = True) -> Table:
    """Lay out verdicts, one a row; `live` adds when they were judged and where the events came from."""
    table = Table(box=None, pad_edge=False)
    for name in [*(["judged (UTC)"] if live else []), "stream", "run", "seq", "quality"]:
        table.add_column(name, no_wrap=True)
    for name in ["events", "t", "p", "Z"]:
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("why")
    for v in verdicts:
        r = v.result
        badge = f" ({v.origin})" if live and v.origin is not Origin.LIVE else ""
        judged = datetime.fromtimestamp(v.judged_at, UTC).strftime("%m-%d %H:%M:%S")
        table.add_row(
            *([judged] if live else []),
            v.stream + badge,
            str(v.run),
            str(v.seq),
            quality_text(v.quality),
            str(r.n_data),
            "-" if r.t is None else f"{r.t:.1f}",
            write_p(r),
            "-" if r.z is None else f"{r.z:.1f}",
            "; ".join(filter(None, [v.reason, *v.warnings.values(), *r.remarks])),
        )
    return table


def write_p(result: TestResult) -> str:
    """Write a p-value; ``~`` marks one that is extrapolated, ``<`` that none smaller is quoted."""
    if result.p is None:
        return "-"
    if result.p <= SMALLEST_P:
        return f"< {SMALLEST_P:g}"
    return f"{'~' if result.p_method is PMethod.TAIL else ''}{result.p:.2g}"


def as_json_line(verdict: Verdict) -> str:
    """One JSON object without line breaks; what is not known is null."""
    v, r = verdict, verdict.result
    return json.dumps(
        {
            "stream": v.stream, "run": v.run, "seq": v.seq, "n_data": r.n_data, "n_expected": r.n_expected,
            "t": r.t, "p": r.p, "p_low": r.p_low, "p_high": r.p_high, "p_method": r.p_method, "z": r.z,
            "quality": v.quality, "reason": v.reason, "bundle": v.bundle, "seconds": v.seconds,
            "judged_at": v.judged_at, "run_type": v.run_type, "origin": v.origin, "start": v.start,
            "end": v.end, "n_lost": v.n_lost, "tau": r.tau, "delta": r.delta,
            "nuisances": {name: asdict(nuisance) for name, nuisance in r.nuisances.items()},
            "remarks": r.remarks, "warnings": dict(v.warnings), "conditions": dict(v.conditions),
        },
        allow_nan=False,
    )  # fmt: skip
