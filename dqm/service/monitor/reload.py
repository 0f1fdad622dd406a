"""Another configuration while the daemon runs: read, checked and made ready beside its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread

import structlog

from dqm.config import DaemonConfig
from dqm.errors import DqmError
from dqm.events import Verdict
from dqm.service.monitor.composition import EvaluationWorkers
from dqm.service.monitor.resolved_config import ResolvedConfig, resolve
from dqm.stream import open_key_ring

__all__ = ["PreparedReload", "Reloader", "find_settled"]

log = structlog.get_logger(__name__)

_MAY_CHANGE = frozenset({"keep", "quality", "nuisances", "alarm", "certification", "groups", "streams"})
"""Tables that a reload brings into effect; keys are read again as well."""

_CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PreparedReload:
    """All that it takes to go on by another configuration.

    Parameters
    ----------
    resolved : ResolvedConfig
        What windows will be held to.
    workers : Workers or None
        Started and ready; None if the present one tests as it should.
    recent : mapping of str to sequence of Verdict
        Last windows of the streams that are new, the oldest first.
    """

    resolved: ResolvedConfig
    workers: EvaluationWorkers | None
    recent: Mapping[str, Sequence[Verdict]]


class Reloader:
    """Prepares a change in a thread of its own, one at a time.

    Parameters
    ----------
    wanted : Event
        Set to ask for a change, also by a signal handler and while one is under way.
    read : callable
        Reads the configuration again.
    start_workers : callable
        Starts what tests windows by a resolved.
    recall : callable
        Last windows of a stream, the oldest first.
    """

    def __init__(
        self,
        wanted: Event,
        read: Callable[[], DaemonConfig],
        start_workers: Callable[[ResolvedConfig], EvaluationWorkers],
        recall: Callable[[str], Sequence[Verdict]],
    ) -> None:
        self._read = read
        self._start_workers = start_workers
        self._recall = recall
        self._wanted = wanted
        self._thread: Thread | None = None
        self._outcome: PreparedReload | Exception | None = None
        self._lock = Lock()
        self._is_closed = False

    @property
    def outcome(self) -> PreparedReload | Exception | None:
        """What is prepared, or why nothing is; None before and during the preparation."""
        return self._outcome

    def begin(self, present: ResolvedConfig) -> bool:
        """Start to prepare what was asked for; False if nothing was, or the one before is not finished."""
        if self._thread is not None or not self._wanted.is_set():
            return False
        self._wanted.clear()
        self._thread = Thread(target=self._work, args=[present], name="reload", daemon=True)
        self._thread.start()
        return True

    def finish(self, *, adopted: bool) -> None:
        """Forget the outcome; what was prepared and not adopted is closed."""
        outcome, self._outcome = self._outcome, None
        self._thread = None
        if not adopted:
            _discard(outcome)

    def close(self) -> None:
        """End what is under way, or let its thread end it: workers that nobody closes outlive the daemon."""
        with self._lock:
            self._is_closed = True
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        self.finish(adopted=False)

    def _work(self, present: ResolvedConfig) -> None:
        outcome: PreparedReload | Exception
        try:
            outcome = self._prepare(present)
        except DqmError as error:
            outcome = error
        except Exception as error:
            log.exception("reload failed")
            outcome = error
        with self._lock:
            if not self._is_closed:
                self._outcome = outcome
                return
        _discard(outcome)

    def _prepare(self, present: ResolvedConfig) -> PreparedReload:
        config = self._read()
        settled = find_settled(present.config, config)
        if settled:
            log.warning("these keys changed and need a restart", keys=settled)
        resolved = resolve(_keep_settled(present.config, config))
        open_key_ring(resolved.config.daemon)
        workers = None if resolved.evaluates_like(present) else self._start_workers(resolved)
        new = resolved.limits.keys() - present.limits.keys()
        return PreparedReload(resolved, workers, {stream: self._recall(stream) for stream in new})


def find_settled(present: DaemonConfig, wanted: DaemonConfig) -> list[str]:
    """Name the keys that differ and cannot change while the daemon runs.

    Parameters
    ----------
    present, wanted : DaemonConfig
        In effect, and read again.

    Returns
    -------
    list of str
        Dotted keys, such as ``daemon.http``.
    """
    found = []
    for table in DaemonConfig.model_fields.keys() - _MAY_CHANGE:
        before, after = getattr(present, table), getattr(wanted, table)
        if before is None or after is None:
            found += [table] if before is not after else []
            continue
        found += [f"{table}.{key}" for key, value in before if value != getattr(after, key)]
    return sorted(found)


def _discard(outcome: PreparedReload | Exception | None) -> None:
    if isinstance(outcome, PreparedReload) and outcome.workers is not None:
        outcome.workers.close()


def _keep_settled(present: DaemonConfig, wanted: DaemonConfig) -> DaemonConfig:
    settled = DaemonConfig.model_fields.keys() - _MAY_CHANGE
    return wanted.model_copy(update={table: getattr(present, table) for table in settled})
