"""Raw TDC files: from hits on wires to segments whose time of passage is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.geometry import N_CHAMBERS, Convention, WireMap
from dqm_collectors.chamber.reconstruction import Reconstruction
from dqm_collectors.chamber.segments import Selection
from dqm_collectors.chamber.word_stream import WordStream
from dqm_collectors.chamber.words import Numbering
from dqm_collectors.pace import Clock, Sleep, at_speed
from dqm_collectors.word_files import WordFormat, read_words

__all__ = ["TdcCollector"]


class TdcCollector:
    """Segments of the raw words of one run.

    Parameters
    ----------
    options : TdcCollector.Options
        Files, numbering, selection and speed.
    clock, sleep : callable
        Used when `speed` is given.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        inputs: tuple[Path, ...] = Field(
            min_length=1,
            description="parts of one run in order: text or binary words, plain or .gz, or a named pipe",
        )
        format: WordFormat | None = Field(
            None, description="text or binary; default: recognised by the content of each file"
        )
        numbering: Numbering | None = Field(
            None,
            description="numbers in binary words: electronics (channels from 0, TDC from 1) or text (as in "
            "text files); default: recognised by the values of TDC",
        )
        convention: Annotated[Convention, BeforeValidator(str)] = Field(
            Convention.Y2021, description="numbering of the channels: 2018 or 2021"
        )
        max_residual_mm: float = Field(
            1.0, gt=0, le=10, description="largest residual of a segment, mm, (0, 10]"
        )
        chambers: tuple[Annotated[int, Field(ge=0, lt=N_CHAMBERS)], ...] = Field(
            (0, 1, 2, 3), min_length=1, description="chambers to read, 0 to 3"
        )
        start: float = Field(0.0, description="Unix time of the first hit, seconds")
        speed: float | None = Field(
            None, gt=0, description="1: as recorded, 2: twice as fast; default: as fast as possible"
        )
        batch_seconds: float = Field(1.0, gt=0, le=3600, description="length of a batch, s, (0, 3600]")

    def __init__(self, options: Options, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.options = options
        piped = any(path.is_fifo() for path in options.inputs)
        self.origin = Origin.LIVE if piped else Origin.REPLAYED
        self._clock = clock
        self._sleep = sleep
        self._stream: WordStream | None = None

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield one batch for each chamber and stretch of `batch_seconds`.

        Raises
        ------
        FileError
            If a file cannot be read or is not a TDC file; the message names file and row.
        NoEventsError
            If no word is a hit; the message names the convention that would fit.
        """
        return at_speed(self._batches(), self.options.speed, self._clock, self._sleep)

    def counts(self) -> dict[str, int]:
        """Words, hits, and words left out by reason, since the start."""
        return self._stream.total.as_dict() if self._stream else {}

    def _batches(self) -> Iterator[EventBatch]:
        options = self.options
        wires = WireMap.of(options.convention)
        reconstruction = Reconstruction(
            wires,
            Selection(max_residual_mm=options.max_residual_mm),
            chambers=options.chambers,
            start=options.start,
            batch_seconds=options.batch_seconds,
        )
        self._stream = stream = WordStream(options.convention, reconstruction)
        for path in options.inputs:
            for raw in read_words(path, wires, file_format=options.format, numbering=options.numbering):
                yield from stream.feed(raw, str(path))
        yield from stream.finish(", ".join(map(str, options.inputs)))
