"""The alarm alarm_service: the board with a clock, a lock and a store, for the daemon and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from threading import RLock
from typing import Any
from uuid import uuid4

from dqm.alarm import Alarm, AlarmChange, AlarmEngine, Cause, Mask, Node, Rules, Thresholds
from dqm.errors import DqmError, StoreError
from dqm.events import Verdict
from dqm.store import AlarmStore, VerdictStore

__all__ = ["AlarmService"]

_MASKS = " masks"
"""Where the masks are kept among the states of the streams: no stream has a name with a space."""

Changes = list[AlarmChange]


class AlarmService:
    """Where alarms are raised and people respond to them; safe to use from several threads.

    What changes is durable before a method returns. If it cannot be stored, nothing has changed.

    Parameters
    ----------
    rules : Rules
        What the board goes by.
    thresholds : Thresholds
        As derived from the false-alarm budget.
    store : VerdictStore
        Where verdicts are kept, and beside them states and history of the alarms, which go on from there.
    clock : callable
        Unix time, s.
    told : callable, optional
        Told of every change, after it was stored.

    Raises
    ------
    InputError
        If what was stored cannot be used, and by the methods for people if there is nothing to act on.
    StoreError
        If the store cannot be read, and by all methods that change something if it cannot be written.
    """

    def __init__(
        self,
        rules: Rules,
        thresholds: Thresholds,
        store: VerdictStore,
        clock: Callable[[], float],
        told: Callable[[Sequence[AlarmChange]], None] | None = None,
    ) -> None:
        self._rules, self._thresholds = rules, thresholds
        self._verdicts, self._store = store, AlarmStore(store.database)
        self._database = store.database
        self._clock = clock
        self._told = told
        self._lock = RLock()
        self._kept: dict[str, Mapping[str, Any]] = self._store.states()
        self._engine = self._restore()
        with self._changing() as changes:
            changes += self._engine.opening

    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm, in the order of the configuration."""
        with self._lock:
            return self._engine.alarms

    def masks(self) -> tuple[Mask, ...]:
        """Masks in force or to come."""
        with self._lock:
            return self._engine.masks

    def tree(self) -> Node:
        """Roll-up over the groups."""
        with self._lock:
            return self._engine.tree()

    def thresholds(self) -> Thresholds:
        """Numbers that decide, as derived."""
        return self._thresholds

    def drift_sums(self) -> Mapping[str, float]:
        """Sum of significances of each stream."""
        with self._lock:
            return self._engine.drift_sums

    def silent_streams(self) -> Mapping[str, float]:
        """Streams that have been without a window for too long, and how long each may be, s."""
        with self._lock:
            return self._engine.silent_streams(self._clock())

    @property
    def history(self) -> AlarmStore:
        """Where states, history and audit are kept."""
        return self._store

    def revise(self, rules: Rules, thresholds: Thresholds) -> None:
        """Go on by other rules: alarms, silence and masks stay as they are, as far as their streams do."""
        with self._lock:
            before = self._rules, self._thresholds
            self._rules, self._thresholds = rules, thresholds
            try:
                with self._changing() as changes:
                    self._engine = self._restore(self._engine.heard)
                    changes += self._engine.opening
            except DqmError:
                self._rules, self._thresholds = before
                self._engine = self._restore(self._engine.heard)
                raise

    def record(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts, together with what they do to alarms."""
        with self._changing(
            streams={verdict.window.stream for verdict in verdicts}, verdicts=verdicts
        ) as changes:
            for verdict in verdicts:
                changes += self._engine.observe(verdict, self._clock())

    def tick(self) -> None:
        """Let time pass."""
        with self._changing() as changes:
            changes += self._engine.tick(self._clock())

    def listen_anew(self) -> None:
        """Let every stream be silent for as long from here: nobody listened before."""
        with self._lock:
            self._engine.listen_anew(self._clock())

    def acknowledge(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        """Take over an alarm that is raised."""
        with self._act(user, "acknowledge", f"{stream} {cause}", comment) as changes:
            changes += self._engine.acknowledge(stream, cause, user, comment, self._clock())

    def shelve(
        self, stream: str, cause: Cause, user: str, reason: str, until: float | None, one_shot: bool
    ) -> None:
        """Put an alarm aside until a time, Unix seconds, or one-shot until its condition has gone."""
        with self._act(user, "shelve", f"{stream} {cause}", reason) as changes:
            changes += self._engine.shelve(stream, cause, user, reason, until, one_shot, self._clock())

    def unshelve(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        """End a shelf early."""
        with self._act(user, "unshelve", f"{stream} {cause}", comment) as changes:
            changes += self._engine.unshelve(stream, cause, user, comment, self._clock())

    def add_mask(
        self,
        streams: str,
        user: str,
        reason: str,
        run_types: tuple[str, ...] = (),
        start: float | None = None,
        until: float | None = None,
    ) -> Mask:
        """Suppress all alarms of the streams that match a pattern; gives the mask with its new identifier."""
        now = self._clock()
        mask = Mask(uuid4().hex[:8], streams, user, reason, now, run_types, start, until)
        with self._act(user, "mask", streams, reason) as changes:
            changes += self._engine.add_mask(mask, now)
        return mask

    def remove_mask(self, identifier: str, user: str, comment: str) -> None:
        """End a mask early."""
        with self._act(user, "unmask", identifier, comment) as changes:
            changes += self._engine.remove_mask(identifier, user, comment, self._clock())

    def _act(self, user: str, action: str, target: str, comment: str) -> AbstractContextManager[Changes]:
        """Change something in somebody's name."""
        return self._changing(audit=(self._clock(), user, action, target, comment))

    @contextmanager
    def _changing(
        self,
        streams: Iterable[str] = (),
        verdicts: Sequence[Verdict] = (),
        audit: tuple[float, str, str, str, str] | None = None,
    ) -> Iterator[Changes]:
        """Store what changes within: streams, whatever is told of them; all or nothing.

        The board goes back to what was stored last if this cannot be.
        """
        changes: Changes = []
        with self._lock:
            yield changes
            states = self._states({*streams, *(change.alarm.stream for change in changes)})
            try:
                if states or changes or verdicts or audit:
                    with self._database.transaction():
                        for verdict in verdicts:
                            self._verdicts.append(verdict)
                        self._store.keep(states, changes)
                        if audit:
                            self._store.record(*audit)
            except StoreError:
                self._engine = self._restore(self._engine.heard)
                raise
            self._kept |= states
        if changes and self._told is not None:
            self._told(changes)

    def _states(self, streams: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Give what differs from what was kept."""
        states: dict[str, Mapping[str, Any]] = {stream: self._engine.dump(stream) for stream in streams}
        states[_MASKS] = {"masks": [asdict(mask) for mask in self._engine.masks]}
        return {name: state for name, state in states.items() if self._kept.get(name) != state}

    def _restore(self, heard: Mapping[str, float] | None = None) -> AlarmEngine:
        """Set the board up from what was kept, and from when streams were heard last."""
        masks = [
            Mask(**{**stored, "run_types": tuple(stored["run_types"])})
            for stored in self._kept.get(_MASKS, {"masks": []})["masks"]
        ]
        return AlarmEngine(self._rules, self._thresholds, self._clock(), self._kept, masks, heard)
