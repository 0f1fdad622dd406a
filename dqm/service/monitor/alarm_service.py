"""The alarm engine with a clock, a lock and a store, for the daemon and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

from pydantic import TypeAdapter

from dqm.alarm import (
    AcknowledgeGroup,
    Activity,
    Alarm,
    AlarmChange,
    AlarmEngine,
    Command,
    Mask,
    Node,
    PresentState,
    QualityCeiling,
    RollingAlarmState,
    Rules,
    Thresholds,
    follow_run,
)
from dqm.errors import DqmError, StoreError
from dqm.events import RunRecord, Verdict
from dqm.store import AlarmStore, Database, RunStore

__all__ = ["AlarmService"]

_MASKS = " masks"
"""Where the masks are kept among the states of the streams: no stream has a name with a space."""

_MASKS_ADAPTER = TypeAdapter(tuple[Mask, ...])

Changes = list[AlarmChange]


class AlarmService:
    """Where alarms are raised and people respond to them; safe to use from several threads.

    A change is durable before a method returns. If it cannot be stored, nothing has changed.

    Parameters
    ----------
    rules : Rules
        What the engine goes by.
    thresholds : Thresholds
        As derived from the false-alarm budget.
    database : Database
        Where states and history of the alarms are stored; they continue from there.
    clock : callable
        Unix time, s.
    on_changes : callable, optional
        Called with all changes of one step, after they were stored.

    Raises
    ------
    InputError
        If what was stored cannot be used, and by `apply` as by `AlarmEngine.apply`.
    StoreError
        If the store cannot be read, and by all methods that change something if it cannot be written.
    """

    def __init__(
        self,
        rules: Rules,
        thresholds: Thresholds,
        database: Database,
        clock: Callable[[], float],
        on_changes: Callable[[Sequence[AlarmChange]], None] | None = None,
    ) -> None:
        self._rules = rules
        self._thresholds = thresholds
        self._store = AlarmStore(database)
        self._database = database
        self._clock = clock
        self._on_changes = on_changes
        self._lock = RLock()
        self._stored: dict[str, Mapping[str, Any]] = self._store.states()
        self._runs = {record.stream: record for record in RunStore(database).recent(1) if record.position}
        self._engine = self._restore()
        with self._changing() as changes:
            changes += self._engine.initial_changes

    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm, in the order of the configuration."""
        with self._lock:
            return self._engine.alarms

    def for_rolling_references(self) -> Mapping[str, RollingAlarmState]:
        """Say what the alarms of each stream with a rolling reference mean for it."""
        with self._lock:
            return self._engine.for_rolling_references

    def masks(self) -> tuple[Mask, ...]:
        """Masks in force or to come."""
        with self._lock:
            return self._engine.masks

    def channel_masks(self) -> Mapping[str, Sequence[Mask]]:
        """Masks of channels, in force or to come, of each stream that has any."""
        with self._lock:
            return self._engine.channel_masks

    def tree(self, present: Mapping[str, PresentState]) -> Node:
        """Roll-up over the groups, from the present state of each stream beside its alarms."""
        with self._lock:
            return self._engine.tree(present)

    def thresholds(self) -> Thresholds:
        """Numbers that decide, as derived."""
        return self._thresholds

    def drift_sums(self) -> Mapping[str, float]:
        """Sum of significances of each stream."""
        with self._lock:
            return self._engine.drift_sums

    def ceilings(self) -> Mapping[str, QualityCeiling]:
        """Say what the alarms of each stream allow its quality to be."""
        with self._lock:
            return self._engine.ceilings

    def silent_streams(self) -> Mapping[str, str]:
        """Streams that have been without a window for too long, and since when, in words."""
        with self._lock:
            return self._engine.silent_streams(self._clock())

    def activities(self) -> Mapping[str, Activity]:
        """Whether windows of each stream are expected, and come."""
        with self._lock:
            return self._engine.activities(self._clock())

    def present_runs(self) -> Mapping[str, RunRecord]:
        """Run that each stream is in, or was in last, as far as it is known."""
        with self._lock:
            return dict(self._runs)

    @property
    def history(self) -> AlarmStore:
        """Where states, history and audit are kept."""
        return self._store

    def revise(self, rules: Rules, thresholds: Thresholds) -> None:
        """Continue with other rules; alarms, silence and masks of the remaining streams stay as they are."""
        with self._lock:
            before = self._rules, self._thresholds
            self._rules = rules
            self._thresholds = thresholds
            try:
                with self._changing() as changes:
                    self._engine = self._restore(self._engine.last_seen)
                    changes += self._engine.initial_changes
            except DqmError:
                self._rules, self._thresholds = before
                self._engine = self._restore(self._engine.last_seen)
                raise

    def observe(
        self, verdicts: Sequence[Verdict], beside: Callable[[], None], runs: Sequence[RunRecord] = ()
    ) -> None:
        """Take runs and verdicts in; what `beside` stores becomes durable together with what they change."""
        streams = {verdict.window.stream for verdict in verdicts} | {record.stream for record in runs}
        with self._changing(streams & self._engine.streams, beside) as changes:
            for record in runs:
                changes += self._engine.note_run(record, self._clock())
            for verdict in verdicts:
                changes += self._engine.observe(verdict, self._clock())
        with self._lock:
            for record in runs:
                present = follow_run(self._runs.get(record.stream), record)
                self._runs |= {record.stream: present} if present is not None else {}

    def tick(self) -> None:
        """Let time pass."""
        with self._changing() as changes:
            changes += self._engine.tick(self._clock())

    def note_refusal(self, stream: str, text: str) -> None:
        """Take a refused window into account; its alarm changes at the next `tick`."""
        with self._lock:
            self._engine.note_refusal(stream, text, self._clock())

    def resume_waits(self, absent_from: float, last_windows: Mapping[str, float] | None = None) -> None:
        """Go on to wait for windows after nobody listened for a while; see `AlarmEngine.resume_waits`."""
        with self._lock:
            self._engine.resume_waits(absent_from, self._clock(), last_windows)

    def apply(self, command: Command, user: str) -> Changes:
        """Carry out a command of a person, and write it to the audit: one row for each alarm of a group.

        Returns
        -------
        list of AlarmChange
            What it has changed.
        """
        now = self._clock()
        targets = [command.target]

        def write_audit() -> None:
            for target in targets:
                self._store.record(now, user, command.action, target, command.comment)

        with self._changing(beside=write_audit) as changes:
            changes += self._engine.apply(command, user, now)
            if isinstance(command, AcknowledgeGroup):
                done = [c.alarm for c in changes if c.action == command.action]
                targets[:] = [f"{alarm.stream} {alarm.cause}" for alarm in done]
        return changes

    @contextmanager
    def _changing(
        self, streams: Iterable[str] = (), beside: Callable[[], None] | None = None
    ) -> Iterator[Changes]:
        """Store what changes in the body of the `with` statement, and what `beside` stores: all or nothing.

        If it cannot be stored, the engine returns to what was stored last.
        """
        changes: Changes = []
        with self._lock:
            yield changes
            states = self._states({*streams, *(change.alarm.stream for change in changes)})
            try:
                if states or changes or beside:
                    with self._database.transaction():
                        if beside is not None:
                            beside()
                        self._store.keep(states, changes)
            except StoreError:
                self._engine = self._restore(self._engine.last_seen)
                raise
            self._stored |= states
        if changes and self._on_changes is not None:
            self._on_changes(changes)

    def _states(self, streams: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Give what differs from what is stored."""
        states: dict[str, Mapping[str, Any]] = {stream: self._engine.dump(stream) for stream in streams}
        states[_MASKS] = {"masks": _MASKS_ADAPTER.dump_python(self._engine.masks, mode="json")}
        return {name: state for name, state in states.items() if self._stored.get(name) != state}

    def _restore(self, last_seen: Mapping[str, float] | None = None) -> AlarmEngine:
        """Make the engine from what is stored, and from when the last window of each stream came."""
        masks = _MASKS_ADAPTER.validate_python(self._stored.get(_MASKS, {"masks": []})["masks"])
        return AlarmEngine(
            self._rules, self._thresholds, self._clock(), self._stored, masks, last_seen, self._runs
        )
