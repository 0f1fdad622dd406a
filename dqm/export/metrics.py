"""State of the daemon for Prometheus, collected when it is scraped."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from dqm.alarm import PresentState, is_idle
from dqm.errors import InputError
from dqm.events import Quality, RatioMap, Verdict
from dqm.export.families import TABLE, counter, gauge
from dqm.export.metric_table import MOST, SIGN_INS, TEST_SECONDS_BUCKETS
from dqm.export.stream_numbers import StreamNumbers, nuisance_numbers, window_number
from dqm.stream import Reason, StreamCounts

__all__ = ["Metrics"]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


_UNKNOWN = PresentState(0.0)
_GAUGES = tuple(name for name in TABLE if name.startswith("dqm_window_") and name != "dqm_window_quality")


class Metrics(Collector):
    """Numbers of all streams, ready to be scraped; its methods may be called from any thread.

    Parameters
    ----------
    streams : mapping of str to sequence of str
        Bundle identifiers of each stream; other streams are not shown.
    clock : callable
        Unix time, s.
    version : str
        Version of dqm.

    Attributes
    ----------
    registry : CollectorRegistry
        Holds these metrics and nothing else.
    """

    def __init__(
        self, streams: Mapping[str, Sequence[str]], clock: Callable[[], float], version: str
    ) -> None:
        self._streams = {name: StreamNumbers(bundles) for name, bundles in streams.items()}
        self._clock = clock
        self._version = version
        self._n_refused: Counter[Reason] = Counter()
        self._n_waiting = 0
        self._n_cluster_threads = 0
        self._progress_at = clock()
        self._n_store_failures = 0
        self._states: Callable[[], Mapping[str, PresentState]] = dict
        self._broken_at: Callable[[], float | None] = lambda: None
        self._n_sign_ins = dict.fromkeys(SIGN_INS, 0)
        self._seconds_counts = [0] * (len(TEST_SECONDS_BUCKETS) + 1)
        self._seconds_sum = 0.0
        self._lock = Lock()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams shown."""
        return tuple(self._streams)

    def follow(self, streams: Mapping[str, Sequence[str]]) -> None:
        """Show these streams from now on; counters of streams that stay are kept.

        Parameters
        ----------
        streams : mapping of str to sequence of str
            Bundle identifiers of each stream.
        """
        with self._lock:
            before = self._streams
            self._streams = {
                name: before.get(name) or StreamNumbers(bundles) for name, bundles in streams.items()
            }
            for name, bundles in streams.items():
                self._streams[name].bundles = bundles

    def observe(self, verdict: Verdict) -> None:
        """Count a new verdict.

        Parameters
        ----------
        verdict : Verdict
            Of one of the streams.

        Raises
        ------
        InputError
            If the stream is not one of those shown.
        """
        with self._lock:
            stream = self._find(verdict.window.stream)
            stream.n_judged[verdict.quality] += 1
            stream.n_lost += verdict.window.n_lost
            self._seconds_counts[bisect.bisect_left(TEST_SECONDS_BUCKETS, verdict.seconds)] += 1
            self._seconds_sum += verdict.seconds

    def show_arrivals(self, name: str, counts: StreamCounts) -> None:
        """Show counts of gaps and of missing, reordered and late windows of a stream.

        Parameters
        ----------
        name : str
            One of the streams.
        counts : StreamCounts
            Since the start of the daemon.

        Raises
        ------
        InputError
            If the stream is not one of those shown.
        """
        with self._lock:
            self._find(name).arrivals = replace(counts)

    def count_duplicate(self, name: str) -> None:
        """Count a window that was received again.

        Parameters
        ----------
        name : str
            One of the streams.

        Raises
        ------
        InputError
            If the stream is not one of those shown.
        """
        with self._lock:
            self._find(name).n_duplicates += 1

    def count_skipped(self, name: str) -> None:
        """Count a window that was not tested because the daemon could not keep up.

        Parameters
        ----------
        name : str
            One of the streams.

        Raises
        ------
        InputError
            If the stream is not one of those shown.
        """
        with self._lock:
            self._find(name).n_skipped += 1

    def refuse(self, reason: str) -> None:
        """Count a refused message.

        Parameters
        ----------
        reason : str
            One of `Reason`, such as ``PeerError.reason``.

        Raises
        ------
        InputError
            If it is none of them.
        """
        if reason not in {*Reason}:
            raise InputError(
                f"{reason!r} is not a reason to refuse a message", fix=f"use one of {', '.join(Reason)}"
            )
        with self._lock:
            self._n_refused[Reason(reason)] += 1

    def count_store_failure(self) -> None:
        """Count a failed attempt to use the store; it will be repeated."""
        with self._lock:
            self._n_store_failures += 1

    def show_broken_end(self, broken_at: Callable[[], float | None]) -> None:
        """Show when a daemon ended unexpectedly.

        Parameters
        ----------
        broken_at : callable
            Unix seconds; None if that is not to be shown.
        """
        self._broken_at = broken_at

    def show_states(self, states: Callable[[], Mapping[str, PresentState]]) -> None:
        """Show the present state of each stream beside its alarms.

        Parameters
        ----------
        states : callable
            State of each stream; of one that is not in it nothing is known.
        """
        self._states = states

    def count_sign_in(self, outcome: str) -> None:
        """Count a sign-in.

        Parameters
        ----------
        outcome : str
            One of `SIGN_INS`.
        """
        with self._lock:
            self._n_sign_ins[outcome] += 1

    def set_cluster(self, n_threads: int) -> None:
        """Show how many threads of a cluster evaluate windows.

        Parameters
        ----------
        n_threads : int
            0 while there is no cluster.
        """
        with self._lock:
            self._n_cluster_threads = n_threads

    def set_queue(self, n_waiting: int) -> None:
        """Show how many windows wait for their test.

        Parameters
        ----------
        n_waiting : int
            Length of the queue.
        """
        with self._lock:
            self._n_waiting = n_waiting

    def note_progress(self) -> None:
        """Remember that the daemon's loop has made a round."""
        with self._lock:
            self._progress_at = self._clock()

    def collect(self) -> Iterable[_Family]:
        """All families, for the registry."""
        now = self._clock()
        states = self._states()
        with self._lock:
            known = {name: states.get(name, _UNKNOWN) for name in self._streams}
            return [*self._collect_streams(now, known), *self._collect_daemon(now)]

    def _find(self, name: str) -> StreamNumbers:
        try:
            return self._streams[name]
        except KeyError:
            raise InputError(
                f"stream {name!r} is not shown", fix=f"known streams: {', '.join(self._streams)}"
            ) from None

    def _collect_streams(self, now: float, states: Mapping[str, PresentState]) -> Iterable[_Family]:
        for name in _GAUGES:
            family = gauge(name)
            for label, state in states.items():
                value = window_number(state, name, now)
                if value is not None:
                    family.add_metric([label], value)
            yield family
        known = {name: state.known for name, state in states.items() if state.known is not None}
        quality = gauge("dqm_window_quality")
        judged = counter("dqm_windows_total")
        lost = counter("dqm_lost_windows_total")
        duplicates = counter("dqm_duplicate_windows_total")
        skipped = counter("dqm_skipped_windows_total")
        gaps = counter("dqm_sequence_gaps_total")
        missing = gauge("dqm_missing_windows")
        reordered = counter("dqm_reordered_windows_total")
        late = counter("dqm_late_windows_total")
        info = gauge("dqm_stream_info")
        idle = gauge("dqm_stream_idle")
        for label, stream in self._streams.items():
            state = states[label]
            for each in Quality:
                quality.add_metric([label, each.value], float(state.quality is each))
                judged.add_metric([label, each.value], stream.n_judged[each])
            lost.add_metric([label], stream.n_lost)
            duplicates.add_metric([label], stream.n_duplicates)
            skipped.add_metric([label], stream.n_skipped)
            gaps.add_metric([label], stream.arrivals.n_gaps)
            missing.add_metric([label], stream.arrivals.n_missing)
            reordered.add_metric([label], stream.arrivals.n_reordered)
            late.add_metric([label], stream.arrivals.n_late)
            info.add_metric([label, state.find_bundle(stream.bundles)], 1.0)
            idle.add_metric([label], float(is_idle(state.run)))
        yield from (
            quality,
            judged,
            lost,
            duplicates,
            gaps,
            missing,
            reordered,
            late,
            skipped,
            info,
            idle,
            *_collect_nuisances(known),
            *_collect_channels(known),
            *_collect_reasons(known),
        )

    def _collect_daemon(self, now: float) -> Iterable[_Family]:
        refused = counter("dqm_refused_messages_total")
        for reason in Reason:
            refused.add_metric([reason.value], self._n_refused[reason])
        queue = gauge("dqm_queue_windows")
        queue.add_metric([], self._n_waiting)
        cluster = gauge("dqm_cluster_threads")
        cluster.add_metric([], self._n_cluster_threads)
        failures = counter("dqm_store_failures_total")
        failures.add_metric([], self._n_store_failures)
        broken = gauge("dqm_broken_end_timestamp_seconds")
        broken_at = self._broken_at()
        if broken_at is not None:
            broken.add_metric([], broken_at)
        sign_ins = counter("dqm_sign_ins_total")
        for outcome, n in self._n_sign_ins.items():
            sign_ins.add_metric([outcome], n)
        progress = gauge("dqm_progress_age_seconds")
        progress.add_metric([], max(0.0, now - self._progress_at))
        build = gauge("dqm_build_info")
        build.add_metric([self._version], 1.0)
        yield from (
            refused,
            self._collect_seconds(),
            queue,
            cluster,
            failures,
            broken,
            sign_ins,
            progress,
            build,
        )

    def _collect_seconds(self) -> HistogramMetricFamily:
        edges = [*(str(edge) for edge in TEST_SECONDS_BUCKETS), "+Inf"]
        sums = [float(sum(self._seconds_counts[: n + 1])) for n in range(len(edges))]
        metric = TABLE["dqm_test_seconds"]
        family = HistogramMetricFamily(metric.name, metric.text)
        family.add_metric([], list(zip(edges, sums, strict=True)), self._seconds_sum)
        return family


