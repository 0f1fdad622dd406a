"""What windows are held to: a configuration, its bundles opened and its thresholds derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import structlog

from dqm.alarm import (
    KnownChannels,
    QualityLimits,
    Rules,
    StreamFacts,
    Thresholds,
    alarm_rules,
    ample_toys,
    derive_thresholds,
    quality_limits,
    smallest_supported_p,
)
from dqm.alarm.rolling_reference import MOST_EVENTS
from dqm.config import DaemonConfig, ReferenceSection, StreamSection
from dqm.errors import ConfigError
from dqm.export import BundleFacts, describe_bundle
from dqm.reference import (
    CertificateStatus,
    Manifest,
    RateTest,
    ReadingPolicy,
    ReferenceRule,
    StoredBundle,
    check_bad_channels,
    check_names,
    find_certificate,
    known_channels,
    uncertainty_of,
)
from dqm.service.monitor.certificates import refuse_red, warn_of_certificates
from dqm.service.monitor.messages import MonitorSettings, RollingSettings, StreamReference, StreamSettings
from dqm.service.offline.kept_selection import KeptPlace

__all__ = ["ResolvedConfig", "ResolvedReference", "check_references", "find_threshold", "resolve"]

MOST_NAMED = 5
"""Streams that a line of the log names."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """A reference of a stream, opened.

    Parameters
    ----------
    path : Path
        Directory of the bundle.
    identifier : str
        Its name.
    manifest : Manifest
        Its description.
    rule : ReferenceRule
        Which windows it judges.
    rate : RateTest
        Test of the number of events.
    status : CertificateStatus
        Its certificate.
    channels : KnownChannels or None
        Its channels; None if it has none.
    """

    path: Path
    identifier: str
    manifest: Manifest
    rule: ReferenceRule
    rate: RateTest
    status: CertificateStatus
    channels: KnownChannels | None = None

    @property
    def facts(self) -> StreamFacts:
        """What the thresholds depend on; of several kinds of windows the one with the most false alarms."""
        kinds = self.manifest.kinds
        measured = [entry for entry in self.manifest.nuisances if entry.sigma is not None]
        return StreamFacts(
            n_measured=max(sum(entry.concerns(kind.cut) for entry in measured) for kind in kinds),
            n_expected=max((kind.n_expected for kind in kinds if self.rate.tests(kind.cut)), default=None),
            rate_uncertainty=self.rate.typical_uncertainty,
            wanders=self.channels is not None and self.channels.wanders,
            z_offset=self._z_offset,
        )

    @property
    def _z_offset(self) -> float:
        """How far all Z may be off because the reference is finite; of channels the test accounts for it."""
        if self.manifest.is_of_channels:
            return 0.0
        return max((uncertainty_of(self.manifest, entry)[0] for entry in self.manifest.null), default=0.0)


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """Everything that decides on windows and alarms, derived and checked.

    Parameters
    ----------
    config : DaemonConfig
        Where it comes from.
    references : mapping of str to sequence of ResolvedReference
        References of each stream, in the order in which they are tried.
    rules : Rules
        What the alarms go by.
    thresholds : Thresholds
        As derived from the false-alarm budget.
    limits : mapping of str to QualityLimits
        What p-values mean in each stream.
    """

    config: DaemonConfig
    references: Mapping[str, Sequence[ResolvedReference]]
    rules: Rules
    thresholds: Thresholds
    limits: Mapping[str, QualityLimits]

    @property
    def identifiers(self) -> dict[str, tuple[str, ...]]:
        """Bundle identifiers of each stream."""
        return {stream: tuple(one.identifier for one in found) for stream, found in self.references.items()}

    @property
    def bundle_facts(self) -> dict[str, tuple[BundleFacts, ...]]:
        """What the page says of the bundles of each stream."""
        return {
            stream: tuple(
                describe_bundle(one.identifier, one.manifest, str(one.rule), one.status, one.rate)
                for one in found
            )
            for stream, found in self.references.items()
        }

    @property
    def settings(self) -> MonitorSettings:
        """What the monitor's core goes by."""
        bad_channels = {stream.name: stream.bad_channels for stream in self.config.streams}
        streams = {
            stream: StreamSettings(
                limits,
                tuple(
                    StreamReference(one.identifier, one.rule, one.rate, one.channels, one.manifest.statistic)
                    for one in self.references[stream]
                ),
                tests_nan=stream in self.nan_shares,
                bad_channels=bad_channels[stream],
                rolling=self._rolling.get(stream),
            )
            for stream, limits in self.limits.items()
        }
        return MonitorSettings(streams, self.most_waiting, self.config.keep.good_share)

    @property
    def _rolling(self) -> dict[str, RollingSettings]:
        """Rolling references, of the streams that have one."""
        least_p = self.thresholds.changed_p
        return {
            stream.name: RollingSettings(stream.rolling.windows, stream.rolling.permutations, least_p)
            for stream in self.config.streams
            if stream.rolling is not None
        }

    @property
    def stale_seconds(self) -> dict[str, float]:
        """For how long each stream may be without a window, s."""
        return {stream.name: stream.stale_seconds for stream in self.config.streams}

    @property
    def nan_shares(self) -> dict[str, float]:
        """Largest share of NaN in a feature, of the streams that take any."""
        return {one.name: one.largest_nan_share for one in self.config.streams if one.largest_nan_share}

    @property
    def most_waiting(self) -> int:
        """Windows that may wait for their test: at least two of each stream."""
        return max(self.config.daemon.queue_windows, 2 * len(self.config.streams))

    @property
    def kept_place(self) -> KeptPlace:
        """Where windows are kept, and by which bundles they are judged."""
        return KeptPlace.of(self.config, {bundle: path for path, bundle in self.bundles})

    def evaluates_like(self, other: ResolvedConfig) -> bool:
        """Tell whether windows are evaluated as by another configuration, so that its workers can go on."""
        ours, theirs = ((each.bundles, each.config.nuisances) for each in (self, other))
        return ours == theirs

    @property
    def bundles(self) -> set[tuple[Path, str]]:
        """Path and identifier of each bundle: what the workers open."""
        return {(one.path, one.identifier) for found in self.references.values() for one in found}


