"""Recording: verdicts, borders of runs and what they do to alarms become durable together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dqm.events import RunRecord, Verdict
from dqm.service.monitor.alarm_service import AlarmService
from dqm.store import RunStore, VerdictStore

__all__ = ["PROBE_SECONDS", "Recorder"]

PROBE_SECONDS = 10.0
"""The store is read back this often before something is added to it."""


class Recorder:
    """Stores verdicts and borders of runs.

    Parameters
    ----------
    store : VerdictStore
        Where verdicts go.
    alarms : AlarmService
        What verdicts may raise; its states are kept in the same database.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, store: VerdictStore, alarms: AlarmService, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._runs = RunStore(store.database)
        self._alarms = alarms
        self._monotonic = monotonic
        self._probe_at = float("-inf")

    def record(self, verdicts: Sequence[Verdict], runs: Sequence[RunRecord] = ()) -> None:
        """Store verdicts, borders of runs and the changes of alarms that they cause, in one transaction.

        Parameters
        ----------
        verdicts : sequence of Verdict
            One that is stored already is left as it is.
        runs : sequence of RunRecord
            Runs that began or ended before.

        Raises
        ------
        StoreError
            If the store cannot be written, or was damaged since it was last read back. Nothing has changed.
        """
        now = self._monotonic()
        if now >= self._probe_at:
            self._store.probe()
            self._probe_at = now + PROBE_SECONDS
        self._alarms.observe(verdicts, lambda: self._append(verdicts, runs), runs)

    def _append(self, verdicts: Sequence[Verdict], runs: Sequence[RunRecord]) -> None:
        self._runs.keep(runs)
        for verdict in verdicts:
            self._store.append(verdict)
