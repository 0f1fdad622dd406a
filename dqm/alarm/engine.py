"""All alarms of all streams: windows, time and people move them, and every change is told.

Pure: time is an argument, nothing is read or written. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dqm.alarm import transitions
from dqm.alarm.masks import applies, covers
from dqm.alarm.rules import Rules, StreamRules
from dqm.alarm.stream_history import StreamHistory
from dqm.alarm.thresholds import Thresholds
from dqm.alarm.transitions import TIMED, AlarmInputs, AlarmRecord
from dqm.alarm.tree import Leaf, Node, roll_up
from dqm.alarm.urgency import most_urgent_state
from dqm.alarm.values import Acknowledgement, Alarm, AlarmChange, AlarmState, Cause, Mask, Shelf
from dqm.errors import InputError
from dqm.events import Quality, Verdict

__all__ = ["AlarmEngine"]


@dataclass(slots=True)
class _Kept:
    """What outlives the daemon, of one stream."""

    history: Annotated[StreamHistory, Field(alias="evidence")]  # the name in stored states
    alarms: dict[Cause, AlarmRecord]
    version: Literal[1] = 1

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False, validate_by_name=True)


_ADAPTER = TypeAdapter(_Kept)
_NOTHING = AlarmInputs(condition=False)


@dataclass(slots=True)
class _Watch:
    """One stream while the daemon runs."""

    rules: StreamRules
    kept: _Kept
    heard: float
    masks: list[Mask] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether time alone may change something."""
        return bool(self.masks) or any(
            kept.state in TIMED or kept.shelf is not None for kept in self.kept.alarms.values()
        )


