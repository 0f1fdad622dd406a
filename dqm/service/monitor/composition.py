"""All that the daemon works with, opened and connected in one place, from its configuration."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

import structlog

from dqm.alarm import sign_off_rules
from dqm.config import (
    DaemonConfig,
    DaemonSection,
    GrafanaSection,
    is_local,
    make_private_directory,
    read_token,
    split_http,
)
from dqm.errors import StoreError
from dqm.events import EvaluationJob, EvaluationReport
from dqm.export import AlarmMetrics, Annotator, BundleFacts, Grafana, Metrics
from dqm.export.registry import HttpRegistry, RegistrySender
from dqm.export.sender_metrics import SenderMetrics
from dqm.reference import ClusterSession, ReadingPolicy, use_threads
from dqm.service.evaluation import EvaluateWindows, prepare_evaluators, prepare_worker
from dqm.service.monitor.alarm_service import AlarmService
from dqm.service.monitor.certification_service import CertificationService
from dqm.service.monitor.cluster_workers import ClusterWorkers
from dqm.service.monitor.comparison_jobs import ComparisonJobs
from dqm.service.monitor.event_log import announce
from dqm.service.monitor.job_runner import JobRunner, LocalWorker
from dqm.service.monitor.kept_windows import KeptWindows
from dqm.service.monitor.last_end import LastEnd
from dqm.service.monitor.notice_service import NoticeService
from dqm.service.monitor.recorder import Recorder
from dqm.service.monitor.resolved_config import ResolvedConfig
from dqm.service.monitor.worker_pool import WorkerPool
from dqm.service.offline.kept_selection import KeptPlace
from dqm.store import CertificationStore, NoticeStore, VerdictStore, is_labelled, store_url
from dqm.stream import Limits, Receiver, open_key_ring
from dqm.web import (
    Authenticator,
    HttpServer,
    OidcProvider,
    OtherDaemons,
    Queries,
    StreamStatuses,
    UserFile,
    create_app,
)

__all__ = ["EvaluationWorkers", "Parts", "open_parts", "open_workers"]

log = structlog.get_logger(__name__)

START_SECONDS = 120.0
"""Longest time until a worker without bundles is ready, on a busy machine."""

START_SECONDS_OF_BUNDLE = 2.0
"""What each bundle adds to it."""

EvaluationWorkers = JobRunner[EvaluationJob, EvaluationReport]
"""What evaluates windows."""


@dataclass(slots=True)
class Parts:
    """What the daemon works with.

    Parameters
    ----------
    last_end : LastEnd
        How the daemon before ended.
    store : VerdictStore
        Verdicts, and beside them alarms and audit.
    kept : KeptWindows
        Events of windows that depart from their reference, and of a sample of Good ones.
    kept_place : KeptPlace
        Where these are, for comparisons; replaced by a reload.
    alarms : AlarmService
        Alarms of all streams.
    notices : NoticeService
        Tells people of alarms; its threads are not started yet.
    certification : CertificationService
        What people say of runs; it does not send sign-offs yet.
    recorder : Recorder
        Stores verdicts together with what they do to alarms.
    metrics : Metrics
        For Prometheus.
    statuses : StreamStatuses
        For the page.
    bundle_facts : dict of str to tuple of BundleFacts
        What the page says of each stream's bundles.
    http : HttpServer
        Page and metrics; its address is taken, it does not answer yet.
    workers : EvaluationWorkers
        Evaluate windows; replaced by a reload.
    receiver : Receiver
        Where windows arrive.
    """

    last_end: LastEnd
    store: VerdictStore
    kept: KeptWindows
    kept_place: KeptPlace
    alarms: AlarmService
    notices: NoticeService
    certification: CertificationService
    recorder: Recorder
    metrics: Metrics
    statuses: StreamStatuses
    bundle_facts: dict[str, tuple[BundleFacts, ...]]
    http: HttpServer
    workers: EvaluationWorkers
    receiver: Receiver


def open_parts(
    opening: ExitStack,
    resolved: ResolvedConfig,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    seconds_since_progress: Callable[[], float],
) -> Parts:
    """Open everything.

    Parameters
    ----------
    opening : ExitStack
        Closes what was opened, in the reverse order.
    resolved : ResolvedConfig
        What to work by.
    clock : callable
        Unix time in seconds.
    monotonic : callable
        Seconds that never go back.
    seconds_since_progress : callable
        Seconds since the daemon's loop last came round.

    Returns
    -------
    Parts
        Ready to be used.

    Raises
    ------
    BundleError, ConfigError, StoreError
        If a bundle, an address, a key or the store cannot be used.
    """
    config = resolved.config
    store = opening.enter_context(_open_store(config.daemon))
    kept = KeptWindows(config.daemon.data_dir, config.keep, functools.partial(is_labelled, store))
    annotator = _open_annotator(opening, config.grafana)
    notices = NoticeService(config.notify, NoticeStore(store.database), lambda: alarms.alarms(), clock)
    opening.callback(notices.stop)
    announce_all = functools.partial(announce, annotator, notices.wake)
    alarms = AlarmService(resolved.rules, resolved.thresholds, store.database, clock, announce_all)
    statuses = StreamStatuses(resolved.identifiers, clock)
    metrics = Metrics(resolved.identifiers, clock, version("dqm"))
    metrics.show_states(lambda: statuses.shown(alarms.ceilings()))
    metrics.registry.register(AlarmMetrics(alarms))
    last_end = _note_start(config.daemon, alarms, metrics, clock, monotonic)
    bundle_facts = resolved.bundle_facts
    certification = _open_certification(config, store, lambda: tuple(bundle_facts), clock)
    opening.callback(certification.stop)
    metrics.registry.register(SenderMetrics(notices.statuses, certification.registry_status))
    peers = _start_peers(opening, config, clock)
    comparisons = ComparisonJobs(lambda: parts.kept_place, store, clock)
    opening.callback(comparisons.stop)
    queries = Queries(
        statuses=statuses,
        alarm_service=alarms,
        certification=certification,
        verdicts=store,
        history=alarms.history,
        kept=kept.path,
        bundles=bundle_facts,
        clock=clock,
        version=version("dqm"),
        comparisons=comparisons,
        notice=lambda: last_end.notice,
        turned_away=lambda: parts.receiver.turned_away(),
        notice_statuses=notices.statuses,
        peer_statuses=peers.statuses,
    )
    authenticator = _open_authenticator(config, metrics.count_sign_in, alarms.history.record)
    app = create_app(metrics, seconds_since_progress, queries=queries, authenticator=authenticator)
    http = HttpServer(app, *split_http(config.daemon.http), proxies=config.web.proxies)
    opening.callback(http.stop)
    parts = Parts(
        last_end=last_end,
        store=store,
        kept=kept,
        kept_place=resolved.kept_place,
        alarms=alarms,
        notices=notices,
        certification=certification,
        recorder=Recorder(store, alarms, monotonic),
        metrics=metrics,
        statuses=statuses,
        bundle_facts=bundle_facts,
        http=http,
        workers=open_workers(resolved, monotonic),
        # last: nothing is received before there is somebody to evaluate it
        receiver=_open_receiver(config.daemon, resolved.nan_shares),
    )
    opening.callback(lambda: parts.workers.close())
    opening.callback(parts.receiver.close)
    return parts


def open_workers(resolved: ResolvedConfig, monotonic: Callable[[], float]) -> EvaluationWorkers:
    """Start the workers; without any, windows are evaluated in this process.

    Raises
    ------
    DqmError
        If a worker does not start, with what keeps it.
    """
    section = resolved.config.daemon
    local = _open_local_workers(resolved, monotonic)
    if section.scheduler is None:
        return local
    return ClusterWorkers(
        functools.partial(ClusterSession, section.scheduler, _cluster_tasks(resolved)),
        local,
        longest_seconds=section.longest_test_seconds,
        monotonic=monotonic,
    )


def _open_local_workers(resolved: ResolvedConfig, monotonic: Callable[[], float]) -> EvaluationWorkers:
    section = resolved.config.daemon
    if section.workers == 0:
        use_threads(section.threads)  # loads torch: a daemon with workers does without it
        return LocalWorker(prepare_evaluators(resolved.config))
    n_bundles = len(resolved.bundles)
    return WorkerPool(
        functools.partial(prepare_worker, resolved.config),
        n_workers=section.n_workers,
        n_threads=section.threads,
        longest_seconds=section.longest_test_seconds,
        longest_start_seconds=START_SECONDS + START_SECONDS_OF_BUNDLE * n_bundles,
        key=_stream_of,
        monotonic=monotonic,
    )


def _cluster_tasks(resolved: ResolvedConfig) -> dict[str, EvaluateWindows]:
    """Give what the workers of a cluster do, by bundle."""
    config = resolved.config
    policy = ReadingPolicy(config.nuisances.max_age_seconds, config.nuisances.unmeasured)
    return {bundle: EvaluateWindows(path, bundle, policy) for path, bundle in resolved.bundles}


def _note_start(
    section: DaemonSection,
    alarms: AlarmService,
    metrics: Metrics,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
) -> LastEnd:
    """Begin to run; tell if the last daemon ended unexpectedly."""
    last_end = LastEnd(section.data_dir, clock, monotonic)
    metrics.show_broken_end(lambda: last_end.broken_at)
    if last_end.is_new:
        log.warning("the last daemon ended unexpectedly", what=last_end.text, fix="see the end of its log")
        alarms.history.record(clock(), "dqm", "restart", "daemon", last_end.text)
    return last_end


def _start_peers(opening: ExitStack, config: DaemonConfig, clock: Callable[[], float]) -> OtherDaemons:
    """Start to ask other daemons, if there are any."""
    peers = OtherDaemons(config.web.peers, clock)
    peers.start()
    opening.callback(peers.stop)
    return peers


def _stream_of(job: EvaluationJob) -> str:
    return job.window.stream


def _open_annotator(opening: ExitStack, section: GrafanaSection | None) -> Annotator | None:
    """Start to write annotations, if that is wanted."""
    if section is None or not section.annotations:
        return None
    annotator = Annotator(Grafana(section.url, read_token(section.token_file)))
    annotator.start()
    opening.callback(annotator.stop)
    return annotator


def _open_certification(
    config: DaemonConfig,
    store: VerdictStore,
    streams: Callable[[], Sequence[str]],
    clock: Callable[[], float],
) -> CertificationService:
    """Connect what people say of runs with the registry, if there is one."""
    created_by = f"dqm {version('dqm')}"
    section = config.registry
    registry = None
    if section is not None:
        said = CertificationStore(store.database)
        registry = RegistrySender(HttpRegistry(section), said, clock, created_by)
    rules = sign_off_rules(config.certification)
    return CertificationService(rules, store, streams, clock, created_by=created_by, registry=registry)


def _open_authenticator(
    config: DaemonConfig, count: Callable[[str], None], audit: Callable[..., None]
) -> Authenticator:
    """Read the users, if there are any."""
    web = config.web
    users = (
        None if web.users is None else UserFile(web.users, on_change=functools.partial(_note_users, audit))
    )
    if users is not None and not users.names:
        log.warning("nobody can sign in: the file of users is empty", fix="add one by 'dqm users add'")
    if users is not None and not is_local(config.daemon.http):
        log.warning(
            "passwords are sent over the network in clear text",
            http=config.daemon.http,
            fix="listen on the loopback, behind a reverse proxy that speaks https",
        )
    provider = None if web.oidc is None else OidcProvider(web.oidc)
    return Authenticator(web, users, count, audit, provider=provider)


def _note_users(audit: Callable[..., None], action: str, user: str) -> None:
    """Write a change of the file of users to the audit; who made it is not known."""
    try:
        audit(time.time(), "", action, user, "in the file of users")
    except StoreError as error:
        log.warning("a change of the users is not in the audit", action=action, user=user, why=str(error))


def _open_receiver(section: DaemonSection, nan_shares: Mapping[str, float]) -> Receiver:
    """Listen, with keys where there are any."""
    limits = Limits(**section.limits.model_dump())
    keys = open_key_ring(section)
    receiver = Receiver(section.listen, limits, keys=keys, keyed_everywhere=section.keyed == "all")
    receiver.allow_nan(nan_shares)
    return receiver


def _open_store(section: DaemonSection) -> VerdictStore:
    """Open the store in its directory."""
    directory = section.data_dir
    try:
        make_private_directory(directory)
    except OSError as error:
        raise StoreError(
            f"cannot make the data directory: {error.strerror}",
            where=str(directory),
            fix="Set [daemon] data_dir to a directory the daemon may write",
        ) from error
    return VerdictStore(store_url(section))
