"""What people say about runs, with a clock, a lock and a store: the only way to change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from dqm.alarm import (
    CertifyCommand,
    Entry,
    RunJournal,
    SignOff,
    SignOffRules,
    certify,
)
from dqm.export.certified_run import CertifiedRun, read_run
from dqm.export.registry import RegistrySender, RegistryStatus
from dqm.store import AlarmStore, CertificationStore, VerdictStore

__all__ = ["CertificationService"]


class CertificationService:
    """Journals of runs; safe to use from several threads.

    An entry is durable, and in the audit, before `apply` returns; otherwise nothing has changed.

    Parameters
    ----------
    rules : SignOffRules
        Which sign-off is proposed.
    store : VerdictStore
        Verdicts; the journals are in its database.
    streams : callable
        Streams that should be in a run, besides those that are.
    clock : callable
        Unix time, s.
    created_by : str
        Name and version of the program, for flags.
    registry : RegistrySender, optional
        Sends sign-offs.
    """

    def __init__(
        self,
        rules: SignOffRules,
        store: VerdictStore,
        streams: Callable[[], Sequence[str]],
        clock: Callable[[], float],
        *,
        created_by: str,
        registry: RegistrySender | None = None,
    ) -> None:
        self.rules = rules
        self.created_by = created_by
        self._store = store
        self._said = CertificationStore(store.database)
        self._audit = AlarmStore(store.database)
        self._streams = streams
        self._clock = clock
        self._registry = registry
        self._lock = Lock()
        self._reading = Lock()  # one run at a time: one of many windows takes memory

    def start(self) -> None:
        """Begin to send sign-offs, if there is a registry."""
        if self._registry is not None:
            self._registry.start()

    def stop(self) -> None:
        """End that; what is not sent yet is sent by the next daemon."""
        if self._registry is not None:
            self._registry.stop()

    def registry_status(self) -> RegistryStatus | None:
        """State of the registry; None without one."""
        return None if self._registry is None else self._registry.status

    def revise(self, rules: SignOffRules) -> None:
        """Propose by other rules from now on."""
        self.rules = rules

    def last_runs(self, limit: int, below: int | None = None) -> list[RunJournal]:
        """Give the runs of the largest numbers that have windows or of which something was said.

        Parameters
        ----------
        limit : int
            Most runs.
        below : int, optional
            Only runs with smaller numbers.

        Returns
        -------
        list of RunJournal
            The largest number first.
        """
        runs = {*self._store.last_runs(limit, below), *self._said.last_runs(limit, below)}
        chosen = sorted(runs, reverse=True)[:limit]
        journals = self._said.journals(chosen)
        return [journals[run] for run in chosen]

    def read_run(self, run: int) -> CertifiedRun:
        """Read a run, and propose its sign-off; raises `InputError` if nothing is known of it."""
        with self._reading:
            return read_run(
                self._store, run, streams=self._streams(), rules=self.rules, created_by=self.created_by
            )

    def journal(self, run: int) -> RunJournal:
        """Read what was said of a run."""
        return self._said.journal(run)

    def sign_off(self, identifier: int) -> SignOff:
        """Read a sign-off with its record; raises `InputError` if there is none of this number."""
        return self._said.sign_off(identifier)

    def sent_at(self, signed: SignOff) -> float | None:
        """Give when the registry has taken a sign-off, Unix seconds; None if it has not."""
        return self._said.sent_at(signed.identifier)

    def apply(self, command: CertifyCommand, user: str) -> Entry:
        """Carry out a command of a person, and write it to the audit.

        Parameters
        ----------
        command : CertifyCommand
            What is done.
        user : str
            Who asks.

        Returns
        -------
        Entry
            What was stored.

        Raises
        ------
        InputError
            As `dqm.alarm.certify`.
        StoreError
            If it cannot be stored.
        """
        with self._lock:
            now = self._clock()
            # read before the transaction: SQLite would refuse to write where a verdict was stored meanwhile
            made = certify(command, self.read_run(command.run).facts, user=user, now=now)
            with self._store.database.transaction():
                entry = self._said.add(made)
                self._audit.record(now, user, command.action, command.target, command.comment)
        if isinstance(entry, SignOff) and self._registry is not None:
            self._registry.wake()
        return entry