class AlarmEngine:
    """Alarms of all streams.

    Parameters
    ----------
    rules : Rules
        Streams, delays, groups; see `dqm.alarm.alarm_rules`.
    thresholds : Thresholds
        Numbers that decide; see `dqm.alarm.derive_thresholds`.
    now : float
        Unix seconds. Every stream may be silent for as long from here: nobody listened before.
    dumps : mapping of str to mapping, optional
        What `dump` gave, by stream; streams that are no longer configured are passed over.
    masks : iterable of Mask, optional
        Masks that were in force.
    heard : mapping of str to float, optional
        When streams were heard last, Unix seconds, from a board that this one takes over from.

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
        heard: Mapping[str, float] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self._rules = rules
        self._masks = {mask.identifier: mask for mask in masks}
        self._watches: dict[str, _Watch] = {}
        dumps, heard = dumps or {}, heard or {}
        for stream in rules.streams:
            kept = _load(stream.stream, dumps[stream.stream]) if stream.stream in dumps else _fresh(now)
            self._watches[stream.stream] = _Watch(stream, kept, heard.get(stream.stream, now))
        self._lay_masks()
        opening = [self._advance(watch, now, "configuration") for watch in self._watches.values()]
        #: What has changed since the dumps: masks that ended, streams that were disabled.
        self.opening: tuple[AlarmChange, ...] = tuple(change for changes in opening for change in changes)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm: streams in the order of the configuration, four causes each."""
        return tuple(
            _view(watch.rules, cause, record)
            for watch in self._watches.values()
            for cause, record in watch.kept.alarms.items()
        )

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Masks in force or to come."""
        return tuple(self._masks.values())

    @property
    def drift_sums(self) -> dict[str, float]:
        """Sum of significances of each stream."""
        return {name: watch.kept.history.drift.sum for name, watch in self._watches.items()}

    @property
    def heard(self) -> dict[str, float]:
        """When each stream was heard last, Unix seconds."""
        return {name: watch.heard for name, watch in self._watches.items()}

    def silent_streams(self, now: float) -> dict[str, float]:
        """Give the streams that have been without a window for too long, and how long each may be, s."""
        return {
            name: watch.rules.stale_seconds
            for name, watch in self._watches.items()
            if watch.kept.history.silent or now - watch.heard > watch.rules.stale_seconds
        }

    def observe(self, verdict: Verdict, now: float) -> list[AlarmChange]:
        """Take a window in; raises `InputError` if its stream is not on the board."""
        watch = self._watch(verdict.window.stream)
        watch.heard = now
        watch.kept.history.add(verdict, self._rules, watch.rules, self.thresholds)
        return self._advance(watch, now, "window")

    def tick(self, now: float) -> list[AlarmChange]:
        """Let time pass: silence, delays, the end of shelves and masks. To be called every second or so."""
        ended = [mask for mask in self._masks.values() if mask.until is not None and now >= mask.until]
        due = [watch for watch in self._watches.values() if self._falls_silent(watch, now) or watch.waits]
        for mask in ended:
            del self._masks[mask.identifier]
        if ended:
            self._lay_masks()
        return [change for watch in due for change in self._advance(watch, now, "time")]

    def listen_anew(self, now: float) -> None:
        """Let every stream be silent for as long from here: nobody listened, or the clock was put forward."""
        for watch in self._watches.values():
            watch.heard = now

    def acknowledge(
        self, stream: str, cause: Cause, user: str, comment: str, now: float
    ) -> list[AlarmChange]:
        """Take over an alarm that is raised, and no other; raises `InputError` if it is not."""
        watch, record = self._find(stream, cause)
        _require(user, "user")
        taken = transitions.acknowledge(record, Acknowledgement(user, comment, now))
        return self._act(watch, cause, taken, now, "acknowledge", user, comment)

    def shelve(
        self,
        stream: str,
        cause: Cause,
        user: str,
        reason: str,
        until: float | None,
        one_shot: bool,
        now: float,
    ) -> list[AlarmChange]:
        """Put an alarm aside until a time, or one-shot until its condition has gone.

        Raises
        ------
        InputError
            If the shelf would never end or has ended, or if nobody or no reason is named.
        """
        watch, record = self._find(stream, cause)
        _require(user, "user")
        _require(reason, "reason")
        shelved = transitions.shelve(record, Shelf(user, reason, now, until, one_shot))
        return self._act(watch, cause, shelved, now, "shelve", user, reason)

    def unshelve(self, stream: str, cause: Cause, user: str, comment: str, now: float) -> list[AlarmChange]:
        """End a shelf early; raises `InputError` if there is none."""
        watch, record = self._find(stream, cause)
        _require(user, "user")
        return self._act(watch, cause, transitions.unshelve(record), now, "unshelve", user, comment)

    def add_mask(self, mask: Mask, now: float) -> list[AlarmChange]:
        """Suppress all alarms of some streams.

        Raises
        ------
        InputError
            If its identifier is taken, it covers no stream or has ended, or if nobody or no reason is named.
        """
        _require(mask.identifier, "identifier")
        _require(mask.user, "user")
        _require(mask.reason, "reason")
        if mask.identifier in self._masks:
            raise InputError(f"there is a mask {mask.identifier!r} already", fix="Choose another identifier")
        if mask.until is not None and mask.until <= max(now, mask.start or now):
            raise InputError(
                f"mask {mask.identifier!r} has ended before it begins", fix="Give a time in the future"
            )
        covered = [watch for watch in self._watches.values() if _covers(mask, watch)]
        if not covered:
            raise InputError(
                f"no stream matches {mask.streams!r}",
                fix="Give a name, a path group/stream or a group, with * and ? for what may differ",
            )
        self._masks[mask.identifier] = mask
        self._lay_masks()
        changes = [self._advance(watch, now, "mask", mask.user, mask.reason) for watch in covered]
        return [change for found in changes for change in found]

    def remove_mask(self, identifier: str, user: str, comment: str, now: float) -> list[AlarmChange]:
        """End a mask early; raises `InputError` if there is none of that name."""
        _require(user, "user")
        if identifier not in self._masks:
            known = ", ".join(map(repr, self._masks)) or "none"
            raise InputError(f"there is no mask {identifier!r}", fix=f"Masks in force or to come: {known}")
        mask = self._masks.pop(identifier)
        self._lay_masks()
        covered = [watch for watch in self._watches.values() if _covers(mask, watch)]
        return [change for watch in covered for change in self._advance(watch, now, "unmask", user, comment)]

    def tree(self) -> Node:
        """Roll-up over the groups."""
        leaves = [
            Leaf(
                name,
                watch.rules.group,
                Quality.NULL if watch.kept.history.silent else watch.kept.history.quality,
                most_urgent_state(kept.state for kept in watch.kept.alarms.values()),
            )
            for name, watch in self._watches.items()
        ]
        return roll_up(leaves, self._rules.policies)

    def dump(self, stream: str) -> dict[str, Any]:
        """All that must outlive the daemon of one stream, as JSON values; masks are not in it."""
        dumped: dict[str, Any] = _ADAPTER.dump_python(self._watch(stream).kept, mode="json", by_alias=True)
        return dumped

    def _watch(self, stream: str) -> _Watch:
        try:
            return self._watches[stream]
        except KeyError:
            raise InputError(
                f"unknown stream {stream!r}", fix=f"Configured are: {', '.join(self._watches)}"
            ) from None

    def _find(self, stream: str, cause: Cause) -> tuple[_Watch, AlarmRecord]:
        watch = self._watch(stream)
        return watch, watch.kept.alarms[cause]

    def _falls_silent(self, watch: _Watch, now: float) -> bool:
        watch.heard = min(watch.heard, now)
        if watch.kept.history.silent or now - watch.heard <= watch.rules.stale_seconds:
            return False
        watch.kept.history.silent = True
        return True

    def _lay_masks(self) -> None:
        for watch in self._watches.values():
            watch.masks = [mask for mask in self._masks.values() if _covers(mask, watch)]

    def _act(
        self,
        watch: _Watch,
        cause: Cause,
        record: AlarmRecord,
        now: float,
        action: str,
        user: str,
        comment: str,
    ) -> list[AlarmChange]:
        """Put a person's deed into effect; other alarms of the stream may move by time."""
        before = watch.kept.alarms[cause]
        watch.kept.alarms[cause] = record
        return self._advance(watch, now, action, user, comment, {cause: before})

    def _advance(
        self,
        watch: _Watch,
        now: float,
        action: str,
        user: str = "",
        comment: str = "",
        earlier: Mapping[Cause, AlarmRecord] | None = None,
    ) -> list[AlarmChange]:
        """Move all alarms of a stream; `earlier` has those that a person has touched, as they were."""
        history, rules = watch.kept.history, watch.rules
        texts = history.describe(self._rules, rules, self.thresholds)
        mask = next((m.identifier for m in watch.masks if applies(m, history.run_type, now)), "")
        changes = []
        for cause, record in watch.kept.alarms.items():
            inputs = AlarmInputs(
                condition=cause in texts,
                text=texts.get(cause, ""),
                disabled=not rules.enabled or (cause is Cause.DRIFT and self.thresholds.drift_limit is None),
                filtered=history.filtered and cause is not Cause.SILENT,
                mask=mask,
            )
            if inputs == _NOTHING and record.is_idle:
                continue
            stepped = transitions.advance(record, inputs, self._rules.timing, now)
            before = (earlier or {}).get(cause, record)
            watch.kept.alarms[cause] = stepped
            if _differ(before, stepped):
                told = (action, user, comment) if not earlier or cause in earlier else ("time", "", "")
                changes.append(AlarmChange(_view(rules, cause, stepped), before.state, now, *told))
        return changes


