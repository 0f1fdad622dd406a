"""Geometry of a chamber: positions of the wires, channel numbers, and units of the electronics' clock.

A chamber has 4 layers of 16 cells; neighbouring layers are shifted by half a cell. Layers are numbered from 1
(lowest), cells from 0. Coordinates are those of the chamber: x across the wires, z upwards from half height.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dqm.events import FloatArray

__all__ = [
    "BX_PER_ORBIT",
    "CELLS_PER_LAYER",
    "CELL_HEIGHT_MM",
    "CELL_WIDTH_MM",
    "COUNTS_PER_BX",
    "COUNTS_PER_ORBIT",
    "DRIFT_VELOCITY_MM_PER_NS",
    "LAYER_Z_MM",
    "MAX_DRIFT_TIME_NS",
    "NS_PER_COUNT",
    "N_CHAMBERS",
    "N_LAYERS",
    "ORBITS",
    "WIRES_PER_CHAMBER",
    "BoolArray",
    "Convention",
    "IntArray",
    "WireMap",
    "beam_wire_x_mm",
    "places",
    "time_counts",
    "wire_x_mm",
]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CELL_WIDTH_MM = 42.0
CELL_HEIGHT_MM = 13.0
N_CHAMBERS = 4
N_LAYERS = 4
CELLS_PER_LAYER = 16
WIRES_PER_CHAMBER = N_LAYERS * CELLS_PER_LAYER
MAX_DRIFT_TIME_NS = 390.0
DRIFT_VELOCITY_MM_PER_NS = CELL_WIDTH_MM / 2 / MAX_DRIFT_TIME_NS

LAYER_Z_MM: FloatArray = np.linspace(-1.5, 1.5, N_LAYERS) * CELL_HEIGHT_MM
"""Height of the wires in layers 1 to 4, mm."""

NS_PER_BX = 25.0
COUNTS_PER_BX = 30
BX_PER_ORBIT = 3564
ORBITS = 2**32
"""The orbit counter has 32 bits; it starts again every 4.4 days."""

COUNTS_PER_ORBIT = BX_PER_ORBIT * COUNTS_PER_BX
NS_PER_COUNT = NS_PER_BX / COUNTS_PER_BX

_LAYER_OF_CHANNEL = np.array([4, 2, 3, 1])
"""Layer of each value of ``channel % 4``."""

_CHANNEL_OF_LAYER = np.argsort(_LAYER_OF_CHANNEL)


class Convention(StrEnum):
    """Channel numbering of a raw file: that of the runs of 2018 and 2019, or that used since 2021."""

    Y2018 = "2018"
    Y2021 = "2021"


@dataclass(frozen=True, slots=True)
class WireMap:
    """Translates between electronics channels and wires in one numbering convention.

    Parameters
    ----------
    first_channel : int
        Channel of the first wire.
    hit_head : int
        Value of HEAD in words that are hits.
    n_channels : int
        Channels of a board: wires first, then scintillators and triggers.
    """

    first_channel: int
    hit_head: int
    n_channels: int

    @classmethod
    def of(cls, convention: Convention) -> WireMap:
        """Return the map of a convention."""
        if convention is Convention.Y2018:
            return cls(first_channel=1, hit_head=1, n_channels=139)
        return cls(first_channel=0, hit_head=2, n_channels=129)

    def is_wire(self, head: IntArray, channel: IntArray) -> BoolArray:
        """Select hits on wires; other words come from scintillators, triggers and counters.

        Parameters
        ----------
        head, channel : ndarray of int, shape (n_words,)
            Columns HEAD and TDC_CHANNEL.

        Returns
        -------
        ndarray of bool, shape (n_words,)
        """
        c = channel - self.first_channel
        return np.asarray((head == self.hit_head) & (c >= 0) & (c < 2 * WIRES_PER_CHAMBER))

    def numbers(self, fpga: IntArray, channel: IntArray) -> IntArray:
        """Give the numbers of wires, which go on from chamber to chamber.

        Parameters
        ----------
        fpga, channel : ndarray of int, shape (n_hits,)
            Columns FPGA and TDC_CHANNEL of hits on wires.

        Returns
        -------
        ndarray of int64, shape (n_hits,)
            `WIRES_PER_CHAMBER` times the chamber, plus the channel within it, from 0.
        """
        return np.asarray(2 * WIRES_PER_CHAMBER * fpga + (channel - self.first_channel))

    def wires(self, fpga: IntArray, channel: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Find chamber, layer and cell of channels.

        Parameters
        ----------
        fpga, channel : ndarray of int, shape (n_hits,)
            Columns FPGA and TDC_CHANNEL of hits on wires.

        Returns
        -------
        chamber, layer, cell : ndarray of int, shape (n_hits,)
            Chamber from 0, layer from 1, cell from 0.
        """
        number = self.numbers(fpga, channel)
        return number // WIRES_PER_CHAMBER, *places(number)

    def channels(self, chamber: ArrayLike, layer: IntArray, cell: IntArray) -> tuple[IntArray, IntArray]:
        """Find FPGA and channel of wires; the inverse of `wires`.

        Parameters
        ----------
        chamber, layer, cell : array_like of int, shape (n_hits,)
            Chamber from 0, layer from 1, cell from 0.

        Returns
        -------
        fpga, channel : ndarray of int, shape (n_hits,)
        """
        fpga, half = np.divmod(np.asarray(chamber), 2)
        channel = half * WIRES_PER_CHAMBER + 4 * cell + _CHANNEL_OF_LAYER[layer - 1] + self.first_channel
        return np.broadcast_to(fpga, channel.shape), channel


