"""Building the reference of a detector's channels from the hits of every channel in a healthy run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dqm.alarm import KnownChannels
from dqm.errors import ConfigError, InputError, format_count
from dqm.events import FloatArray, WindowCut
from dqm.events.finite import is_count
from dqm.nplm.channels import (
    CARD,
    LAYER,
    LEAST_FACTOR,
    MAP_COLUMNS,
    NUMBER,
    ChannelModel,
    ChannelTest,
    check_map,
)
from dqm.reference.manifest import Manifest, Source
from dqm.reference.stored_bundle import StoredBundle, array_file, write_bundle

__all__ = [
    "CHANNEL",
    "ChannelRecipe",
    "ChannelTable",
    "check_bad_channels",
    "create_channel_bundle",
    "cut_table",
    "known_channels",
]

CHANNEL = "channel"
"""Name of the column with the number of the channel."""

UNEVEN = 1e-3
"""Largest difference of two steps in time that count as equal, as a share of the step."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelTable:
    """Hits of every channel in one healthy run, one row for each channel and moment.

    Parameters
    ----------
    times : ndarray, shape (n_rows,)
        Start of the time in which the hits were counted, Unix seconds, ascending; equal for all channels.
    channels, hits : ndarray, shape (n_rows,)
        Number of the channel, and its hits: whole numbers, >= 0.
    name : str
        File, for messages.
    """

    times: FloatArray
    channels: FloatArray
    hits: FloatArray
    name: str


@dataclass(frozen=True, slots=True)
class ChannelRecipe:
    """How to make a bundle of channels.

    Parameters
    ----------
    counts : str
        Name of the column of hits in the windows.
    seconds : float
        Length of a window, s, > 0.
    illumination : float
        Relative change of rate and illumination that is not a fault, one standard deviation, (0, 1].
    seed : int
        Seed of the toys.
    """

    counts: str
    seconds: float
    illumination: float = 0.1
    seed: int = 1


