"""What windows are held to: a configuration, its bundles opened and its thresholds derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from dqm.alarm import (
    QualityLimits,
    Rules,
    StreamFacts,
    Thresholds,
    alarm_rules,
    derive_thresholds,
    quality_limits,
    smallest_supported_p,
)
from dqm.config import DaemonConfig, StreamSection
from dqm.reference import Manifest, RateTest, ReadingPolicy, StoredBundle, check_bad_channels, check_names
from dqm.service.monitor.messages import MonitorSettings, StreamSettings

__all__ = ["ResolvedConfig", "resolve"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """Everything that decides on windows and alarms, derived and checked.

    Parameters
    ----------
    config : DaemonConfig
        Where it comes from.
    bundles : mapping of str to tuple
        Identifier and manifest of each stream's bundle.
    rules : Rules
        What the alarms go by.
    thresholds : Thresholds
        As derived from the false-alarm budget.
    limits : mapping of str to QualityLimits
        What p-values mean in each stream.
    rates : mapping of str to RateTest
        Test of the number of events in each stream.
    """

    config: DaemonConfig
    bundles: Mapping[str, tuple[str, Manifest]]
    rules: Rules
    thresholds: Thresholds
    limits: Mapping[str, QualityLimits]
    rates: Mapping[str, RateTest]

    @property
    def identifiers(self) -> dict[str, str]:
        """Bundle identifier of each stream."""
        return {stream: identifier for stream, (identifier, _) in self.bundles.items()}

    @property
    def settings(self) -> MonitorSettings:
        """What the monitor's core goes by."""
        streams = {
            stream: StreamSettings(limits, self.bundles[stream][0], self.rates[stream])
            for stream, limits in self.limits.items()
        }
        return MonitorSettings(streams, self.most_waiting)

    @property
    def stale_seconds(self) -> dict[str, float]:
        """For how long each stream may be without a window, s."""
        return {stream.name: stream.stale_seconds for stream in self.config.streams}

    @property
    def most_waiting(self) -> int:
        """Windows that may wait for their test: at least two of each stream."""
        return max(self.config.daemon.queue_windows, 2 * len(self.config.streams))

    @property
    def kept_bytes(self) -> int:
        """Most bytes of kept windows."""
        return int(self.config.keep.windows_megabytes * 1e6)

    def evaluates_like(self, other: ResolvedConfig) -> bool:
        """Tell whether windows are evaluated as by another configuration, so that its workers can go on."""
        ours, theirs = (
            (
                each.identifiers,
                each.config.nuisances,
                [(s.bundle, s.bad_channels) for s in each.config.streams],
            )
            for each in (self, other)
        )
        return ours == theirs


def resolve(config: DaemonConfig) -> ResolvedConfig:
    """Open the bundles of a configuration and derive what follows from it.

    Parameters
    ----------
    config : DaemonConfig
        Checked by itself.

    Returns
    -------
    ResolvedConfig
        Ready to be worked by.

    Raises
    ------
    BundleError, ConfigError, InputError
        If a bundle cannot be used, or limits contradict the false-alarm budget.
    """
    bundles = _identify_bundles(config)
    rates = {stream.name: _rate_test(config, stream, bundles[stream.name][1]) for stream in config.streams}
    facts = {stream: _facts(manifest, rates[stream]) for stream, (_, manifest) in bundles.items()}
    thresholds = derive_thresholds(config, facts)
    _warn_of_small_tables(bundles, thresholds.p_threshold)
    return ResolvedConfig(
        config=config,
        bundles=bundles,
        rules=alarm_rules(config),
        thresholds=thresholds,
        limits={stream.name: quality_limits(config, stream, thresholds) for stream in config.streams},
        rates=rates,
    )


def _identify_bundles(config: DaemonConfig) -> dict[str, tuple[str, Manifest]]:
    """Check every bundle; give identifier and manifest by stream."""
    found = {}
    for path in {stream.bundle for stream in config.streams}:
        bundle = StoredBundle.read(path)
        check_names(bundle.manifest.features, where=str(path))
        found[path] = bundle.identifier, bundle.manifest
        for stream in config.streams:
            if stream.bundle == path:
                check_bad_channels(bundle, stream.bad_channels, where=f"streams {stream.name}: bad_channels")
    return {stream.name: found[stream.bundle] for stream in config.streams}


def _rate_test(config: DaemonConfig, stream: StreamSection, manifest: Manifest) -> RateTest:
    general = config.quality.rate_uncertainty
    return RateTest.from_manifest(
        manifest,
        uncertainty=general if stream.rate_uncertainty is None else stream.rate_uncertainty,
        hz=stream.expected_rate_hz,
        policy=ReadingPolicy(config.nuisances.max_age_seconds, config.nuisances.unmeasured),
    )


def _facts(manifest: Manifest, rate: RateTest) -> StreamFacts:
    """Collect what the thresholds depend on."""
    measured = [entry.sigma is not None and entry.concerns(manifest.cut) for entry in manifest.nuisances]
    return StreamFacts(
        n_measured=sum(measured),
        n_expected=manifest.n_expected if rate.tests(manifest.cut) else None,
        rate_uncertainty=rate.typical_uncertainty,
    )


def _warn_of_small_tables(bundles: Mapping[str, tuple[str, Manifest]], p_threshold: float) -> None:
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
