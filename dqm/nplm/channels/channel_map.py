"""The channel map: which layer, wire and front-end card each channel belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

__all__ = ["CARD", "LAYER", "MAP_COLUMNS", "NUMBER", "UNKNOWN", "WIRE", "Groups", "check_map", "groups_of"]

MAP_COLUMNS = ("channel", "layer", "wire", "card")
NUMBER, LAYER, WIRE, CARD = range(4)

UNKNOWN = -1.0
"""Stands for a layer, a wire or a card that the map does not give."""

LARGEST_NUMBER = 2.0**53


def check_map(channel_map: FloatArray) -> FloatArray:
    """Check a channel map, and give it in the order of the channels' numbers.

    Parameters
    ----------
    channel_map : ndarray, shape (n_channels, 4)
        Columns `MAP_COLUMNS`: whole numbers, >= 0; `UNKNOWN` for a layer, wire or card that is not given.

    Returns
    -------
    ndarray, shape (n_channels, 4)

    Raises
    ------
    InputError
        If there is no channel, a number is not a whole one, or a channel or a wire is there twice.
    """
    if channel_map.ndim != 2 or channel_map.shape[1] != len(MAP_COLUMNS) or not len(channel_map):
        raise InputError(
            f"a channel map of shape {channel_map.shape}",
            fix=f"Give one row for each channel: {', '.join(MAP_COLUMNS)}",
        )
    for place, name in enumerate(MAP_COLUMNS):
        column = channel_map[:, place]
        least = 0.0 if place == NUMBER else UNKNOWN
        wrong = ~((column >= least) & (column <= LARGEST_NUMBER) & (column == np.rint(column)))
        if wrong.any():
            raise InputError(
                f"{column[wrong][0]:g} is not a number of a {name}",
                where="channel map",
                fix="Give whole numbers, 0 or more",
            )
    ordered = channel_map[np.argsort(channel_map[:, NUMBER], kind="stable")]
    same = np.flatnonzero(np.diff(ordered[:, NUMBER]) == 0)
    if len(same):
        raise InputError(
            f"channel {ordered[same[0], NUMBER]:.0f} is in the channel map twice",
            fix="Give each channel one row",
        )
    placed = ordered[(ordered[:, LAYER] != UNKNOWN) & (ordered[:, WIRE] != UNKNOWN)]
    places, counts = np.unique(placed[:, [LAYER, WIRE]], axis=0, return_counts=True)
    if (counts > 1).any():
        layer, wire = places[counts > 1][0]
        n = int(counts[counts > 1][0])
        raise InputError(
            f"wire {wire:.0f} of layer {layer:.0f} has {format_count(n, 'channel')} in the channel map",
            fix="Give each wire one channel",
        )
    return ordered


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The layers of a map, or its cards; a group has 2 channels or more, but not all.

    Parameters
    ----------
    column : int
        `LAYER` or `CARD`.
    numbers : ndarray of int, shape (n_groups,)
        Their numbers in the map.
    members : ndarray of int, shape (n_members,)
        Places in the map of the channels that are in a group.
    group : ndarray of int, shape (n_members,)
        Group of each of them, as its place in `numbers`.
    """

    column: int
    numbers: NDArray[np.int64]
    members: NDArray[np.int64]
    group: NDArray[np.int64]

    def sum(self, values: FloatArray) -> FloatArray:
        """Sum values of the channels, shape (n_channels,), over each group."""
        return np.bincount(self.group, values[self.members], len(self.numbers)).astype(np.float64)


def groups_of(channel_map: FloatArray, column: int) -> Groups:
    """Give the layers or the cards of a map.

    Parameters
    ----------
    channel_map : ndarray, shape (n_channels, 4)
        A row for each channel.
    column : int
        `LAYER` or `CARD`.
    """
    values, group, counts = np.unique(channel_map[:, column], return_inverse=True, return_counts=True)
    is_group = (values != UNKNOWN) & (counts >= 2) & (counts < len(channel_map))
    members = np.flatnonzero(is_group[group])
    places = np.cumsum(is_group) - 1
    return Groups(column, values[is_group].astype(np.int64), members, places[group[members]])
