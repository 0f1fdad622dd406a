"""Raw hits in the format of the electronics: words of six integers, in memory and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from dqm_collectors.chamber.geometry import (
    COUNTS_PER_BX,
    COUNTS_PER_ORBIT,
    ORBITS,
    BoolArray,
    IntArray,
    time_counts,
)

__all__ = ["COLUMNS", "RawHits", "write_tdc"]

COLUMNS = ("HEAD", "FPGA", "TDC_CHANNEL", "ORBIT_CNT", "BX_COUNTER", "TDC_MEAS")
"""Header of a TDC file; the order is that of the fields of `RawHits`."""


@dataclass(frozen=True, slots=True)
class RawHits:
    """Words of the TDC stream, in the order of writing.

    Parameters
    ----------
    head, fpga, channel, orbit, bx, tdc : ndarray of int64, shape (n_words,)
        The columns of a TDC file.
    """

    head: IntArray
    fpga: IntArray
    channel: IntArray
    orbit: IntArray
    bx: IntArray
    tdc: IntArray

    @classmethod
    def at(cls, counts: IntArray, *, head: int, fpga: IntArray, channel: IntArray) -> RawHits:
        """Build words from times in TDC counts.

        Parameters
        ----------
        counts : ndarray of int64, shape (n_words,)
            Time since orbit 0, counts of 25/30 ns.
        head : int
            Column HEAD, the same for all words.
        fpga, channel : ndarray of int64, shape (n_words,)
            Columns FPGA and TDC_CHANNEL.
        """
        orbit, rest = np.divmod(counts, COUNTS_PER_ORBIT)
        bx, tdc = np.divmod(rest, COUNTS_PER_BX)
        return cls(np.full(len(counts), head), fpga, channel, orbit, bx, tdc)

    @classmethod
    def concatenate(cls, parts: Sequence[RawHits]) -> RawHits:
        """Join words of several sources in the order of time."""
        columns = [np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)]
        order = np.argsort(time_counts(*columns[3:]), kind="stable")
        return cls(*(column[order] for column in columns))

    def take(self, which: BoolArray) -> RawHits:
        """Select words."""
        return RawHits(*(getattr(self, field.name)[which] for field in fields(self)))

    @property
    def counts(self) -> IntArray:
        """Time of each word since orbit 0, counts of 25/30 ns."""
        return time_counts(self.orbit, self.bx, self.tdc)


def write_tdc(hits: RawHits, path: Path) -> None:
    """Write raw hits in the format of the TDC; its orbit counter has 32 bits.

    Parameters
    ----------
    hits : RawHits
        Words, in the order of writing.
    path : Path
        File, replaced if it exists; compressed if its name ends in ``.gz``.
    """
    hits = replace(hits, orbit=hits.orbit % ORBITS)
    columns = [getattr(hits, field.name) for field in fields(hits)]
    with pa.output_stream(str(path), compression="detect") as stream:
        options = csv.WriteOptions(quoting_style="none")
        csv.write_csv(pa.table(columns, names=list(COLUMNS)), stream, options)
