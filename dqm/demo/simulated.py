"""The scenario of the demonstration: five simulated chambers, three of which go wrong.

Chambers, seeds and faults are fixed, and rates scale with the duration, so every run of a duration has the
same windows. They are cut by time: a chamber that stops recording events still sends windows, which become
empty. One chamber sends the hits of its channels beside its segments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dqm.alarm import Cause
from dqm.demo.scenario import Injection, Scenario
from dqm.events import FloatArray, WindowCut
from dqm.service.collector.sources import open_source

__all__ = [
    "CHANNELS",
    "FEATURES",
    "SECONDS",
    "SEGMENTS_PER_MUON",
    "WINDOW_EVENTS",
    "learn_known_faults",
    "prepare_channels",
    "prepare_reference",
    "simulated_scenario",
]

SECONDS = 180.0
"""Length of the timeline, s."""

WINDOW_EVENTS = 500
WINDOW_SECONDS = 5.0
"""Length of a window on the timeline of `SECONDS`, s; a healthy chamber has `WINDOW_EVENTS` in it."""

SEGMENTS_PER_MUON = 0.689
"""In healthy simulated chambers, at any rate of muons up to 1 kHz."""

CHAMBERS = ("chamber-1", "chamber-2", "chamber-3", "chamber-4", "chamber-5")
GROUPS = ("station-1", "station-1", "station-2", "station-2", "station-2")
COUNTING = 1
"""Chamber whose channels are counted."""

CHANNELS = f"{CHAMBERS[COUNTING]}.channels"
STREAMS = (*CHAMBERS[: COUNTING + 1], CHANNELS, *CHAMBERS[COUNTING + 1 :])
N_CHANNELS = 64
CARD_CHANNELS = 16
LAYERS = (4, 2, 3, 1)
"""Layer of the channels 0, 1, 2, 3 of the simulated chamber, and of every four that follow."""

N_CHANNEL_WINDOWS = 60
FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
N_REFERENCE = 5000
N_POOL = 50_000
N_TOYS = 1000
N_LABELLED = 10_000
SEED = 7


@dataclass(frozen=True, slots=True)
class _Knob:
    """A condition of the simulation that changes.

    Parameters
    ----------
    injection : Injection
        When, in which stream, and what must see it; its time is on the timeline of `SECONDS`.
    chamber : int
        Number of the chamber, from 0.
    name : str
        The condition.
    value : float or list of int
        New value, in its own unit; of the rate, its share of that of a healthy chamber.
    """

    injection: Injection
    chamber: int
    name: str
    value: float | list[int]


_FAULTS = (
    _Knob(Injection("chamber-5", 30.0, "rate at 70 %", Cause.RATE), 4, "rate_hz", 0.7),
    _Knob(
        Injection("chamber-2", 60.0, "cathode strips at 75 %", Cause.DIFFERS), 1, "strip_voltage_v", -900.0
    ),
    _Knob(Injection("chamber-5", 90.0, "rate at 10 %", Cause.RATE), 4, "rate_hz", 0.1),
    _Knob(Injection(CHANNELS, 105.0, "wire 5 of layer 2 dead", Cause.DIFFERS, 17), 1, "dead_wires", [17]),
    _Knob(
        Injection("chamber-4", 120.0, "front-end thresholds at 50 %", Cause.DIFFERS), 3, "threshold_mv", 50.0
    ),
    _Knob(Injection("chamber-5", 150.0, "dead", Cause.RATE), 4, "efficiency", 0.0),
)
"""In the order of time; the last of a stream is what is wrong with it in the end."""


KNOWN_FAULTS: dict[str, dict[str, Any]] = {
    "lowered cathode voltage": {"strip_voltage_v": -800.0},
    "lowered threshold": {"threshold_mv": 65.0},
    "layer 2 late": {"t0_ns": (0.0, 20.0, 0.0, 0.0)},
}
"""Conditions of the faults whose templates are learned; their strengths differ from the injected ones."""


def prepare_reference(
    cache: Path, progress: Callable[[int, int], None], cut: WindowCut = WindowCut.TIME
) -> Path:
    """Make the calibrated bundle of a healthy simulated chamber, if it is not in the cache.

    Parameters
    ----------
    cache : Path
        Directory of the bundle.
    progress : callable
        Called with the number of finished toys and the total.
    cut : WindowCut
        What closes the windows that it judges.

    Returns
    -------
    Path
        The bundle.
    """
    from dqm.reference import Recipe, calibrate, create_bundle, open_bundle
    from dqm.reference.manifest import VERSION

    recipe = Recipe(
        features=FEATURES,
        n_reference=N_REFERENCE,
        n_expected=WINDOW_EVENTS,
        seed=SEED,
        cut=cut,
    )
    events = _simulate(N_REFERENCE + N_POOL, SEED, {})
    content = hashlib.sha256(f"{VERSION}{recipe}{KNOWN_FAULTS}".encode() + events.tobytes()).hexdigest()[:12]
    path = cache / f"chamber-{content}.dqmref"
    bundle = open_bundle(path) if path.exists() else create_bundle(events, recipe, path)
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, progress=progress)
    return path


def prepare_channels(cache: Path, progress: Callable[[int, int], None], seconds: float) -> Path:
    """Make the calibrated bundle of the channels of a healthy simulated chamber, if it is not in the cache.

    Parameters
    ----------
    cache : Path
        Directory of the bundle.
    progress : callable
        Called with the number of finished toys and the total.
    seconds : float
        Actual duration of the timeline of `SECONDS`, s; the rates depend on it.

    Returns
    -------
    Path
        The bundle.
    """
    from dqm.reference import (
        CHANNEL,
        ChannelRecipe,
        ChannelTable,
        calibrate,
        create_channel_bundle,
        open_bundle,
    )
    from dqm.reference.manifest import VERSION

    length = WINDOW_SECONDS * seconds / SECONDS
    options = {"rate_hz": _muons_hz(seconds / SECONDS), "seconds": N_CHANNEL_WINDOWS * length}
    known = {"chambers": [0], "seed": SEED, "channels": True, "batch_seconds": length}
    batches = [batch for batch in open_source("simulate", options | known) if batch.counts]
    hits = np.concatenate([batch.x[:, batch.names.index(batch.counts)] for batch in batches])
    numbers = np.concatenate([batch.x[:, batch.names.index(CHANNEL)] for batch in batches])
    times = length * np.repeat(np.arange(len(batches), dtype=np.float64), N_CHANNELS)
    recipe = ChannelRecipe(batches[0].counts, length, seed=SEED)
    places = _channel_map()
    content = f"{VERSION}{recipe}".encode() + places.tobytes() + hits.tobytes()
    path = cache / f"channels-{hashlib.sha256(content).hexdigest()[:12]}.dqmref"
    if not path.exists():
        create_channel_bundle([ChannelTable(times, numbers, hits, "simulated")], places, recipe, path)
    bundle = open_bundle(path)
    # in this process: that takes a second, which is less than others need to start
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, n_processes=1, progress=progress)
    return path


def _channel_map() -> FloatArray:
    """Give channel, layer, wire and card of each channel of the simulated chamber."""
    number = np.arange(N_CHANNELS)
    layer = np.array(LAYERS)[number % len(LAYERS)]
    places = [number, layer, number // len(LAYERS) + 1, number // CARD_CHANNELS + 1]
    return np.column_stack(places).astype(np.float64)


def _muons_hz(scale: float) -> float:
    """Rate of muons that gives a healthy chamber `WINDOW_EVENTS` segments in a window."""
    return WINDOW_EVENTS / (WINDOW_SECONDS * scale) / SEGMENTS_PER_MUON


def learn_known_faults(path: Path, progress: Callable[[int, int], None]) -> None:
    """Add the templates of `KNOWN_FAULTS` to the bundle, if they are missing.

    Parameters
    ----------
    path : Path
        The bundle.
    progress : callable
        Called with the number of finished faults and the total.
    """
    from dqm.reference import LabelledSample, learn_templates, open_bundle

    bundle = open_bundle(path)
    known = {entry.fault for entry in bundle.manifest.templates}
    for number, (fault, conditions) in enumerate(KNOWN_FAULTS.items()):
        progress(number, len(KNOWN_FAULTS))
        if fault not in known:
            sample = LabelledSample(fault, _simulate(N_LABELLED, SEED + 100 + number, conditions))
            bundle = learn_templates(bundle, [sample], max_events=N_LABELLED)
    progress(len(KNOWN_FAULTS), len(KNOWN_FAULTS))


def _simulate(n: int, seed: int, conditions: dict[str, Any]) -> FloatArray:
    """Simulate the first `n` events of a chamber under some conditions."""
    parts: list[FloatArray] = []
    n_events = 0
    for batch in open_source("simulate", {"chambers": [0], "seed": seed, "conditions": conditions}):
        columns = [batch.names.index(name) for name in FEATURES]
        parts.append(batch.x[:, columns])
        n_events += len(batch.x)
        if n_events >= n:
            break
    return np.concatenate(parts)[:n]


def simulated_scenario(bundle: Path, channels: Path, seconds: float) -> Scenario:
    """Make the scenario of the simulated chambers.

    Parameters
    ----------
    bundle, channels : Path
        Calibrated bundles of a healthy chamber, and of its channels at the rates of `seconds`.
    seconds : float
        Actual duration of the timeline of `SECONDS`, s.
    """
    scale = seconds / SECONDS
    judged = dict.fromkeys(CHAMBERS, bundle) | {CHANNELS: channels}
    collectors = {
        chamber: _collector_config(number, channels if number == COUNTING else None, scale)
        for number, chamber in enumerate(CHAMBERS)
    }
    faults = [replace(one.injection, seconds=one.injection.seconds * scale) for one in _FAULTS]
    return Scenario(
        bundles={stream: judged[stream] for stream in STREAMS},
        collectors=collectors,
        faults=tuple(faults),
        seconds=seconds,
        windows_per_hour=3600 / (WINDOW_SECONDS * scale),
        groups=dict(zip(CHAMBERS, GROUPS, strict=True)) | {CHANNELS: GROUPS[COUNTING]},
    )


def _collector_config(number: int, bundle: Path | None, scale: float) -> str:
    """Write the configuration of a collector; with the bundle of the channels it counts their hits."""
    muons_hz = _muons_hz(scale)
    text = f"""[collector]
name = "simulate"
run = 1
run_type = "demo"
connect = "ipc://windows.ipc"

[window]
seconds = {WINDOW_SECONDS * scale}
expected_rate_hz = {WINDOW_EVENTS / (WINDOW_SECONDS * scale)}
{_channel_section(bundle, scale)}
[options]
chambers = [0]
seed = {SEED + 1 + number}
rate_hz = {muons_hz}
speed = 1.0
start = "now"
batch_seconds = {scale}
channels = {"false" if bundle is None else "true"}

[streams]
0 = "{CHAMBERS[number]}"
"""
    for fault in (fault for fault in _FAULTS if fault.chamber == number):
        value = fault.value
        if fault.name == "rate_hz" and isinstance(value, float):
            value *= muons_hz
        text += f"""
[[options.faults]]
chamber = 0
knob = "{fault.name}"
value = {value}
start = {fault.injection.seconds * scale}
"""
    return text


def _channel_section(bundle: Path | None, scale: float) -> str:
    if bundle is None:
        return ""
    from dqm.reference import StoredBundle

    rate_hz = StoredBundle.read(bundle).manifest.rate_hz
    return f"\n[channels]\nseconds = {WINDOW_SECONDS * scale}\nexpected_rate_hz = {rate_hz}\n"
