"""Beam events as text: one event on each line, four chambers, hit times relative to the muon's passage."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dqm.errors import FileError, format_count
from dqm.events import EventBatch, FloatArray, Origin
from dqm_collectors.chamber.geometry import N_CHAMBERS, N_LAYERS, beam_wire_x_mm
from dqm_collectors.chamber.segments import FEATURES, Hits, Selection, find_segments
from dqm_collectors.text_blocks import open_text, read_lines

__all__ = ["BeamCollector"]

LINES_PER_BLOCK = 4096
NUMBERS_PER_HIT = 5
LINE_FORMAT = "Expected: event n_hits, then chamber layer xleft xright time for each hit"


class BeamCollector:
    """Segments of beam events. The files have no clock, so the batches do not have times.

    Parameters
    ----------
    options : BeamCollector.Options
        Files and selection.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        inputs: tuple[Path, ...] = Field(min_length=1, description="beam files, plain or .gz, in order")
        max_residual_mm: float = Field(
            1.0, gt=0, le=10, description="largest residual of a segment, mm, (0, 10]"
        )

    origin = Origin.REPLAYED

    def __init__(self, options: Options) -> None:
        self.options = options

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield one batch for each chamber and block of lines.

        Raises
        ------
        FileError
            If a line is not an event; the message names file and line.
        """
        selection = Selection(max_residual_mm=self.options.max_residual_mm, t0_known=True)
        for path in self.options.inputs:
            for hits in _read_blocks(path):
                yield from _reconstruct(hits, selection)


def _read_blocks(path: Path) -> Iterator[FloatArray]:
    """Yield the hits of blocks of lines, shape (n_hits, 6): line within the block, then the five numbers."""
    first = 1
    with open_text(path) as stream:
        all_lines = read_lines(stream, path)
        while lines := list(islice(all_lines, LINES_PER_BLOCK)):
            parts = [_parse(line, f"{path}:{first + k}") for k, line in enumerate(lines)]
            number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            yield np.column_stack([number, np.concatenate(parts)])
            first += len(lines)


def _parse(line: str, where: str) -> FloatArray:
    """Return the hits of one line, shape (n_hits, 5)."""
    words = line.split()
    try:
        numbers = np.array(words[1:], dtype=np.float64)
    except ValueError as error:
        raise FileError(f"not a number: {error}", where=where, fix=LINE_FORMAT) from error
    if numbers.size % NUMBERS_PER_HIT != 1 or numbers.size != 1 + NUMBERS_PER_HIT * numbers[0]:
        raise FileError(
            f"not an event: {format_count(len(words), 'word')} in the line", where=where, fix=LINE_FORMAT
        )
    hits = numbers[1:].reshape(-1, NUMBERS_PER_HIT)
    chamber, layer = hits[:, 0], hits[:, 1]
    if not np.isfinite(hits).all():
        raise FileError("a number is not finite", where=where, fix=LINE_FORMAT)
    if not (np.isin(chamber, range(N_CHAMBERS)).all() and np.isin(layer, range(1, N_LAYERS + 1)).all()):
        raise FileError("a chamber is not 0 to 3, or a layer is not 1 to 4", where=where, fix=LINE_FORMAT)
    return hits


def _reconstruct(block: FloatArray, selection: Selection) -> Iterator[EventBatch]:
    """Find the segments of a block of hits, chamber by chamber."""
    line, chamber, layer = block[:, :3].T.astype(np.int64)
    wire = beam_wire_x_mm(layer, block[:, 3:5].mean(axis=1))
    segments = find_segments(Hits(line * N_CHAMBERS + chamber, layer, wire, block[:, 5]), selection)
    found = segments.event % N_CHAMBERS
    for number in range(N_CHAMBERS):
        features = segments.features[found == number]
        if len(features):
            yield EventBatch(str(number), FEATURES, features)
