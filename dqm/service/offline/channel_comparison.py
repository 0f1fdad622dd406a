"""Hits by channel in files against a bundle of channels: windows to test, and the occupancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dqm.errors import FileError
from dqm.events import ChannelSummary, FloatArray, Origin, Window, WindowCut
from dqm.nplm.channels import NUMBER, ChannelResult, ChannelState, ChannelTest
from dqm.reference import Bundle
from dqm.reference.channel_build import cut_table
from dqm.reference.channel_explanation import describe_channels, summarise_channels
from dqm.service.offline.channel_files import read_channel_tables
from dqm.service.offline.feature_files import Reading

__all__ = ["FileOccupancy", "compare_occupancy", "cut_channel_file"]


@dataclass(frozen=True, slots=True, eq=False)
class FileOccupancy:
    """Hits of every channel in all windows of a file, against the reference.

    Parameters
    ----------
    file : str
        Name of the file.
    run : int
        Its run number.
    n_windows : int
        Windows of the file.
    summary : ChannelSummary
        How many channels depart, and the worst ones.
    text : str
        The channels, layers and cards that depart, in words; empty if none does.
    channel_map : ndarray, shape (n_channels, 4)
        Number, layer, wire and card of each channel; -1 if not known.
    hits, expected, p : ndarray, shape (n_channels,)
        Hits, hits expected with the illumination of the file, and p of each channel.
    state : ndarray of int, shape (n_channels,)
        `ChannelState`.
    """

    file: str
    run: int
    n_windows: int
    summary: ChannelSummary
    text: str
    channel_map: FloatArray
    hits: FloatArray
    expected: FloatArray
    p: FloatArray
    state: NDArray[np.int64]


def cut_channel_file(
    path: Path,
    bundle: Bundle,
    *,
    run: int,
    chamber: str | None = None,
    reading: Reading | None = None,
) -> Iterator[Window]:
    """Cut the hits of a file into windows as long as those of the reference.

    Parameters
    ----------
    path : Path
        CSV or Parquet with the columns ``time``, ``channel`` and the hits.
    bundle : Bundle
        Reference of channels.
    run : int
        Run number of the windows.
    chamber : str, optional
        Only rows with this value in the column ``chamber``.
    reading : Reading, optional
        How the file is read.

    Yields
    ------
    Window
        In the order of time; hits after the last full window, and hits next to a gap, are left out.

    Raises
    ------
    FileError
        If the file cannot be read, or has no full window.
    InputError
        If its channels are not those of the reference, or its steps in time do not fit the windows.
    """
    manifest = bundle.manifest
    counts = manifest.counts or "hits"
    seconds = manifest.n_expected / (manifest.rate_hz or 1.0)
    channel_map = bundle.prepared["map"]
    (table,), _ = read_channel_tables(
        [path], counts, chamber, reading={**(reading or {}), "name_pattern": None}
    )
    starts, hits = cut_table(table, seconds, channel_map)
    if not len(hits):
        raise FileError(
            f"no window of {seconds:g} s without a gap",
            where=str(path),
            fix="Give a longer file, or a reference with shorter windows",
        )
    for seq, (start, mine) in enumerate(zip(starts, hits, strict=True)):
        yield Window(
            stream=chamber or path.name.split(".")[0],
            run=run,
            seq=seq,
            run_type="",
            origin=Origin.REPLAYED,
            cut=WindowCut.TIME,
            names=(*manifest.features, counts),
            x=np.column_stack([channel_map[:, NUMBER], mine]),
            start=float(start),
            end=float(start) + seconds,
            live_seconds=seconds,
            n_expected=manifest.n_expected,
            counts=counts,
        )


def compare_occupancy(
    windows: list[Window], bundle: Bundle, file: str, masked: Sequence[int] = ()
) -> FileOccupancy:
    """Compare the hits of all windows of a file with the reference, channel by channel.

    Parameters
    ----------
    windows : list of Window
        Windows of the file, as from `cut_channel_file`.
    bundle : Bundle
        Reference of channels.
    file : str
        Name of the file.
    masked : sequence of int
        Channels that count for nothing.

    Returns
    -------
    FileOccupancy
    """
    manifest = bundle.manifest
    test = ChannelTest(
        bundle.reference, n_expected=manifest.n_expected * len(windows), prepared=bundle.prepared
    )
    hits = np.sum([window.x[:, 1] for window in windows], axis=0)
    found: ChannelResult = test.evaluate(windows[0].x[:, :1], weights=hits, masked=masked)
    is_departing = not np.isin(found.state, (ChannelState.HEALTHY, ChannelState.MASKED)).all()
    return FileOccupancy(
        file=file,
        run=windows[0].run,
        n_windows=len(windows),
        summary=summarise_channels(found, bundle),
        text=describe_channels(bundle.prepared["map"], found) if is_departing else "",
        channel_map=bundle.prepared["map"],
        hits=found.hits,
        expected=found.fitted,
        p=found.p,
        state=found.state,
    )
