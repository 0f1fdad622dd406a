"""Recording: verdicts and what they do to alarms become durable together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dqm.events import Verdict
from dqm.service.monitor.alarm_service import AlarmService
from dqm.store import VerdictStore

__all__ = ["PROBE_SECONDS", "Recorder"]

PROBE_SECONDS = 10.0
"""The store is read back this often before something is added to it."""


class Recorder:
    """Stores verdicts.

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
        self._alarms = alarms
        self._monotonic = monotonic
        self._probe_at = float("-inf")

    def record(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts and the changes of alarms that they cause, in one transaction.

        Parameters
        ----------
        verdicts : sequence of Verdict
            One that is stored already is left as it is.

        Raises
        ------
        StoreError
            If the store cannot be written, or was damaged since it was last read back. Nothing has changed.
        """
        now = self._monotonic()
        if now >= self._probe_at:
            self._store.probe()
            self._probe_at = now + PROBE_SECONDS
        self._alarms.observe(verdicts, beside=lambda: self._append(verdicts))

    def _append(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._store.append(verdict)
