"""Batches of a collector one after the other: what no window could carry, and what does not fit those before.

`dqm.service.collector.sources` refuses what is no batch. What is looked at here ends a run, or makes windows
that nothing judges, only later: in the cutter, in the sender or in the daemon.
"""

from __future__ import annotations

import math
import re

import numpy as np

from dqm.config import NAME_PATTERN
from dqm.errors import InputError, format_count
from dqm.events import EventBatch
from dqm.stream.windowing import StreamStates

__all__ = ["BatchCheck"]


class BatchCheck:
    """Looks at the batches of one collector in their order.

    Parameters
    ----------
    has_runs : bool
        Whether each batch must say its run, see `dqm.service.collector.sources.gives_runs`.
    """

    def __init__(self, has_runs: bool) -> None:
        self._has_runs = has_runs
        self._states: dict[int | None, StreamStates] = {}
        self._starts: dict[tuple[int | None, str], float] = {}

    def find_fault(self, batch: EventBatch) -> str:
        """Say what is wrong with the next batch, as `checked_batches` gives it; empty if nothing is."""
        if self._has_runs and batch.run is None:
            return "it has no run, which a collector with a true 'gives_runs' gives each batch"
        odd = [one for one in (batch.chamber, *batch.names) if not re.fullmatch(NAME_PATTERN, one)]
        if odd:
            return (
                f"no window can carry the name {odd[0]!r}: names are 1 to 64 letters, digits, '.', '_' and "
                "'-', no '.' at the beginning"
            )
        n_infinite = int(np.isinf(batch.x).any(axis=1).sum())
        if n_infinite:
            of = f"{n_infinite} of {format_count(len(batch.x), 'row')}"
            return f"infinite values in {of}: no window with them is judged. Give NaN where there is no value"
        try:
            self._states.setdefault(batch.run, StreamStates(None, None)).find(batch)
        except InputError as error:
            return str(error)
        return self._find_step_back(batch)

    def _find_step_back(self, batch: EventBatch) -> str:
        start = -math.inf if batch.start is None else batch.start
        before = self._starts.get((batch.run, batch.chamber), start)
        self._starts[batch.run, batch.chamber] = start
        if start >= before:
            return ""
        return f"it starts at {start:.17g}, and the one before it of chamber {batch.chamber} at {before:.17g}"