def resolve(config: DaemonConfig, *, warns: bool = True) -> ResolvedConfig:
    """Open the bundles of a configuration and derive what follows from it.

    Parameters
    ----------
    config : DaemonConfig
        Checked by itself.
    warns : bool
        Whether the log says what is doubtful.

    Returns
    -------
    ResolvedConfig
        Ready to be worked by.

    Raises
    ------
    BundleError, ConfigError, InputError
        If a bundle cannot be used, or limits contradict the false-alarm budget.
    """
    references = _open_references(config)
    thresholds = _derive(config, references)
    if warns:
        _warn_of_small_tables(references, thresholds.p_threshold)
        warn_of_certificates(
            {stream: [(one.path, one.status) for one in found] for stream, found in references.items()}
        )
    return ResolvedConfig(
        config=config,
        references=references,
        rules=_rules(config, references),
        thresholds=thresholds,
        limits={stream.name: quality_limits(config, stream, thresholds) for stream in config.streams},
    )


def find_threshold(config: DaemonConfig, bundle: Path) -> float:
    """Give the p below which a window judged by a bundle counts; its null table must reach so far.

    Parameters
    ----------
    config : DaemonConfig
        Checked by itself. Its bundles need no null tables.
    bundle : Path
        Directory of the bundle.

    Raises
    ------
    BundleError, ConfigError, InputError
        As `resolve`, and if no stream is judged by the bundle.
    """
    references = _open_references(config)
    known = {one.path.resolve() for found in references.values() for one in found}
    if bundle.resolve() not in known:
        raise ConfigError(
            f"no stream is judged by {bundle}",
            where="streams",
            fix=f"Name it there, or calibrate one of {', '.join(sorted(map(str, known)))}",
        )
    return _derive(config, references).p_threshold


def check_references(stream: StreamSection, manifests: Sequence[Manifest]) -> None:
    """Refuse references of one stream that do not fit it.

    They must be of the same features, since windows carry one set of them. Beside a rolling reference they
    must be of single events, and not of too many.

    Parameters
    ----------
    stream : StreamSection
        Its configuration.
    manifests : sequence of Manifest
        Of its references, in their order.

    Raises
    ------
    ConfigError
        With the features that only one of two bundles has, or why there can be no rolling reference.
    """
    for manifest in manifests:
        _check_rolling(stream, manifest)
    named = [
        (one.bundle.name, manifest)
        for one, manifest in zip(stream.ordered_references, manifests, strict=True)
    ]
    for (first, one), (second, other) in pairwise(named):
        texts = [
            f"only {name} has {', '.join(more)}"
            for name, more in (
                (first, sorted(set(one.features) - set(other.features))),
                (second, sorted(set(other.features) - set(one.features))),
            )
            if more
        ]
        if texts:
            raise ConfigError(
                f"the bundles of stream {stream.name!r} have different features: {'; '.join(texts)}",
                where="streams",
                fix="Build them of the same features, or make two streams",
            )


