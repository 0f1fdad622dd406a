"""How the events of a collector are cut, and which streams they go to, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping

from dqm.config import CollectorConfig
from dqm.stream import CountCutter, CountedCutter, Cutter, RunLabel, TimeCutter, WholeCutter

__all__ = ["make_cutter", "streams_of"]


def make_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None = None,
    first_edges: Mapping[str, float] | None = None,
) -> Cutter:
    """Make the cutter that a configuration describes."""
    return CountedCutter(
        _event_cutter(config, label, first_numbers, first_edges),
        _channel_cutter(config, label, first_numbers, first_edges),
        WholeCutter(
            label,
            config.streams,
            first_numbers,
            n_events=config.window.events,
            seconds=config.window.seconds or 0.0,
            rate_hz=config.window.expected_rate_hz or 0.0,
            rates_hz=config.window.rates_hz,
        ),
    )


def _event_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None,
    first_edges: Mapping[str, float] | None,
) -> Cutter:
    window = config.window
    if window.events is not None:
        return CountCutter(window.events, label, config.streams, first_numbers)
    if window.seconds is None or window.expected_rate_hz is None:
        raise ValueError("[window] needs events, or seconds and expected_rate_hz")
    return TimeCutter(
        window.seconds,
        window.expected_rate_hz,
        label,
        config.streams,
        first_numbers,
        first_edges,
        rates_hz=window.rates_hz,
    )


def streams_of(config: CollectorConfig) -> dict[str, str]:
    """Give the stream of each chamber; hits by channel go to ``NAME.channels`` unless configured."""
    beside = {f"{chamber}.channels": f"{stream}.channels" for chamber, stream in config.streams.items()}
    return beside | config.streams


def _channel_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None,
    first_edges: Mapping[str, float] | None,
) -> Cutter | None:
    """Make the cutter of the hits by channel."""
    section = config.channels
    if section is None:
        return None
    streams = streams_of(config)
    return TimeCutter(section.seconds, section.expected_rate_hz, label, streams, first_numbers, first_edges)
