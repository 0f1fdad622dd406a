"""Bundles and their certificates: whether they are valid, and how old they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dqm.alarm import ample_toys, smallest_supported_p
from dqm.config import DaemonConfig
from dqm.errors import format_count
from dqm.reference import Light, StoredBundle, find_certificate
from dqm.reference.certificate_lines import EXTRAPOLATION
from dqm.service.doctor.diagnosis import Diagnosis, amber, green, red
from dqm.service.monitor.resolved_config import resolve

__all__ = ["OLD_DAYS", "look_at_references", "look_at_used", "paths_of"]

OLD_DAYS = 90.0
"""Age above which a certificate should be renewed: detectors change with the seasons."""

_DAY = 86_400.0


def paths_of(config: DaemonConfig) -> dict[Path, list[str]]:
    """Streams of each bundle of a configuration."""
    found: dict[Path, list[str]] = {}
    for stream in config.streams:
        for one in stream.ordered_references:
            found.setdefault(one.bundle, []).append(stream.name)
    return found


def look_at_references(config: DaemonConfig, now: float) -> Iterator[Diagnosis]:
    """Look at each bundle: its files, its certificate and the age of this, its null tables.

    Parameters
    ----------
    config : DaemonConfig
        Checked by itself.
    now : float
        Unix seconds.
    """
    accepted = {
        one.bundle for stream in config.streams if stream.accept_red_certificate
        for one in stream.ordered_references
    }  # fmt: skip
    threshold = resolve(config, warns=False).thresholds.p_threshold
    for path in paths_of(config):
        bundle = StoredBundle.read(path)
        fewest = min(entry.toys.shape[0] for entry in bundle.manifest.null)
        more = ""
        if smallest_supported_p(fewest) > threshold:
            more = f"Run 'dqm reference calibrate {path} --toys {ample_toys(threshold)}', then reload"
        yield from _look_at_certificate(bundle, now, is_accepted=path in accepted, more_toys=more)
        if more:
            yield amber(
                "bundle",
                f"{path.name}: a null table has {format_count(fewest, 'toy')}: p near the limit "
                f"{threshold:.2g} is read from a fitted tail",
                more,
            )
        else:
            yield green(
                "bundle", f"{path.name}: {format_count(fewest, 'toy')}, enough for p = {threshold:.2g}"
            )


def _look_at_certificate(
    bundle: StoredBundle, now: float, *, is_accepted: bool, more_toys: str
) -> Iterator[Diagnosis]:
    """Look at a certificate; `more_toys` is what to do if there are too few for the daemon's threshold.

    The certificate does not know that threshold: its own number of toys would be another one.
    """
    path = bundle.path
    status = find_certificate(path, bundle.manifest)
    certificate = status.certificate
    if certificate is None:
        yield amber("certificate", f"{path.name}: {status.why_none}", f"Run 'dqm reference validate {path}'")
        return
    days = (now - certificate.made_at) / _DAY
    for light, say in ((Light.RED, amber if is_accepted else red), (Light.AMBER, amber)):
        for line in certificate.lines_of(light):
            action = more_toys if more_toys and line.name == EXTRAPOLATION else line.action
            yield say("certificate", f"{path.name}: {line.name}: {line.meaning} ({line.found})", action)
    if days > OLD_DAYS:
        yield amber(
            "certificate",
            f"{path.name}: {days:.0f} days old: do good runs still look like this?",
            f"Run 'dqm reference validate {path} --later GOOD_RUN' with a good run of this week",
        )
    elif certificate.light is Light.GREEN:
        yield green("certificate", f"{path.name}: green, {max(days, 0.0):.0f} days old")


def look_at_used(config: DaemonConfig, used: Mapping[str, set[str]]) -> Iterator[Diagnosis]:
    """Compare the bundles that the daemon uses, by stream, with those on disk."""
    identifiers = {path: StoredBundle.read(path).identifier for path in paths_of(config)}
    for stream in config.streams:
        on_disk = {identifiers[one.bundle] for one in stream.ordered_references}
        gone = used.get(stream.name, set()) - on_disk
        if gone:
            yield amber(
                "bundle",
                f"{stream.name}: the daemon judges by {', '.join(sorted(gone))}, which is not the bundle on "
                "disk any more",
                "Reload the daemon: 'systemctl reload' of its unit, or SIGHUP",
            )