def _derive(config: DaemonConfig, references: Mapping[str, Sequence[ResolvedReference]]) -> Thresholds:
    facts = {stream: StreamFacts.of_any([one.facts for one in found]) for stream, found in references.items()}
    return derive_thresholds(config, facts)


def _open_references(config: DaemonConfig) -> dict[str, tuple[ResolvedReference, ...]]:
    """Check every bundle; give the references by stream."""
    opened: dict[Path, StoredBundle] = {}
    certified: dict[Path, CertificateStatus] = {}
    found = {}
    for stream in config.streams:
        for section in stream.ordered_references:
            if section.bundle not in opened:
                bundle = StoredBundle.read(section.bundle)
                check_names(bundle.manifest.features, where=str(section.bundle))
                opened[section.bundle] = bundle
                certified[section.bundle] = find_certificate(section.bundle, bundle.manifest)
            where = f"streams {stream.name}: bad_channels"
            check_bad_channels(opened[section.bundle], stream.bad_channels, where=where)
            refuse_red(stream, section.bundle, certified[section.bundle])
        sections = stream.ordered_references
        check_references(stream, [opened[section.bundle].manifest for section in sections])
        found[stream.name] = tuple(
            _resolve_reference(config, stream, section, opened[section.bundle], certified[section.bundle])
            for section in sections
        )
    return found


def _check_rolling(stream: StreamSection, manifest: Manifest) -> None:
    """Refuse a rolling reference that can have no p."""
    if stream.rolling is None:
        return
    where = f"streams {stream.name}: rolling"
    if manifest.is_of_channels or manifest.counts is not None:
        raise ConfigError(
            "its bundle is of counted rows, and only single events can be divided anew",
            where=where,
            fix="Leave it out",
        )
    n_events = (stream.rolling.windows + 1) * max(kind.n_expected for kind in manifest.kinds)
    if n_events > MOST_EVENTS:
        raise ConfigError(
            f"{stream.rolling.windows} windows and the one that is tested have {n_events:.0f} events, "
            f"at most {MOST_EVENTS}",
            where=where,
            fix="Take fewer windows",
        )


def _resolve_reference(
    config: DaemonConfig,
    stream: StreamSection,
    section: ReferenceSection,
    bundle: StoredBundle,
    status: CertificateStatus,
) -> ResolvedReference:
    return ResolvedReference(
        section.bundle,
        bundle.identifier,
        bundle.manifest,
        ReferenceRule(section.run_types, section.conditions),
        _rate_test(config, stream, bundle.manifest),
        status,
        known_channels(bundle),
    )


def _rules(config: DaemonConfig, references: Mapping[str, Sequence[ResolvedReference]]) -> Rules:
    """Give the rules of the alarms, with the channels that masks may name."""
    rules = alarm_rules(config)
    channels = {
        stream: tuple(one.channels for one in found if one.channels is not None)
        for stream, found in references.items()
    }
    return replace(rules, streams=tuple(replace(s, channels=channels[s.stream]) for s in rules.streams))


def _rate_test(config: DaemonConfig, stream: StreamSection, manifest: Manifest) -> RateTest:
    general = config.quality.rate_uncertainty
    return RateTest.from_manifest(
        manifest,
        uncertainty=general if stream.rate_uncertainty is None else stream.rate_uncertainty,
        hz=stream.expected_rate_hz,
        policy=ReadingPolicy(config.nuisances.max_age_seconds, config.nuisances.unmeasured),
    )


def _warn_of_small_tables(references: Mapping[str, Sequence[ResolvedReference]], p_threshold: float) -> None:
    """Say in one line where the false-alarm budget needs smaller p-values than the toys support well."""
    small: dict[str, int] = {}
    for stream, found in references.items():
        tables = [column.toys.shape[0] for one in found for column in one.manifest.null]
        if tables and smallest_supported_p(min(tables)) > p_threshold:
            small[stream] = min(tables)
    if small:
        log.warning(
            "null tables are small for the false-alarm budget: p is read from their fitted tails",
            n_streams=len(small),
            streams=list(small)[:MOST_NAMED],
            fewest_toys=min(small.values()),
            p_threshold=p_threshold,
            fix="calibrate the bundles of these streams: "
            f"'dqm reference calibrate BUNDLE --toys {ample_toys(p_threshold)}', or --for CONFIG",
        )
