"""Every mistake in a configuration, including those that show when bundles, keys and sources are opened.

``dqm check`` prints them, ``dqm init`` refuses a configuration that has any, and ``dqm doctor`` begins with
them. A collector's configuration can be checked without the extra ``monitor``, so what needs it is imported
where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dqm.config import (
    SlowControlSection,
    check_packages,
    find_plugin,
    find_problems,
    load_collector,
    load_daemon,
    read_toml,
    set_key,
    validate,
)
from dqm.errors import BundleError, ConfigError, DqmError
from dqm.service.collector.slow_control import SlowControl, open_readings
from dqm.service.collector.sources import missing_inputs, open_source, refuse_missing_inputs
from dqm.stream import open_key_ring, read_sender_keys

if TYPE_CHECKING:
    from dqm.service.monitor.resolved_config import ResolvedReference

__all__ = ["describe_awaited", "describe_judged", "find_all_problems", "find_notes", "is_of_daemon"]


def find_all_problems(config: Path, overrides: Mapping[str, object]) -> list[str]:
    """List every mistake in the configuration of a daemon or a collector.

    Parameters
    ----------
    config : Path
        TOML file.
    overrides : mapping of str to object
        Values from the command line by dotted key.

    Returns
    -------
    list of str
        One line for each mistake, with file and key; empty if there is none.
    """
    return [*find_problems(config, overrides), *_deep_problems(config, overrides)]


def is_of_daemon(config: Path) -> bool:
    """Tell whether a configuration that can be read is one of a daemon: it has a list of streams."""
    return isinstance(read_toml(config).get("streams"), list)


def describe_awaited(config: Path, overrides: Mapping[str, object]) -> list[str]:
    """Say which inputs a collector will wait for, one line for each.

    Parameters
    ----------
    config, overrides
        As in `find_all_problems`; there must be none.
    """
    loaded = load_collector(config, overrides)
    source = open_source(loaded.collector.name, loaded.options, "[options]", config.absolute().parent)
    return [f"{config}: [options] inputs: {path} is not there yet" for path in missing_inputs(source)]


def describe_judged(config: Path, overrides: Mapping[str, object]) -> Iterator[str]:
    """Say which windows of each stream of a daemon are judged, one line for each reference.

    Parameters
    ----------
    config, overrides
        As in `find_all_problems`; there must be none.
    """
    from dqm.service.monitor.resolved_config import resolve

    resolved = resolve(load_daemon(config, overrides))
    for stream, references in resolved.references.items():
        for one in references:
            number = _describe_number(one)
            which = "" if one.rule.takes_all and len(references) == 1 else f", {one.rule}, by {one.path.name}"
            shape = f"the shape of windows of {one.manifest.judged}"
            certificate = one.status.certificate.light if one.status.certificate else "none"
            yield (
                f"  {stream}{which}: {shape}; their number of events: {number}; certificate: {certificate}"
            )


def find_notes(config: Path, overrides: Mapping[str, object]) -> list[str]:
    """List what is given for a daemon and has no effect, one line each; parameters as `describe_judged`."""
    alarm = load_daemon(config, overrides).alarm
    notes = []
    if "runs_per_shift" in alarm.model_fields_set and alarm.drift_test != "run":
        notes.append(
            f'alarm.runs_per_shift = {alarm.runs_per_shift:g} has no effect without alarm.drift_test = "run"'
        )
    if alarm.drift_test == "run" and not alarm.drift_share:
        notes.append('alarm.drift_test = "run" has no effect with alarm.drift_share = 0')
    return [f"{config}: {note}" for note in notes]


def _describe_number(one: ResolvedReference) -> str:
    """Say in which windows the number of events is tested."""
    cuts = sorted({kind.cut for kind in one.manifest.kinds})
    tested = [cut for cut in cuts if one.rate.tests(cut)]
    if not tested:
        return f"not tested: {'the rate is free' if one.rate.is_free else 'expected_rate_hz is not known'}"
    which = "" if tested == cuts else f"tested in windows cut by {tested[0]}, "
    return f"{which}uncertain by {100 * one.rate.typical_uncertainty:.3g} %"


def _deep_problems(config: Path, overrides: Mapping[str, object]) -> list[str]:
    """Find the mistakes that show only when bundles are opened and collectors loaded."""
    try:
        data = read_toml(config)
    except ConfigError:
        return []
    for key, value in overrides.items():
        set_key(data, key, value)
    problems = []
    attempts = _attempts(data, config.absolute().parent)
    checks = (
        _check_packages,
        _check_keys,
        _check_users,
        _check_provider,
        _check_notify,
        _check_registry,
        _check_references,
    )
    attempts += [partial(check, config, data, overrides) for check in checks]
    for attempt in attempts:
        try:
            attempt()
        except DqmError as error:
            problems.append(f"{config}: {error}")
    return problems


def _attempts(data: dict[str, Any], base: Path) -> list[Callable[[], object]]:
    """List what to try, as far as the configuration allows it."""
    attempts: list[Callable[[], object]] = []
    match data:
        case {"collector": {"name": str(name)}}:
            attempts.append(partial(_check_source, name, data.get("options", {}), base))
        case {"streams": list(streams)}:
            named = {bundle for stream in streams if isinstance(stream, dict) for bundle in _bundles(stream)}
            free = isinstance(data.get("nuisances"), dict) and data["nuisances"].get("unmeasured") == "free"
            attempts += [partial(_check_bundle, base / name, free) for name in sorted(named)]
    match data:
        case {"slow_control": {"source": str()} as table}:
            attempts.append(partial(_check_slow_control, table, base))
    return attempts


def _check_source(name: str, options: dict[str, object], base: Path) -> None:
    refuse_missing_inputs(open_source(name, options, "[options]", base), "[options] inputs")


def _bundles(stream: dict[str, Any]) -> Iterator[str]:
    """Find the bundles of a stream, under each of the keys that may name them."""
    references = stream.get("references")
    tables = (
        [table for table in references if isinstance(table, dict)] if isinstance(references, list) else []
    )
    by_type = stream.get("bundles")
    found = [stream.get("bundle"), *(by_type.values() if isinstance(by_type, dict) else ())]
    for name in [*found, *(table.get("bundle") for table in tables)]:
        if isinstance(name, str):
            yield name


def _check_references(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # none, or told already
        return
    from dqm.reference import find_certificate, open_bundle
    from dqm.service.monitor.certificates import refuse_red
    from dqm.service.monitor.resolved_config import check_references

    for stream in load_daemon(config, overrides).streams:
        paths = [one.bundle for one in stream.ordered_references]
        try:
            manifests = [open_bundle(path).manifest for path in paths]
        except BundleError:  # told already
            continue
        check_references(stream, manifests)
        for path, manifest in zip(paths, manifests, strict=True):
            refuse_red(stream, path, find_certificate(path, manifest))


def _check_packages(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # its source tells, or told already
        return
    daemon = load_daemon(config, overrides).daemon
    needed = {}
    if daemon.store is not None and daemon.store.startswith("postgresql"):
        needed["psycopg"] = "postgres"
    if daemon.scheduler is not None:
        needed["distributed"] = "cluster"
    check_packages("the daemon", needed, "[daemon] store, scheduler")


def _check_keys(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if find_problems(config, overrides):  # told already
        return
    if "collector" in data:
        read_sender_keys(load_collector(config, overrides).collector)
    else:
        open_key_ring(load_daemon(config, overrides).daemon)


def _check_users(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # none, or told already
        return
    users = load_daemon(config, overrides).web.users
    if users is not None:
        from dqm.web.auth.users import UserFile

        UserFile(users)


def _check_provider(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # none, or told already
        return
    oidc = load_daemon(config, overrides).web.oidc
    if oidc is not None:
        from dqm.web.auth.oidc import OidcProvider

        OidcProvider(oidc)  # reads its secret; asks nobody


def _check_notify(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # none, or told already
        return
    section = load_daemon(config, overrides).notify
    if section is not None:
        from dqm.service.monitor.notice_service import check_notify

        problems = check_notify(section)  # reads the addresses; sends nothing
        if problems:
            raise ConfigError(f"\n{config}: ".join(map(str, problems)))


def _check_registry(config: Path, data: dict[str, Any], overrides: Mapping[str, object]) -> None:
    if "collector" in data or find_problems(config, overrides):  # none, or told already
        return
    section = load_daemon(config, overrides).registry
    if section is not None:
        from dqm.export.registry import HttpRegistry

        HttpRegistry(section)  # reads its token; asks nobody


def _check_slow_control(table: dict[str, Any], base: Path) -> None:
    try:
        section = validate(SlowControlSection, table, "[slow_control]")
    except ConfigError:  # told by `find_problems`
        open_readings(table["source"], table.get("options", {}), base)
    else:
        SlowControl(section, base)


def _check_bundle(path: Path, free: bool) -> None:
    from dqm.reference import check_names, open_bundle

    manifest = open_bundle(path).manifest
    statistic = find_plugin("dqm.statistics", manifest.statistic, where=str(path))
    needed = getattr(statistic, "packages", None)
    check_packages(
        f"the statistic {manifest.statistic!r}", needed if isinstance(needed, dict) else {}, str(path)
    )
    check_names(manifest.features, where=str(path))
    if not manifest.null:
        raise BundleError(
            "has no null table: every window would be Null",
            where=str(path),
            fix=f"Run 'dqm reference calibrate {path} --toys 1000'",
        )
    for entry in manifest.nuisances:
        if free and entry.sigma is not None and not any(entry.name in c.kind.free for c in manifest.null):
            raise BundleError(
                f'has no null table with {entry.name} free, as [nuisances] unmeasured = "free" asks for',
                where=str(path),
                fix=f"Run 'dqm reference calibrate {path} --toys 1000 --free {entry.name}'",
            )
