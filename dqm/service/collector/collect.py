"""The loop of a collector: read batches from a source, cut them into windows, send the windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import structlog

from dqm.config import CollectorConfig, CollectorSection
from dqm.errors import NoEventsError, format_count
from dqm.events import EventBatch, Origin, RunEvent, RunNotice, Window
from dqm.service.collector.progress import Note, Progress
from dqm.service.collector.slow_control import SlowControl
from dqm.service.collector.sources import (
    EventSource,
    ResumableSource,
    checked_batches,
    counts_of,
    open_source,
)
from dqm.service.sd_notify import Notifier
from dqm.stream import (
    CountCutter,
    CountedCutter,
    Cutter,
    Reason,
    RunLabel,
    Sender,
    Spool,
    TimeCutter,
    WholeCutter,
    read_sender_keys,
)

__all__ = ["RunSummary", "collect"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
LOG_SECONDS = 60.0
"""Time between log lines of what the source has read and left out, s."""

DELIVERY_SECONDS = 10.0
"""Longest wait for the next answer of the daemon at the end of a run, s."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Counts of one run of a collector.

    Parameters
    ----------
    run : int
        Run number.
    n_events, n_windows : int
        Events read, windows cut.
    n_sent : int
        Windows sent, including those that an earlier run left in the spool.
    n_lost : int
        Windows that were dropped, not sent or not answered, and that the next start does not have.
    n_left : int
        Events after the last full window.
    n_spooled : int
        Windows left for the next start: in the spool, or in a source that keeps its data.
    n_refused : int
        Windows that the daemon refused.
    """

    run: int
    n_events: int
    n_windows: int
    n_sent: int
    n_lost: int
    n_left: int
    n_spooled: int = 0
    n_refused: int = 0


def collect(
    config: CollectorConfig,
    base: Path,
    stop: Event,
    clock: Callable[[], float] = time.time,
    notifier: Notifier | None = None,
) -> RunSummary:
    """Run a collector until its source ends or `stop` is set.

    A live source never waits for the daemon: unanswered windows are buffered, and the oldest are dropped when
    the buffer is full. A replayed or simulated source waits, and so does one that keeps its data: after a
    restart it goes on where the windows that the daemon has answered end. If the spool has seen this run of a
    live source before, the run continues with the next numbers. Other sources start again from 0; the daemon
    recognises windows that it already has.

    The run begins, for each stream, with its first events. It ends when the source ends or `stop` is set; if
    the source fails it does not end, so the daemon notices that no window comes.

    Parameters
    ----------
    config : CollectorConfig
        Source, windows and daemon.
    base : Path
        Directory from which relative paths in the options start.
    stop : Event
        Ends the run after the current batch when it is set.
    clock : callable
        Unix time in seconds; it gives the run number if the configuration has none.
    notifier : Notifier, optional
        Service manager that is informed of the state of the run.

    Returns
    -------
    RunSummary
        Counts of the run.

    Raises
    ------
    ConfigError
        If the collector or the source of readings is unknown or has wrong options.
    InputError
        If the source of events fails, or the source of readings at the start.
    NoEventsError
        If the source ends without any event.
    FileError
        If the spool cannot be used.
    """
    section = config.collector
    source = open_source(section.name, config.options, "[options]", base)
    with ExitStack() as opened:
        idle = _Idle(stop)
        note = _resume(source, idle, opened)
        number = section.run if section.run is not None else note.run if note else int(clock())
        progress = Progress(source, number, note) if isinstance(source, ResumableSource) else None
        slow_control = (
            opened.enter_context(SlowControl(config.slow_control, base)) if config.slow_control else None
        )
        spool = (
            opened.enter_context(Spool(section.spool, 2 * section.buffer_bytes)) if section.spool else None
        )
        continued = spool.next_numbers(number) if spool and source.origin is Origin.LIVE else {}
        if progress:
            continued = Progress.first_numbers(note, number)
        label = RunLabel(number, section.run_type, source.origin)
        cutter = make_cutter(config, label, continued, Progress.first_edges(note))
        sender = opened.enter_context(_make_sender(section, spool))
        log.info(
            "run started",
            collector=section.name,
            run=number,
            daemon=section.connect,
            from_spool=sender.n_kept,
        )
        if spool and (spool.set_aside or spool.n_damaged):
            log.error("windows in the spool were damaged", n=spool.n_damaged, moved_to=str(spool.set_aside))
        opened.enter_context(_keep_sending(sender, source, number, notifier or Notifier()))
        idle.progress, idle.sender = progress, sender
        streams = _streams_of(config)
        borders = _RunBorders(sender, label, streams, clock)
        run = _Run(source, cutter, slow_control, sender, borders, stop, streams, progress)
        run.send_events()
        if notifier is not None:
            notifier.stopping()
        is_kept = spool is not None or progress is not None
        run.send_last()
        if progress is None:  # a source that keeps its data goes on with the same run
            borders.end("the collector was told to stop" if stop.is_set() else "the source ended")
        run.wait_for_answers(is_kept=is_kept)
        summary = run.summarise(number, is_kept=is_kept)
    _log_end(summary, source)
    if not summary.n_events and not stop.is_set():
        raise NoEventsError(
            "the source ended without any event",
            where=f"collector {section.name}",
            fix="Check its inputs and options: there is nothing to judge",
        )
    return summary


@dataclass(slots=True)
class _RunBorders:
    """Says of each stream when the run begins and ends."""

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
    """Events of a source on their way to the daemon, and their counts."""

    source: EventSource
    cutter: Cutter
    slow_control: SlowControl | None
    sender: Sender
    borders: _RunBorders
    stop: Event
    streams: Mapping[str, str]
    progress: Progress | None = None
    n_events: int = 0
    n_windows: int = 0
    n_not_sent: int = 0

    def send_events(self) -> None:
        """Cut and send until the source ends or the run must."""
        for batch in checked_batches(self.source):
            self._send_batch(batch)
            if self.stop.is_set():
                return

    def _send_batch(self, batch: EventBatch) -> None:
        if self.progress is not None:
            rest = self.progress.trim(batch, self.streams.get(batch.chamber, batch.chamber))
            self.progress.commit(self.sender)
            if rest is None:
                return
            batch = rest
        is_of_channels = bool(batch.counts) and not batch.is_whole
        self.n_events += 0 if is_of_channels else batch.n_events
        windows = self.cutter.push(batch)
        self.borders.begin(batch.chamber)
        self._send(windows)

    def send_last(self) -> None:
        """Send the windows that end with the run; one that can be read again is not ended before its time."""
        if self.progress is None:
            self._send(self.cutter.close())

    def wait_for_answers(self, *, is_kept: bool) -> None:
        """Wait for the last answers, and commit what they allow; `is_kept`: the next start has the others."""
        has_answers = _wait_for_answers(self.sender, self.source, self.stop)
        if self.progress is not None:
            self.progress.commit(self.sender, is_last=True)
        if not has_answers:
            log.warning(
                "windows without an answer of the daemon",
                sent=self.sender.n_unconfirmed,
                not_sent=self.sender.n_waiting,
                borders_of_runs=self.sender.n_announced,
                next_start="sends them again" if is_kept else "does not know them",
            )

    def summarise(self, number: int, *, is_kept: bool) -> RunSummary:
        sender = self.sender
        return RunSummary(
            run=number,
            n_events=self.n_events,
            n_windows=self.n_windows,
            n_sent=sender.n_sent,
            n_lost=sender.n_lost + self.n_not_sent + (0 if is_kept else sender.n_kept),
            n_left=sum(self.cutter.n_left.values()),
            n_spooled=sender.n_kept if is_kept else 0,
            n_refused=sum(sender.refusals.values()),
        )

    def _send(self, windows: list[Window]) -> None:
        """Send windows; those that a full buffer keeps back when the run must end are counted as not sent."""
        self.n_windows += len(windows)
        if self.slow_control is not None:
            windows = [self.slow_control.attach(window) for window in windows]
        for n_sent, window in enumerate(windows):
            while self._may_wait and not self.sender.has_room:
                if self.stop.is_set():
                    self.n_not_sent += len(windows) - n_sent
                    return
                self.sender.confirm(POLL_SECONDS)
            self.sender.send(window)
            if self.progress is not None:
                self.progress.add(window, self.cutter.cuts[n_sent], self.cutter.first_edges)
        self.sender.pump()

    @property
    def _may_wait(self) -> bool:
        return self.progress is not None or self.source.origin is not Origin.LIVE


def _make_sender(section: CollectorSection, spool: Spool | None) -> Sender:
    return Sender(
        section.connect,
        section.buffer_windows,
        buffer_bytes=section.buffer_bytes,
        spool=spool,
        keys=read_sender_keys(section),
    )


def _log_end(summary: RunSummary, source: EventSource) -> None:
    log.info(
        "run ended",
        run=summary.run,
        events=summary.n_events,
        windows=summary.n_windows,
        sent=summary.n_sent,
        lost=summary.n_lost,
        refused=summary.n_refused,
        spooled=summary.n_spooled,
        **counts_of(source),
    )


def make_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None = None,
    first_edges: Mapping[str, float] | None = None,
) -> Cutter:
    """Make the cutter that a configuration describes."""
    return CountedCutter(
        _event_cutter(config, label, first_numbers, first_edges),
        _channel_cutter(config, label, first_numbers, first_edges),
        WholeCutter(
            label,
            config.streams,
            first_numbers,
            n_events=config.window.events,
            seconds=config.window.seconds or 0.0,
            rate_hz=config.window.expected_rate_hz or 0.0,
            rates_hz=config.window.rates_hz,
        ),
    )


def _event_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None,
    first_edges: Mapping[str, float] | None,
) -> Cutter:
    window = config.window
    if window.events is not None:
        return CountCutter(window.events, label, config.streams, first_numbers)
    if window.seconds is None or window.expected_rate_hz is None:
        raise ValueError("[window] needs events, or seconds and expected_rate_hz")
    return TimeCutter(
        window.seconds,
        window.expected_rate_hz,
        label,
        config.streams,
        first_numbers,
        first_edges,
        rates_hz=window.rates_hz,
    )


@dataclass(slots=True)
class _Idle:
    """What a source that keeps its data calls between two readings: commit; say whether to end.

    It is called in the thread of the source, because its client may not be used from two threads.
    """

    stop: Event
    progress: Progress | None = None
    sender: Sender | None = None

    def __call__(self) -> bool:
        if self.progress is not None and self.sender is not None:
            self.progress.commit(self.sender)
        return self.stop.is_set()


def _resume(source: EventSource, idle: _Idle, opened: ExitStack) -> Note | None:
    """Connect a source that keeps its data, and go on where the acknowledged windows end."""
    if not isinstance(source, ResumableSource):
        return None
    opened.callback(source.close)
    text = source.open(idle)
    if not text:
        return None
    note = Note.read(text)
    source.seek(note.position)
    return note


def _streams_of(config: CollectorConfig) -> dict[str, str]:
    """Give the stream of each chamber; hits by channel go to ``NAME.channels`` unless configured."""
    beside = {f"{chamber}.channels": f"{stream}.channels" for chamber, stream in config.streams.items()}
    return beside | config.streams


def _channel_cutter(
    config: CollectorConfig,
    label: RunLabel,
    first_numbers: Mapping[str, int] | None,
    first_edges: Mapping[str, float] | None,
) -> Cutter | None:
    """Make the cutter of the hits by channel."""
    section = config.channels
    if section is None:
        return None
    streams = _streams_of(config)
    return TimeCutter(section.seconds, section.expected_rate_hz, label, streams, first_numbers, first_edges)


def _wait_for_answers(sender: Sender, source: EventSource, stop: Event) -> bool:
    """Wait for the last answers; a source that is not live waits until there is a daemon."""
    is_logged = False
    while not sender.confirm(DELIVERY_SECONDS):
        if source.origin is Origin.LIVE or sender.is_connected or stop.is_set():
            return False
        if not is_logged:
            log.warning("waiting for the daemon: it does not answer yet")
            is_logged = True
    return True


@contextmanager
def _keep_sending(sender: Sender, source: EventSource, run: int, notifier: Notifier) -> Iterator[None]:
    """Send and receive also while the source is silent; log each problem once, and what is read regularly."""
    done = Event()

    def work() -> None:
        log_at = time.monotonic() + LOG_SECONDS
        problem = ""
        refusals: dict[str, int] = {}
        n_lost = n_refused_runs = 0
        while not done.wait(POLL_SECONDS):
            sender.pump()
            notifier.status(_describe(sender, run))
            if sender.problem != problem:
                problem = sender.problem
                log.warning("delivery", problem=problem or "over")
            if sender.refusals.keys() != refusals.keys():
                refusals = sender.refusals
                log.warning("the daemon refuses windows", reasons=refusals)
            for answer in sender.run_refusals[n_refused_runs:]:
                n_refused_runs += 1
                tell = log.info if answer.reason == Reason.RUN_ENDED else log.warning  # run control was first
                tell("the daemon refuses a border of the run", reason=answer.reason, what=answer.what)
            if sender.n_lost and not n_lost:
                n_lost = sender.n_lost
                log.warning("the buffer is full: the oldest windows are dropped")
            if time.monotonic() >= log_at:
                log_at += LOG_SECONDS
                if counts := counts_of(source):
                    log.info("read so far", run=run, **counts)

    thread = Thread(target=work, name="sender", daemon=True)
    thread.start()
    notifier.ready()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _describe(sender: Sender, run: int) -> str:
    """Write the state of a run in one line, for the service manager."""
    counts = f"{format_count(sender.n_sent, 'window')} sent, {sender.n_kept} not judged yet"
    text = f"run {run}: {counts}, {sender.n_lost} lost"
    return f"{text}. {sender.problem}" if sender.problem else text
