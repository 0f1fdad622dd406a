"""Summaries of runs from the verdicts of a store of an earlier version, which has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, and_, select

from dqm.alarm import RunStatistics, summarise_run
from dqm.events import Explanation, Verdict
from dqm.store.run_summary_rows import random_integer, row_of_summary
from dqm.store.schema import explanations, run_summaries, verdicts
from dqm.store.verdict_rows import verdict_of

__all__ = ["fill_summaries"]

_ROWS_AT_ONCE = 500


def fill_summaries(connection: Connection) -> None:
    """Summarise every run that has verdicts.

    Parameters
    ----------
    connection : Connection
        In a transaction; the table of summaries is empty.
    """
    rows: list[dict[str, object]] = []
    for summary in _summaries(connection):
        rows.append(row_of_summary(summary) | {"written_as": random_integer()})
        if len(rows) == _ROWS_AT_ONCE:
            connection.execute(run_summaries.insert(), rows)
            rows = []
    if rows:
        connection.execute(run_summaries.insert(), rows)


def _summaries(connection: Connection) -> Iterator[RunStatistics]:
    c, e = verdicts.c, explanations.c
    same = and_(c.stream == e.stream, c.run == e.run, c.seq == e.seq)
    query = (
        select(verdicts, e.content["ranking"].label("ranking"))
        .outerjoin(explanations, same)
        .order_by(c.stream, c.run, c.seq)
    )
    rows = connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    for _, of_run in groupby(rows, key=lambda row: (row.stream, row.run)):
        yield summarise_run(map(_verdict_of, of_run))


def _verdict_of(row: Any) -> Verdict:
    verdict = verdict_of(row)
    if row.ranking is None:
        return verdict
    ranking = tuple((feature, share) for feature, share in row.ranking)
    return replace(verdict, explanation=Explanation((), (), ranking))
