"""The daemon: it tells the core what has happened, and carries out what the core says.

Everything is opened at the start, so that a mistake stops the daemon before it begins. One thread runs the
loop; others serve HTTP, prepare a reload and write annotations.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from threading import Event as Flag
from types import TracebackType
from typing import Self

import structlog

from dqm.alarm import sign_off_rules
from dqm.config import DaemonConfig
from dqm.errors import DqmError, PeerError, StoreError
from dqm.events import RunNotice, RunRecord, Verdict, Window
from dqm.export import Metrics
from dqm.service.monitor import messages
from dqm.service.monitor.composition import open_parts, open_workers
from dqm.service.monitor.core import MonitorCore
from dqm.service.monitor.event_log import log_run, log_verdict
from dqm.service.monitor.reload import PreparedReload, Reloader
from dqm.service.monitor.resolved_config import resolve
from dqm.service.sd_notify import Notifier, ServiceReport
from dqm.store import RunStore
from dqm.stream import REMEMBERED_RUNS, RESTORED_WINDOWS, RunMessage, identity_of
from dqm.web import TIMELINE_HOURS

__all__ = ["Daemon"]

log = structlog.get_logger(__name__)

POLL_MS = 200
ROUND_SECONDS = 0.02
"""Shortest time from one round of the loop to the next: what comes meanwhile is done together, in one
transaction and with warm caches. Where rounds are rare nothing waits for this."""
PRUNED_AT_ONCE = 500
RECALLED_QUALITIES = 50_000
"""Most verdicts that are read at the start to show the last hours: they take less than a second."""
STOP_SECONDS = 10.0
"""Longest wait for tests that have begun when the daemon is told to stop."""


def _pause(seconds: float) -> None:
    """Wait; `time.sleep` computes its end, which a clock faked by libfaketime breaks."""
    select.select([], [], [], seconds)


class Daemon:
    """Judges the windows of all configured streams.

    Parameters
    ----------
    config : DaemonConfig
        What to listen to, evaluate against and show.
    clock : callable
        Unix time in seconds.
    monotonic : callable
        Seconds that never go back.
    pause : callable
        Waits this long, s.
    notifier : Notifier, optional
        Service manager to tell how it goes.
    read_again : callable, optional
        Gives the configuration as it is now, for a reload; left out: it does not change.
    reload : threading.Event, optional
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
        pause: Callable[[float], None] = _pause,
        notifier: Notifier | None = None,
        read_again: Callable[[], DaemonConfig] | None = None,
        reload: Flag | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._pause = pause
        self._notifier = notifier or Notifier({})
        self._report = ServiceReport(self._notifier, clock, monotonic)
        self._progress = monotonic()
        self._resolved = resolve(config)
        self._core = MonitorCore(
            self._resolved.settings, overload_seconds=config.daemon.overload_seconds, unix_time=clock()
        )
        with ExitStack() as opening:  # what was opened before a failure is closed again
            self._parts = open_parts(
                opening, self._resolved, clock, monotonic, lambda: monotonic() - self._progress
            )
            self.metrics: Metrics = self._parts.metrics
            self._runs = RunStore(self._parts.store.database)
            self._reloader = Reloader(
                reload or Flag(),
                read_again or (lambda: config),
                lambda resolved: open_workers(resolved, monotonic),
                self._read_recent,
            )
            opening.callback(self._reloader.close)
            recent = {stream: self._read_recent(stream) for stream in self._resolved.limits}
            self._resume_waits(recent)
            self._show_recent(recent)
            self._recall_qualities()
            self._core.restore(
                (verdict for verdicts in recent.values() for verdict in verdicts),
                self._runs.recent(REMEMBERED_RUNS),
            )
            self._opened = opening.pop_all()

    @property
    def addresses(self) -> tuple[str, ...]:
        """ZeroMQ addresses as bound."""
        return self._parts.receiver.addresses

    @property
    def http_address(self) -> str:
        """``HOST:PORT`` of page and metrics as bound."""
        return self._parts.http.address

    def run(self, stop: Flag) -> None:
        """Work until `stop` is set; windows that are being evaluated then are finished and stored."""
        self._parts.http.start()
        self._parts.notices.start()
        self._parts.certification.start()
        streams = list(self._resolved.limits)
        log.info("ready", listen=self.addresses, http=self.http_address, streams=streams)
        self._notifier.ready()
        while not stop.is_set():
            next_at = self._monotonic() + ROUND_SECONDS
            self.step(POLL_MS)
            self._pause(max(0.0, next_at - self._monotonic()))
        self._notifier.stopping()
        self._finish(self._monotonic() + STOP_SECONDS)
        log.info("stopped", windows_not_tested=self._core.n_in_flight)

    def step(self, timeout_ms: int) -> list[Verdict]:
        """Go once round the loop: receive, evaluate, record, show.

        Parameters
        ----------
        timeout_ms : int
            How long to wait if there is nothing to do.

        Returns
        -------
        list of Verdict
            Verdicts that were stored.
        """
        can_evaluate = self._core.can_evaluate and self._parts.workers.room > 0
        self._parts.receiver.wait(
            0 if can_evaluate else timeout_ms,
            self._parts.workers.descriptors,
            messages=self._core.wants_windows,
        )
        self._receive()
        self._evaluate()
        stored = self._tell(messages.Tick(self._monotonic(), self._clock()))
        self._reload()
        self._progress = self._monotonic()
        self._parts.last_end.touch()
        self.metrics.set_queue(self._core.n_waiting)
        self.metrics.set_cluster(self._parts.workers.n_cluster_threads)
        self.metrics.note_progress()
        self._report.note(n_waiting=self._core.n_in_flight, held=self._core.has_unstored)
        return stored

    def close(self) -> None:
        """Stop listening and close the store: the daemon ends as it was told to."""
        self._opened.close()
        self._parts.last_end.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        if error is None:
            self._parts.last_end.end()

    def _receive(self) -> None:
        """Take in messages while the core wants windows.

        The messages of one pass are bounded: a flood of refused ones must not keep the others waiting.
        """
        for _ in range(self._core.room):
            if not self._core.wants_windows:
                return
            message = self._parts.receiver.receive(0)
            if message is None:
                return
            if isinstance(message, PeerError):
                self._tell(messages.MessageRefused(message))
                self._tell_refusal(message)
            elif isinstance(message, RunMessage):
                stored = self._find_runs(message.notice)
                self._tell(messages.RunReceived(message, self._clock(), stored))
            else:
                self._tell(messages.Received(message))

    def _evaluate(self) -> None:
        """Keep the workers busy, and take in what they have finished."""
        self._take_results()
        room = self._parts.workers.room
        masks = self._parts.alarms.channel_masks()
        self._tell(messages.WorkersReady(room, self._monotonic(), self._clock(), masks))
        self._take_results()

    def _take_results(self) -> None:
        for ended in self._parts.workers.finished():
            job = ended.job
            now = self._clock()
            lost = job if ended.is_lost else None
            told = messages.Evaluated(job.window, ended.result, ended.failure, now, job.masked, lost)
            self._tell(told)

    def _tell(self, event: messages.Event) -> list[Verdict]:
        """Tell the core what has happened, and carry out its instructions; give the verdicts published."""
        published = []
        instructions = deque(self._core.handle(event))
        while instructions:
            instruction = instructions.popleft()
            if isinstance(instruction, messages.Publish):
                published.append(instruction.verdict)
            answer = self._carry_out(instruction)
            if answer is not None:
                instructions.extendleft(reversed(self._core.handle(answer)))
        if published:
            self._report.count(published)
        return published

    def _carry_out(self, instruction: messages.Instruction) -> messages.Event | None:
        """Do one thing; give the answer that the core waits for, if any."""
        parts = self._parts
        match instruction:
            case (
                messages.LookUp()
                | messages.Store()
                | messages.UpdateAlarms()
                | messages.Prune()
                | messages.Adopt()
            ):
                return self._use_store(instruction)
            case messages.ResumeWaits(absent_from):
                parts.alarms.resume_waits(absent_from)
            case messages.Evaluate(job):
                parts.workers.submit(job)
            case messages.Acknowledge(window):
                parts.receiver.acknowledge(window)
            case messages.Refuse(window, refusal):
                parts.receiver.refuse(window, refusal.reason)
                refusal.window = identity_of(window)
                self._tell_refusal(refusal)
            case messages.AnswerRun(message, run_refusal):
                self._answer_run(message, run_refusal)
            case messages.ShowRun(record):
                parts.statuses.note_run(record)
                log_run(record)
            case messages.Publish(verdict):
                self.metrics.observe(verdict)
                parts.statuses.observe(verdict)
                log_verdict(verdict)
            case messages.Keep():
                self._keep(instruction)
            case messages.ShowArrivals(stream, counts):
                self.metrics.show_arrivals(stream, counts)
            case messages.CountDuplicate(stream):
                self.metrics.count_duplicate(stream)
            case messages.CountSkipped(stream):
                self.metrics.count_skipped(stream)
            case messages.ShowSilence():
                self._show_silence()
        return None

    def _use_store(
        self,
        instruction: messages.LookUp
        | messages.Store
        | messages.UpdateAlarms
        | messages.Prune
        | messages.Adopt,
    ) -> messages.Event | None:
        """Do something for which the store is needed; that it fails is an answer, too."""
        try:
            match instruction:
                case messages.LookUp(window):
                    return self._look_up(window)
                case messages.Store(verdicts, runs):
                    self._parts.recorder.record(verdicts, runs)
                    return messages.Stored(self._parts.alarms.for_rolling_references())
                case messages.UpdateAlarms():
                    self._parts.alarms.tick()
                    return None
                case messages.Prune():
                    self._prune()
                    return None
                case messages.Adopt():
                    return self._adopt()
        except StoreError as error:
            self._report_store_failure(error)
            return messages.StoreFailed(self._monotonic())

    def _report_store_failure(self, error: StoreError) -> None:
        self.metrics.count_store_failure()
        log.error("the store fails; trying again", why=str(error), windows=self._core.n_in_flight)

    def _look_up(self, window: Window) -> messages.Found:
        store = self._parts.store
        verdict = store.find(*identity_of(window))
        first_new = store.first_new(window.stream, window.run)
        runs = self._runs.of_run(window.run, window.stream)
        return messages.Found(window, verdict, first_new, runs.get(window.stream))

    def _find_runs(self, notice: RunNotice) -> tuple[RunRecord, ...]:
        """Read what is known of a run; nothing while the store fails: the core knows the last runs itself."""
        stream = None if set(notice.streams) & {"*", "?"} else notice.streams
        try:
            return tuple(self._runs.of_run(notice.run, stream).values())
        except StoreError as error:
            self._report_store_failure(error)
            return ()

    def _prune(self) -> None:
        keep = self._resolved.config.keep
        if keep.verdict_days is not None:
            self._parts.store.prune(self._clock() - 86_400.0 * keep.verdict_days, PRUNED_AT_ONCE)
        if keep.trend_days is not None:
            self._parts.store.summaries.prune(self._clock() - 86_400.0 * keep.trend_days, PRUNED_AT_ONCE)

    def _show_silence(self) -> None:
        for stream, reason in self._parts.alarms.silent_streams().items():
            self._parts.statuses.mark_stale(stream, reason)

    def _keep(self, instruction: messages.Keep) -> None:
        """Write the events to a file; the daemon goes on if this fails."""
        window = instruction.window
        try:
            self._parts.kept.keep(window, instruction.verdict, is_sample=instruction.is_sample)
        except StoreError as error:
            self.metrics.count_store_failure()
            log.warning(
                "window not kept", why=str(error), stream=window.stream, run=window.run, seq=window.seq
            )

    def _answer_run(self, message: RunMessage, refusal: PeerError | None) -> None:
        """Acknowledge a message about a run; or refuse it, count and log that."""
        self._parts.receiver.answer_run(message, refusal)
        if refusal is not None:
            refusal.run = message.notice.streams, message.notice.run
            refusal.sender = message.sender.name if message.sender is not None else ""
            self._tell_refusal(refusal)

    def _tell_refusal(self, refusal: PeerError) -> None:
        """Count a refused message, log it, and tell it where its stream is shown."""
        self.metrics.refuse(refusal.reason)
        stream, run, seq = refusal.window or (*(refusal.run or (None, None)), None)
        log.warning(
            "message refused",
            reason=refusal.reason,
            what=refusal.what,
            sender=refusal.sender,
            stream=stream,
            run=run,
            seq=seq,
        )
        if refusal.window is not None:
            by = f" (sent by {refusal.sender})" if refusal.sender else ""
            self._parts.alarms.note_refusal(refusal.window[0], refusal.what + by)

    def _reload(self) -> None:
        """Begin a reload that was asked for; tell the core when it is prepared."""
        if self._reloader.begin(self._resolved):
            self._notifier.reloading()
            log.info("reloading")
        outcome = self._reloader.outcome
        if isinstance(outcome, Exception):
            self._end_reload(outcome)
        elif outcome is not None:
            self._tell(messages.ReloadPrepared(outcome.resolved.settings))

    def _adopt(self) -> messages.Event:
        """Bring another configuration into effect; raises `StoreError` if that must be tried again."""
        prepared = self._reloader.outcome
        if not isinstance(prepared, PreparedReload):
            return messages.ReloadAbandoned()
        resolved = prepared.resolved
        parts = self._parts
        try:
            parts.receiver.reload_keys()
            parts.kept.resize(resolved.config.keep)
            parts.kept_place = resolved.kept_place
            parts.alarms.revise(resolved.rules, resolved.thresholds)
            parts.certification.revise(sign_off_rules(resolved.config.certification))
        except StoreError:
            raise
        except DqmError as error:
            self._end_reload(error)
            return messages.ReloadAbandoned()
        self._resolved = resolved
        parts.receiver.allow_nan(resolved.nan_shares)
        self.metrics.follow(resolved.identifiers)
        parts.statuses.follow(resolved.identifiers)
        for stream in parts.bundle_facts.keys() - resolved.references.keys():
            del parts.bundle_facts[stream]
        parts.bundle_facts.update(resolved.bundle_facts)
        if prepared.workers is not None:
            parts.workers.close()
            parts.workers = prepared.workers
        self._show_recent(prepared.recent)
        self._end_reload(None)
        return messages.Adopted([verdict for recent in prepared.recent.values() for verdict in recent])

    def _end_reload(self, problem: Exception | None) -> None:
        """Report the result of a reload; the service is ready either way."""
        self._reloader.finish(adopted=problem is None)
        if problem is None:
            thresholds = asdict(self._resolved.thresholds)
            log.info("reloaded", streams=list(self._resolved.limits), thresholds=thresholds)
        else:
            log.error("reload refused: the configuration stays as it was", why=str(problem))
        self._report.end_reload(str(problem or ""))

    def _read_recent(self, stream: str) -> list[Verdict]:
        """Read the last verdicts of a stream, the oldest first."""
        return self._parts.store.latest(stream, RESTORED_WINDOWS)[::-1]

    def _show_recent(self, recent: Mapping[str, Sequence[Verdict]]) -> None:
        """Show what is known from before, of streams that were not watched until now."""
        silent = self._parts.alarms.silent_streams()
        for stream, verdicts in recent.items():
            stale_seconds = self._resolved.stale_seconds[stream]
            self._parts.statuses.recall(verdicts, stale_seconds, silent.get(stream, ""))
            run = self._parts.alarms.present_runs().get(stream)
            if run is not None:
                self._parts.statuses.note_run(run)

    def _resume_waits(self, recent: Mapping[str, Sequence[Verdict]]) -> None:
        """Count silence on from where the daemon before ended, if there was one."""
        absent_from = self._parts.last_end.alive_until
        if absent_from is not None:
            last = {name: verdicts[-1].judged_at for name, verdicts in recent.items() if verdicts}
            self._parts.alarms.resume_waits(absent_from, last)

    def _recall_qualities(self) -> None:
        """Show how all streams were over the last hours."""
        since = self._clock() - 3600.0 * TIMELINE_HOURS
        last = self._parts.store.last_qualities(since, RECALLED_QUALITIES)
        self._parts.statuses.timeline.recall(last, RECALLED_QUALITIES)

    def _finish(self, deadline: float) -> None:
        """Wait for the tests that have begun; what waits stays with its sender."""
        self._tell(messages.Stop())
        while not self._core.is_idle and self._monotonic() < deadline:
            self._parts.receiver.wait(POLL_MS, self._parts.workers.descriptors, messages=False)
            self._take_results()
            self._tell(messages.Tick(self._monotonic(), self._clock()))