def _collect_nuisances(known: Mapping[str, Verdict]) -> Iterable[_Family]:
    families = {name: gauge(name) for name, metric in TABLE.items() if "nuisance" in metric.labels}
    for label, verdict in known.items():
        for nuisance, values in nuisance_numbers(verdict):
            for name, value in values.items():
                if value is not None:
                    families[name].add_metric([label, nuisance], value)
    return families.values()


def _collect_channels(known: Mapping[str, Verdict]) -> Iterable[_Family]:
    """Give how many channels are dead or noisy, and the worst ones by rank: a bounded number."""
    channels = gauge("dqm_channels")
    number = gauge("dqm_worst_channel_number")
    ratio = gauge("dqm_worst_channel_ratio")
    for label, verdict in known.items():
        found = verdict.result.channels
        if found is None:
            continue
        for state, n in (
            ("dead", found.n_dead),
            ("low", found.n_low),
            ("noisy", found.n_noisy),
            ("masked", found.n_masked),
        ):
            channels.add_metric([label, state], n)
        for rank, each in enumerate(found.worst, start=1):
            number.add_metric([label, str(rank)], each.channel)
            ratio.add_metric([label, str(rank)], each.hits / each.expected)
    return channels, number, ratio


def _collect_reasons(known: Mapping[str, Verdict]) -> Iterable[_Family]:
    """Give conditions and explanations of the last windows, bounded by `MOST`."""
    ratio = gauge("dqm_density_ratio")
    share = gauge("dqm_feature_share")
    likeness = gauge("dqm_likeness")
    condition = gauge("dqm_condition")
    for label, verdict in known.items():
        numbers = {k: v for k, v in verdict.window.conditions.items() if not isinstance(v, str)}
        for name, number in islice(numbers.items(), MOST["condition"]):
            condition.add_metric([label, name], number)
        explanation = verdict.explanation
        if explanation is None:
            continue
        for each in explanation.likenesses[: MOST["fault"]]:
            likeness.add_metric([label, each.fault], each.share)
        ranked = explanation.ranking[: MOST["feature"]]
        for name, number in ranked:
            share.add_metric([label, name], number)
        shown = {name for name, _ in ranked}
        for each_map in explanation.maps:
            if each_map.features[0] in shown:
                for edge, value in _ratios(each_map):
                    ratio.add_metric([label, each_map.features[0], f"{edge:.6g}"], value)
    return ratio, share, likeness, condition


def _ratios(ratio_map: RatioMap) -> Iterable[tuple[float, float]]:
    """Lower edge and learned density ratio of each bin in which the reference has events."""
    bins = zip(ratio_map.edges[0], ratio_map.fitted, ratio_map.reference, strict=False)
    for edge, fitted, reference in islice(bins, MOST["bin"]):
        if reference > 0:
            yield float(edge), float(fitted / reference)