def cut_table(table: ChannelTable, seconds: float, channel_map: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut the table of a run into windows.

    Parameters
    ----------
    table : ChannelTable
        The run.
    seconds : float
        Length of a window, s: a multiple of the table's step in time.
    channel_map : ndarray, shape (n_channels, 4)
        As of `check_map`.

    Returns
    -------
    starts : ndarray, shape (n_windows,)
        Start of every window that the table covers without a gap, Unix seconds.
    hits : ndarray, shape (n_windows, n_channels)
        Hits of each channel in these windows.

    Raises
    ------
    InputError
        If a channel is not in the map or has no rows, a number of hits is not a whole number, or the table
        has no such steps in time.
    """
    places = _places(table, channel_map)
    moments, row = np.unique(table.times, return_inverse=True)
    counted = np.bincount(row * len(channel_map) + places, table.hits, len(moments) * len(channel_map))
    rows = np.bincount(row * len(channel_map) + places, minlength=len(counted))
    if (rows > 1).any():
        k = int(np.flatnonzero(rows > 1)[0])
        raise InputError(
            f"channel {channel_map[k % len(channel_map), NUMBER]:.0f} has {rows[k]} rows at one time",
            where=table.name,
            fix="Give one row for each channel and time, of one chamber",
        )
    n_steps = _steps(moments, seconds, table.name)
    hits = counted.reshape(len(moments), len(channel_map))
    starts = []
    windows = []
    first = 0
    step = seconds / n_steps
    while first + n_steps <= len(moments):
        within = np.diff(moments[first : first + n_steps])
        gaps = np.flatnonzero(np.abs(within - step) > UNEVEN * step)
        if len(gaps):
            first += int(gaps[-1]) + 1
            continue
        starts.append(moments[first])
        windows.append(hits[first : first + n_steps].sum(axis=0))
        first += n_steps
    return np.array(starts), np.array(windows).reshape(len(windows), len(channel_map))


def create_channel_bundle(
    tables: Sequence[ChannelTable],
    channel_map: FloatArray | None,
    recipe: ChannelRecipe,
    path: Path,
    sources: Sequence[Source] = (),
) -> StoredBundle:
    """Cut the runs into windows, learn how they vary, write the bundle.

    Parameters
    ----------
    tables : sequence of ChannelTable
        Healthy runs. Several runs also say how much changes from run to run.
    channel_map : ndarray, shape (n_channels, 4), or None
        Columns channel, layer, wire, card; without it channels have no place and no group.
    recipe : ChannelRecipe
        What to make of them.
    path : Path
        Directory to create.
    sources : sequence of Source
        Files the runs came from.

    Returns
    -------
    StoredBundle
        Not yet calibrated.

    Raises
    ------
    InputError
        If map and tables do not agree, or the runs are too short.
    BundleError
        If `path` exists or cannot be written.
    """
    known = check_map(_bare_map(tables) if channel_map is None else channel_map)
    hits = np.concatenate([cut_table(table, recipe.seconds, known)[1] for table in tables])
    # as in the collector's configuration: the sizes must be the same
    rate_hz = float(f"{hits.sum() / max(1, len(hits)) / recipe.seconds:.6g}")
    n_expected = rate_hz * recipe.seconds
    test = ChannelTest(hits, n_expected=n_expected, prepared={"map": known}, illumination=recipe.illumination)
    nothing = np.empty((0, 1))
    arrays = {"reference": hits, "centers": nothing, "pool": nothing}
    files = {kind: array_file(kind, values) for kind, values in arrays.items()}
    prepared = {kind: array_file(kind, values) for kind, values in test.prepared.items()}
    manifest = Manifest(
        features=(CHANNEL,),
        statistic="channels",
        settings={"illumination": recipe.illumination},
        cut=WindowCut.TIME,
        n_expected=n_expected,
        rate_hz=rate_hz,
        seed=recipe.seed,
        sources=tuple(sources),
        software={name: version(name) for name in ("dqm", "numpy")},
        prepared=prepared,
        counts=recipe.counts,
        **files,
    )
    named = {files[kind].name: values for kind, values in arrays.items()}
    named |= {prepared[kind].name: values for kind, values in test.prepared.items()}
    return write_bundle(path, manifest, named)


def known_channels(bundle: StoredBundle) -> KnownChannels | None:
    """Give the channels of a bundle; None if the bundle is not one of channels."""
    if not bundle.manifest.is_of_channels:
        return None
    model = ChannelModel.from_arrays(bundle.prepared)
    places = np.array(model.channel_map.T)
    wanders = model.wander > LEAST_FACTOR
    return KnownChannels(places[NUMBER], places[LAYER], places[CARD], model.share, CHANNEL, wanders)


def check_bad_channels(bundle: StoredBundle, channels: Sequence[int], where: str) -> None:
    """Refuse channels that are to count for nothing if the bundle does not have them.

    Parameters
    ----------
    bundle : StoredBundle
        Reference of the stream.
    channels : sequence of int
        Numbers of the channels.
    where : str
        Key of the configuration, for the message.

    Raises
    ------
    ConfigError
        If the bundle is not one of channels, or lacks one of them.
    """
    if not channels:
        return
    if not bundle.manifest.is_of_channels:
        raise ConfigError(
            f"the bundle {bundle.path.name} knows no channels",
            where=where,
            fix="Leave it out, or give a bundle made by 'dqm reference channels'",
        )
    strange = [channel for channel in channels if channel not in bundle.prepared["map"][:, NUMBER]]
    if strange:
        raise ConfigError(
            f"channel {strange[0]} is not in the bundle {bundle.path.name}",
            where=where,
            fix="Give numbers of the channel map",
        )


def _bare_map(tables: Sequence[ChannelTable]) -> FloatArray:
    """Make a map of the channels in the tables, without places."""
    numbers = np.unique(np.concatenate([table.channels for table in tables]))
    unknown = np.full((len(numbers), len(MAP_COLUMNS) - 1), -1.0)
    return np.column_stack([numbers, unknown])


def _places(table: ChannelTable, channel_map: FloatArray) -> FloatArray:
    """Find each row's channel in the map."""
    wrong = ~is_count(table.hits)
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"channel {table.channels[k]:g} has {table.hits[k]:g} hits at time {table.times[k]:g}",
            where=table.name,
            fix="Give whole numbers, 0 or more",
        )
    known = channel_map[:, NUMBER]
    places = np.minimum(np.searchsorted(known, table.channels), len(known) - 1)
    strange = known[places] != table.channels
    if strange.any():
        raise InputError(
            f"channel {table.channels[strange][0]:g} is not in the channel map",
            where=table.name,
            fix="Add it to the map, with its layer, wire and card",
        )
    absent = np.setdiff1d(np.arange(len(known)), places)
    if len(absent):
        n_more = f" and {format_count(len(absent) - 1, 'other channel')}" if len(absent) > 1 else ""
        raise InputError(
            f"channel {known[absent[0]]:.0f}{n_more} of the channel map has no rows",
            where=table.name,
            fix="Remove it from the map, or give it rows with 0 hits",
        )
    return places


def _steps(moments: FloatArray, seconds: float, name: str) -> int:
    """Find how many steps of the table make a window."""
    if len(moments) < 2:
        raise InputError("all rows have the same time", where=name, fix="Give a column 'time' in seconds")
    step = float(np.median(np.diff(moments)))
    n_steps = round(seconds / step)
    if n_steps < 1 or abs(seconds / step - n_steps) > UNEVEN * n_steps:
        raise InputError(
            f"windows of {seconds:g} s are not a multiple of the table's step of {step:g} s",
            where=name,
            fix="Choose other windows, or count the hits in other steps (batch_seconds)",
        )
    return n_steps
