"""The collector's loop: take batches from a source, cut them into windows, send these."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import structlog

from dqm.config import CollectorConfig
from dqm.events import Origin, Window
from dqm.service.slow_control import SlowControl
from dqm.service.sources import Source, open_source
from dqm.stream import CountCutter, Cutter, RunLabel, Sender, TimeCutter

__all__ = ["Collected", "collect"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
DELIVERY_SECONDS = 10.0
"""How long the end of a run waits for the daemon to take what is left, and for each acknowledgement."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Account of one run of a collector.

    Parameters
    ----------
    run : int
        Run number.
    n_events, n_windows : int
        Events read, windows cut.
    n_sent, n_lost : int
        Windows sent, and windows dropped, left undelivered or never acknowledged.
    n_left : int
        Events after the last full window.
    """

    run: int
    n_events: int
    n_windows: int
    n_sent: int
    n_lost: int
    n_left: int


def collect(
    config: CollectorConfig, base: Path, stop: Event, clock: Callable[[], float] = time.time
) -> Collected:
    """Run a collector until its source ends or it is told to stop.

    A live source is never made to wait: what the daemon cannot take is buffered, and the oldest dropped. A
    replayed or simulated source can wait, and does.

    Parameters
    ----------
    config : CollectorConfig
        Source, windows and daemon.
    base : Path
        Directory that relative paths in the options start from.
    stop : Event
        Set it to end the run after the current batch.
    clock : callable
        Unix time in seconds; numbers a run that has no number.

    Raises
    ------
    ConfigError
        If the collector or the source of readings is unknown or its options are wrong.
    InputError
        If the source of events is unusable, or that of readings at the start.
    """
    section = config.collector
    source = open_source(section.name, config.options, "[options]", base)
    slow_control = None if config.slow_control is None else SlowControl(config.slow_control, base)
    run = int(clock()) if section.run is None else section.run
    cutter = make_cutter(config, RunLabel(run, section.run_type, source.origin))
    n_events = n_windows = 0
    with slow_control or nullcontext(), Sender(section.connect, section.buffer_windows) as sender:
        log.info("run started", collector=section.name, run=run, daemon=section.connect)
        for batch in source:
            n_events += len(batch.x)
            windows = _attach(cutter.push(batch), slow_control)
            n_windows += len(windows)
            _send(sender, windows, source, stop)
            if stop.is_set():
                break
        last = _attach(cutter.close(), slow_control)
        _send(sender, last, source, stop)
        if not sender.flush(DELIVERY_SECONDS):
            log.warning("windows not delivered: the daemon does not take them", windows=sender.n_waiting)
        elif not sender.confirm(DELIVERY_SECONDS):
            log.warning("windows sent, but no verdict acknowledged", windows=sender.n_unconfirmed)
        result = Collected(
            run=run,
            n_events=n_events,
            n_windows=n_windows + len(last),
            n_sent=sender.n_sent,
            n_lost=sender.n_lost + sender.n_waiting + sender.n_unconfirmed,
            n_left=sum(cutter.n_left.values()),
        )
    log.info(
        "run ended",
        run=run,
        events=n_events,
        windows=result.n_windows,
        sent=result.n_sent,
        lost=result.n_lost,
    )
    return result


def make_cutter(config: CollectorConfig, label: RunLabel) -> Cutter:
    """Set up the way of cutting that a configuration asks for."""
    window = config.window
    if window.events is not None:
        return CountCutter(window.events, label, config.streams)
    if window.seconds is None or window.expected_rate_hz is None:
        raise ValueError("the configuration's own check lets no such window pass")
    return TimeCutter(window.seconds, window.expected_rate_hz, label, config.streams)


def _attach(windows: list[Window], slow_control: SlowControl | None) -> list[Window]:
    return windows if slow_control is None else [slow_control.attach(window) for window in windows]


def _send(sender: Sender, windows: list[Window], source: Source, stop: Event) -> None:
    for window in windows:
        sender.send(window)
        if source.origin is not Origin.LIVE:
            _wait_for_room(sender, stop)
    sender.pump()


def _wait_for_room(sender: Sender, stop: Event) -> None:
    told = False
    while not stop.is_set() and not sender.flush(POLL_SECONDS):
        if not told and sender.n_sent == 0:
            log.warning("waiting for the daemon: it does not answer yet")
            told = True
