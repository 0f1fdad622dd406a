"""The loop of a collector: read batches from a source, cut them into windows, send the windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import structlog

from dqm.config import CollectorConfig, CollectorSection
from dqm.errors import ConfigError, NoEventsError, PluginError, format_count
from dqm.events import Origin
from dqm.service.collector.cutters import make_cutter
from dqm.service.collector.progress import Note
from dqm.service.collector.runs import Runs
from dqm.service.collector.slow_control import SlowControl
from dqm.service.collector.sources import EventSource, ResumableSource, counts_of, gives_runs, open_source
from dqm.service.sd_notify import Notifier
from dqm.stream import Reason, Sender, SenderKeys, Spool, read_sender_keys

__all__ = ["CollectSummary", "collect", "make_cutter"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
LOG_SECONDS = 60.0
"""Time between log lines of what the source has read and left out, s."""

DELIVERY_SECONDS = 10.0
"""Longest wait for the next answer of the daemon at the end of a run, s."""


@dataclass(frozen=True, slots=True)
class CollectSummary:
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
        Windows that were dropped, not sent or not answered, and that the next start does not have either.
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
) -> CollectSummary:
    """Run a collector until its source ends or `stop` is set.

    A live source never waits for the daemon: unanswered windows are buffered, and the oldest are dropped when
    the buffer is full. A replayed or simulated source waits. A source that keeps its data waits as well:
    after a restart it continues after the last window that the daemon has answered. If the spool has seen
    this run of a live source before, the run continues with the next numbers. Other sources start again from
    0; the daemon recognises windows that it already has.

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
    CollectSummary
        Counts of the run.

    Raises
    ------
    ConfigError
        If the collector or the source of readings is unknown or has wrong options.
    InputError
        If the source of events fails, or the source of readings at the start.
    PluginError
        If the source is no collector, see `dqm.service.collector.sources`.
    NoEventsError
        If the source ends without any event.
    FileError
        If the spool cannot be used.
    """
    section = config.collector
    source = open_source(section.name, config.options, "[options]", base)
    _refuse_two_numbers(section, source)
    counts_of(source)  # refuses at the start what the log could not show
    keys = read_sender_keys(section)  # before anything is made
    with ExitStack() as opened:
        idle = _Idle(stop)
        note = _resume(source, idle, opened)
        number = section.run if section.run is not None else note.run if note else int(clock())
        slow_control = (
            opened.enter_context(SlowControl(config.slow_control, base)) if config.slow_control else None
        )
        spool = (
            opened.enter_context(Spool(section.spool, 2 * section.buffer_bytes)) if section.spool else None
        )
        sender = opened.enter_context(_make_sender(section, keys, spool))
        runs = Runs(
            config,
            source,
            sender,
            number,
            is_stopped=stop.is_set,
            clock=clock,
            spool=spool,
            note=note,
            slow_control=slow_control,
        )
        log.info(
            "run started",
            collector=section.name,
            run="as the names of the files say" if gives_runs(source) else number,
            daemon=section.connect,
            from_spool=sender.n_kept,
        )
        if spool and (spool.set_aside or spool.n_damaged):
            log.error("windows in the spool were damaged", n=spool.n_damaged, moved_to=str(spool.set_aside))
        opened.enter_context(_keep_sending(sender, source, runs, notifier or Notifier()))
        idle.runs = runs
        idle.sender = sender
        runs.send_events()
        if notifier is not None:
            notifier.stopping()
        is_kept = spool is not None or runs.keeps_its_data
        runs.send_last()
        runs.end("the collector was told to stop" if stop.is_set() else "the source ended")
        _finish(runs, sender, source, stop, is_kept=is_kept)
        summary = _summarise(runs, sender, is_kept=is_kept)
    _log_end(summary, source)
    if not summary.n_events and not stop.is_set():
        raise NoEventsError(
            "the source ended without any event",
            where=f"collector {section.name}",
            fix="Check its inputs and options: there is nothing to judge",
        )
    return summary


def _refuse_two_numbers(section: CollectorSection, source: EventSource) -> None:
    if section.run is not None and gives_runs(source):
        raise ConfigError(
            f"run is {section.run}, but the names of the files give the runs",
            where="[collector] run",
            fix="Leave out run, or name_pattern under [options]",
        )


def _finish(runs: Runs, sender: Sender, source: EventSource, stop: Event, *, is_kept: bool) -> None:
    """Wait for the last answers, and commit what they allow; if `is_kept`, the next start has the others."""
    has_answers = _wait_for_answers(sender, source, stop)
    if runs.progress is not None:
        runs.progress.commit(sender, is_last=True)
    if not has_answers:
        log.warning(
            "windows without an answer of the daemon",
            sent=sender.n_unconfirmed,
            not_sent=sender.n_waiting,
            borders_of_runs=sender.n_announced,
            next_start="sends them again" if is_kept else "does not know them",
        )


def _summarise(runs: Runs, sender: Sender, *, is_kept: bool) -> CollectSummary:
    return CollectSummary(
        run=runs.number,
        n_events=runs.n_events,
        n_windows=runs.n_windows,
        n_sent=sender.n_sent,
        n_lost=sender.n_lost + runs.n_not_sent + (0 if is_kept else sender.n_kept),
        n_left=runs.n_left,
        n_spooled=sender.n_kept if is_kept else 0,
        n_refused=sum(sender.refusals.values()),
    )


def _make_sender(section: CollectorSection, keys: SenderKeys | None, spool: Spool | None) -> Sender:
    return Sender(
        section.connect,
        section.buffer_windows,
        buffer_bytes=section.buffer_bytes,
        spool=spool,
        keys=keys,
    )


def _log_end(summary: CollectSummary, source: EventSource) -> None:
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


@dataclass(slots=True)
class _Idle:
    """Called by a source that keeps its data, between two readings: commit, and say whether to end.

    It is called in the thread of the source, because its client may not be used from two threads.
    """

    stop: Event
    runs: Runs | None = None
    sender: Sender | None = None

    def __call__(self) -> bool:
        if self.runs is not None and self.sender is not None and self.runs.progress is not None:
            self.runs.progress.commit(self.sender)
        return self.stop.is_set()


def _resume(source: EventSource, idle: _Idle, opened: ExitStack) -> Note | None:
    """Connect a source that keeps its data, and continue where the acknowledged windows end."""
    if not isinstance(source, ResumableSource):
        return None
    opened.callback(source.close)
    text = source.open(idle)
    if not text:
        return None
    note = Note.read(text)
    source.seek(note.position)
    return note


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
def _keep_sending(sender: Sender, source: EventSource, runs: Runs, notifier: Notifier) -> Iterator[None]:
    """Send and receive, also while the source is silent; log each problem once, and counts regularly."""
    done = Event()

    def work() -> None:
        log_at = time.monotonic() + LOG_SECONDS
        problem = ""
        refusals: dict[str, int] = {}
        n_given_up = n_refused_runs = 0
        is_full = False
        while not done.wait(POLL_SECONDS):
            sender.pump()
            notifier.status(_describe(sender, runs.number))
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
            n_lost = sender.n_lost
            if not is_full and n_lost > len(sender.given_up):
                is_full = True
                log.warning("the buffer is full: the oldest windows are dropped")
            for stream, run, seq in sender.given_up[n_given_up:]:
                n_given_up += 1
                log.error("a window is given up: it broke every connection", stream=stream, run=run, seq=seq)
            if time.monotonic() >= log_at:
                log_at += LOG_SECONDS
                with suppress(PluginError):  # told at the end; what is read is delivered all the same
                    if counts := counts_of(source):
                        log.info("read so far", run=runs.number, **counts)

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