def _covers(mask: Mask, watch: _Watch) -> bool:
    return covers(mask, watch.rules.stream, watch.rules.group)


def _differ(before: AlarmRecord, after: AlarmRecord) -> bool:
    """Tell whether a step is worth telling; new words alone are not."""
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
        text=record.text,
        acknowledged=record.acknowledged,
        shelf=record.shelf,
        mask=record.mask,
    )


def _fresh(now: float) -> _Kept:
    return _Kept(StreamHistory(), {cause: AlarmRecord(AlarmState.NORMAL, now, now) for cause in Cause})


def _load(stream: str, dump: object) -> _Kept:
    try:
        kept = _ADAPTER.validate_python(dump)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"the stored alarm state cannot be used: {place}: {first['msg']}",
            where=f"stream {stream}",
            fix="It was written by another version or damaged; delete it to let this stream begin anew",
        ) from error
    if kept.alarms.keys() != set(Cause):
        raise InputError(
            f"the stored alarm state has alarms for {', '.join(kept.alarms) or 'nothing'}",
            where=f"stream {stream}",
            fix=f"There must be {', '.join(Cause)}; delete it to let this stream begin anew",
        )
    return kept


def _require(text: str, what: str) -> None:
    if not text.strip():
        raise InputError(f"a {what} must be named", fix="So that others know whom to ask, and why")
