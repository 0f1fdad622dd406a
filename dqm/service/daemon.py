"""The daemon: receive, test, store, show; in this order, one window at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import structlog
import torch

from dqm.alarm import QualityLimits
from dqm.config import DaemonConfig, StreamSection, split_http
from dqm.errors import PeerError, StoreError
from dqm.events import Verdict, Window
from dqm.export import HttpServer, Metrics, create_app
from dqm.reference import Bundle, ReadingPolicy, open_bundle
from dqm.service.assessor import Assessor
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Limits, Reason, Receiver

__all__ = ["Daemon"]

log = structlog.get_logger(__name__)

POLL_MS = 200


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
        torch.set_num_threads(config.daemon.threads)
        self._monotonic = monotonic
        self._room = config.daemon.queue_windows
        self._waiting: deque[Window] = deque()
        self._assessors = _assessors(config, clock)
        self._patience = {stream.name: stream.stale_seconds for stream in config.streams}
        self._heard = dict.fromkeys(self._patience, monotonic())
        self._progress = monotonic()
        self.metrics = Metrics(
            {name: a.bundle.identifier for name, a in self._assessors.items()}, clock, version("dqm")
        )
        limits = Limits(**config.daemon.limits.model_dump())
        app = create_app(self.metrics, lambda: monotonic() - self._progress)
        with ExitStack() as opening:  # what was opened before a failure is closed again
            self._store = opening.enter_context(_open_store(config.daemon.data_dir))
            self._receiver = opening.enter_context(Receiver(config.daemon.listen, limits))
            self._http = HttpServer(app, *split_http(config.daemon.http))
            opening.callback(self._http.stop)
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
        """Work until `stop` is set; the window being tested is finished and stored."""
        self._http.start()
        log.info("ready", listen=self.addresses, http=self.http_address, streams=list(self._assessors))
        while not stop.is_set():
            self.step(POLL_MS)
        log.info("stopped", windows_not_tested=len(self._waiting))

    def step(self, timeout_ms: int) -> Verdict | None:
        """Take in what has arrived and judge one window.

        Parameters
        ----------
        timeout_ms : int
            How long to wait for a message if there is nothing to judge.

        Returns
        -------
        Verdict or None
            The verdict that was stored, if there was a window.
        """
        self._receive(0 if self._waiting else timeout_ms)
        verdict = self._judge(self._waiting.popleft()) if self._waiting else None
        self.metrics.set_queue(len(self._waiting))
        self._progress = self._monotonic()
        for stream, heard in self._heard.items():
            if self._progress - heard > self._patience[stream]:
                self.metrics.mark_stale(stream)
        return verdict

    def close(self) -> None:
        """Stop listening and close the store."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, timeout_ms: int) -> None:
        """Fill the queue; when it is full ZeroMQ makes the senders wait.

        The messages of one call are bounded: a flood of refused ones must not keep the others waiting.
        """
        for _ in range(self._room - len(self._waiting)):
            message = self._receiver.receive(timeout_ms)
            if message is None:
                return
            if isinstance(message, PeerError):
                self._refuse(message)
            elif message.stream not in self._assessors:
                self._refuse(PeerError(Reason.UNKNOWN_STREAM, f"stream {message.stream!r} is not configured"))
            else:
                self._heard[message.stream] = self._monotonic()
                self._waiting.append(message)
            timeout_ms = 0

    def _refuse(self, refusal: PeerError) -> None:
        self.metrics.refuse(refusal.reason)
        log.warning("message refused", reason=refusal.reason, what=refusal.what)

    def _judge(self, window: Window) -> Verdict | None:
        if self._store.contains(window.stream, window.run, window.seq):
            self.metrics.count_duplicate(window.stream)
            self._receiver.acknowledge(window)
            return None
        assessor = self._assessors[window.stream]
        try:
            verdict = assessor.assess(window)
        except Exception as error:
            log.exception("test failed", stream=window.stream, run=window.run, seq=window.seq)
            verdict = assessor.give_up(window, f"the test failed: {error}")
        self._store.append(verdict)
        self._receiver.acknowledge(window)
        self.metrics.observe(verdict)
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
        return verdict


def _assessors(config: DaemonConfig, clock: Callable[[], float]) -> dict[str, Assessor]:
    """Set up one for each stream; streams that share bundle and limits share it."""
    bundles: dict[Path, Bundle] = {}
    nuisances = config.nuisances
    policy = ReadingPolicy(nuisances.max_age_seconds, nuisances.unmeasured)
    shared: dict[tuple[Path, QualityLimits], Assessor] = {}
    found = {}
    for stream in config.streams:
        if stream.bundle not in bundles:
            bundles[stream.bundle] = open_bundle(stream.bundle)
        key = stream.bundle, _limits(config, stream)
        if key not in shared:
            shared[key] = Assessor(bundles[stream.bundle], key[1], clock, policy, config.daemon.device)
        found[stream.name] = shared[key]
    return found


def _limits(config: DaemonConfig, stream: StreamSection) -> QualityLimits:
    quality = config.quality
    min_events = quality.min_events if stream.min_events is None else stream.min_events
    return QualityLimits(quality.medium_p, quality.bad_p, min_events, config.nuisances.largest_pull)


def _open_store(directory: Path) -> VerdictStore:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the data directory: {error.strerror}",
            where=str(directory),
            fix="Set [daemon] data_dir to a directory the daemon may write",
        ) from error
    return VerdictStore(sqlite_url(directory / STORE_FILE))
