"""Masks: which streams and channels they cover, and when they are in force."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dqm.alarm.channel_choice import KnownChannels
from dqm.alarm.values import Mask
from dqm.errors import InputError

__all__ = ["applies", "check_channels", "covers", "has_ended"]


def covers(mask: Mask, stream: str, group: str) -> bool:
    """Return whether a mask covers a stream.

    Parameters
    ----------
    mask : Mask
        Its pattern is compared with the name of the stream, with its path ``group/stream`` and with the
        paths of the groups around it: a group that is masked masks what is in it. ``*`` matches ``/``, too.
    stream, group : str
        Name, and path of the group, empty at the top.

    Returns
    -------
    bool
        Case matters.
    """
    parts = [*filter(None, group.split("/")), stream]
    paths = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return any(fnmatchcase(name, mask.streams) for name in (stream, *paths))


def applies(mask: Mask, run_type: str, now: float) -> bool:
    """Return whether a mask is in force.

    Parameters
    ----------
    mask : Mask
        The mask.
    run_type : str
        Type of the run that the stream's last window was from; empty if there was none.
    now : float
        Unix seconds; a mask begins at ``start`` and has ended at ``until``.

    Returns
    -------
    bool
        Whether it suppresses alarms now.
    """
    if mask.run_types and run_type not in mask.run_types:
        return False
    return (mask.start is None or mask.start <= now) and not has_ended(mask, now)


def has_ended(mask: Mask, now: float) -> bool:
    """Return whether a mask was in force until a moment that is over; `now` in Unix seconds."""
    return mask.until is not None and now >= mask.until


def check_channels(mask: Mask, stream: str, references: Sequence[KnownChannels]) -> None:
    """Refuse a mask of channels that a reference of a stream does not have.

    Parameters
    ----------
    mask : Mask
        The mask; one of alarms is never refused.
    stream : str
        Name of the stream.
    references : sequence of KnownChannels
        Channels of its references.

    Raises
    ------
    InputError
        With the first channel, layer or card that is missing.
    """
    if mask.channels is None:
        return
    if not references:
        raise InputError(f"stream {stream!r} has no channels", fix="Name a stream of channels")
    for known in references:
        if absent := known.missing(mask.channels):
            raise InputError(
                f"stream {stream!r} has no {absent}", fix="Give numbers of the channel map of its reference"
            )
