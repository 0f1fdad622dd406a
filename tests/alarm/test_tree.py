"""The roll-up over groups, and whom masks cover."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from dqm.alarm import AlarmEngine, AlarmState, Leaf, Mask, Node, PresentState, Rules, worst
from dqm.alarm.masks import applies, covers
from dqm.alarm.tree import roll_up
from dqm.alarm.urgency import most_urgent_state
from dqm.events import Quality

from .engines import THRESHOLDS, engine, stream, verdict

N, A, M = AlarmState.NORMAL, AlarmState.ACTIVE, AlarmState.MASKED


def tree(*leaves: tuple[str, str, str, AlarmState], **policies: str) -> Node:
    made = [Leaf(name, group, Quality(q), state, suppressed=state is M) for name, group, q, state in leaves]
    return roll_up(made, policies)


def test_the_worst_counts_and_not_known_is_worse_than_good() -> None:
    for order in itertools.permutations(Quality):
        assert worst(order) is Quality.BAD
    assert worst([Quality.GOOD, Quality.NULL]) is Quality.NULL
    assert worst([Quality.MEDIUM, Quality.NULL]) is Quality.MEDIUM
    assert worst([]) is Quality.NULL


def test_what_asks_for_a_response_presses_most() -> None:
    assert most_urgent_state(AlarmState) is AlarmState.ACTIVE
    assert most_urgent_state([N, AlarmState.LATCHED, AlarmState.SHELVED]) is AlarmState.LATCHED
    assert most_urgent_state([N, AlarmState.SHELVED]) is AlarmState.SHELVED
    assert most_urgent_state([N, AlarmState.DISABLED]) is AlarmState.NORMAL


def test_groups_hold_groups_and_streams_in_the_order_of_the_configuration() -> None:
    root = tree(
        ("z", "muon/two", "Good", N),
        ("top", "", "Good", N),
        ("y", "muon/one", "Bad", A),
        ("x", "muon", "Good", N),
    )
    assert [leaf.stream for leaf in root.streams] == ["top"]
    (muon,) = root.children
    assert (muon.name, muon.path) == ("muon", "muon")
    assert [(node.name, node.path) for node in muon.children] == [("two", "muon/two"), ("one", "muon/one")]
    assert [leaf.stream for leaf in muon.streams] == ["x"]
    assert (root.quality, root.state) == (Quality.BAD, AlarmState.ACTIVE)
    assert (muon.children[0].quality, muon.children[0].state) == (Quality.GOOD, AlarmState.NORMAL)


@pytest.mark.parametrize(
    ("qualities", "quality"),
    [("Bad Bad", "Bad"), ("Bad Good", "Good"), ("Bad Null", "Null"), ("Bad Medium", "Medium")],
)
def test_a_group_that_asks_for_all_is_as_bad_as_its_best(qualities: str, quality: str) -> None:
    leaves = [(str(i), "g", q, N) for i, q in enumerate(qualities.split())]
    assert tree(*leaves, g="all").children[0].quality == quality


def test_masked_streams_do_not_colour_their_group() -> None:
    root = tree(("a", "g", "Bad", M), ("b", "g", "Good", N), ("c", "h", "Bad", M))
    g, h = root.children
    assert (g.quality, g.state) == (Quality.GOOD, AlarmState.MASKED)
    assert (h.quality, h.state) == (Quality.NULL, AlarmState.MASKED)
    assert root.quality is Quality.GOOD


@pytest.mark.parametrize(
    ("changes", "is_out"),
    [({"drift": False}, False), ({"run_types": ("cosmics",)}, True), ({"enabled": False}, True)],
)
def test_a_stream_is_suppressed_as_a_whole_or_not_at_all(changes: dict[str, Any], is_out: bool) -> None:
    limit = None if changes.pop("drift", True) is False else THRESHOLDS.drift_limit
    b = AlarmEngine(Rules((stream("s", "g", **changes),)), replace(THRESHOLDS, drift_limit=limit), 0.0)
    b.observe(verdict(1e-9), 0.0)
    root = b.tree({"s": PresentState(0.0, Quality.BAD)})
    assert root.children[0].streams[0].suppressed is is_out
    assert root.quality is (Quality.NULL if is_out else Quality.BAD)
    if changes.get("run_types"):
        b.tick(601.0)
        assert not b.tree({}).children[0].streams[0].suppressed, "its silence is an alarm"


def test_a_silent_stream_is_not_known_whatever_its_last_window_said() -> None:
    b = engine(stream(stale_seconds=10.0))
    b.observe(verdict(0.5), 0.0)
    good = PresentState(0.0, Quality.GOOD)
    assert b.tree({"s": good}).quality is Quality.GOOD
    b.tick(11.0)
    root = b.tree({"s": good.beside(b.ceilings["s"])})
    assert (root.quality, root.state) == (Quality.NULL, AlarmState.ACTIVE)


@pytest.mark.parametrize(
    ("pattern", "is_covered"),
    [
        ("s1", True),
        ("s*", True),
        ("muon/one/s1", True),
        ("muon/one/*", True),
        ("muon/*", True),
        ("muon", True),
        ("muon/one", True),
        ("m?on", True),
        ("*", True),
        ("one", False),
        ("S1", False),
        ("muon/two", False),
        ("mu", False),
    ],
)
def test_a_mask_covers_names_paths_and_what_is_within_groups(pattern: str, is_covered: bool) -> None:
    assert covers(Mask("m", pattern, "u", "r", 0.0), "s1", "muon/one") is is_covered


def test_a_mask_holds_from_its_start_up_to_its_end() -> None:
    mask = Mask("m", "*", "u", "r", 0.0, ("pulser",), 10.0, 20.0)
    assert [applies(mask, "pulser", now) for now in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert not applies(mask, "physics", 15.0)
