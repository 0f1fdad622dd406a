"""Raw TDC files: from hits on wires to segments whose time of passage is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.geometry import WireMap
from dqm_collectors.chamber.word_stream import WordOptions, WordStream
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

    class Options(WordOptions):
        """Keys of the configuration."""

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
        start: float = Field(0.0, description="Unix time of the first hit, seconds")
        speed: float | None = Field(
            None, gt=0, description="1: as recorded, 2: twice as fast; default: as fast as possible"
        )

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
        self._stream = stream = WordStream(options, options.start)
        for path in options.inputs:
            for raw in read_words(path, wires, file_format=options.format, numbering=options.numbering):
                yield from stream.feed(raw, str(path))
        yield from stream.finish(", ".join(map(str, options.inputs)))
