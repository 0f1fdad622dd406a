"""Everything that the page and the JSON API show, collected in the same models for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dqm.alarm import (
    ANOMALOUS,
    Activity,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Command,
    Mask,
    Node,
    PresentState,
    QualityCeiling,
    RollingAlarmState,
    StreamTrend,
    Thresholds,
    find_suppressed,
    group_alarms,
    needs_response,
    urgency,
)
from dqm.errors import InputError
from dqm.events import Origin, Quality, RunRecord, Verdict
from dqm.events.summary import summarise
from dqm.export.notice_sender import NoticeStatus
from dqm.export.run_trends import ShareTable, read_shares, read_trends
from dqm.export.views import BundleFacts
from dqm.store import AlarmStore, VerdictStore
from dqm.stream import TurnedAwayPeer
from dqm.web import models as m
from dqm.web.certification_queries import CertificationActions, find_said
from dqm.web.comparisons import Comparisons
from dqm.web.other_daemons import FRESH_SECONDS, OtherDaemonStatus
from dqm.web.problems import NotFoundError
from dqm.web.stream_status import StreamStatuses
from dqm.web.wall import Wall, make_wall

__all__ = ["AlarmActions", "Queries"]

_MOST_WINDOWS = 1000
_MOST_CHANGES = 1000


class AlarmActions(Protocol):
    """Present alarms of all streams, and commands on them; may be used from any thread."""

    def alarms(self) -> Sequence[Alarm]:
        """Every stream and cause, in the order of the configuration."""

    def masks(self) -> Sequence[Mask]:
        """Masks in force or to come."""

    def channel_masks(self) -> Mapping[str, Sequence[Mask]]:
        """Masks of channels, in force or to come, of each stream that has any."""

    def tree(self, present: Mapping[str, PresentState]) -> Node:
        """Root of the groups, from the present state of each stream beside its alarms."""

    def activities(self) -> Mapping[str, Activity]:
        """Whether windows of each stream are expected, and come."""

    def for_rolling_references(self) -> Mapping[str, RollingAlarmState]:
        """Say what the alarms of each stream with a rolling reference mean for it."""

    def ceilings(self) -> Mapping[str, QualityCeiling]:
        """Say what the alarms of each stream allow its quality to be."""

    def thresholds(self) -> Thresholds:
        """Numbers that follow from the false-alarm budget."""

    def apply(self, command: Command, user: str) -> Sequence[AlarmChange]:
        """Carry out a command, durably; raises `InputError` if the alarms do not allow it."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Answers every question of the page and the API.

    Parameters
    ----------
    statuses : StreamStatuses
        Present state of the streams.
    alarm_service : AlarmActions
        Present alarms, and commands on them.
    certification : CertificationActions
        What people said of runs.
    verdicts : VerdictStore
        Past windows.
    history : AlarmStore
        Past changes of alarms.
    kept : callable
        Path of the file with the events of a window, by stream, run and number; it need not exist.
    bundles : mapping of str to sequence of BundleFacts
        Bundles of each stream.
    clock : callable
        Unix time, s.
    version : str
        Version of dqm.
    comparisons : Comparisons
        Makes comparisons of kept events.
    notice : callable
        What everybody must know about the daemon itself; empty if there is nothing.
    turned_away : callable
        Addresses whose connections are turned away.
    notice_statuses : callable
        State of each target that gets alarms.
    peer_statuses : callable
        What is known of other daemons.
    """

    statuses: StreamStatuses
    alarm_service: AlarmActions
    certification: CertificationActions
    verdicts: VerdictStore
    history: AlarmStore
    kept: Callable[[str, int, int], Path]
    bundles: Mapping[str, Sequence[BundleFacts]]
    clock: Callable[[], float]
    version: str
    comparisons: Comparisons
    notice: Callable[[], str] = str
    turned_away: Callable[[], Sequence[TurnedAwayPeer]] = tuple
    notice_statuses: Callable[[], Sequence[NoticeStatus]] = tuple
    peer_statuses: Callable[[], Sequence[OtherDaemonStatus]] = tuple

    def overview(self) -> m.Overview:
        """Give everything at a glance."""
        alarms = self._sorted_alarms()
        present = self.present()
        root = self.alarm_service.tree(present)
        streams = tuple(self._streams(present, alarms, root))
        counts = Counter(stream.quality for stream in streams if stream.activity is not Activity.IDLE)
        return m.Overview(
            time=self.clock(),
            version=self.version,
            notice=self.notice(),
            turned_away=tuple(self.turned_away()),
            untold=self.failing_targets(),
            peers=self.peers(),
            needs_response=tuple(filter(needs_response, alarms)),
            groups=tuple(line for line in _lines(alarms) if line.needs_response),
            qualities={quality: counts[quality] for quality in Quality},
            n_idle=len(streams) - counts.total(),
            origins=tuple(sorted({s.last.origin for s in streams if s.last} - {Origin.LIVE})),
            tree=_group(root),
            streams=streams,
        )

    def present(self) -> Mapping[str, PresentState]:
        """Give the present state of each stream beside its alarms."""
        return self.statuses.shown(self.alarm_service.ceilings())

    def failing_targets(self) -> tuple[m.FailingTarget, ...]:
        """Give the targets that cannot be told of alarms."""
        return tuple(
            m.FailingTarget(target=status.target, since=status.failing_since, reason=status.reason)
            for status in self.notice_statuses()
            if status.failing_since is not None
        )

    def peers(self) -> tuple[m.OtherDaemon, ...]:
        """Give other daemons, in the order of the configuration."""
        now = self.clock()
        return tuple(
            m.OtherDaemon(
                name=status.name,
                url=status.url,
                answered_at=status.answered_at,
                is_fresh=status.answered_at is not None and now - status.answered_at <= FRESH_SECONDS,
                problem=status.problem,
                overview=status.overview,
            )
            for status in self.peer_statuses()
        )

    def stream(self, stream: str) -> m.Stream:
        """One stream; raises `NotFoundError`."""
        self._check_known(stream)
        present = self.present()
        root = self.alarm_service.tree(present)
        (found,) = self._streams({stream: present[stream]}, self._sorted_alarms(), root)
        return found

    def windows(
        self, stream: str, run: int | None = None, quality: Quality | None = None, limit: int = 100
    ) -> m.WindowList:
        """Verdicts of a stream, the newest first; raises `NotFoundError`."""
        self._check_known(stream)
        found = self.verdicts.select(stream=stream, run=run, quality=quality, limit=min(limit, _MOST_WINDOWS))
        return m.WindowList(stream=stream, windows=tuple(map(summarise, found))[::-1])

    def trend(self, stream: str, query: m.TrendQuery) -> StreamTrend:
        """Put runs of a stream side by side; raises `NotFoundError`."""
        self._check_known(stream)
        trends = read_trends(self.verdicts, [stream], query.chosen, query.most)
        return next(trends, StreamTrend(stream, ()))

    def shares(self, query: m.TrendQuery) -> ShareTable:
        """Count the Bad windows of all streams in some runs."""
        return read_shares(self.verdicts, query.chosen, query.most)

    def wall(self, hours: int) -> Wall:
        """Give all streams for the big screen."""
        alarms: dict[str, Alarm] = {}
        for alarm in self.alarm_service.alarms():
            if alarm.state is not AlarmState.NORMAL:
                alarms[alarm.stream] = min(alarm, alarms.get(alarm.stream, alarm), key=urgency)
        present = self.present()
        return make_wall(
            present,
            alarms,
            self.alarm_service.activities(),
            self.alarm_service.tree(present),
            self.statuses.timeline,
            now=self.clock(),
            hours=hours,
            notice=self.notice(),
        )

    def last_anomaly(self, stream: str) -> Verdict | None:
        """Last ``Medium`` or ``Bad`` window of a stream, with its explanation."""
        found = [
            verdict
            for quality in sorted(ANOMALOUS)
            for verdict in self.verdicts.select(stream=stream, quality=quality, limit=1)
        ]
        if not found:
            return None
        last = max(found, key=lambda verdict: verdict.judged_at)
        return self.verdicts.find(last.window.stream, last.window.run, last.window.seq)

    def window(self, stream: str, run: int, seq: int) -> m.WindowDetail:
        """Everything about one window; raises `NotFoundError`."""
        verdict = self.verdicts.find(stream, run, seq)
        if verdict is None:
            raise NotFoundError(
                f"no verdict on window {seq} of run {run}",
                where=stream,
                fix="It was never received, or its verdict is older than the store keeps",
            )
        used = self._bundle_of(verdict)
        return m.WindowDetail(
            verdict=summarise(verdict),
            explanation=verdict.explanation,
            why_unexplained=self.why_unexplained(verdict),
            bundle=used,
            why_no_bundle="" if used else _why_no_bundle(verdict),
            kept=self._kept(verdict),
            said=tuple(find_said(self.certification, self.verdicts.find_span(verdict))),
        )

    def why_unexplained(self, verdict: Verdict) -> str:
        """Say why a window has no maps; empty if it has."""
        if verdict.explanation:
            return ""
        if verdict.result.why_no_maps:
            return verdict.result.why_no_maps
        if verdict.quality not in ANOMALOUS:
            return f"the window is {verdict.quality}: maps are made of windows that are Medium or Bad"
        p = verdict.result.p
        if p is None:
            return "only the number of events was judged: maps are made of the shape"
        if p >= self.thresholds().p_threshold:
            return "no maps were stored with this verdict: its shape does not depart from the reference"
        used = self._bundle_of(verdict)
        return (
            f"the statistic {used.statistic if used else 'that judged it'} learns no density ratio, so there "
            "are no maps. If its events were kept, 'dqm compare' judges them by another bundle"
        )

    def alarms(self) -> m.AlarmList:
        """Every alarm, the most urgent first."""
        alarms = self._sorted_alarms()
        explained = {name: state.explained for name, state in self.present().items() if state.explained}
        return m.AlarmList(
            time=self.clock(), alarms=tuple(alarms), groups=_lines(alarms), explained=explained
        )

    def alarm(self, stream: str, cause: Cause) -> Alarm:
        """One alarm; raises `NotFoundError`."""
        for alarm in self.alarm_service.alarms():
            if (alarm.stream, alarm.cause) == (stream, cause):
                return alarm
        raise NotFoundError(f"no alarm {cause} of stream {stream!r}", fix="See /alarms for all of them")

    def changes(
        self, stream: str | None = None, since: float | None = None, limit: int = 100
    ) -> m.ChangeList:
        """Give the changes of alarms, the newest first."""
        found = list(self.history.changes(stream=stream, since=since, limit=min(limit, _MOST_CHANGES)))
        return m.ChangeList(changes=tuple(found[::-1]))

    def thresholds(self) -> Thresholds:
        """Limits that follow from the false-alarm budget."""
        return self.alarm_service.thresholds()

    def masks(self) -> m.MaskList:
        """Masks in force or to come."""
        return m.MaskList(time=self.clock(), masks=tuple(self.alarm_service.masks()))

    def mask(self, identifier: str) -> Mask:
        """One mask; raises `NotFoundError`."""
        for mask in self.alarm_service.masks():
            if mask.identifier == identifier:
                return mask
        raise NotFoundError(f"no mask {identifier!r}", fix="See /masks for all of them")

    def events(self, stream: str, run: int, seq: int) -> Path:
        """File with the events of a window; raises `NotFoundError`."""
        kept = self.window(stream, run, seq).kept
        if kept.url is None:
            raise NotFoundError(f"not kept: {kept.reason}", where=f"{stream} run {run} window {seq}")
        return self.kept(stream, run, seq)

    def _bundle_of(self, verdict: Verdict) -> BundleFacts | None:
        known = self.bundles.get(verdict.window.stream, ())
        return next((one for one in known if one.identifier == verdict.bundle), None)

    def _kept(self, verdict: Verdict) -> m.Kept:
        stream, run, seq = verdict.window.stream, verdict.window.run, verdict.window.seq
        if self.kept(stream, run, seq).exists():
            return m.Kept(url=f"/windows/{stream}/{run}/{seq}/events.parquet", reason="")
        if verdict.quality in ANOMALOUS:
            return m.Kept(
                url=None, reason="gone: [keep] windows_megabytes keeps none, or it gave way to newer ones"
            )
        return m.Kept(
            url=None,
            reason=f"the window is {verdict.quality}: only Medium and Bad ones are kept, "
            "and the share of Good ones that [keep] good_share says",
        )

    def _check_known(self, stream: str) -> None:
        try:
            self.statuses.find(stream)
        except InputError as error:
            raise NotFoundError(error.what, fix="See / for all streams") from None

    def _sorted_alarms(self) -> list[Alarm]:
        return sorted(self.alarm_service.alarms(), key=urgency)

    def _streams(
        self, present: Mapping[str, PresentState], alarms: Iterable[Alarm], root: Node
    ) -> Iterable[m.Stream]:
        paths = dict(_paths(root))
        suppressed = set(find_suppressed(root))
        activities = self.alarm_service.activities()
        first: dict[str, Alarm] = {}
        for alarm in alarms:
            if alarm.state is not AlarmState.NORMAL:
                first.setdefault(alarm.stream, alarm)
        for name, state in present.items():
            most_urgent = first.get(name)
            bundles = tuple(one.identifier for one in self.bundles.get(name, ()))
            yield m.Stream(
                name=name,
                path=paths.get(name, ""),
                quality=state.quality,
                reason=state.reason,
                since=state.since,
                alarm=most_urgent,
                needs_response=most_urgent is not None and needs_response(most_urgent),
                activity=activities.get(name, Activity.RUNNING),
                run=_run(state.run) if state.run else None,
                last=summarise(state.last) if state.last else None,
                is_known=state.is_known,
                is_suppressed=name in suppressed,
                recent=self.statuses.recent(name),
                explained=state.explained,
                bundle=state.find_bundle(bundles),
                bundles=bundles,
            )


def _lines(alarms: Iterable[Alarm]) -> tuple[m.AlarmLine, ...]:
    """Give the alarms that are not Normal, those of one kind in a group as one line."""
    return tuple(
        m.AlarmLine(
            group=line.path,
            name=line.name or "all streams",
            cause=line.cause,
            priority=line.priority,
            needs_response=line.needs_response,
            alarm=line.alarms[0],
            since=min(alarm.since for alarm in line.alarms),
            streams=tuple(sorted(alarm.stream for alarm in line.alarms)),
        )
        for line in group_alarms(alarms)
    )


def _run(record: RunRecord) -> m.StreamRun:
    return m.StreamRun(
        run=record.run,
        run_type=record.run_type,
        began_at=record.began_at,
        resumed_at=record.resumed_at,
        ended_at=record.ended_at,
        why=record.why,
    )


def _group(node: Node) -> m.Group:
    return m.Group(
        name=node.name,
        path=node.path,
        quality=node.quality,
        state=node.state,
        idle=node.idle,
        groups=tuple(map(_group, node.children)),
        streams=tuple(leaf.stream for leaf in node.streams),
    )


def _paths(group: Node) -> Iterable[tuple[str, str]]:
    yield from ((leaf.stream, group.path) for leaf in group.streams)
    for inner in group.children:
        yield from _paths(inner)


def _why_no_bundle(verdict: Verdict) -> str:
    if not verdict.bundle:
        return "no bundle judged this window"
    return f"bundle {verdict.bundle} judged this window; the stream does not use it any more"
