"""What outlives the daemon of the alarms of one stream, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dqm.alarm.stream_history import StreamHistory
from dqm.alarm.transitions import AlarmRecord
from dqm.alarm.values import AlarmState, Cause
from dqm.errors import InputError

__all__ = ["StoredState", "dump_state", "fresh_state", "load_state"]


@dataclass(slots=True)
class StoredState:
    """What outlives the daemon, of one stream.

    Parameters
    ----------
    history : StreamHistory
        What its last windows show.
    alarms : dict of Cause to AlarmRecord
        One for each cause.
    version : int
        Of this form.
    """

    history: Annotated[StreamHistory, Field(alias="evidence")]  # the name in stored states
    alarms: dict[Cause, AlarmRecord]
    version: Literal[4] = 4

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False, validate_by_name=True)


_ADAPTER = TypeAdapter(StoredState)


def dump_state(state: StoredState) -> dict[str, Any]:
    """Give a state as JSON values."""
    dumped: dict[str, Any] = _ADAPTER.dump_python(state, mode="json", by_alias=True)
    return dumped


def fresh_state(now: float) -> StoredState:
    """Give the state of a stream that was not watched before."""
    return StoredState(StreamHistory(), _fresh_alarms(now))


def _fresh_alarms(now: float) -> dict[Cause, AlarmRecord]:
    return {cause: AlarmRecord(AlarmState.NORMAL, now, now) for cause in Cause}


def load_state(stream: str, dump: object, now: float) -> StoredState:
    """Read a stored state (`InputError` if it cannot be used); causes unknown to earlier ones begin anew."""
    is_earlier = isinstance(dump, Mapping) and dump.get("version") in (1, 2, 3)
    if isinstance(dump, Mapping) and is_earlier:
        dump = {**dump, "version": 4}
    if isinstance(dump, Mapping) and isinstance(dump.get("evidence"), Mapping):  # 0.2 kept a quality
        dump = {**dump, "evidence": {k: v for k, v in dump["evidence"].items() if k != "quality"}}
    try:
        stored = _ADAPTER.validate_python(dump)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"the stored alarm state cannot be used: {place}: {first['msg']}",
            where=f"stream {stream}",
            fix="It was written by another version or damaged; delete it to let this stream begin anew",
        ) from error
    if is_earlier:
        stored.alarms = _fresh_alarms(now) | stored.alarms
    if stored.alarms.keys() != set(Cause):
        raise InputError(
            f"the stored alarm state has alarms for {', '.join(stored.alarms) or 'nothing'}",
            where=f"stream {stream}",
            fix=f"There must be {', '.join(Cause)}; delete it to let this stream begin anew",
        )
    return stored
