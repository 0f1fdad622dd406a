"""The daemon: receive, test, decide, store, show; in this order."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from threading import Event
from types import TracebackType
from typing import Self

import structlog
import torch

from dqm.alarm import alarm_rules, derive_thresholds, quality_limits
from dqm.config import DaemonConfig, split_http
from dqm.errors import PeerError, StoreError
from dqm.events import Verdict, Window
from dqm.export import (
    N_RECENT,
    AlarmMetrics,
    HttpServer,
    Metrics,
    Site,
    Situation,
    create_app,
    describe_bundle,
)
from dqm.service.alarms import Desk
from dqm.service.assessor import ANOMALOUS, prepare_assessors, untested
from dqm.service.fair_queue import FairQueue
from dqm.service.opening import (
    count_measured,
    identify_bundles,
    open_annotator,
    open_receiver,
    open_store,
    tell,
    warn_of_small_tables,
)
from dqm.service.workers import LocalTester, Tester, WorkerPool
from dqm.store import WindowKeeper
from dqm.stream import Identity, Reason, SequenceTracker, find_conflict, identity_of

__all__ = ["Daemon"]

log = structlog.get_logger(__name__)

POLL_MS = 200
STORE_RETRY_SECONDS = 1.0
PROBE_SECONDS = 10.0
"""So often the store is read back before something is added to it."""
PRUNED_AT_ONCE = 500
WINDOWS = "windows"
"""Directory of the kept windows within the data directory."""
LONGEST_PAUSE_SECONDS = 10.0
"""If the alarms were not told the time for longer, nobody listened, or the clock was put forward."""
STOP_SECONDS = 10.0
"""Longest wait for tests that have begun when the daemon is told to stop."""


class Daemon:
    """Judges the windows of all configured streams.

    Everything is opened here, so that a mistake stops the daemon before it starts.

    Parameters
    ----------
    config : DaemonConfig
        What to listen to, judge by and show.
    clock : callable
        Unix time in seconds.
    monotonic : callable
        Seconds that never go back.

    Raises
    ------
    BundleError, ConfigError, StoreError
        If a bundle, an address or the store cannot be used.
    """

    def __init__(
        self,
        config: DaemonConfig,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._clock = clock
        self._queue = FairQueue(
            max(config.daemon.queue_windows, 2 * len(config.streams)), config.daemon.overload_seconds
        )
        self._in_hand: dict[Identity, Window] = {}
        self._sequences = SequenceTracker()
        self._keep_days = config.keep.verdict_days
        self._unstored: list[Verdict] = []
        self._undecided: Window | None = None
        self._store_again_at = self._probe_at = self._tick_at = 0.0
        self._told_time = clock()
        self._patience = {stream.name: stream.stale_seconds for stream in config.streams}
        self._heard = dict.fromkeys(self._patience, monotonic())
        self._progress = monotonic()
        identified = identify_bundles(config)
        self._bundles = {stream: identifier for stream, (identifier, _) in identified.items()}
        measured = {stream: count_measured(manifest) for stream, (_, manifest) in identified.items()}
        thresholds = derive_thresholds(config, measured)
        warn_of_small_tables(identified, thresholds.p_threshold)
        self._limits = {s.name: quality_limits(config, s, thresholds) for s in config.streams}
        self.metrics = Metrics(self._bundles, clock, version("dqm"))
        self._situation = Situation(self._bundles, clock)
        with ExitStack() as opening:  # what was opened before a failure is closed again
            self._store = opening.enter_context(open_store(config.daemon))
            self._keeper = WindowKeeper(
                config.daemon.data_dir / WINDOWS, int(config.keep.windows_megabytes * 1e6)
            )
            annotator = open_annotator(config.grafana)
            if annotator is not None:
                opening.callback(annotator.stop)
            told = functools.partial(tell, annotator)
            self._desk = Desk(alarm_rules(config), thresholds, self._store, clock, told)
            self.metrics.registry.register(AlarmMetrics(self._desk))
            for stream, seconds in self._patience.items():
                recent = self._store.latest(stream, N_RECENT)[::-1]
                self._situation.recall(recent, seconds)
                self._sequences.restore(recent)
            facts = {stream: describe_bundle(*bundle) for stream, bundle in identified.items()}
            site = Site(
                situation=self._situation,
                desk=self._desk,
                verdicts=self._store,
                history=self._desk.history,
                kept=self._keeper.path,
                bundles=facts,
                clock=clock,
                version=version("dqm"),
            )
            app = create_app(self.metrics, lambda: monotonic() - self._progress, site=site)
            self._http = HttpServer(app, *split_http(config.daemon.http))
            opening.callback(self._http.stop)
            self._tester = self._start_tester(config)
            opening.callback(self._tester.close)
            # last: what it takes in has somebody to wait for an answer
            self._receiver = opening.enter_context(open_receiver(config.daemon))
            self._opened = opening.pop_all()

    @property
    def addresses(self) -> tuple[str, ...]:
        """ZeroMQ addresses as bound."""
        return self._receiver.addresses

    @property
    def http_address(self) -> str:
        """``HOST:PORT`` of the metrics as bound."""
        return self._http.address

    def run(self, stop: Event) -> None:
        """Work until `stop` is set; the windows being tested are finished and stored."""
        self._http.start()
        log.info("ready", listen=self.addresses, http=self.http_address, streams=list(self._bundles))
        while not stop.is_set():
            self.step(POLL_MS)
        self._finish(time.monotonic() + STOP_SECONDS)
        log.info("stopped", windows_not_tested=len(self._in_hand))

    def step(self, timeout_ms: int) -> list[Verdict]:
        """Take in what has arrived, go on with the tests, keep and show what they gave.

        Parameters
        ----------
        timeout_ms : int
            How long to wait if there is nothing to do.

        Returns
        -------
        list of Verdict
            Verdicts that were stored.
        """
        can_test = len(self._queue) and self._tester.room > 0
        self._receiver.wait(0 if can_test else timeout_ms, self._tester.descriptors)
        if not self._unstored and self._monotonic() >= self._store_again_at:
            self._receive()
        skipped = [self._skip(window) for window in self._queue.give_up(self._monotonic())]
        verdicts = self._keep(skipped + self._test())
        self._tick()
        self.metrics.set_queue(len(self._queue))
        self._progress = self._monotonic()
        self.metrics.note_progress()
        for stream, heard in self._heard.items():
            if self._progress - heard > self._patience[stream]:
                self.metrics.mark_stale(stream)
                self._situation.mark_stale(stream, self._patience[stream])
        return verdicts

    def close(self) -> None:
        """Stop listening and close the store."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_tester(self, config: DaemonConfig) -> Tester:
        """Start the workers; without any, tests run in this process."""
        section = config.daemon
        if section.workers == 0:
            torch.set_num_threads(section.threads)
            return LocalTester(prepare_assessors(config, self._limits, self._clock))
        return WorkerPool(
            functools.partial(prepare_assessors, config, self._limits),
            section.n_workers,
            section.threads,
            section.longest_test_seconds,
            self._give_up,
            self._monotonic,
        )

    def _give_up(self, window: Window, reason: str) -> Verdict:
        stream = window.stream
        return untested(window, reason, self._limits[stream], self._bundles[stream], self._clock())

    def _skip(self, window: Window) -> Verdict:
        self.metrics.count_skipped(window.stream)
        return self._give_up(window, "overload: the daemon cannot keep up; newer windows are tested first")

    def _receive(self) -> None:
        """Fill the queue; when it is full ZeroMQ makes the senders wait.

        The messages of one call are bounded: a flood of refused ones must not keep the others waiting. A
        window that the store cannot be asked about stays undecided until it can.
        """
        for _ in range(self._queue.room):
            message = self._undecided or self._receiver.receive(0)
            self._undecided = None
            if message is None:
                return
            if isinstance(message, PeerError):
                self._refuse(message)
            elif message.stream not in self._bundles:
                self._refuse(PeerError(Reason.UNKNOWN_STREAM, f"stream {message.stream!r} is not configured"))
            else:
                try:
                    self._accept(message)
                except StoreError as error:
                    self._undecided = message
                    self._wait_for_store(error)
                    return

    def _accept(self, window: Window) -> None:
        """Queue a window unless it has been judged, is waiting or belongs to another kind of run."""
        self._heard[window.stream] = self._monotonic()
        identity = identity_of(window)
        refusal = self._sequences.find_refusal(window)
        is_stored = identity not in self._in_hand and self._store.contains(*identity)
        stored = self._store.find(*identity) if is_stored else None
        if stored is not None:
            refusal = refusal or find_conflict(window, stored)
        if refusal is not None:
            self._receiver.refuse(window, refusal.reason)
            self._refuse(refusal)
            return
        arrival = self._sequences.observe(window)
        self.metrics.show_arrivals(window.stream, self._sequences.counts(window.stream))
        if stored is not None:
            self._receiver.acknowledge(window)
        if stored is not None or identity in self._in_hand:
            self.metrics.count_duplicate(window.stream)
            return
        window = replace(window, n_lost=arrival.n_lost)
        self._in_hand[identity] = window
        self._queue.put(window)

    def _refuse(self, refusal: PeerError) -> None:
        self.metrics.refuse(refusal.reason)
        log.warning("message refused", reason=refusal.reason, what=refusal.what)

    def _test(self) -> list[Verdict]:
        """Keep the workers busy; give what they have finished."""
        verdicts = self._tester.finished()
        while self._tester.room > 0 and (window := self._queue.take()) is not None:
            self._tester.submit(window)
        return verdicts + self._tester.finished()

    def _keep(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Store verdicts together, then acknowledge and show them; gives those that were stored.

        What cannot be stored now is kept and tried again, and nothing more is received meanwhile.
        """
        self._unstored += verdicts
        if not self._unstored or self._monotonic() < self._store_again_at:
            return []
        try:
            if self._monotonic() >= self._probe_at:
                self._store.probe()
                self._probe_at = self._monotonic() + PROBE_SECONDS
            self._desk.record(self._unstored)
        except StoreError as error:
            self._wait_for_store(error)
            return []
        stored, self._unstored = self._unstored, []
        for verdict in stored:
            window = self._in_hand.pop((verdict.stream, verdict.run, verdict.seq))
            self._receiver.acknowledge(window)
            self.metrics.observe(verdict)
            self._situation.observe(verdict)
            _log_verdict(verdict)
            if verdict.quality in ANOMALOUS:
                self._keep_window(window, verdict)
        return stored

    def _keep_window(self, window: Window, verdict: Verdict) -> None:
        """Write the events down; that this fails is no reason to stop judging."""
        try:
            self._keeper.keep(window, verdict)
        except StoreError as error:
            self.metrics.count_store_failure()
            log.warning(
                "window not kept", why=str(error), stream=window.stream, run=window.run, seq=window.seq
            )

    def _tick(self) -> None:
        """Let the alarms notice the time, once a second."""
        now = self._monotonic()
        if now < self._tick_at or self._unstored:
            return
        self._tick_at = now + 1.0
        paused, self._told_time = self._clock() - self._told_time, self._clock()
        if paused > LONGEST_PAUSE_SECONDS:
            self._desk.listen_anew()
        try:
            self._desk.tick()
            if self._keep_days is not None:
                self._store.prune(self._clock() - 86_400.0 * self._keep_days, PRUNED_AT_ONCE)
        except StoreError as error:
            self._wait_for_store(error)

    def _wait_for_store(self, error: StoreError) -> None:
        self._store_again_at = self._monotonic() + STORE_RETRY_SECONDS
        self.metrics.count_store_failure()
        log.error("the store fails; trying again", why=str(error), verdicts=len(self._unstored))

    def _finish(self, deadline: float) -> None:
        """Wait for the tests that have begun; what waits stays with its sender."""
        while len(self._in_hand) > len(self._queue) and time.monotonic() < deadline:
            self._receiver.wait(POLL_MS, self._tester.descriptors)
            self._keep(self._tester.finished())


def _log_verdict(verdict: Verdict) -> None:
    log.info(
        "judged",
        stream=verdict.stream,
        run=verdict.run,
        seq=verdict.seq,
        quality=verdict.quality.value,
        p=verdict.result.p,
        reason=verdict.reason,
        warnings=list(verdict.warnings.values()),
    )
