"""What the daemon opens and checks at its start, each from its part of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from dqm.alarm import AlarmChange, smallest_supported_p
from dqm.config import DaemonConfig, DaemonSection, GrafanaSection, is_local, read_token
from dqm.errors import StoreError
from dqm.export import Annotator, Door, Grafana, UserFile
from dqm.reference import Manifest, open_bundle
from dqm.service.keyring import open_ring
from dqm.store import VerdictStore, store_url
from dqm.stream import Limits, Receiver

__all__ = [
    "count_measured",
    "identify_bundles",
    "open_annotator",
    "open_door",
    "open_receiver",
    "open_store",
    "tell",
    "warn_of_small_tables",
]

log = structlog.get_logger(__name__)


def identify_bundles(config: DaemonConfig) -> dict[str, tuple[str, Manifest]]:
    """Check every bundle; give identifier and manifest by stream."""
    found = {}
    for path in {stream.bundle for stream in config.streams}:
        bundle = open_bundle(path)
        found[path] = bundle.identifier, bundle.manifest
    return {stream.name: found[stream.bundle] for stream in config.streams}


def count_measured(manifest: Manifest) -> int:
    """Count the nuisance parameters that can disagree with a measurement."""
    return sum(entry.sigma is not None and entry.concerns(manifest.cut) for entry in manifest.nuisances)


def warn_of_small_tables(bundles: Mapping[str, tuple[str, Manifest]], p_threshold: float) -> None:
    """Say where the false-alarm budget asks for rarer p-values than the toys support well."""
    for stream, (_, manifest) in bundles.items():
        n_toys = min((column.toys.shape[0] for column in manifest.null), default=0)
        if n_toys and smallest_supported_p(n_toys) > p_threshold:
            log.warning(
                "the null table is small for the false-alarm budget: p is read from its fitted tail",
                stream=stream,
                toys=n_toys,
                p_threshold=p_threshold,
                fix="calibrate with more toys",
            )


def open_annotator(section: GrafanaSection | None) -> Annotator | None:
    """Start to write annotations, if that is wanted."""
    if section is None or not section.annotations:
        return None
    annotator = Annotator(Grafana(section.url, read_token(section.token_file)))
    annotator.start()
    return annotator


def tell(annotator: Annotator | None, changes: Sequence[AlarmChange]) -> None:
    """Log what became of alarms, and annotate it."""
    if annotator is not None:
        annotator.observe(changes)
    for change in changes:
        alarm = change.alarm
        log.warning(
            "alarm",
            stream=alarm.stream,
            cause=alarm.cause.value,
            before=change.before.value,
            state=alarm.state.value,
            what=alarm.text,
            action=change.action,
            user=change.user,
        )


def open_door(config: DaemonConfig, count: Callable[[str], None], audit: Callable[..., None]) -> Door:
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
    return Door(config.web, users, count, audit)


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
