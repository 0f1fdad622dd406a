"""All alarms of all streams: windows, time and commands of people change them; every change is reported.

Pure: time is an argument, nothing is read or written. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dqm.alarm import transitions
from dqm.alarm.commands import (
    AcceptChange,
    AcknowledgeAlarm,
    AcknowledgeGroup,
    AddMask,
    AlarmCommand,
    Command,
    RemoveMask,
    ShelveAlarm,
    UnshelveAlarm,
)
from dqm.alarm.groups import is_within
from dqm.alarm.masks import applies, check_channels, covers, has_ended
from dqm.alarm.present_state import PresentState
from dqm.alarm.quality_ceiling import QualityCeiling, find_ceiling
from dqm.alarm.rolling_reference import RollingAlarmState, look_at_alarms
from dqm.alarm.rules import Rules, StreamRules
from dqm.alarm.run_borders import Activity, belongs_to, follow_run
from dqm.alarm.stored_state import dump_state, fresh_state, load_state
from dqm.alarm.stream_alarms import StreamAlarms
from dqm.alarm.thresholds import Thresholds
from dqm.alarm.transitions import AlarmInputs, AlarmRecord
from dqm.alarm.tree import Leaf, Node, roll_up
from dqm.alarm.urgency import UNFILTERED, is_suppressed, most_urgent_state, needs_response
from dqm.alarm.values import RAISED, Acknowledgement, Alarm, AlarmChange, AlarmState, Cause, Mask, Shelf
from dqm.errors import InputError
from dqm.events import Quality, RunRecord, Verdict

__all__ = ["AlarmEngine"]


_NO_INPUTS = AlarmInputs(condition=False)


@dataclass(frozen=True, slots=True)
class _Action:
    """What moves alarms, as `AlarmChange` reports it."""

    name: str
    user: str = ""
    comment: str = ""


_TIME = _Action("time")
_WINDOW = _Action("window")
_RUN = _Action("run")
_CONFIGURATION = _Action("configuration")


class AlarmEngine:
    """Alarms of all streams.

    Parameters
    ----------
    rules : Rules
        Streams, delays, groups; see `dqm.alarm.alarm_rules`.
    thresholds : Thresholds
        Numbers that decide; see `dqm.alarm.derive_thresholds`.
    now : float
        Unix seconds. Silence counts from here; see `resume_wait`.
    dumps : mapping of str to mapping, optional
        Results of `dump`, by stream; streams that are no longer configured are ignored.
    masks : iterable of Mask, optional
        Masks that were in force.
    last_seen : mapping of str to float, optional
        When the last window of each stream came, Unix seconds, from an engine that this one replaces.
    runs : mapping of str to RunRecord, optional
        Present run of each stream, as far as it is known.

    Raises
    ------
    InputError
        If a dump is not one of this version.
    """

    def __init__(
        self,
        rules: Rules,
        thresholds: Thresholds,
        now: float,
        dumps: Mapping[str, object] | None = None,
        masks: Iterable[Mask] = (),
        last_seen: Mapping[str, float] | None = None,
        runs: Mapping[str, RunRecord] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self._rules = rules
        self._masks = {mask.identifier: mask for mask in masks}
        self._streams: dict[str, StreamAlarms] = {}
        self._channel_masks: dict[str, tuple[Mask, ...]] = {}
        self._ticked_at = now
        dumps = dumps or {}
        last_seen = last_seen or {}
        for stream in rules.streams:
            name = stream.stream
            stored = load_state(name, dumps[name], now) if name in dumps else fresh_state(now)
            since = now if stored.history.unjudged.reasons else None
            run = (runs or {}).get(name)
            self._streams[name] = StreamAlarms(
                stream, stored, last_seen.get(name, now), run, idle_since=now, unjudged_since=since
            )
        self._with_rolling = [(name, one) for name, one in self._streams.items() if one.rules.n_rolling]
        self._assign_masks()
        #: What has changed since the dumps: masks that ended, streams that were disabled.
        self.initial_changes = tuple(self._advance_all(self._streams.values(), now, _CONFIGURATION))

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm: streams in the order of the configuration, one alarm for each cause."""
        return tuple(
            _view(stream.rules, cause, record)
            for stream in self._streams.values()
            for cause, record in stream.stored.alarms.items()
        )

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Masks in force or to come."""
        return tuple(self._masks.values())

    @property
    def channel_masks(self) -> Mapping[str, tuple[Mask, ...]]:
        """Masks of channels, in force or to come, of each stream that has any."""
        return self._channel_masks

    @property
    def streams(self) -> frozenset[str]:
        """Names of the streams."""
        return frozenset(self._streams)

    @property
    def drift_sums(self) -> dict[str, float]:
        """Sum of significances of each stream."""
        return {
            name: stream.stored.history.drift_statistic(self.thresholds)
            for name, stream in self._streams.items()
        }

    @property
    def for_rolling_references(self) -> dict[str, RollingAlarmState]:
        """What the alarms of each stream with a rolling reference mean for it."""
        return {
            name: look_at_alarms(stream.stored.alarms, stream.stored.history.accepted_at)
            for name, stream in self._with_rolling
        }

    @property
    def last_seen(self) -> dict[str, float]:
        """When the last window of each stream came, or the engine began to wait for it, Unix seconds."""
        return {name: stream.last_seen for name, stream in self._streams.items()}

    @property
    def ceilings(self) -> dict[str, QualityCeiling]:
        """What the alarms of each stream allow its quality to be."""
        return {name: find_ceiling(stream.stored.alarms) for name, stream in self._streams.items()}

    def silent_streams(self, now: float) -> dict[str, str]:
        """Say of the streams that have been without a window for too long since when, in words."""
        return {
            name: stream.stored.history.describe_silence(stream.rules)
            for name, stream in self._streams.items()
            if stream.is_silent(now)
        }

    def activities(self, now: float) -> dict[str, Activity]:
        """Say of each stream whether windows are expected, and come."""
        return {name: stream.activity(now) for name, stream in self._streams.items()}

    def observe(self, verdict: Verdict, now: float) -> list[AlarmChange]:
        """Take a window into account; raises `InputError` if its stream is not configured."""
        stream = self._find(verdict.window.stream)
        stream.last_seen = now
        is_present = belongs_to(verdict.window, stream.run)
        history = stream.stored.history
        history.add(verdict, self._rules, stream.rules, self.thresholds, is_present=is_present)
        if not stream.stored.history.unjudged.reasons:
            stream.unjudged_since = None
        elif stream.unjudged_since is None:
            stream.unjudged_since = now
        return self._advance(stream, now, _WINDOW)

    def note_run(self, record: RunRecord, now: float) -> list[AlarmChange]:
        """Take the border of a run into account.

        Parameters
        ----------
        record : RunRecord
            What has changed; that of an unknown stream, or of an earlier run, is passed over.
        now : float
            Unix seconds.

        Returns
        -------
        list of AlarmChange
            What it has changed: silence ends with the run.
        """
        stream = self._streams.get(record.stream)
        if stream is None or follow_run(stream.run, record) is not record:
            return []
        was_idle = stream.is_idle
        stream.run = record
        if stream.is_idle:
            stream.stored.history.end()
            stream.idle_since = stream.idle_since if was_idle else now
        else:
            stream.stored.history.begin(record, stream.rules)
            if was_idle:
                stream.rest(now)
            if not stream.stored.history.silent:  # else it goes on: a fault does not end with a run
                stream.last_seen = now
        return self._advance(stream, now, _RUN)

    def note_refusal(self, stream: str, text: str, now: float) -> None:
        """Take a refused window into account at the next `tick`; that of an unknown stream is passed over."""
        if stream in self._streams:
            self._streams[stream].stored.history.refused.add(text, self._rules.n, now)
            self._streams[stream].has_new_refusal = True

    def tick(self, now: float) -> list[AlarmChange]:
        """Let time pass: silence, delays, the end of shelves and masks. To be called about once a second."""
        ended = [mask for mask in self._masks.values() if has_ended(mask, now)]
        went_back = now < self._ticked_at
        self._ticked_at = now
        streams = self._streams.values()
        due = [
            s
            for s in streams
            if s.becomes_silent(now)
            or s.becomes_unjudged(now)
            or s.has_new_refusal
            or s.is_timed
            or went_back
        ]
        for stream in due:
            stream.has_new_refusal = False
        for mask in ended:
            del self._masks[mask.identifier]
        if ended:
            self._assign_masks()
        return self._advance_all(due, now, _TIME)

    def resume_waits(
        self, absent_from: float, now: float, last_windows: Mapping[str, float] | None = None
    ) -> None:
        """Go on to wait for windows after nobody listened for a while, or the clock was put forward.

        Parameters
        ----------
        absent_from : float
            Since when nobody listened, Unix seconds.
        now : float
            Unix seconds.
        last_windows : mapping of str to float, optional
            When the last window of each stream was judged, for an engine that does not know it.
        """
        for name, stream in self._streams.items():
            stream.resume_wait(absent_from, now, (last_windows or {}).get(name))

    def apply(self, command: Command, user: str, now: float) -> list[AlarmChange]:
        """Carry out a command of a person.

        Parameters
        ----------
        command : Command
            What to do.
        user : str
            Who commands it.
        now : float
            Unix seconds.

        Returns
        -------
        list of AlarmChange
            What it has changed; other alarms of the streams may change by time.

        Raises
        ------
        InputError
            If nobody is named, if there is no such stream or mask, or if the state of the alarm does not
            allow it.
        """
        if not user.strip():
            raise InputError("a user must be named", fix="So that others know whom to ask")
        action = _Action(command.action, user, command.comment)
        match command:
            case AddMask():
                return self._add_mask(command, action, now)
            case RemoveMask():
                return self._remove_mask(command, action, now)
            case AcknowledgeGroup():
                return self._acknowledge_group(command, action, now)
            case _:
                return self._change_alarm(command, action, now)

    def tree(self, present: Mapping[str, PresentState]) -> Node:
        """Roll-up over the groups, from the present state of each stream beside its alarms."""
        leaves = []
        for name, stream in self._streams.items():
            states = {cause: record.state for cause, record in stream.stored.alarms.items()}
            leaf = Leaf(
                name,
                stream.rules.group,
                present[name].quality if name in present else Quality.NULL,
                most_urgent_state(states.values()),
                idle=stream.is_idle,
                suppressed=is_suppressed(states),
            )
            leaves.append(leaf)
        return roll_up(leaves, self._rules.policies)

    def dump(self, stream: str) -> dict[str, Any]:
        """All that must outlive the daemon of one stream, as JSON values; masks are not in it."""
        return dump_state(self._find(stream).stored)

    def _find(self, name: str) -> StreamAlarms:
        try:
            return self._streams[name]
        except KeyError:
            raise InputError(
                f"unknown stream {name!r}",
                fix=f"Configured: {', '.join(self._streams)}",
            ) from None

    def _change_alarm(self, command: AlarmCommand, action: _Action, now: float) -> list[AlarmChange]:
        stream = self._find(command.stream)
        before = stream.stored.alarms[command.cause]
        match command:
            case AcknowledgeAlarm():
                record = transitions.acknowledge(before, Acknowledgement(action.user, command.comment, now))
                if command.cause is Cause.CHANGED:
                    stream.stored.history.accepted_at = now
            case AcceptChange():
                return self._accept_change(stream, command, action, now)
            case ShelveAlarm():
                until = None if command.hours is None else now + 3600.0 * command.hours
                shelf = Shelf(action.user, command.comment, now, until, command.one_shot)
                record = transitions.shelve(before, shelf)
            case UnshelveAlarm():
                record = transitions.unshelve(before)
        stream.stored.alarms[command.cause] = record
        return self._advance(stream, now, action, {command.cause: before})

    def _accept_change(
        self, stream: StreamAlarms, command: AcceptChange, action: _Action, now: float
    ) -> list[AlarmChange]:
        """Begin the rolling reference anew; the history notes it also if the alarm was not raised."""
        if not stream.rules.n_rolling:
            raise InputError(
                f"stream {command.stream!r} has no rolling reference",
                fix="Name a stream with [streams.rolling] in the configuration",
            )
        cause = command.cause
        before = stream.stored.alarms[command.cause]
        if before.state in RAISED:
            seen = Acknowledgement(action.user, command.comment, now)
            stream.stored.alarms[cause] = transitions.acknowledge(before, seen)
        stream.stored.history.accept_change(now)
        changes = self._advance(stream, now, action, {cause: before})
        if not any(change.alarm.cause is cause for change in changes):
            view = _view(stream.rules, cause, stream.stored.alarms[cause])
            changes.append(AlarmChange(view, before.state, now, action.name, action.user, action.comment))
        return changes

    def _acknowledge_group(self, command: AcknowledgeGroup, action: _Action, now: float) -> list[AlarmChange]:
        """Acknowledge every alarm that is meant, or raise without having changed one."""
        streams = [s for s in self._streams.values() if is_within(s.rules.group, command.group)]
        waiting = [s for s in streams if self._is_waiting(s, command)]
        if not waiting:
            place = f"in the group {command.group!r}" if command.group else "in any stream"
            raise InputError(
                f"nothing to acknowledge: no alarm {command.cause} {place} waits for it",
                fix="Look at the list of alarms again: it has changed",
            )
        changes = []
        for s in waiting:
            one = AcknowledgeAlarm(s.rules.stream, command.cause, command.comment)
            changes += self._change_alarm(one, action, now)
        return changes

    def _is_waiting(self, stream: StreamAlarms, command: AcknowledgeGroup) -> bool:
        """Tell whether an alarm needs a response, and did so when somebody looked."""
        record = stream.stored.alarms[command.cause]
        if not needs_response(_view(stream.rules, command.cause, record)):
            return False
        raised = record.since if record.state is AlarmState.ACTIVE else record.raised_at or record.since
        return command.before is None or raised <= command.before

    def _add_mask(self, command: AddMask, action: _Action, now: float) -> list[AlarmChange]:
        identifier = command.identifier
        until = command.until
        if identifier in self._masks:
            raise InputError(f"there is a mask {identifier!r} already", fix="Choose another identifier")
        if until is not None and until <= now:
            raise InputError("the mask would have ended already", fix="Give a later 'until', or none")
        mask = command.make_mask(action.user, now)
        covered = self._covered_by(mask)
        if not covered:
            raise InputError(
                f"no stream matches {mask.streams!r}",
                fix="Give a name, a path group/stream or a group, with * and ? for what may differ",
            )
        for stream in covered:
            check_channels(mask, stream.rules.stream, stream.rules.channels)
        self._masks[identifier] = mask
        self._assign_masks()
        return self._advance_all(covered, now, action)

    def _remove_mask(self, command: RemoveMask, action: _Action, now: float) -> list[AlarmChange]:
        identifier = command.identifier
        if identifier not in self._masks:
            known = ", ".join(map(repr, self._masks)) or "none"
            raise InputError(f"there is no mask {identifier!r}", fix=f"Masks in force or to come: {known}")
        mask = self._masks.pop(identifier)
        self._assign_masks()
        return self._advance_all(self._covered_by(mask), now, action)

    def _covered_by(self, mask: Mask) -> list[StreamAlarms]:
        return [s for s in self._streams.values() if covers(mask, s.rules.stream, s.rules.group)]

    def _assign_masks(self) -> None:
        """Give each stream the masks that cover it."""
        for stream in self._streams.values():
            stream.masks = []
        channel_masks: dict[str, tuple[Mask, ...]] = {}
        for mask in self._masks.values():
            for stream in self._covered_by(mask):
                if mask.channels is None:
                    stream.masks.append(mask)
                else:
                    name = stream.rules.stream
                    channel_masks[name] = (*channel_masks.get(name, ()), mask)
        self._channel_masks = channel_masks

    def _advance_all(self, streams: Iterable[StreamAlarms], now: float, action: _Action) -> list[AlarmChange]:
        return [change for stream in streams for change in self._advance(stream, now, action)]

    def _advance(
        self,
        stream: StreamAlarms,
        now: float,
        action: _Action,
        changed: Mapping[Cause, AlarmRecord] | None = None,
    ) -> list[AlarmChange]:
        """Move all alarms of a stream; `changed` has those that a command has changed, as they were before.

        A command concerns one alarm. If other alarms of the stream move, the time has moved them.
        """
        changes = []
        for cause, inputs in self._inputs(stream, now).items():
            record = stream.stored.alarms[cause]
            if inputs == _NO_INPUTS and record.is_idle:
                continue
            stepped = transitions.advance(record, inputs, self._rules.timing, now)
            before = (changed or {}).get(cause, record)
            stream.stored.alarms[cause] = stepped
            if _differ(before, stepped):
                by = action if not changed or cause in changed else _TIME
                view = _view(stream.rules, cause, stepped)
                changes.append(AlarmChange(view, before.state, now, by.name, by.user, by.comment))
        return changes

    def _inputs(self, stream: StreamAlarms, now: float) -> dict[Cause, AlarmInputs]:
        """Collect the inputs of each alarm of a stream."""
        history = stream.stored.history
        rules = stream.rules
        texts = history.describe(self._rules, rules, self.thresholds)
        mask = next((m.identifier for m in stream.masks if applies(m, history.run_type, now)), "")
        unwatched = {
            Cause.DRIFT: self.thresholds.drift_limit is None,
            Cause.RATE: self.thresholds.rate_p is None,
        }
        return {
            cause: AlarmInputs(
                condition=cause in texts,
                text=texts.get(cause, ""),
                disabled=not rules.enabled or unwatched.get(cause, False),
                filtered=history.filtered and cause not in UNFILTERED,
                mask=mask,
            )
            for cause in stream.stored.alarms
        }


def _differ(before: AlarmRecord, after: AlarmRecord) -> bool:
    """Return whether a step is reported; a new text alone is not."""
    return before is not after and (
        before.state is not after.state
        or before.acknowledged != after.acknowledged
        or before.shelf != after.shelf
        or before.mask != after.mask
    )


def _view(rules: StreamRules, cause: Cause, record: AlarmRecord) -> Alarm:
    return Alarm(
        stream=rules.stream,
        cause=cause,
        priority=rules.priority,
        guidance=rules.guidance[cause],
        state=record.state,
        since=record.since,
        raised_at=record.raised_at,
        text=f"gone: {record.text}" if record.text and not record.condition else record.text,
        acknowledged=record.acknowledged,
        shelf=record.shelf,
        mask=record.mask,
        group=rules.group,
    )
