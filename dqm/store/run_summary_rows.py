"""Summaries of runs as rows of their table."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from dqm.alarm import RunStatistics
from dqm.events import Quality

__all__ = ["random_integer", "row_of_summary", "summary_of"]


def random_integer() -> int:
    """Give a number for `written_as` that no other change has."""
    return secrets.randbits(63)


def row_of_summary(summary: RunStatistics) -> dict[str, object]:
    """Give the values of a summary by column."""
    return {
        "stream": summary.stream,
        "run": summary.run,
        "run_type": summary.run_type,
        "first_at": summary.first_at,
        "n_windows": summary.n_windows,
        "n_judged": summary.n_judged,
        "n_bad": summary.n_bad,
        "content": {
            "counts": summary.counts,
            "times": [summary.begin, summary.end],
            "z": [summary.n_z, summary.sum_z, summary.sum_zz],
            "bins": summary.bins,
            "rate": [summary.n_timed, summary.live_seconds],
            "nuisances": summary.nuisances,
            "conditions": summary.conditions,
            "features": summary.features,
            "dead": summary.dead,
            "noisy": summary.noisy,
        },
    }


def summary_of(row: Row[Any]) -> RunStatistics:
    """Make the summary of a row."""
    content = row.content
    begin, end = content["times"]
    n_z, sum_z, sum_zz = content["z"]
    n_timed, live_seconds = content["rate"]
    return RunStatistics(
        stream=row.stream,
        run=row.run,
        run_type=row.run_type,
        first_at=row.first_at,
        begin=begin,
        end=end,
        counts={Quality(quality): n for quality, n in content["counts"].items()},
        n_z=n_z,
        sum_z=sum_z,
        sum_zz=sum_zz,
        bins=_numbered(content["bins"]),
        n_timed=n_timed,
        live_seconds=live_seconds,
        nuisances=_sums_of(content["nuisances"]),
        conditions=_sums_of(content["conditions"]),
        features=_sums_of(content["features"]),
        dead=_numbered(content["dead"]),
        noisy=_numbered(content["noisy"]),
    )


def _numbered(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(number): n for number, n in counts.items()}


def _sums_of(stored: Mapping[str, list[Any]]) -> dict[str, tuple[int, float]]:
    return {name: (int(n), float(total)) for name, (n, total) in stored.items()}
