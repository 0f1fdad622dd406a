"""The daemon: receive, test, decide, store, show; in this order."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from threading import Event
from types import TracebackType
from typing import Self

import structlog

from dqm.alarm import ANOMALOUS
from dqm.config import DaemonConfig, split_http
from dqm.errors import DqmError, PeerError, StoreError
from dqm.events import Verdict, Window
from dqm.export import AlarmMetrics, Metrics, describe_bundle
from dqm.service.monitor.admission import Admission
from dqm.service.monitor.alarm_service import AlarmService
from dqm.service.monitor.assessor import null_verdict
from dqm.service.monitor.composition import (
    open_annotator,
    open_authenticator,
    open_receiver,
    open_store,
    open_tester,
)
from dqm.service.monitor.event_log import announce, log_verdict
from dqm.service.monitor.fair_queue import FairQueue
from dqm.service.monitor.reload import PreparedReload, Reloader
from dqm.service.monitor.resolved_config import ResolvedConfig, resolve
from dqm.service.sd_notify import Notifier, ServiceReport
from dqm.store import WindowKeeper
from dqm.stream import Identity, identity_of
from dqm.web import N_RECENT, HttpServer, Queries, StreamStatuses, create_app

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
    notifier : Notifier, optional
        Service manager to tell how it goes.
    read_again : callable, optional
        Gives the configuration as it is now, for a reload; left out: it does not change.
    reload : Event, optional
        Set whenever configuration, bundles and keys shall be read again.

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
        *,
        notifier: Notifier | None = None,
        read_again: Callable[[], DaemonConfig] | None = None,
        reload: Event | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._clock = clock
        self._notifier = notifier or Notifier({})
        self._report = ServiceReport(self._notifier, clock, monotonic)
        self._in_hand: dict[Identity, Window] = {}
        self._unstored: list[Verdict] = []
        self._undecided: Window | None = None
        self._store_again_at = self._probe_at = self._tick_at = 0.0
        self._told_time = clock()
        self._heard: dict[str, float] = {}
        self._progress = monotonic()
        resolved = resolve(config)
        self._queue = FairQueue(resolved.most_waiting, config.daemon.overload_seconds)
        self._go_by(resolved)
        self.metrics = Metrics(resolved.identifiers, clock, version("dqm"))
        self._statuses = StreamStatuses(resolved.identifiers, clock)
        with ExitStack() as opening:  # what was opened before a failure is closed again
            self._store = opening.enter_context(open_store(config.daemon))
            self._keeper = WindowKeeper(config.daemon.data_dir / WINDOWS, resolved.kept_bytes)
            annotator = open_annotator(config.grafana)
            if annotator is not None:
                opening.callback(annotator.stop)
            told = functools.partial(announce, annotator)
            self._alarms = AlarmService(resolved.rules, resolved.thresholds, self._store, clock, told)
            self.metrics.registry.register(AlarmMetrics(self._alarms))
            self._facts = {stream: describe_bundle(*bundle) for stream, bundle in resolved.bundles.items()}
            queries = Queries(
                statuses=self._statuses,
                alarm_service=self._alarms,
                verdicts=self._store,
                history=self._alarms.history,
                kept=self._keeper.path,
                bundles=self._facts,
                clock=clock,
                version=version("dqm"),
            )
            authenticator = open_authenticator(
                config, self.metrics.count_sign_in, self._alarms.history.record
            )
            app = create_app(
                self.metrics,
                lambda: monotonic() - self._progress,
                queries=queries,
                authenticator=authenticator,
            )
            self._http = HttpServer(app, *split_http(config.daemon.http))
            opening.callback(self._http.stop)
            start_tester = functools.partial(
                open_tester, give_up=self._give_up, clock=clock, monotonic=monotonic
            )
            self._tester = start_tester(resolved)
            opening.callback(lambda: self._tester.close())
            read_again = read_again or (lambda: config)
            self._reloader = Reloader(reload or Event(), read_again, start_tester, self._latest)
            opening.callback(self._reloader.close)
            # last: what it takes in has somebody to wait for an answer
            self._receiver = opening.enter_context(open_receiver(config.daemon))
            self._admission = Admission(self._receiver, self._store, self.metrics)
            self._recall({stream: self._latest(stream) for stream in resolved.limits})
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
        log.info("ready", listen=self.addresses, http=self.http_address, streams=list(self._limits))
        self._notifier.ready()
        while not stop.is_set():
            self.step(POLL_MS)
        self._notifier.stopping()
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
        can_test = len(self._queue) and self._room > 0
        is_held = bool(self._unstored) or self._monotonic() < self._store_again_at
        self._receiver.wait(0 if can_test else timeout_ms, self._tester.descriptors, messages=not is_held)
        if not is_held:
            self._receive()
        skipped = [self._skip(window) for window in self._queue.give_up(self._monotonic())]
        verdicts = self._keep(skipped + self._test())
        self._tick()
        self._reload()
        self.metrics.set_queue(len(self._queue))
        self._progress = self._monotonic()
        self.metrics.note_progress()
        for stream, heard in self._heard.items():
            if self._progress - heard > self._patience[stream]:
                self.metrics.mark_stale(stream)
                self._statuses.mark_stale(stream, self._patience[stream])
        self._report.note(n_waiting=len(self._in_hand), held=bool(self._unstored))
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

    def _give_up(self, window: Window, reason: str) -> Verdict:
        stream = window.stream
        bundle, _ = self._resolved.bundles[stream]
        return null_verdict(window, reason, self._limits[stream], bundle, self._clock())

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
                self._admission.refuse(message)
            elif message.stream not in self._limits:
                self._admission.refuse_stream(message)
            elif not self._accept(message):
                return

    def _accept(self, window: Window) -> bool:
        """Queue a window unless it has a verdict or waits for one; False if the store cannot say now."""
        self._heard[window.stream] = self._monotonic()
        identity = identity_of(window)
        try:
            admitted = self._admission.admit(window, is_in_hand=identity in self._in_hand)
        except StoreError as error:
            self._undecided = window
            self._wait_for_store(error)
            return False
        if admitted is not None:
            self._in_hand[identity] = admitted
            self._queue.put(admitted)
        return True

    def _test(self) -> list[Verdict]:
        """Keep the workers busy; give what they have finished."""
        verdicts = self._tester.finished()
        while self._room > 0 and (window := self._queue.take()) is not None:
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
            self._alarms.record(self._unstored)
        except StoreError as error:
            self._wait_for_store(error)
            return []
        stored, self._unstored = self._unstored, []
        self._report.count(stored)
        for verdict in stored:
            window = self._in_hand.pop((verdict.window.stream, verdict.window.run, verdict.window.seq))
            self._receiver.acknowledge(window)
            self.metrics.observe(verdict)
            self._statuses.observe(verdict)
            log_verdict(verdict)
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
            self._alarms.listen_anew()
        try:
            self._alarms.tick()
            days = self._resolved.config.keep.verdict_days
            if days is not None:
                self._store.prune(self._clock() - 86_400.0 * days, PRUNED_AT_ONCE)
        except StoreError as error:
            self._wait_for_store(error)

    def _wait_for_store(self, error: StoreError) -> None:
        self._store_again_at = self._monotonic() + STORE_RETRY_SECONDS
        self.metrics.count_store_failure()
        log.error("the store fails; trying again", why=str(error), verdicts=len(self._unstored))

    @property
    def _is_idle(self) -> bool:
        """Whether no window is being tested or waits to be stored."""
        return len(self._in_hand) == len(self._queue)

    @property
    def _room(self) -> int:
        """Windows that may be given to the workers: none while their tests run out before a change."""
        return 0 if isinstance(self._reloader.outcome, PreparedReload) else self._tester.room

    def _reload(self) -> None:
        """Go on with a reload: begin it, or end it once no window is being tested."""
        if self._reloader.begin(self._resolved):
            self._notifier.reloading()
            log.info("reloading")
        outcome = self._reloader.outcome
        if isinstance(outcome, Exception):
            self._end_reload(outcome)
        elif outcome is not None and self._is_idle and self._monotonic() >= self._store_again_at:
            self._adopt(outcome)

    def _adopt(self, prepared: PreparedReload) -> None:
        """Work by another resolved from the next window on."""
        resolved, before = prepared.resolved, self._limits
        try:
            self._receiver.reload_keys()
            self._keeper.resize(resolved.kept_bytes)
            self._alarms.revise(resolved.rules, resolved.thresholds)
        except StoreError as error:
            self._wait_for_store(error)
            return
        except DqmError as error:
            self._end_reload(error)
            return
        self._go_by(resolved)
        for stream in before.keys() - self._limits.keys():
            self._facts.pop(stream)
            for window in self._queue.withdraw(stream):
                del self._in_hand[identity_of(window)]
                self._admission.refuse_stream(window)
        self.metrics.follow(resolved.identifiers)
        self._statuses.follow(resolved.identifiers)
        self._facts |= {stream: describe_bundle(*bundle) for stream, bundle in resolved.bundles.items()}
        self._recall(prepared.recent)
        if prepared.tester is not None:
            self._tester.close()
            self._tester = prepared.tester
        self._end_reload(None)

    def _end_reload(self, problem: Exception | None) -> None:
        """Say what became of a reload; the service is ready either way."""
        self._reloader.finish(adopted=problem is None)
        if problem is None:
            log.info("reloaded", streams=list(self._limits), thresholds=asdict(self._resolved.thresholds))
        else:
            log.error("reload refused: the configuration stays as it was", why=str(problem))
        self._report.end_reload(str(problem or ""))

    def _go_by(self, resolved: ResolvedConfig) -> None:
        self._resolved, self._limits, self._patience = resolved, resolved.limits, resolved.patience
        self._heard = {stream: self._heard.get(stream, self._monotonic()) for stream in self._limits}
        self._queue.resize(resolved.most_waiting)

    def _latest(self, stream: str) -> list[Verdict]:
        return self._store.latest(stream, N_RECENT)[::-1]

    def _recall(self, recent: Mapping[str, Sequence[Verdict]]) -> None:
        """Go on where the store ends, for streams that were not watched until now."""
        for stream, verdicts in recent.items():
            self._statuses.recall(verdicts, self._patience[stream])
            self._admission.restore(verdicts)

    def _finish(self, deadline: float) -> None:
        """Wait for the tests that have begun; what waits stays with its sender."""
        while not self._is_idle and time.monotonic() < deadline:
            self._receiver.wait(POLL_MS, self._tester.descriptors)
            self._keep(self._tester.finished())
