"""Page, metrics and groups say the same of the present, whatever has happened."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dqm.alarm import Activity
from dqm.events import Quality, RunRecord
from dqm.service.monitor.recorder import Recorder
from tests.world import START, World, make_world, verdict_of

pytestmark = pytest.mark.slow
NAME = "chamber-1"
STALE = 600.0


class Monitor(RuleBasedStateMachine):
    """One stream with windows, runs, refusals, silence and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.run: RunRecord | None = None
        self.seq = 0
        self.world = self.open()

    def open(self, now: float = START) -> World:
        return make_world(self.folder / "x.sqlite", {"muon": [NAME]}, now=now)

    def teardown(self) -> None:
        self.world.store.close()
        shutil.rmtree(self.folder)

    @rule(p=st.sampled_from([0.4, 0.4, 1e-5, None]))
    def window(self, p: float | None) -> None:
        run = self.run.run if self.run else 7
        self.seq += 1
        self.world.judge(verdict_of(NAME, self.seq, p, run=run, judged_at=self.world.clock()))

    @precondition(lambda self: self.run is not None and self.run.run > 7)
    @rule(p=st.sampled_from([0.4, 1e-5]))
    def late_window(self, p: float) -> None:
        self.seq += 1
        late = verdict_of(NAME, self.seq, p, run=self.run.run - 1, judged_at=self.world.clock(), is_late=True)
        self.world.judge(late)

    def border(self, record: RunRecord) -> None:
        self.run = replace(record, noted_at=self.world.clock())
        Recorder(self.world.store, self.world.alarm_service, self.world.clock).record([], [self.run])
        self.world.statuses.note_run(self.run)

    @rule()
    def begin(self) -> None:
        number = self.run.run + 1 if self.run else 7
        self.border(RunRecord(NAME, number, "cosmics", number, began_at=self.world.clock()))

    @precondition(lambda self: self.run is not None)
    @rule()
    def end(self) -> None:
        self.border(replace(self.run, ended_at=self.world.clock(), why="operator"))

    @precondition(lambda self: self.run is not None and self.run.ended_at is not None)
    @rule()
    def go_on(self) -> None:
        self.border(replace(self.run, ended_at=None, why="", resumed_at=self.world.clock()))

    @rule()
    def refuse(self) -> None:
        self.world.alarm_service.note_refusal(NAME, "NaN in 2 % of t_2")
        self.world.alarm_service.tick()

    @rule(seconds=st.sampled_from([1.0, 300.0, STALE + 1.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.time += seconds
        self.world.alarm_service.tick()
        for stream, reason in self.world.alarm_service.silent_streams().items():
            self.world.statuses.mark_stale(stream, reason)

    @rule(seconds=st.sampled_from([5.0, 2 * STALE]))
    def restart(self, seconds: float) -> None:
        ended_at = self.world.clock()
        now = ended_at + seconds
        self.world.store.close()
        self.world = self.open(now)
        recent = self.world.store.latest(NAME, 24)[::-1]
        last = {one.window.stream: one.judged_at for one in recent}
        self.world.alarm_service.resume_waits(ended_at, last)
        silence = self.world.alarm_service.silent_streams().get(NAME, "")
        self.world.statuses.recall(recent, STALE, silence)
        if self.run is not None:
            assert self.world.alarm_service.present_runs()[NAME] == self.run
            self.world.statuses.note_run(self.run)

    @invariant()
    def page_metrics_and_groups_agree(self) -> None:
        overview = self.world.queries.overview()
        (page,) = overview.streams
        registry = self.world.metrics.registry

        def number(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(name, {"stream": NAME, **labels})

        qualities = {quality: number("dqm_window_quality", quality=quality.value) for quality in Quality}
        assert qualities == {quality: float(quality is page.quality) for quality in Quality}
        assert number("dqm_stream_idle") == float(page.activity is Activity.IDLE)
        assert number("dqm_window_p_value") == (page.last.p if page.is_known and page.last else None)
        assert number("dqm_window_events") == (page.last.n_data if page.last else None)
        if page.last is not None:
            assert number("dqm_window_age_seconds") == max(0.0, self.world.clock() - page.last.judged_at)
        group = overview.tree.groups[0]
        is_left_out = group.idle or group.state == "Masked"
        assert group.quality is (Quality.NULL if is_left_out else page.quality)

    @invariant()
    def nothing_is_known_where_nothing_is_told(self) -> None:
        (page,) = self.world.queries.overview().streams
        if page.quality is Quality.GOOD:
            assert page.is_known
            assert page.reason == ""
        else:
            assert page.reason
        if page.is_known:
            assert page.last is not None
            assert page.activity is Activity.RUNNING
            assert self.run is None or page.last.run == self.run.run
            assert page.quality in (page.last.quality, Quality.MEDIUM)
        elif page.activity is not Activity.RUNNING:
            assert page.quality is Quality.NULL


TestMonitor = Monitor.TestCase
TestMonitor.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking takes minutes
)
