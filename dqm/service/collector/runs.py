"""Runs of a collector: cuts and sends their events, announces their borders.

A source may say which run a batch belongs to, because the names of files do. When the next run begins, the
one before it is ended: its last windows are cut and sent, and the end is announced. If the source keeps its
data, the next run waits until the daemon has answered all windows of the one before. So a note has windows of
one run, and a collector that is killed in between reads the end of the run again and sends the same windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from dqm.config import CollectorConfig
from dqm.errors import InputError
from dqm.events import EventBatch, Origin, RunEvent, RunNotice, Window
from dqm.service.collector.cutters import make_cutter, streams_of
from dqm.service.collector.progress import Note, Progress
from dqm.service.collector.slow_control import SlowControl
from dqm.service.collector.sources import EventSource, ResumableSource, checked_batches, gives_runs
from dqm.stream import Cutter, RunLabel, Sender, Spool

__all__ = ["RunBorders", "Runs"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
"""Longest wait for an answer before the collector checks whether it must end, s."""


@dataclass(slots=True)
class RunBorders:
    """Announces for each stream when a run begins and ends."""

    sender: Sender
    label: RunLabel
    streams: Mapping[str, str]
    clock: Callable[[], float]
    begun: dict[str, str] = field(default_factory=dict)
    """Stream of each chamber that has events."""

    def begin(self, chamber: str) -> None:
        """Begin the run in the stream of a chamber, once."""
        if chamber not in self.begun:
            self.begun[chamber] = self.streams.get(chamber, chamber)
            self._announce(self.begun[chamber], RunEvent.BEGIN)

    def end(self, why: str) -> None:
        """End the run in every stream that has begun."""
        for stream in self.begun.values():
            self._announce(stream, RunEvent.END, why)

    def _announce(self, stream: str, event: RunEvent, why: str = "") -> None:
        label = self.label
        self.sender.announce(RunNotice(stream, label.run, label.run_type, event, self.clock(), why))


@dataclass(slots=True)
class _Run:
    """The run that is being sent."""

    label: RunLabel
    cutter: Cutter
    borders: RunBorders
    progress: Progress | None


class Runs:
    """Events of a source on their way to the daemon, run by run, and their counts.

    Parameters
    ----------
    config : CollectorConfig
        How they are cut.
    source : EventSource
        Where they come from.
    sender : Sender
        Where they go.
    number : int
        Number of the run, unless the source gives it.
    is_stopped : callable
        Whether to end.
    clock : callable
        Unix time, s.
    spool : Spool, optional
        Where windows wait across restarts.
    note : Note, optional
        Note of the last commit of a source that keeps its data.
    slow_control : SlowControl, optional
        Readings for the windows.
    """

    def __init__(
        self,
        config: CollectorConfig,
        source: EventSource,
        sender: Sender,
        number: int,
        *,
        is_stopped: Callable[[], bool],
        clock: Callable[[], float],
        spool: Spool | None = None,
        note: Note | None = None,
        slow_control: SlowControl | None = None,
    ) -> None:
        self.number = number
        self.n_events = 0
        self.n_windows = 0
        self.n_not_sent = 0
        self._config = config
        self._source = source
        self._sender = sender
        self._is_stopped = is_stopped
        self._clock = clock
        self._spool = spool
        self._note = note
        self._slow_control = slow_control
        self._streams = streams_of(config)
        self._n_left_before = 0
        self._run = None if gives_runs(source) else self._make(number, config.collector.run_type)

    @property
    def progress(self) -> Progress | None:
        """What of the run is acknowledged, if the source keeps its data."""
        return None if self._run is None else self._run.progress

    @property
    def keeps_its_data(self) -> bool:
        """Whether the next start reads again what is not acknowledged."""
        return isinstance(self._source, ResumableSource)

    @property
    def n_left(self) -> int:
        """Events after the last full window of each run."""
        now = 0 if self._run is None else sum(self._run.cutter.n_left.values())
        return self._n_left_before + now

    def send_events(self) -> None:
        """Cut and send until the source ends or the collector must."""
        for batch in checked_batches(self._source):
            run = self._enter(batch)
            if run is None:
                return
            self._send_batch(run, batch)
            if self._is_stopped():
                return

    def send_last(self) -> None:
        """Send the windows that end with the run; a run that can be read again is not ended early."""
        if self._run is not None and self._run.progress is None:
            self._send(self._run, self._run.cutter.close())

    def end(self, why: str) -> None:
        """Announce the end of the run; with a source that keeps its data it continues at the next start."""
        if self._run is not None and self._run.progress is None:
            self._run.borders.end(why)

    def _enter(self, batch: EventBatch) -> _Run | None:
        """Give the run of a batch, and end the run before; None if the collector must end first."""
        run = self._run
        if batch.run is None:
            if run is None:
                raise InputError("a batch has no run", fix="A source that gives runs gives each batch one")
            return run
        if run is not None and run.label.run == batch.run:
            return run
        if run is not None and not self._finish(run):
            return None
        self.number = batch.run
        self._run = run = self._make(batch.run, batch.run_type or self._config.collector.run_type)
        log.info("run began", run=batch.run, run_type=run.label.run_type)
        return run

    def _make(self, number: int, run_type: str) -> _Run:
        """Make what a run needs; the first run continues where an earlier start ended."""
        source = self._source
        note = self._note
        if note is not None and note.run != number and gives_runs(source):
            note = None
        label = RunLabel(number, run_type, source.origin)
        is_live = source.origin is Origin.LIVE
        continued = self._spool.next_numbers(number) if self._spool and is_live else {}
        progress = Progress(source, number, note) if isinstance(source, ResumableSource) else None
        if progress is not None:
            continued = Progress.first_numbers(note, number)
        cutter = make_cutter(self._config, label, continued, Progress.first_edges(note))
        self._note = None
        return _Run(label, cutter, RunBorders(self._sender, label, self._streams, self._clock), progress)

    def _finish(self, run: _Run) -> bool:
        """Send the rest of a run and announce its end; whether that was possible."""
        self._send(run, run.cutter.close())
        self._n_left_before += sum(run.cutter.n_left.values())
        run.borders.end("the next run began")
        while run.progress is not None and self._sender.n_kept:
            if self._is_stopped():
                return False
            self._sender.confirm(POLL_SECONDS)
        return True

    def _send_batch(self, run: _Run, batch: EventBatch) -> None:
        if run.progress is not None:
            rest = run.progress.trim(batch, self._streams.get(batch.chamber, batch.chamber))
            run.progress.commit(self._sender)
            if rest is None:
                return
            batch = rest
        is_of_channels = bool(batch.counts) and not batch.is_whole
        self.n_events += 0 if is_of_channels else batch.n_events
        windows = run.cutter.push(batch)
        run.borders.begin(batch.chamber)
        self._send(run, windows, is_of_batch=True)

    def _send(self, run: _Run, windows: list[Window], *, is_of_batch: bool = False) -> None:
        """Send windows; those still in a full buffer when the run must end are counted as not sent."""
        self.n_windows += len(windows)
        if self._slow_control is not None:
            windows = [self._slow_control.attach(window) for window in windows]
        for n_sent, window in enumerate(windows):
            while self._may_wait and not self._sender.has_room:
                if self._is_stopped():
                    self.n_not_sent += len(windows) - n_sent
                    return
                self._sender.confirm(POLL_SECONDS)
            self._sender.send(window)
            if run.progress is not None and is_of_batch:
                run.progress.add(window, run.cutter.cuts[n_sent], run.cutter.first_edges)
        self._sender.pump()

    @property
    def _may_wait(self) -> bool:
        return self.keeps_its_data or self._source.origin is not Origin.LIVE
