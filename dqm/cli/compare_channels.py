"""What ``dqm compare`` prints for a bundle of channels: occupancy of each file, dead and noisy channels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dqm.cli.output import say, say_json
from dqm.cli.tables import cell, print_table
from dqm.errors import format_count

if TYPE_CHECKING:
    import numpy as np

    from dqm.events import Window
    from dqm.reference import Bundle
    from dqm.service.offline.channel_comparison import FileOccupancy

__all__ = ["ChannelFiles"]

MOST_ROWS = 30
"""Most channels of a file that are printed."""


class ChannelFiles:
    """Files of hits by channel on their way to the test, and what all windows of each say together.

    Parameters
    ----------
    bundle : Bundle
        Reference of channels.
    chamber : str or None
        Only rows of this chamber.
    masked : sequence of int
        Channels that count for nothing.
    reading : mapping of str to object, optional
        How the files are read.
    """

    def __init__(
        self,
        bundle: Bundle,
        chamber: str | None,
        masked: Sequence[int] = (),
        reading: Mapping[str, object] | None = None,
    ) -> None:
        self._bundle = bundle
        self._chamber = chamber
        self._masked = masked
        self._reading = reading
        self._found: list[FileOccupancy] = []

    def cut(self, files: Mapping[int, Path]) -> Iterator[Window]:
        """Yield the windows of files, which are given by run."""
        from dqm.service.offline.channel_comparison import compare_occupancy, cut_channel_file

        for run, file in files.items():
            windows = list(
                cut_channel_file(file, self._bundle, run=run, chamber=self._chamber, reading=self._reading)
            )
            self._found.append(compare_occupancy(windows, self._bundle, file.name, self._masked))
            yield from windows

    def report(self, *, as_json: bool) -> None:
        """Print what all windows of each file say together."""
        for occupancy in self._found:
            if as_json:
                say_json(json.dumps(_as_dict(occupancy)))
            else:
                _print(occupancy)


def _print(occupancy: FileOccupancy) -> None:
    from dqm.alarm import write_numbers

    s = occupancy.summary
    windows = format_count(occupancy.n_windows, "window")
    say(f"\n{occupancy.file}, {windows} together: ", end="")
    masked = f"; {s.n_masked} masked: {write_numbers(s.masked)}" if s.masked else ""
    channels = format_count(s.n_channels, "channel")
    say(f"{s.n_dead} dead, {s.n_low} low and {s.n_noisy} noisy of {channels}{masked}")
    if not occupancy.text:
        return
    say(occupancy.text)
    table = Table(box=None, pad_edge=False)
    for name in ("channel", "layer", "wire", "card", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("hits", "expected", "ratio", "p"):
        table.add_column(name, no_wrap=True, justify="right")
    rows = [row for row in _rows(occupancy) if row["state"] not in ("healthy", "masked")]
    for row in sorted(rows, key=lambda row: row["p"])[:MOST_ROWS]:
        places = ("-" if row[name] is None else str(row[name]) for name in ("layer", "wire", "card"))
        numbers = (f"{row['hits']:.0f}", f"{row['expected']:.1f}", f"{row['ratio']:.3g}", f"{row['p']:.1e}")
        table.add_row(str(row["channel"]), *places, cell(row["state"]), *numbers)
    print_table(table)
    if len(rows) > MOST_ROWS:
        say(f"and {format_count(len(rows) - MOST_ROWS, 'other channel')}; --json has them all")


def _as_dict(occupancy: FileOccupancy) -> dict[str, object]:
    s = occupancy.summary
    return {
        "file": occupancy.file,
        "run": occupancy.run,
        "n_windows": occupancy.n_windows,
        "n_channels": s.n_channels,
        "n_dead": s.n_dead,
        "n_low": s.n_low,
        "n_noisy": s.n_noisy,
        "n_masked": s.n_masked,
        "text": occupancy.text,
        "occupancy": list(_rows(occupancy)),
    }


def _rows(occupancy: FileOccupancy) -> Iterator[dict[str, Any]]:
    """Yield one row for each channel; a place that the map does not give is None."""
    from dqm.nplm.channels import CARD, LAYER, NUMBER, WIRE, ChannelState

    def place(row: np.ndarray, column: int) -> int | None:
        return None if row[column] < 0 else int(row[column])

    for k, row in enumerate(occupancy.channel_map):
        yield {
            "channel": int(row[NUMBER]),
            "layer": place(row, LAYER),
            "wire": place(row, WIRE),
            "card": place(row, CARD),
            "hits": int(occupancy.hits[k]),
            "expected": float(occupancy.expected[k]),
            "ratio": float(occupancy.hits[k] / occupancy.expected[k]),
            "p": float(occupancy.p[k]),
            "state": ChannelState(int(occupancy.state[k])).name.lower(),
        }
