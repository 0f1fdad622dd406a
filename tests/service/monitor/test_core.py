"""Every rule of the monitor's core, with plain values: no socket, clock, thread, file or process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dqm.alarm import ChannelChoice, KnownChannels, Mask, QualityLimits, RollingAlarmState
from dqm.alarm.good_sample import is_sampled
from dqm.events import (
    EvaluationJob,
    EvaluationReport,
    Explanation,
    Origin,
    Quality,
    RollingJob,
    RollingResult,
    RunEvent,
    RunNotice,
    RunRecord,
    TestResult,
    Verdict,
    Window,
    WindowCut,
)
from dqm.reference import RateTest, ReferenceRule
from dqm.service.monitor.core import LONGEST_PAUSE_SECONDS, STORE_RETRY_SECONDS, MonitorCore
from dqm.service.monitor.messages import (
    Acknowledge,
    Adopt,
    Adopted,
    AnswerRun,
    CountDuplicate,
    CountSkipped,
    Evaluate,
    Evaluated,
    Event,
    Found,
    Instruction,
    Keep,
    LookUp,
    MonitorSettings,
    Prune,
    Publish,
    Received,
    Refuse,
    ReloadAbandoned,
    ReloadPrepared,
    ResumeWaits,
    RollingSettings,
    RunReceived,
    ShowArrivals,
    ShowRun,
    ShowSilence,
    Stop,
    Store,
    Stored,
    StoreFailed,
    StreamReference,
    StreamSettings,
    Tick,
    UpdateAlarms,
    WorkersReady,
)
from dqm.service.monitor.rolling_windows import CROWDED
from dqm.stream import REMEMBERED_RUNS, Identity, Reason, RunMessage, RunTracker, identity_of
from dqm.stream.keys import CollectorKey

LIMITS = QualityLimits(medium_p=0.03, bad_p=0.01, min_events=2)
STREAM = StreamSettings(LIMITS, [StreamReference("3f9a")])
ROLLING = replace(STREAM, rolling=RollingSettings(n_windows=2, n_permutations=100, least_p=0.01))
SETTINGS = MonitorSettings({"a": STREAM, "b": STREAM}, most_waiting=4)
UNIX = 1.7e9


def window_of(seq: int = 0, stream: str = "a", run: int = 1, **fields: object) -> Window:
    plain = Window(
        stream, run, seq, "physics", Origin.LIVE, WindowCut.COUNT, ("x",), np.zeros((3, 1)), n_expected=3.0
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def core_of(settings: MonitorSettings = SETTINGS, overload_seconds: float = 60.0) -> MonitorCore:
    return MonitorCore(settings, overload_seconds=overload_seconds, unix_time=UNIX)


def report_of(p: float | None = 0.5, reason: str = "") -> EvaluationReport:
    result = TestResult(
        3, 3.0, t=None if p is None else 1.0, p=p, z=None if p is None else 0.0, reason=reason
    )
    return EvaluationReport(result, bundle="3f9a", seconds=0.02)


def rolled(report: EvaluationReport, job: EvaluationJob, p: float = 0.5) -> EvaluationReport:
    """Give the report of a worker that also did the rolling test of a job."""
    found = job.rolling
    if isinstance(found, RollingJob):
        found = RollingResult(len(found.past), p=p)
    return replace(report, result=replace(report.result, rolling=found))


def of_kind(kind: type, instructions: list[Instruction]) -> list[Instruction]:
    return [instruction for instruction in instructions if isinstance(instruction, kind)]


def admit(core: MonitorCore, window: Window, verdict: Verdict | None = None) -> list[Instruction]:
    """Let a window in; the store, if it is asked, answers with a verdict or None."""
    told = core.handle(Received(window))
    if told == [LookUp(window)]:
        return core.handle(Found(window, verdict, window.seq + (verdict is not None)))
    assert verdict is None
    return told


def evaluate(core: MonitorCore, *, room: int = 9, p: float | None = 0.5) -> list[Window]:
    """Let workers take what waits, and finish it."""
    jobs = [each.job for each in core.handle(WorkersReady(room, 0.0, UNIX)) if isinstance(each, Evaluate)]
    for job in jobs:
        assert core.handle(Evaluated(job.window, report_of(p), "", UNIX + 1.0)) == []
    return [job.window for job in jobs]


def judge(core: MonitorCore, window: Window, now: float = 0.0, p: float | None = 0.5) -> Verdict:
    """Lead a window from its arrival to its published verdict."""
    admit(core, window)
    evaluate(core, p=p)
    (store,) = of_kind(Store, core.handle(Tick(now, UNIX + now)))
    assert isinstance(store, Store)
    core.handle(Stored())
    return store.verdicts[-1]


def test_a_window_is_looked_up_evaluated_stored_acknowledged_and_published_in_this_order() -> None:
    core, window = core_of(), window_of()
    assert core.handle(Received(window)) == [LookUp(window)]
    (shown,) = core.handle(Found(window, None, 0))
    assert isinstance(shown, ShowArrivals)
    (evaluate,) = core.handle(WorkersReady(1, 0.0, UNIX))
    assert isinstance(evaluate, Evaluate)
    assert evaluate.job.window == window
    assert core.handle(Evaluated(window, report_of(), "", UNIX + 1.0)) == []
    (store,) = core.handle(Tick(0.0, UNIX))
    assert isinstance(store, Store)
    (verdict,) = store.verdicts
    assert (verdict.quality, verdict.bundle, verdict.judged_at) == (Quality.GOOD, "3f9a", UNIX + 1.0)
    assert core.n_in_flight == 1
    told = core.handle(Stored())
    assert isinstance(told[0], ShowRun)
    assert told[1:3] == [Acknowledge(window), Publish(verdict)]
    assert (core.n_in_flight, core.is_idle, core.has_unstored) == (0, True, False)


def test_only_windows_that_depart_from_the_reference_are_kept() -> None:
    core = core_of()
    for seq, (p, is_kept) in enumerate([(0.5, False), (0.02, True), (0.001, True), (None, False)]):
        admit(core, window_of(seq))
        evaluate(core, p=p)
        core.handle(Tick(0.0, UNIX))
        found = of_kind(Keep, core.handle(Stored()))
        assert [one.is_sample for one in found if isinstance(one, Keep)] == [False] * is_kept, p


def test_a_sample_of_good_windows_is_kept() -> None:
    core = core_of(replace(SETTINGS, good_share=0.5))
    kept = []
    for seq in range(60):
        admit(core, window_of(seq))
        evaluate(core, p=0.5)
        core.handle(Tick(0.0, UNIX))
        found = of_kind(Keep, core.handle(Stored()))
        kept += [one.verdict for one in found if isinstance(one, Keep) and one.is_sample]
    assert 18 < len(kept) < 42
    assert all(is_sampled(verdict, 0.5) for verdict in kept)
    counted = window_of(100, names=("x", "hits"), x=np.ones((3, 2)), counts="hits")
    core = core_of(replace(SETTINGS, good_share=1.0))
    admit(core, counted)
    evaluate(core, p=0.5)
    core.handle(Tick(0.0, UNIX))
    assert not of_kind(Keep, core.handle(Stored())), "a reference of channels is made of tables"


def test_the_explanation_travels_from_the_report_to_the_verdict() -> None:
    core, window = core_of(), window_of()
    admit(core, window)
    core.handle(WorkersReady(1, 0.0, UNIX))
    explanation = Explanation((), (), (("x", 1.0),))
    core.handle(Evaluated(window, replace(report_of(0.001), explanation=explanation), "", UNIX))
    (store,) = core.handle(Tick(0.0, UNIX))
    assert isinstance(store, Store)
    assert store.verdicts[0].explanation is explanation


def test_a_window_goes_to_the_workers_with_the_limits_of_its_stream() -> None:
    core, window = core_of(), window_of()
    admit(core, window)
    (evaluate,) = core.handle(WorkersReady(1, 0.0, UNIX))
    assert evaluate == Evaluate(EvaluationJob(window, "3f9a", explain_below=0.03, min_events=2))


def counting_core(**changes: float) -> MonitorCore:
    limits = replace(LIMITS, medium_rate_p=0.03, bad_rate_p=0.01)
    stream = StreamSettings(limits, [StreamReference("3f9a", rate=RateTest(uncertainty=0.02))])
    return core_of(MonitorSettings({"a": stream}, most_waiting=4), **changes)


WIRES = np.array([1.0, 2.0, 3.0, 4.0])
KNOWN = KnownChannels(WIRES, layers=WIRES // 3.0, cards=WIRES, shares=np.full(4, 0.25))
CHANNELS = StreamSettings(
    replace(LIMITS, medium_rate_p=0.03, bad_rate_p=0.01),
    [StreamReference("c4a7", rate=RateTest(), channels=KNOWN)],
    bad_channels=(1,),
)


def channel_window(*hits: float, **fields: object) -> Window:
    return window_of(
        x=np.column_stack([WIRES, hits]), names=("channel", "hits"), counts="hits", cut=WindowCut.TIME,
        n_expected=400.0, live_seconds=1.0, **fields,
    )  # fmt: skip


def channel_mask(*channels: int, **fields: object) -> Mask:
    mask = Mask("m", "a", "maria", "broken", UNIX, channels=ChannelChoice(channels=channels))
    return replace(mask, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("masks", "masked"),
    [
        ({}, (1,)),
        ({"a": [channel_mask(4)]}, (1, 4)),
        ({"a": [channel_mask(4), channel_mask(2, 4)]}, (1, 2, 4)),
        ({"a": [channel_mask(4, channels=ChannelChoice(layers=(1,)))]}, (1, 3, 4)),
        ({"a": [channel_mask(4, run_types=("cosmics",))]}, (1,)),
        ({"a": [channel_mask(4, until=UNIX)]}, (1,)),
        ({"a": [channel_mask(4, start=UNIX + 1.0)]}, (1,)),
        ({"b": [channel_mask(4)]}, (1,)),
    ],
)
def test_a_job_says_which_channels_count_for_nothing_now(
    masks: dict[str, list[Mask]], masked: tuple[int, ...]
) -> None:
    core, window = core_of(MonitorSettings({"a": CHANNELS, "b": CHANNELS}, 4)), channel_window(1, 2, 3, 4)
    admit(core, window)
    (told,) = core.handle(WorkersReady(1, 0.0, UNIX, masks))
    assert told == Evaluate(EvaluationJob(window, "c4a7", 0.03, 2, masked=masked))


def test_the_number_of_hits_is_tested_without_channels_that_count_for_nothing() -> None:
    core = core_of(MonitorSettings({"a": CHANNELS}, 4))
    noisy = channel_window(9000, 100, 100, 8000)

    def take(window: Window, masks: list[Mask], report: EvaluationReport | None) -> Verdict:
        admit(core, window)
        (told,) = core.handle(WorkersReady(1, 0.0, UNIX, {"a": masks}))
        assert isinstance(told, Evaluate)
        core.handle(Evaluated(window, report, "it failed", UNIX, told.job.masked))
        (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
        core.handle(Stored())
        assert isinstance(store, Store)
        return store.verdicts[0]

    by_configuration = take(noisy, [], report_of())
    assert (by_configuration.quality, by_configuration.result.n_data) == (Quality.BAD, 8200)
    by_mask = take(replace(noisy, seq=1), [channel_mask(4)], report_of())
    assert (by_mask.quality, by_mask.result.n_data, by_mask.result.n_expected) == (Quality.GOOD, 200, 200.0)
    assert by_mask.result.rate is not None
    assert by_mask.result.rate.n_expected == 200.0
    failed = take(replace(noisy, seq=2), [channel_mask(4)], None)
    assert (failed.quality, failed.reason, failed.result.n_data) == (Quality.NULL, "it failed", 200)


def test_windows_that_are_given_up_are_counted_without_masked_channels() -> None:
    core = core_of(MonitorSettings({"a": CHANNELS}, 2), overload_seconds=1.0)
    for seq in range(2):
        admit(core, channel_window(9000, 100, 100, 8000, seq=seq))
    for now in (0.0, 2.0):
        core.handle(WorkersReady(0, now, UNIX, {"a": [channel_mask(4)]}))
    (store,) = of_kind(Store, core.handle(Tick(2.0, UNIX)))
    assert isinstance(store, Store)
    assert (store.verdicts[0].quality, store.verdicts[0].result.n_data) == (Quality.NULL, 200)


COSMICS = StreamReference("c05c", ReferenceRule(("cosmics",)), RateTest(uncertainty=0.02))
BEAM = StreamReference("bea4", ReferenceRule(("beam",), {"hv": (-2.0, -1.0)}))
SEVERAL = MonitorSettings(
    {"a": StreamSettings(LIMITS, [COSMICS, BEAM, StreamReference("bea5", ReferenceRule(("beam",)))])}, 4
)


@pytest.mark.parametrize(
    ("run_type", "conditions", "bundle"),
    [
        ("cosmics", {}, "c05c"),
        ("beam", {"hv": -1.5}, "bea4"),
        ("beam", {"hv": -3.0}, "bea5"),
        ("beam", {}, "bea5"),
    ],
)
def test_the_first_reference_that_fits_a_window_judges_it(
    run_type: str, conditions: dict[str, float], bundle: str
) -> None:
    core, window = core_of(SEVERAL), window_of(run_type=run_type, conditions=conditions)
    admit(core, window)
    assert core.handle(WorkersReady(1, 0.0, UNIX)) == [Evaluate(EvaluationJob(window, bundle, 0.03, 2))]


def test_the_number_of_events_is_tested_by_the_reference_that_judges() -> None:
    core = core_of(SEVERAL)
    timed = {"cut": WindowCut.TIME, "n_expected": 3.0, "live_seconds": 1.0}
    by_cosmics = judge(core, window_of(run_type="cosmics", **timed))
    assert by_cosmics.result.rate is not None
    assert by_cosmics.result.rate.uncertainty == 0.02
    by_beam = judge(core, window_of(run=2, run_type="beam", **timed))
    assert by_beam.result.rate is not None
    assert by_beam.result.rate.uncertainty == 0.0


def test_a_window_that_no_reference_is_for_is_null_whatever_its_number_and_takes_no_worker() -> None:
    core = core_of(SEVERAL)
    window = window_of(run_type="pedestal", cut=WindowCut.TIME, n_expected=900.0, live_seconds=1.0)
    admit(core, window)
    assert core.handle(WorkersReady(1, 0.0, UNIX)) == []
    (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert isinstance(store, Store)
    (verdict,) = store.verdicts
    assert (verdict.quality, verdict.reason) == (Quality.NULL, "no reference for runs of type pedestal")
    assert (verdict.bundle, verdict.result.rate) == ("", None)
    assert Acknowledge(window) in core.handle(Stored())


def test_windows_that_wait_during_a_reload_are_judged_by_the_new_references() -> None:
    core, window = core_of(SEVERAL), window_of(run_type="pedestal")
    core.handle(ReloadPrepared(SETTINGS))
    admit(core, window)
    assert core.handle(WorkersReady(1, 0.0, UNIX)) == []
    assert Adopt() in core.handle(Tick(0.0, UNIX))
    core.handle(Adopted([]))
    (told,) = core.handle(WorkersReady(1, 0.0, UNIX))
    assert told == Evaluate(EvaluationJob(window, "3f9a", 0.03, 2))


def test_the_number_of_events_is_tested_whatever_becomes_of_the_shape() -> None:
    core = counting_core()
    few = window_of(x=np.zeros((30, 1)), cut=WindowCut.TIME, n_expected=487.5, live_seconds=10.0)
    verdict = judge(core, few, p=None)
    assert verdict.quality is Quality.BAD
    assert "events where 488 are expected (p < 1e-15)" in verdict.reason
    assert verdict.result.rate is not None
    assert judge(core, replace(few, seq=1, x=np.zeros((480, 1))), 1.0).quality is Quality.GOOD


def test_a_dead_chamber_is_bad_though_its_test_fails_or_the_daemon_cannot_keep_up() -> None:
    core = counting_core(overload_seconds=1.0)
    nothing = window_of(x=np.zeros((0, 1)), cut=WindowCut.TIME, n_expected=487.5, live_seconds=10.0)
    admit(core, nothing)
    core.handle(WorkersReady(1, 0.0, UNIX))
    core.handle(Evaluated(nothing, None, "the test failed", UNIX))
    for seq in range(1, 5):
        admit(core, replace(nothing, seq=seq))
    for now in (0.5, 1.0, 2.0):
        core.handle(WorkersReady(0, now, UNIX))
    (store,) = of_kind(Store, core.handle(Tick(2.0, UNIX)))
    assert isinstance(store, Store)
    assert [verdict.quality for verdict in store.verdicts] == [Quality.BAD] * 4
    assert store.verdicts[0].reason == "0 events where 488 are expected (p < 1e-15); the test failed"
    assert "overload" in store.verdicts[1].reason


def test_a_stream_that_is_not_configured_is_refused() -> None:
    (refuse,) = core_of().handle(Received(window_of(stream="c")))
    assert isinstance(refuse, Refuse)
    assert refuse.refusal.reason == Reason.UNKNOWN_STREAM
    assert refuse.refusal.what == "stream 'c' is not configured"


def test_a_window_with_a_verdict_is_acknowledged_again_and_not_judged() -> None:
    core, window = core_of(), window_of()
    verdict = judge(core, window)
    told = admit(core, window, verdict)
    assert [type(each) for each in told] == [ShowArrivals, CountDuplicate, Acknowledge]
    assert (core.n_waiting, core.n_in_flight) == (0, 0)


def test_a_window_that_is_in_flight_is_counted_and_neither_looked_up_nor_acknowledged() -> None:
    core, window = core_of(), window_of()
    admit(core, window)
    told = core.handle(Received(window))
    assert [type(each) for each in told] == [ShowArrivals, CountDuplicate]
    evaluate(core)
    assert LookUp not in [
        type(each) for each in core.handle(Received(window))
    ]  # its verdict is not stored yet


def test_the_store_is_asked_once_about_a_run_and_then_about_what_may_be_known() -> None:
    core = core_of()
    admit(core, window_of(5))
    assert not of_kind(LookUp, core.handle(Received(window_of(6))))
    before, of_another_run = window_of(2), window_of(0, run=2)
    assert core.handle(Received(before)) == [LookUp(before)]  # it may have been judged long ago
    core.handle(Found(before, None, 0))
    assert core.handle(Received(of_another_run)) == [LookUp(of_another_run)]
    assert core.n_in_flight == 3


def test_a_window_below_the_last_number_in_the_store_is_looked_up() -> None:
    core = core_of()
    first, seventh = window_of(0), window_of(7)
    core.handle(Received(first))
    core.handle(Found(first, None, 8))  # windows up to 7 have been judged: those of a core before this one
    assert core.handle(Received(seventh)) == [LookUp(seventh)]
    core.handle(Found(seventh, judge(core_of(), seventh), 8))
    assert not of_kind(LookUp, core.handle(Received(window_of(8))))


def test_other_events_under_a_known_name_are_refused() -> None:
    core = core_of()
    verdict = judge(core, window_of())
    (refuse,) = admit(core, window_of(start=5.0, end=6.0), verdict)
    assert isinstance(refuse, Refuse)
    assert refuse.refusal.reason == Reason.IDENTITY


def test_a_run_has_one_origin() -> None:
    core = core_of()
    admit(core, window_of())
    (refuse,) = admit(core, window_of(1, origin=Origin.REPLAYED))
    assert isinstance(refuse, Refuse)
    assert refuse.refusal.reason == Reason.ORIGIN
    (refuse,) = core.handle(Received(window_of(origin=Origin.REPLAYED)))  # in flight under the same name
    assert isinstance(refuse, Refuse)


def test_windows_left_out_are_lost_in_the_verdict_of_the_next() -> None:
    core = core_of()
    judge(core, window_of(0))
    verdict = judge(core, window_of(3))
    assert (verdict.window.n_lost, verdict.quality) == (2, Quality.NULL)


def test_what_a_store_has_says_what_was_lost_before_a_restart() -> None:
    core = core_of()
    before = judge(core, window_of(0))
    restarted = core_of()
    restarted.restore([before])
    assert judge(restarted, window_of(4)).window.n_lost == 3


def test_a_window_whose_lookup_fails_is_looked_up_again_and_nothing_is_received_meanwhile() -> None:
    core, window = core_of(), window_of()
    core.handle(Received(window))
    core.handle(StoreFailed(now=5.0))
    assert not core.wants_windows
    assert of_kind(LookUp, core.handle(Tick(5.0 + 0.5 * STORE_RETRY_SECONDS, UNIX))) == []
    assert of_kind(LookUp, core.handle(Tick(5.0 + STORE_RETRY_SECONDS, UNIX))) == [LookUp(window)]
    assert not core.wants_windows
    assert of_kind(LookUp, core.handle(Tick(6.5, UNIX))) == []  # it has been asked
    core.handle(Found(window, None, 0))
    assert (core.wants_windows, core.n_waiting) == (True, 1)


def test_verdicts_that_cannot_be_stored_are_stored_later_together_with_newer_ones() -> None:
    core = core_of()
    for seq in range(2):
        admit(core, window_of(seq))
    (first,) = [each.job for each in core.handle(WorkersReady(1, 0.0, UNIX)) if isinstance(each, Evaluate)]
    core.handle(Evaluated(first.window, report_of(), "", UNIX))
    assert of_kind(Store, core.handle(Tick(0.0, UNIX)))
    core.handle(StoreFailed(now=0.0))
    assert (core.wants_windows, core.is_held, core.has_unstored) == (False, True, True)
    evaluate(core)
    assert of_kind(Store, core.handle(Tick(0.5, UNIX))) == []
    (store,) = of_kind(Store, core.handle(Tick(STORE_RETRY_SECONDS, UNIX)))
    assert isinstance(store, Store)
    assert [verdict.window.seq for verdict in store.verdicts] == [0, 1]
    assert len(of_kind(Acknowledge, core.handle(Stored()))) == 2
    assert core.wants_windows


def test_while_the_store_has_not_answered_nothing_more_is_given_to_it_and_nothing_is_lost() -> None:
    core = core_of()
    for seq in range(2):
        admit(core, window_of(seq))
    first, second = [e.job.window for e in core.handle(WorkersReady(2, 0.0, UNIX)) if isinstance(e, Evaluate)]
    core.handle(Evaluated(first, report_of(), "", UNIX))
    assert len(of_kind(Store, core.handle(Tick(0.0, UNIX)))) == 1
    core.handle(Evaluated(second, report_of(), "", UNIX))
    assert of_kind(Store, core.handle(Tick(1.0, UNIX))) == []
    assert not core.wants_windows
    assert of_kind(Acknowledge, core.handle(Stored())) == [Acknowledge(first)]
    assert len(of_kind(Store, core.handle(Tick(2.0, UNIX)))) == 1
    assert of_kind(Acknowledge, core.handle(Stored())) == [Acknowledge(second)]


@pytest.mark.parametrize("failure", ["the test failed: no luck", "not tested: its worker died"])
def test_a_test_that_fails_gives_null_with_the_reason(failure: str) -> None:
    core, window = core_of(), window_of()
    admit(core, window)
    core.handle(WorkersReady(1, 0.0, UNIX))
    core.handle(Evaluated(window, None, failure, UNIX))
    (store,) = core.handle(Tick(0.0, UNIX))
    assert isinstance(store, Store)
    (verdict,) = store.verdicts
    assert (verdict.quality, verdict.reason, verdict.bundle) == (Quality.NULL, failure, "3f9a")
    assert (verdict.result.n_data, verdict.result.n_expected, verdict.result.p) == (3, 3.0, None)


def test_a_full_queue_stops_the_receiving() -> None:
    core = core_of()
    for seq in range(SETTINGS.most_waiting):
        assert core.wants_windows
        admit(core, window_of(seq))
    assert (core.wants_windows, core.room) == (False, 0)
    evaluate(core, room=1)
    core.handle(Tick(0.0, UNIX))
    core.handle(Stored())
    assert core.wants_windows


def test_a_queue_that_stays_full_gives_up_all_but_the_newest_window_of_each_stream() -> None:
    core = core_of(overload_seconds=10.0)
    for seq in range(3):
        admit(core, window_of(seq))
    admit(core, window_of(stream="b"))
    for now in (0.0, 9.0):
        assert core.handle(WorkersReady(0, now, UNIX)) == []
    assert core.handle(WorkersReady(0, 11.0, UNIX + 11.0)) == [CountSkipped("a"), CountSkipped("a")]
    (store,) = of_kind(Store, core.handle(Tick(11.0, UNIX + 11.0)))
    assert isinstance(store, Store)
    assert [(v.window.stream, v.window.seq, v.quality) for v in store.verdicts] == [
        ("a", 0, Quality.NULL),
        ("a", 1, Quality.NULL),
    ]
    assert all(verdict.reason.startswith("overload") for verdict in store.verdicts)
    assert len(of_kind(Acknowledge, core.handle(Stored()))) == 2
    assert {(w.stream, w.seq) for w in evaluate(core)} == {("a", 2), ("b", 0)}


def test_workers_get_no_more_than_they_can_take_and_streams_take_turns() -> None:
    core = core_of()
    for window in (window_of(0), window_of(1), window_of(0, stream="b")):
        admit(core, window)
    jobs = [each.job.window for each in core.handle(WorkersReady(2, 0.0, UNIX)) if isinstance(each, Evaluate)]
    assert [(w.stream, w.seq) for w in jobs] == [("a", 0), ("b", 0)]
    assert core.handle(WorkersReady(0, 0.0, UNIX)) == []


def test_thresholds_are_those_of_the_moment_at_which_a_window_is_graded() -> None:
    core = core_of()
    stricter = StreamSettings(replace(LIMITS, medium_p=0.9, bad_p=0.8), [StreamReference("3f9a")])
    assert judge(core, window_of(0)).quality is Quality.GOOD
    core.handle(ReloadPrepared(MonitorSettings({"a": stricter, "b": stricter}, 4)))
    assert of_kind(Adopt, core.handle(Tick(0.0, UNIX)))
    core.handle(Adopted([]))
    assert judge(core, window_of(1)).quality is Quality.BAD


def test_a_reload_waits_for_the_tests_that_have_begun_and_starts_none() -> None:
    core = core_of()
    admit(core, window_of(0))
    admit(core, window_of(1))
    (job,) = [each.job for each in core.handle(WorkersReady(1, 0.0, UNIX)) if isinstance(each, Evaluate)]
    core.handle(ReloadPrepared(SETTINGS))
    assert core.handle(WorkersReady(9, 0.0, UNIX)) == []
    assert of_kind(Adopt, core.handle(Tick(0.0, UNIX))) == []
    core.handle(Evaluated(job.window, report_of(), "", UNIX))
    assert of_kind(Adopt, core.handle(Tick(0.1, UNIX))) == []  # the verdict is not stored yet
    assert of_kind(Adopt, core.handle(Stored())) == [Adopt()]
    core.handle(Adopted([]))
    assert len(evaluate(core)) == 1


def test_a_reload_that_the_store_cannot_follow_is_tried_again() -> None:
    core = core_of()
    core.handle(ReloadPrepared(SETTINGS))
    assert of_kind(Adopt, core.handle(Tick(0.0, UNIX)))
    core.handle(StoreFailed(now=0.0))
    assert of_kind(Adopt, core.handle(Tick(0.5, UNIX))) == []
    assert of_kind(Adopt, core.handle(Tick(STORE_RETRY_SECONDS, UNIX)))


def test_a_reload_that_is_abandoned_leaves_all_as_it_was() -> None:
    core = core_of()
    admit(core, window_of())
    core.handle(ReloadPrepared(MonitorSettings({}, 4)))
    core.handle(ReloadAbandoned())
    assert len(evaluate(core)) == 1


def test_windows_of_a_stream_that_is_gone_are_refused() -> None:
    core = core_of()
    admit(core, window_of(stream="b"))
    admit(core, window_of(stream="a"))
    unanswered = window_of(0, stream="b", run=2)  # the store has not answered when the reload comes
    assert core.handle(Received(unanswered)) == [LookUp(unanswered)]
    core.handle(ReloadPrepared(MonitorSettings({"a": STREAM}, most_waiting=2)))
    assert of_kind(Adopt, core.handle(Tick(0.0, UNIX)))
    (refuse,) = core.handle(Adopted([]))
    assert isinstance(refuse, Refuse)
    assert identity_of(refuse.window) == ("b", 1, 0)
    (late,) = core.handle(Found(unanswered, None, 0))
    assert isinstance(late, Refuse)
    assert [window.stream for window in evaluate(core)] == ["a"]


def test_a_new_stream_goes_on_where_the_store_ends() -> None:
    other = core_of()
    last = judge(other, window_of(0, stream="b"))
    core = core_of(MonitorSettings({"a": STREAM}, 4))
    core.handle(ReloadPrepared(SETTINGS))
    core.handle(Tick(0.0, UNIX))
    core.handle(Adopted([last]))
    assert judge(core, window_of(3, stream="b"), now=1.0).window.n_lost == 2


def test_alarms_are_told_the_time_once_a_second_also_under_load() -> None:
    core, looks = core_of(), 0
    for step in range(40):
        now = 0.1 * step
        admit(core, window_of(step))
        evaluate(core)
        assert of_kind(UpdateAlarms, core.handle(Tick(now, UNIX + now))) == []
        looks += len(of_kind(UpdateAlarms, core.handle(Stored())))
    assert looks == 4


def test_alarms_wait_for_the_store_while_the_page_shows_silence() -> None:
    core = core_of()
    core.handle(Tick(0.0, UNIX))
    admit(core, window_of())
    evaluate(core)
    core.handle(Tick(1.0, UNIX + 1.0))
    core.handle(StoreFailed(now=1.0))
    for now in (1.5, 2.5):
        told = core.handle(Tick(now, UNIX + now))
        assert of_kind(UpdateAlarms, told) == []
        core.handle(StoreFailed(now=now))
    silence = [len(of_kind(ShowSilence, core.handle(Tick(now, UNIX + now)))) for now in (3.0, 3.2, 3.4)]
    assert sum(silence) == 1


@pytest.mark.parametrize(
    ("pause", "skipped"),
    [(1.0, []), (LONGEST_PAUSE_SECONDS + 1, [ResumeWaits(UNIX)]), (-3e3, [])],
)
def test_a_pause_is_no_silence(pause: float, skipped: list[ResumeWaits]) -> None:
    core = core_of()
    core.handle(Tick(0.0, UNIX))
    looked = [UpdateAlarms(), Prune(), ShowSilence()]
    assert core.handle(Tick(1.0, UNIX + pause)) == [*skipped, *looked]
    assert core.handle(Tick(2.0, UNIX + pause + 1.0)) == looked


def test_a_core_that_stops_finishes_what_has_begun_and_takes_nothing_more() -> None:
    core = core_of()
    admit(core, window_of(0))
    admit(core, window_of(1))
    (job,) = [each.job for each in core.handle(WorkersReady(1, 0.0, UNIX)) if isinstance(each, Evaluate)]
    core.handle(Stop())
    assert (core.wants_windows, core.is_idle) == (False, False)
    assert core.handle(WorkersReady(9, 0.0, UNIX)) == []
    core.handle(Evaluated(job.window, report_of(), "", UNIX))
    assert of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert [type(each) for each in core.handle(Stored())] == [ShowRun, Acknowledge, Publish]
    assert (core.is_idle, core.n_in_flight) == (True, 1)


def say(
    core: MonitorCore,
    event: str,
    run: int = 1,
    time: float = UNIX,
    *,
    streams: str = "a",
    why: str = "",
    sender: CollectorKey | None = None,
) -> list[Instruction]:
    """Tell the core that a run begins or ends; what it says at once."""
    notice = RunNotice(streams, run, "physics", RunEvent(event), time, why)
    return core.handle(RunReceived(RunMessage(notice, sender), UNIX))


def store(core: MonitorCore, now: float = 0.0) -> tuple[Store | None, list[Instruction]]:
    """Let the loop come round, and the store take what there is."""
    found = of_kind(Store, core.handle(Tick(now, UNIX + now)))
    if not found:
        return None, []
    (one,) = found
    assert isinstance(one, Store)
    return one, core.handle(Stored())


def records_of(core: MonitorCore) -> tuple[RunRecord, ...]:
    stored, _ = store(core)
    return stored.runs if stored is not None else ()


def refusal_of(told: list[Instruction]) -> tuple[str, str]:
    """Reason and words of the only answer."""
    (answer,) = told
    assert isinstance(answer, AnswerRun)
    assert answer.refusal is not None
    return answer.refusal.reason, answer.refusal.what


def test_a_border_of_a_run_is_stored_then_acknowledged_then_shown() -> None:
    core = core_of()
    assert say(core, "end", time=UNIX + 9.0, why="operator") == []
    assert core.wants_windows
    stored, told = store(core)
    assert stored is not None
    (record,) = stored.runs
    assert (record.stream, record.run, record.ended_at, record.why) == ("a", 1, UNIX + 9.0, "operator")
    answer, shown, *_ = told
    assert isinstance(answer, AnswerRun)
    assert answer.refusal is None
    assert shown == ShowRun(record)


def test_one_message_ends_the_run_of_250_streams_in_one_transaction() -> None:
    names = [f"chamber-{n}" for n in range(250)]
    core = core_of(MonitorSettings({**dict.fromkeys(names, STREAM), "beam": STREAM}, 500))
    assert say(core, "begin", streams="chamber-*") == []
    store(core)
    assert say(core, "end", time=UNIX + 1.0, streams="chamber-*") == []
    stored, told = store(core)
    assert stored is not None
    assert [record.stream for record in stored.runs] == names
    assert {(record.began_at, record.ended_at) for record in stored.runs} == {(UNIX, UNIX + 1.0)}
    assert len(of_kind(AnswerRun, told)) == 1


def test_the_first_window_of_a_run_begins_it_all_the_same() -> None:
    core = core_of()
    admit(core, window_of(run=7, run_type="cosmics"))
    evaluate(core)
    stored, _ = store(core)
    assert stored is not None
    assert stored.runs == (RunRecord("a", 7, "cosmics", 1, noted_at=UNIX),)
    judge(core, window_of(1, run=7, run_type="cosmics"))
    assert say(core, "begin", run=7, time=UNIX - 5.0) == []
    (record,) = records_of(core)
    assert (record.position, record.began_at) == (1, UNIX - 5.0)


def test_a_late_window_moves_no_run_and_is_judged() -> None:
    core = core_of()
    judge(core, window_of(run=7))
    say(core, "end", run=7, time=UNIX)
    store(core)
    judge(core, window_of(run=8))
    admit(core, window_of(1, run=7))
    evaluate(core)
    stored, _ = store(core, 1.0)
    assert stored is not None
    assert stored.runs == ()
    assert [(verdict.window.run, verdict.window.is_late) for verdict in stored.verdicts] == [(7, True)]


def test_a_repeated_end_is_acknowledged_and_another_one_is_refused() -> None:
    core = core_of()
    say(core, "end", time=UNIX, why="operator")
    store(core)
    assert say(core, "end", time=UNIX, why="operator") == []
    stored, told = store(core)
    assert stored == Store((), ())
    assert [type(each) for each in told[:1]] == [AnswerRun]
    reason, what = refusal_of(say(core, "end", time=UNIX, why="beam dump"))
    assert (reason, what) == (
        Reason.RUN_ENDED,
        "run 1 of a ended already at 2023-11-14 22:13:20 UTC: operator",
    )


def test_a_pattern_ends_the_streams_that_have_not_ended() -> None:
    core = core_of()
    say(core, "end", time=UNIX, streams="a")
    store(core)
    assert say(core, "end", time=UNIX + 5.0, streams="?") == []
    assert [record.stream for record in records_of(core)] == ["b"]


def test_a_run_that_would_end_before_it_begins_is_refused_in_all_streams() -> None:
    core = core_of()
    say(core, "begin", time=UNIX, streams="a")
    store(core)
    reason, what = refusal_of(say(core, "end", time=UNIX - 1.0, streams="*"))
    assert reason == Reason.RUN_TIME
    assert "run 1 of a would end at 2023-11-14 22:13:19 UTC, before it begins" in what
    assert store(core) == (None, [])


def test_a_key_ends_runs_only_of_the_streams_that_it_may_send() -> None:
    core, sender = core_of(), CollectorKey("west", ("a",))
    reason, what = refusal_of(say(core, "end", streams="*", sender=sender))
    assert (reason, what) == (Reason.STREAM_NOT_ALLOWED, "west may not end runs of stream b")
    assert say(core, "end", streams="a", sender=sender) == []
    assert [record.stream for record in records_of(core)] == ["a"]


def test_a_pattern_that_fits_no_stream_is_refused() -> None:
    assert refusal_of(say(core_of(), "end", streams="c*")) == (
        Reason.UNKNOWN_STREAM,
        "no configured stream fits 'c*'",
    )


def test_a_run_goes_on_after_a_stop_and_an_older_begin_does_not_open_it() -> None:
    core = core_of()
    say(core, "begin", time=UNIX)
    say(core, "end", time=UNIX + 10.0)
    say(core, "begin", time=UNIX + 5.0)
    assert records_of(core)[-1].ended_at == UNIX + 10.0
    say(core, "begin", time=UNIX + 20.0)
    (record,) = records_of(core)
    assert (record.began_at, record.resumed_at, record.ended_at) == (UNIX, UNIX + 20.0, None)
    reason, what = refusal_of(say(core, "end", time=UNIX + 15.0))
    assert reason == Reason.RUN_TIME
    assert what.endswith("at 2023-11-14 22:13:35 UTC, before it goes on at 2023-11-14 22:13:40 UTC")
    assert say(core, "end", time=UNIX + 30.0) == []
    (record,) = records_of(core)
    assert (record.began_at, record.ended_at) == (UNIX, UNIX + 30.0)


def test_a_restarted_core_knows_when_a_run_went_on() -> None:
    core = core_of()
    say(core, "begin", time=UNIX)
    say(core, "end", time=UNIX + 10.0)
    say(core, "begin", time=UNIX + 20.0)
    restarted = core_of()
    restarted.restore([], records_of(core))
    assert refusal_of(say(restarted, "end", time=UNIX + 15.0))[0] == Reason.RUN_TIME


def test_a_run_that_goes_on_after_another_one_is_the_present_run_again() -> None:
    core = core_of()
    for run, begin in ((7, 0.0), (8, 10.0)):
        say(core, "begin", run=run, time=UNIX + begin)
        say(core, "end", run=run, time=UNIX + begin + 5.0)
    store(core)
    say(core, "begin", run=7, time=UNIX + 20.0)
    (record,) = records_of(core)
    assert (record.run, record.position, record.ended_at) == (7, 3, None)


def test_borders_of_runs_wait_for_a_store_that_fails_and_stop_the_receiving() -> None:
    core = core_of()
    say(core, "end")
    assert of_kind(Store, core.handle(Tick(0.0, UNIX)))
    core.handle(StoreFailed(now=0.0))
    assert (core.wants_windows, core.has_unstored) == (False, True)
    core.handle(Tick(0.5, UNIX))
    assert not core.wants_windows
    stored, told = store(core, STORE_RETRY_SECONDS)
    assert stored is not None
    assert len(stored.runs) == len(of_kind(AnswerRun, told)) == 1
    assert core.wants_windows


def test_a_restarted_core_knows_which_runs_have_ended() -> None:
    core = core_of()
    say(core, "end", time=UNIX, why="operator")
    restarted = core_of()
    restarted.restore([], records_of(core))
    assert refusal_of(say(restarted, "end", time=UNIX + 1.0))[0] == Reason.RUN_ENDED
    assert say(restarted, "end", time=UNIX, why="operator") == []
    assert records_of(restarted) == ()


def forgetful_core() -> tuple[MonitorCore, RunRecord]:
    """A core that has forgotten run 3, and what the store has of this run."""
    core = core_of()
    say(core, "begin", run=3, time=UNIX)
    say(core, "end", run=3, time=UNIX + 1.0, why="operator")
    *_, old = records_of(core)
    for run in range(4, 4 + 2 * REMEMBERED_RUNS):
        say(core, "begin", run=run, time=UNIX + run)
    say(core, "end", run=3 + 2 * REMEMBERED_RUNS, time=UNIX + 100.0)
    store(core)
    return core, old


def test_a_forgotten_run_does_not_end_twice() -> None:
    core, old = forgetful_core()
    notice = RunNotice("a", 3, "physics", RunEvent.END, UNIX + 200.0, "again")
    told = core.handle(RunReceived(RunMessage(notice, None), UNIX, (old,)))
    assert refusal_of(told)[0] == Reason.RUN_ENDED


def test_a_window_of_a_forgotten_run_is_late() -> None:
    core, old = forgetful_core()
    late = window_of(run=3)
    assert core.handle(Received(late)) == [LookUp(late)]
    core.handle(Found(late, None, 0, old))
    evaluate(core)
    stored, _ = store(core, 1.0)
    assert stored is not None
    assert (stored.runs, [verdict.window.is_late for verdict in stored.verdicts]) == ((), [True])


def test_a_duplicate_is_acknowledged_only_after_the_borders_that_came_before_it() -> None:
    core, window = core_of(), window_of()
    verdict = judge(core, window)
    say(core, "end")
    assert of_kind(Acknowledge, admit(core, window, verdict)) == []
    _, told = store(core, 1.0)
    assert [type(each) for each in told[:2]] == [AnswerRun, Acknowledge]


def begin(core: MonitorCore, room: int = 9) -> list[EvaluationJob]:
    told = core.handle(WorkersReady(room, 0.0, UNIX))
    return [each.job for each in told if isinstance(each, Evaluate)]


def roll(
    core: MonitorCore,
    seq: int,
    *,
    p: float = 0.5,
    rolling_p: float = 0.5,
    alarms: RollingAlarmState | None = None,
) -> tuple[EvaluationJob, Verdict]:
    """Lead a window of stream a through; give the job that was made of it, and its verdict."""
    admit(core, window_of(seq))
    (job,) = begin(core)
    core.handle(Evaluated(job.window, rolled(report_of(p), job, rolling_p), "", UNIX))
    (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert isinstance(store, Store)
    core.handle(Stored({"a": alarms or RollingAlarmState()}))
    return job, store.verdicts[-1]


def past_of(job: EvaluationJob) -> list[int]:
    assert isinstance(job.rolling, RollingJob)
    assert job.rolling.n_permutations == 100
    return [window.seq for window in job.rolling.past]


def rolling_core() -> MonitorCore:
    return core_of(MonitorSettings({"a": ROLLING, "b": STREAM}, most_waiting=9))


def test_a_window_is_compared_with_the_last_good_ones() -> None:
    core = rolling_core()
    for seq, n in enumerate((0, 0, 1)):
        job, verdict = roll(core, seq)
        assert job.rolling == RollingResult(n, reason=f"{n} of 2 good windows before it")
        assert verdict.result.rolling == job.rolling
    assert past_of(roll(core, 3)[0]) == [0, 1]
    assert past_of(roll(core, 4, p=1e-6)[0]) == [1, 2]
    assert [past_of(roll(core, seq)[0]) for seq in (5, 6, 7, 8)] == [[1, 2], [1, 2], [1, 2], [2, 6]]
    assert past_of(roll(core, 9, alarms=RollingAlarmState(freezes=True))[0]) == [6, 7]
    assert past_of(roll(core, 10)[0]) == [6, 7]


def test_a_change_alone_leaves_a_window_good_and_does_not_enter() -> None:
    core = rolling_core()
    for seq in range(4):
        roll(core, seq)
    _, verdict = roll(core, 4, rolling_p=1e-4)
    assert (verdict.quality, verdict.reason) == (Quality.GOOD, "")
    assert past_of(roll(core, 5)[0]) == [1, 2]


def test_the_next_window_of_a_rolling_stream_waits_for_the_last_one() -> None:
    core = rolling_core()
    for window in (window_of(0), window_of(1), window_of(0, "b"), window_of(1, "b")):
        admit(core, window)
    jobs = begin(core)
    assert [identity_of(job.window)[::2] for job in jobs] == [("a", 0), ("b", 0), ("b", 1)]
    assert not core.can_evaluate, "the loop would not wait"
    core.handle(Evaluated(jobs[0].window, rolled(report_of(), jobs[0]), "", UNIX))
    assert begin(core) == [], "its verdict is not stored"
    core.handle(Tick(0.0, UNIX))
    core.handle(Stored())
    assert [job.window.seq for job in begin(core)] == [1]


def test_a_test_that_takes_its_worker_with_it_is_done_again_without_maps() -> None:
    core = core_of()
    admit(core, window_of())
    (job,) = begin(core)
    failure = "not tested: its test took longer than 30 s"
    (told,) = core.handle(Evaluated(job.window, None, failure, UNIX, lost=job))
    assert isinstance(told, Evaluate)
    assert told.job == replace(job, no_maps="its test took longer than 30 s")
    assert core.handle(Evaluated(job.window, report_of(1e-6), "", UNIX)) == []
    (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert isinstance(store, Store)
    assert store.verdicts[0].quality is Quality.BAD


def test_a_worker_is_told_whether_other_windows_wait() -> None:
    core = core_of()
    for seq in range(3):
        admit(core, window_of(seq))
    assert [job.others_wait for job in begin(core)] == [True, True, False]


def test_a_test_that_fails_with_its_rolling_test_is_done_again_without() -> None:
    core = rolling_core()
    for seq in range(4):
        roll(core, seq)
    admit(core, window_of(4))
    (job,) = begin(core)
    why = "its worker died by signal 9 (SIGKILL)"
    failure = f"not tested: {why}"
    (told,) = core.handle(Evaluated(job.window, None, failure, UNIX, lost=job))
    assert isinstance(told, Evaluate)
    assert told.job == replace(job, rolling=RollingResult(2, reason=failure), no_maps=why)
    assert not core.is_idle
    report = rolled(report_of(1e-6), told.job)
    assert core.handle(Evaluated(job.window, report, "", UNIX)) == []
    (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert isinstance(store, Store)
    assert store.verdicts[0].quality is Quality.BAD
    core.handle(Stored())
    admit(core, window_of(5))
    (job,) = begin(core)
    assert core.handle(Evaluated(job.window, None, failure, UNIX, lost=told.job)) == []
    (store,) = of_kind(Store, core.handle(Tick(0.0, UNIX)))
    assert isinstance(store, Store)
    assert (store.verdicts[0].quality, store.verdicts[0].reason) == (Quality.NULL, failure)


def test_where_many_windows_wait_none_waits_for_its_rolling_test() -> None:
    core = core_of(MonitorSettings({"a": ROLLING}, most_waiting=8))
    for seq in range(4):
        roll(core, seq)
    for seq in range(4, 11):
        admit(core, window_of(seq))
    jobs = begin(core)
    assert [job.window.seq for job in jobs] == [4, 5, 6]
    assert [getattr(job.rolling, "reason", "") for job in jobs] == [CROWDED, CROWDED, ""]
    assert past_of(jobs[2]) == [1, 2]
    for job in jobs:
        core.handle(Evaluated(job.window, rolled(report_of(), job), "", UNIX))
    core.handle(Tick(0.0, UNIX))
    core.handle(Stored())
    assert past_of(begin(core)[0]) == [4, 5]


def test_a_reload_keeps_the_last_good_windows_and_forgets_those_nobody_wants() -> None:
    core = rolling_core()
    for seq in range(4):
        roll(core, seq)
    cases = ((4, ROLLING, [1, 2]), (5, STREAM, None), (6, ROLLING, []))
    for seq, stream, expected in cases:
        core.handle(ReloadPrepared(MonitorSettings({"a": stream, "b": STREAM}, 9)))
        core.handle(Tick(0.0, UNIX))
        core.handle(Adopted([]))
        admit(core, window_of(seq))
        (job,) = begin(core)
        if expected:
            assert past_of(job) == expected
        elif expected is None:
            assert job.rolling is None
        else:
            assert job.rolling == RollingResult(0, reason="0 of 2 good windows before it")
        core.handle(Evaluated(job.window, rolled(report_of(), job), "", UNIX))
        core.handle(Tick(0.0, UNIX))
        core.handle(Stored())


STREAMS = ("a", "b", "c")


class AnyInterleaving(RuleBasedStateMachine):
    """Events in any order that the daemon may bring about; a store that fails whenever it likes.

    The model keeps what senders, workers and store have: no window may be lost, none stored twice, and none
    acknowledged before it is stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.core = core_of(MonitorSettings({"a": STREAM, "b": ROLLING}, 3), overload_seconds=5.0)
        self.configured = {"a", "b"}
        self.now = 0.0
        self.unconfirmed: dict[Identity, Window] = {}
        self.asked: Window | None = None
        self.evaluating: list[EvaluationJob] = []
        self.storing: tuple[Verdict, ...] | None = None
        self.stored: dict[Identity, Verdict] = {}
        self.adopting = False
        self.prepared: set[str] | None = None
        self.sent = dict.fromkeys(STREAMS, 0)
        self.is_stopped = False
        self.n_received = 0
        self.received_at: dict[Identity, int] = {}
        self.announced: list[tuple[int, RunMessage]] = []
        self.storing_runs: tuple[RunRecord, ...] = ()
        self.stored_runs: list[RunRecord] = []

    def tell(self, event: Event) -> None:
        for instruction in self.core.handle(event):
            match instruction:
                case LookUp(window):
                    assert self.asked is None
                    self.asked = window
                case Evaluate(job):
                    assert identity_of(job.window) not in self.stored
                    assert job.window.stream in self.configured
                    self.evaluating.append(job)
                    compared = [
                        one.window
                        for one in self.evaluating
                        if one.rolling is not None and getattr(one.rolling, "reason", "") != CROWDED
                    ]
                    assert len(compared) <= 1, "what a window is compared with depends on workers"
                case Store(verdicts, runs):
                    assert self.storing is None
                    assert verdicts or self.announced or self.n_duplicates_wait
                    self.storing, self.storing_runs = verdicts, runs
                case AnswerRun(message, refusal):
                    is_at_once = isinstance(event, RunReceived)
                    assert is_at_once is (refusal is not None), "answered before it was stored"
                    assert is_at_once or isinstance(event, Stored)
                    self.announced = [each for each in self.announced if each[1] is not message]
                case ShowRun(record):
                    assert record in self.stored_runs
                case Acknowledge(window):
                    assert identity_of(window) in self.stored, "acknowledged before it was stored"
                    before = [m for n, m in self.announced if n < self.received_at[identity_of(window)]]
                    assert not before, "a border that came before is not stored"
                    self.unconfirmed.pop(identity_of(window), None)
                case Refuse(window):
                    assert window.stream not in self.configured
                    self.unconfirmed.pop(identity_of(window), None)
                case Publish(verdict):
                    assert identity_of(verdict.window) in self.stored
                case Adopt():
                    assert not self.evaluating
                    self.adopting = True

    @property
    def n_duplicates_wait(self) -> int:
        return len(self.core._answers)

    def note_arrival(self, window: Window) -> None:
        self.n_received += 1
        self.received_at[identity_of(window)] = self.n_received

    @precondition(lambda self: self.core.wants_windows)
    @rule(stream=st.sampled_from(STREAMS))
    def receive_a_new_window(self, stream: str) -> None:
        window = window_of(self.sent[stream], stream, run=1 + self.sent[stream] // 3)
        self.sent[stream] += 1
        self.unconfirmed[identity_of(window)] = window
        self.note_arrival(window)
        self.tell(Received(window))

    @precondition(lambda self: self.core.wants_windows)
    @rule(
        streams=st.sampled_from((*STREAMS, "*")),
        run=st.integers(1, 3),
        event=st.sampled_from(RunEvent),
        moment=st.integers(0, 3),
        sender=st.sampled_from([None, CollectorKey("west", ("a",))]),
    )
    def receive_a_message_about_a_run(
        self, streams: str, run: int, event: RunEvent, moment: int, sender: CollectorKey | None
    ) -> None:
        message = RunMessage(RunNotice(streams, run, "physics", event, float(moment)), sender)
        self.n_received += 1
        self.announced.append((self.n_received, message))
        self.tell(RunReceived(message, UNIX + self.now))

    @precondition(lambda self: self.core.wants_windows and (self.unconfirmed or self.stored))
    @rule(data=st.data())
    def receive_a_window_again(self, data: st.DataObject) -> None:
        known = sorted({*self.unconfirmed, *self.stored})
        stream, run, seq = data.draw(st.sampled_from(known))
        window = window_of(seq, stream, run)
        self.unconfirmed.setdefault(identity_of(window), window)
        if identity_of(window) in self.stored:  # else it is acknowledged with its first arrival
            self.note_arrival(window)
        self.tell(Received(window))

    @precondition(lambda self: self.asked is not None)
    @rule()
    def the_store_answers(self) -> None:
        window = self.asked
        self.asked = None
        assert window is not None
        numbers = [seq for (*run, seq) in self.stored if run == [window.stream, window.run]]
        self.tell(Found(window, self.stored.get(identity_of(window)), max(numbers, default=-1) + 1))

    @precondition(lambda self: self.core.n_waiting > 0)
    @rule(room=st.integers(0, 3))
    def workers_are_ready(self, room: int) -> None:
        self.tell(WorkersReady(room, self.now, UNIX + self.now))

    @precondition(lambda self: self.evaluating)
    @rule(data=st.data(), p=st.sampled_from([0.5, 0.02, 1e-6, None]), fails=st.booleans())
    def a_test_ends(self, data: st.DataObject, p: float | None, fails: bool) -> None:
        job = self.evaluating.pop(data.draw(st.integers(0, len(self.evaluating) - 1)))
        report = None if fails else rolled(report_of(p, "unknown"), job)
        failure = "the test failed" if fails else ""
        lost = job if fails and data.draw(st.booleans()) else None
        self.tell(Evaluated(job.window, report, failure, UNIX + self.now, lost=lost))

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick(self.now, UNIX + self.now))

    @precondition(lambda self: self.storing is not None)
    @rule()
    def verdicts_are_stored(self) -> None:
        verdicts, self.storing = self.storing, None
        for verdict in verdicts or ():
            assert identity_of(verdict.window) not in self.stored, "stored twice"
            self.stored[identity_of(verdict.window)] = verdict
        self.stored_runs += self.storing_runs
        self.tell(Stored())

    @precondition(lambda self: self.storing is not None and self.evaluating)
    @rule(data=st.data(), seconds=st.sampled_from([0.3, 7.0]))
    def a_test_ends_while_the_store_is_busy(self, data: st.DataObject, seconds: float) -> None:
        """Rare by chance alone, and the only way to a second `Store` before the first is answered."""
        self.a_test_ends(data=data, p=0.5, fails=False)
        self.time_passes(seconds)

    @precondition(lambda self: self.storing is not None or self.asked is not None or self.adopting)
    @rule()
    def the_store_fails(self) -> None:
        self.storing = self.asked = None
        self.adopting = False
        self.tell(StoreFailed(self.now))

    @precondition(lambda self: self.prepared is None and not self.is_stopped and sum(self.sent.values()) > 4)
    @rule(streams=st.sets(st.sampled_from(STREAMS), min_size=1), room=st.integers(1, 4))
    def a_reload_is_prepared(self, streams: set[str], room: int) -> None:
        self.prepared = streams
        known = {name: ROLLING if name == "b" else STREAM for name in sorted(streams)}
        self.tell(ReloadPrepared(MonitorSettings(known, room)))

    @precondition(lambda self: self.adopting)
    @rule(is_adopted=st.booleans())
    def a_reload_ends(self, is_adopted: bool) -> None:
        self.adopting = False
        if is_adopted:
            assert self.prepared is not None
            self.configured = self.prepared
        self.prepared = None
        self.tell(Adopted([]) if is_adopted else ReloadAbandoned())

    @precondition(lambda self: sum(self.sent.values()) > 12)
    @rule()
    def the_daemon_stops(self) -> None:
        self.is_stopped = True
        self.tell(Stop())

    @invariant()
    def no_window_is_lost(self) -> None:
        """Whatever a sender waits for is stored, in flight, being looked up, or no longer configured."""
        in_flight = self.core._in_flight.keys()
        undecided = self.core._undecided
        for identity in self.unconfirmed:
            is_undecided = undecided is not None and identity_of(undecided) == identity
            assert identity in in_flight or is_undecided or identity in self.stored, identity

    def teardown(self) -> None:
        """Let everything end: all that was admitted gets a verdict, and every sender an answer."""
        if self.is_stopped:
            return
        for _ in range(200):
            if self.adopting:
                self.a_reload_ends(is_adopted=True)
            if self.asked is not None:
                self.the_store_answers()
            self.tell(WorkersReady(2, self.now, UNIX + self.now))
            while self.evaluating:
                job = self.evaluating.pop()
                self.tell(Evaluated(job.window, rolled(report_of(), job), "", UNIX + self.now))
            self.time_passes(1.5)
            if self.storing is not None:
                self.verdicts_are_stored()
        assert (self.core.n_in_flight, self.core.is_idle) == (0, True)
        assert not {i for i in self.unconfirmed if i not in self.stored}
        assert not self.announced
        self.a_restart_knows_the_same_runs()

    def a_restart_knows_the_same_runs(self) -> None:
        """What is stored is enough to know which run each stream is in."""
        unstored = {record.stream for record in self.core._unstored_runs}
        restarted = RunTracker()
        restarted.restore(self.stored_runs)
        for stream in set(STREAMS) - unstored:
            assert restarted.present(stream) == self.core._runs.present(stream)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=100, stateful_step_count=50)
