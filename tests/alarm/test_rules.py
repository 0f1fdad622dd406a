"""From a configuration to rules and thresholds."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from scipy import stats

from dqm.alarm import (
    Cause,
    Priority,
    StreamFacts,
    Thresholds,
    alarm_rules,
    derive_thresholds,
    quality_limits,
)
from dqm.alarm.budget import LARGEST_P, onset_rate, run_length
from dqm.alarm.thresholds import CERTAIN_P
from dqm.config import DaemonConfig
from dqm.errors import ConfigError, InputError


def config(*streams: dict[str, Any], n_streams: int = 4, **tables: Any) -> DaemonConfig:
    given = streams or [{"name": f"s{number}"} for number in range(n_streams)]
    return DaemonConfig.model_validate({"streams": [{"bundle": "b"} | stream for stream in given]} | tables)


def test_everything_of_an_alarm_has_a_text_for_every_cause() -> None:
    (rules,) = alarm_rules(config(n_streams=1)).streams
    assert rules.priority is Priority.P2
    for cause in Cause:
        guidance = rules.guidance[cause]
        assert guidance.condition
        assert guidance.action
        assert guidance.contact == "the detector expert on call"
    assert len({guidance.action for guidance in rules.guidance.values()}) == len(Cause)


def test_what_a_stream_leaves_out_it_inherits_from_the_nearest_group() -> None:
    found = alarm_rules(
        config(
            {"name": "a", "group": "muon/one/left"},
            {"name": "b", "group": "muon/one", "priority": "P4", "enabled": True, "contact": "Bea"},
            {"name": "c"},
            alarm={"contact": "crew", "priority": "P3", "run_types": ["physics"], "condition": "something"},
            groups={
                "muon": {"priority": "P1", "action": "look", "run_types": [], "enabled": False},
                "muon/one": {"contact": "Mia", "policy": "all"},
            },
        )
    )
    a, b, c = found.streams
    assert (a.priority, a.enabled, a.run_types) == ("P1", False, ())
    assert (b.priority, b.enabled, c.priority, c.enabled) == ("P4", True, "P3", True)
    assert c.run_types == ("physics",)
    assert [s.guidance[Cause.SILENT].contact for s in found.streams] == ["Mia", "Bea", "crew"]
    assert a.guidance[Cause.DIFFERS].action == a.guidance[Cause.DRIFT].action == "look"
    assert a.guidance[Cause.SILENT].action != "look"
    assert c.guidance[Cause.DIFFERS].condition == "something"
    assert found.policies == {"muon": "any", "muon/one": "all"}


@functools.cache
def thresholds(n_streams: int, autocorrelation: float) -> Thresholds:
    """Solve for the thresholds, which takes a second where windows are correlated."""
    return derive_thresholds(config(n_streams=n_streams, alarm={"autocorrelation": autocorrelation}))


@pytest.mark.slow
def test_a_stream_that_wanders_makes_the_limits_stricter_in_proportion_to_its_windows() -> None:
    def of(n_streams: int, *wandering: str, **alarm: float) -> Thresholds:
        facts = {name: StreamFacts(wanders=True) for name in wandering}
        return derive_thresholds(config(n_streams=n_streams, alarm=alarm), facts)

    names = [stream.name for stream in config(n_streams=2).streams]
    alone, plain, bound = of(1, names[0]), of(1), of(1, autocorrelation=0.7)
    assert (alone.p_threshold, alone.drift_limit) == (bound.p_threshold, bound.drift_limit)
    assert of(1, names[0], autocorrelation=0.7) == bound, "the larger one counts"
    both, one, none = of(2, *names), of(2, names[0]), of(2)
    assert both.p_threshold < one.p_threshold < none.p_threshold
    assert (both.drift_limit or 0.0) > (one.drift_limit or 0.0) > (none.drift_limit or 0.0)
    assert sum(one.false_alarms_per_shift.values()) == pytest.approx(1.0, abs=5e-3)
    assert alone.p_threshold < plain.p_threshold


@pytest.mark.parametrize(
    ("n_streams", "autocorrelation"),
    [(1, 0.0), (4, 0.0), (50, 0.0), (250, 0.0), (1, 0.4), (250, 0.4)],
)
def test_the_budget_is_spent_and_not_more(n_streams: int, autocorrelation: float) -> None:
    found = thresholds(n_streams, autocorrelation)
    assert found.windows_per_shift == 480 * n_streams
    expected = found.false_alarms_per_shift
    assert sum(expected.values()) == pytest.approx(1.0, abs=5e-3)
    assert expected[Cause.DRIFT] == pytest.approx(0.5, abs=5e-3)
    assert (expected[Cause.SILENT], expected[Cause.NUISANCE]) == (0.0, 0.0)
    if not autocorrelation:
        assert found.drift_limit is not None
        assert onset_rate(found.p_threshold, 2, 3) * 480 * n_streams == pytest.approx(0.5, rel=1e-6)
        assert 480 * n_streams / run_length(found.drift_limit) == pytest.approx(0.5, rel=5e-3)


def test_correlated_windows_need_stricter_limits() -> None:
    free, bound = thresholds(250, 0.0), thresholds(250, 0.4)
    assert bound.p_threshold < 0.6 * free.p_threshold
    assert free.drift_limit is not None
    assert bound.drift_limit is not None
    assert bound.drift_limit > 1.5 * free.drift_limit


def test_rates_of_streams_add_up_and_those_without_alarms_have_no_share() -> None:
    found = derive_thresholds(
        config(
            {"name": "a", "windows_per_hour": 3600},
            {"name": "b"},
            {"name": "c", "enabled": False},
            alarm={"shift_hours": 10, "windows_per_hour": 6},
        )
    )
    assert found.windows_per_shift == 36_060


def test_nuisance_parameters_have_a_share_and_no_pull_below_three_is_a_warning() -> None:
    few = derive_thresholds(config(), {name: StreamFacts(n_measured=2) for name in ("s0", "s1", "unknown")})
    assert few.largest_pull == 3.0
    assert few.false_alarms_per_shift[Cause.NUISANCE] < 0.1
    assert few.false_alarms_per_shift[Cause.DIFFERS] == pytest.approx(0.4, rel=1e-6)
    three = {f"s{number}": StreamFacts(n_measured=3) for number in range(250)}
    many = derive_thresholds(config(n_streams=250), three)
    assert many.largest_pull > 3.5
    single = 1 - (1 - 2 * stats.norm.sf(many.largest_pull)) ** 3
    assert onset_rate(single, 2, 3) * 120_000 == pytest.approx(0.1, rel=1e-3)
    fixed = derive_thresholds(config(n_streams=250, nuisances={"largest_pull": 3.0}), three)
    assert fixed.largest_pull == 3.0
    assert fixed.false_alarms_per_shift[Cause.NUISANCE] > 5


@pytest.mark.parametrize(("n_streams", "uncertainty"), [(2, 0.0), (2, 0.02), (250, 0.02), (250, 0.2)])
def test_the_number_of_events_has_a_share_of_its_own(n_streams: int, uncertainty: float) -> None:
    facts = StreamFacts(n_expected=487.5, rate_uncertainty=uncertainty)
    found = derive_thresholds(config(n_streams=n_streams), {f"s{n}": facts for n in range(n_streams)})
    assert found.false_alarms_per_shift[Cause.RATE] == pytest.approx(0.1, rel=1e-6)
    assert found.false_alarms_per_shift[Cause.DIFFERS] == pytest.approx(0.4, rel=1e-6)
    bad = quality_limits(config(), config().streams[0], found)
    assert (bad.bad_rate_p, bad.medium_rate_p) == (found.rate_p, 3.0 * found.rate_p)


def test_without_an_expected_number_all_is_left_to_the_shape_but_what_is_certain() -> None:
    found = derive_thresholds(config(), {"s0": StreamFacts(), "s1": StreamFacts()})
    assert (found.rate_p, found.false_alarms_per_shift[Cause.RATE]) == (CERTAIN_P, 0.0)
    assert found.false_alarms_per_shift[Cause.DIFFERS] == pytest.approx(0.5, rel=1e-6)


def test_windows_that_differ_from_the_last_good_ones_have_a_share_where_a_stream_compares_them() -> None:
    without = derive_thresholds(config(n_streams=2))
    assert (without.changed_p, without.false_alarms_per_shift[Cause.CHANGED]) == (0.0, 0.0)
    found = derive_thresholds(config({"name": "s0", "rolling": {}}, {"name": "s1"}))
    assert found.false_alarms_per_shift[Cause.CHANGED] == pytest.approx(0.1, rel=1e-6)
    assert found.false_alarms_per_shift[Cause.DIFFERS] == pytest.approx(0.4, rel=1e-6)
    assert 480 * onset_rate(found.changed_p, 2, 3) == pytest.approx(0.1, rel=1e-6)


def test_drift_may_be_left_unwatched() -> None:
    found = derive_thresholds(config(alarm={"drift_share": 0.0}))
    assert found.drift_limit is None
    assert found.false_alarms_per_shift[Cause.DIFFERS] == pytest.approx(1.0, rel=1e-6)


def test_rare_windows_do_not_make_ordinary_ones_suspicious() -> None:
    found = derive_thresholds(config(n_streams=1, alarm={"windows_per_hour": 1}))
    assert found.p_threshold == LARGEST_P
    assert found.drift_limit == 2.5
    assert sum(found.false_alarms_per_shift.values()) < 1.0


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(InputError, match="Allow more false alarms per shift"):
        derive_thresholds(config(alarm={"false_alarms_per_shift": 1e-30}))


def test_a_window_that_counts_is_bad_and_twice_as_many_are_medium() -> None:
    given = config()
    thresholds = derive_thresholds(given)
    limits = quality_limits(given, given.streams[0], thresholds)
    assert limits.bad_p == thresholds.p_threshold
    assert limits.medium_p == pytest.approx(3 * limits.bad_p)
    assert (limits.min_events, limits.largest_pull) == (50, 3.0)


def test_limits_of_quality_may_be_configured() -> None:
    given = config({"name": "a", "min_events": 7}, quality={"bad_p": 1e-4})
    limits = quality_limits(given, given.streams[0], derive_thresholds(given))
    assert (limits.bad_p, limits.medium_p, limits.min_events) == (1e-4, pytest.approx(3e-4), 7)
    given = config(quality={"medium_p": 0.005})
    with pytest.raises(ConfigError, match=re.escape("medium_p = 0.005 must be greater than bad_p")):
        quality_limits(given, given.streams[0], derive_thresholds(given))


def test_of_several_references_each_cause_counts_by_the_one_with_the_most_false_alarms() -> None:
    few, many = StreamFacts(2, 100.0, 0.02), StreamFacts(0, 400.0, 0.02)
    together = StreamFacts.of_any([StreamFacts(1), few, many])
    assert together == StreamFacts(2, 400.0, 0.02)
    assert StreamFacts.of_any([StreamFacts(1), StreamFacts()]) == StreamFacts(1)
    alone = [derive_thresholds(config(), dict.fromkeys(("s0", "s1"), one)) for one in (few, many)]
    both = derive_thresholds(config(), dict.fromkeys(("s0", "s1"), together))
    assert both.rate_p == min(one.rate_p or 1.0 for one in alone)
    assert both.largest_pull == max(one.largest_pull for one in alone)
