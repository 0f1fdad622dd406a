"""State of the channels of a detector in one window: how many are dead or noisy, and which are worst."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_NAMED_CHANNELS", "ChannelDeparture", "ChannelSummary"]

MAX_NAMED_CHANNELS = 10
"""Most channels that a summary names."""


@dataclass(frozen=True, slots=True)
class ChannelDeparture:
    """A channel whose hits are not those of the reference.

    Parameters
    ----------
    channel : int
        Its number.
    hits : int
        Hits in the window.
    expected : float
        Hits expected, > 0.
    layer, wire : int or None
        Its place; None if the channel map does not give it.
    """

    channel: int
    hits: int
    expected: float
    layer: int | None = None
    wire: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """How many channels depart from the reference, and which depart most.

    Parameters
    ----------
    n_channels : int
        Channels of the reference, without those that are masked.
    n_dead : int
        Channels with at most a tenth of their expected hits.
    n_low, n_noisy : int
        Channels that are not dead but have too few hits, and channels with too many hits.
    n_masked : int
        Channels that counted for nothing: known to be bad by the configuration, or masked on the page.
    worst : tuple of ChannelDeparture
        Those that depart most, the most extreme first; 10 at most.
    masked : tuple of int
        Numbers of the channels that counted for nothing, ascending.
    """

    n_channels: int
    n_dead: int
    n_low: int
    n_noisy: int
    n_masked: int = 0
    worst: tuple[ChannelDeparture, ...] = ()
    masked: tuple[int, ...] = ()