def places(wire: IntArray) -> tuple[IntArray, IntArray]:
    """Find layer and cell of wires.

    Parameters
    ----------
    wire : ndarray of int64, shape (n_hits,)
        Numbers of wires, as from `WireMap.numbers`.

    Returns
    -------
    layer, cell : ndarray of int64, shape (n_hits,)
        Layer from 1, cell from 0.
    """
    channel = wire % WIRES_PER_CHAMBER
    return _LAYER_OF_CHANNEL[channel % N_LAYERS], channel // N_LAYERS


def wire_x_mm(layer: IntArray, cell: IntArray) -> FloatArray:
    """Position of wires across the chamber, mm.

    Parameters
    ----------
    layer, cell : ndarray of int, shape (n_hits,)
        Layer from 1, cell from 0.

    Returns
    -------
    ndarray, shape (n_hits,)
    """
    return np.asarray(CELL_WIDTH_MM * cell - np.where(layer % 2 == 1, 294.0, 315.0))


def beam_wire_x_mm(layer: IntArray, x: FloatArray) -> FloatArray:
    """Position of the wire nearest to a position in a beam file, mm.

    Positions in the files are rounded to four digits. The wires are at 21 + 42 k mm in layers 1 and 3, and at
    42 + 42 k mm in layers 2 and 4.

    Parameters
    ----------
    layer : ndarray of int, shape (n_hits,)
        Layer from 1.
    x : ndarray, shape (n_hits,)
        Middle between the two possible positions of the hit, mm.

    Returns
    -------
    ndarray, shape (n_hits,)
    """
    first = np.where(layer % 2 == 1, CELL_WIDTH_MM / 2, CELL_WIDTH_MM)
    return np.asarray(first + CELL_WIDTH_MM * np.rint((x - first) / CELL_WIDTH_MM))


def time_counts(orbit: IntArray, bx: IntArray, tdc: IntArray) -> IntArray:
    """Time of hits in TDC counts of 25/30 ns since orbit 0; exact for runs of any length.

    Parameters
    ----------
    orbit, bx, tdc : ndarray of int, shape (n_hits,)
        Columns ORBIT_CNT, BX_COUNTER and TDC_MEAS.

    Returns
    -------
    ndarray of int64, shape (n_hits,)
    """
    return orbit * COUNTS_PER_ORBIT + bx * COUNTS_PER_BX + tdc
