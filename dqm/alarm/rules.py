"""Rules of the alarms: delays, groups and guidance of every stream, from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from dqm.alarm.channel_choice import KnownChannels
from dqm.alarm.values import Cause, Guidance, Priority
from dqm.config import AlarmSection, DaemonConfig, GroupSection, StreamSection

__all__ = ["Rules", "StreamRules", "Timing", "alarm_rules"]

T = TypeVar("T")

_GUIDANCE = {
    Cause.DIFFERS: (
        "The events of several recent windows are not distributed as in the reference of this stream.",
        "Open the stream page and see which features depart and which known fault it looks like; check high "
        "voltage, thresholds and gas of this chamber, and what was changed last. Then acknowledge.",
    ),
    Cause.RATE: (
        "Several recent windows have many more or many fewer events than a healthy detector gives in their "
        "time.",
        "Too few: check high voltage and thresholds, and whether part of the chamber or its read-out is off. "
        "Too many: look for noise, and for a trigger that has changed. Then acknowledge.",
    ),
    Cause.DRIFT: (
        "Many windows in a row lean away from the reference, each by too little to be seen alone.",
        "Compare the p-values of the last hours on the stream page with pressure, temperature and voltages; "
        "note since when, and tell the expert before it grows. Nothing needs to be switched off.",
    ),
    Cause.NUISANCE: (
        "What the events say of the running conditions disagrees with what slow control measures.",
        "Check that the sensor is alive and its reading plausible; if it is, a fault may hide behind the "
        "changed conditions: look at voltages and thresholds.",
    ),
    Cause.LIMIT: (
        "A condition that comes with the windows, such as the share of raw words left out, is above its "
        "configured limit.",
        "Read which condition it is. For raw words left out: the log of the collector has the reason. Then "
        "look at the front-end electronics, their clock and the read-out.",
    ),
    Cause.CHANGED: (
        "Several recent windows differ from the good ones just before them: something has changed suddenly. "
        "The reference of this stream may still call them Good.",
        "See what was changed at that time: high voltage, thresholds, gas, trigger, beam. If the change is "
        "meant, acknowledge: from then on windows are compared with those after the change.",
    ),
    Cause.SILENT: (
        "No window arrives: nothing is known of this stream.",
        "Check that a run is on, then that the collector of this stream runs and reaches the monitor. If no "
        "run is on, end it: 'dqm run-control end'.",
    ),
    Cause.REFUSED: (
        "Windows arrive, but they are refused and not judged: a fault would not be seen.",
        "Read the reason. The detector and the network are there; the data, or the program that sends them, "
        "are wrong. Call the person responsible for the collector.",
    ),
    Cause.UNJUDGED: (
        "Windows arrive, but none of them could be judged: a fault would not be seen.",
        "Read the reason. If the detector was not live, see why. Otherwise tell the expert: the reference "
        "does not fit these windows, or a measurement that it needs is missing.",
    ),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """How long conditions must last, and what they leave behind.

    Parameters
    ----------
    on_delay_seconds, off_delay_seconds : float
        How long a condition must be there before it alarms, and gone before the alarm ends, s, >= 0.
    latching : bool
        Whether an alarm whose condition has gone waits to be acknowledged.
    """

    on_delay_seconds: float = 0.0
    off_delay_seconds: float = 0.0
    latching: bool = False


@dataclass(frozen=True, slots=True)
class StreamRules:
    """Rules of one stream; what it inherits from its groups is filled in.

    Parameters
    ----------
    stream, group : str
        Its name and the path of its group, empty at the top.
    stale_seconds : float
        Time without a window after which it is silent, s, > 0.
    unjudged_seconds : float
        Time without a judged window after which an alarm is raised, s, > 0.
    enabled : bool
        Whether it alarms.
    run_types : tuple of str
        Types of runs whose windows count; empty: all.
    priority : Priority
        How soon to respond.
    guidance : mapping of Cause to Guidance
        What to do, for every cause.
    limits : mapping of str to float
        Largest value of conditions, by name.
    channels : tuple of KnownChannels
        Those of its references, as far as they have any.
    n_rolling : int
        Good windows that each window is compared with; 0 if it is not.
    """

    stream: str
    group: str
    stale_seconds: float
    unjudged_seconds: float
    enabled: bool
    run_types: tuple[str, ...]
    priority: Priority
    guidance: Mapping[Cause, Guidance]
    limits: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[KnownChannels, ...] = ()
    n_rolling: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of all alarms.

    Parameters
    ----------
    streams : tuple of StreamRules
        In the order of the configuration.
    k, n : int
        So many of the last n windows must differ, ``1 <= k <= n``.
    timing : Timing
        Delays and latching.
    grace_windows : int
        First windows of a run, by their number, that count for nothing.
    policies : mapping of str to str
        ``any`` or ``all`` by path of the group; ``any`` where there is none.
    """

    streams: tuple[StreamRules, ...]
    k: int = 2
    n: int = 3
    timing: Timing = Timing()
    grace_windows: int = 0
    policies: Mapping[str, Literal["any", "all"]] = field(default_factory=dict)


def alarm_rules(config: DaemonConfig) -> Rules:
    """Rules as configured.

    What a stream leaves out is that of its group, else of the group around it, else of ``[alarm]``. A
    configured ``condition`` or ``action`` is for windows that differ or drift; the other causes keep their
    own.

    Parameters
    ----------
    config : DaemonConfig
        Checked configuration.

    Returns
    -------
    Rules
        For `dqm.alarm.AlarmEngine`.
    """
    alarm = config.alarm
    return Rules(
        streams=tuple(_stream_rules(config, stream) for stream in config.streams),
        k=alarm.k,
        n=alarm.n,
        timing=Timing(alarm.on_delay_seconds, alarm.off_delay_seconds, alarm.latching),
        grace_windows=alarm.grace_windows,
        policies={path: group.policy for path, group in config.groups.items()},
    )


def _stream_rules(config: DaemonConfig, stream: StreamSection) -> StreamRules:
    around = _around(config, stream)
    run_types = _first([part.run_types for part in around if not isinstance(part, StreamSection)], ())
    enabled = _first([part.enabled for part in around if not isinstance(part, AlarmSection)], True)
    contact = _first([part.contact for part in around], config.alarm.contact)
    condition = _first([part.condition for part in around], None)
    action = _first([part.action for part in around], None)
    guidance = {}
    for cause, (what, remedy) in _GUIDANCE.items():
        of_data = cause in (Cause.DIFFERS, Cause.DRIFT)
        guidance[cause] = Guidance(
            condition if of_data and condition else what, action if of_data and action else remedy, contact
        )
    return StreamRules(
        stream=stream.name,
        group=stream.group,
        stale_seconds=stream.stale_seconds,
        unjudged_seconds=stream.unjudged_seconds or stream.stale_seconds,
        enabled=enabled,
        run_types=run_types,
        priority=Priority(_first([part.priority for part in around], config.alarm.priority)),
        guidance=guidance,
        limits=stream.limits,
        n_rolling=stream.rolling.windows if stream.rolling else 0,
    )


def _around(config: DaemonConfig, stream: StreamSection) -> list[StreamSection | GroupSection | AlarmSection]:
    """Give the stream, its groups from the innermost, and what holds for all."""
    parts = stream.group.split("/")
    paths = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    groups = [config.groups[path] for path in paths if path in config.groups]
    return [stream, *groups, config.alarm]


def _first(values: list[T | None], otherwise: T) -> T:
    return next((value for value in values if value is not None), otherwise)
