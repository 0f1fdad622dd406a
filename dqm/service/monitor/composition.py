"""What the daemon opens and checks at its start, each from its part of the configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import attrgetter

import structlog
import torch

from dqm.config import DaemonConfig, DaemonSection, GrafanaSection, is_local, read_token
from dqm.errors import StoreError
from dqm.events import Verdict, Window
from dqm.export import Annotator, Grafana
from dqm.service.keyring import open_ring
from dqm.service.monitor.assessor import prepare_tests
from dqm.service.monitor.resolved_config import ResolvedConfig
from dqm.service.monitor.worker_pool import JobRunner, LocalWorker, WorkerPool
from dqm.store import VerdictStore, store_url
from dqm.stream import Limits, Receiver
from dqm.web import Authenticator, UserFile

__all__ = ["open_annotator", "open_authenticator", "open_receiver", "open_store", "open_tester"]

log = structlog.get_logger(__name__)


def open_annotator(section: GrafanaSection | None) -> Annotator | None:
    """Start to write annotations, if that is wanted."""
    if section is None or not section.annotations:
        return None
    annotator = Annotator(Grafana(section.url, read_token(section.token_file)))
    annotator.start()
    return annotator


def open_authenticator(
    config: DaemonConfig, count: Callable[[str], None], audit: Callable[..., None]
) -> Authenticator:
    """Read the users, if there are any; raises `ConfigError` if their file cannot be used."""
    users = None if config.web.users is None else UserFile(config.web.users)
    if users is not None and not users.names:
        log.warning("nobody can sign in: the file of users is empty", fix="add one by 'dqm users add'")
    if users is not None and not is_local(config.daemon.http):
        log.warning(
            "passwords cross the network as they are",
            http=config.daemon.http,
            fix="listen on the loopback, behind a reverse proxy that speaks https",
        )
    return Authenticator(config.web, users, count, audit)


def open_receiver(section: DaemonSection) -> Receiver:
    """Listen, with keys where there are any; raises `ConfigError` if an address or a key cannot be used."""
    limits = Limits(**section.limits.model_dump())
    keys = open_ring(section)
    return Receiver(section.listen, limits, keys=keys, keyed_everywhere=section.keyed == "all")


def open_store(section: DaemonSection) -> VerdictStore:
    """Open the store in its directory; raises `StoreError` if either cannot be used."""
    directory = section.data_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the data directory: {error.strerror}",
            where=str(directory),
            fix="Set [daemon] data_dir to a directory the daemon may write",
        ) from error
    return VerdictStore(store_url(section))


def open_tester(
    resolved: ResolvedConfig, clock: Callable[[], float], monotonic: Callable[[], float]
) -> JobRunner[Window, Verdict]:
    """Start the workers; without any, tests run in this process. Raises `DqmError` if they do not start."""
    section = resolved.config.daemon
    if section.workers == 0:
        torch.set_num_threads(section.threads)
        return LocalWorker(prepare_tests(resolved.config, resolved.limits, clock))
    return WorkerPool(
        functools.partial(prepare_tests, resolved.config, resolved.limits),
        n_workers=section.n_workers,
        n_threads=section.threads,
        longest_seconds=section.longest_test_seconds,
        key=attrgetter("stream"),
        monotonic=monotonic,
    )
