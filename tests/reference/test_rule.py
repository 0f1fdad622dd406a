from __future__ import annotations

import pytest

from dqm.config import ConditionRule
from dqm.events import Condition
from dqm.reference import ReferenceRule, describe_unreferenced
from tests.service.small import window_of

VOLTAGE = {"cathode_voltage": (-1250.0, -1150.0), "trigger": "external"}


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ({"cathode_voltage": -1200.0, "trigger": "external"}, True),
        ({"cathode_voltage": -1250.0, "trigger": "external", "gas": "new"}, True),
        ({"cathode_voltage": -1150.0, "trigger": "external"}, True),
        ({"cathode_voltage": -1149.9, "trigger": "external"}, False),
        ({"cathode_voltage": "-1200", "trigger": "external"}, False),
        ({"cathode_voltage": -1200.0, "trigger": "internal"}, False),
        ({"trigger": "external"}, False),
        ({}, False),
    ],
)
def test_every_condition_must_be_there_and_agree(conditions: dict[str, Condition], fits: bool) -> None:
    assert ReferenceRule(conditions=VOLTAGE).fits(window_of(conditions=conditions)) is fits


@pytest.mark.parametrize(("wanted", "fits"), [(5.0, True), ("5", False), ((5.0, 5.0), True), (5.1, False)])
def test_a_number_equals_a_number_alone(wanted: ConditionRule, fits: bool) -> None:
    assert ReferenceRule(conditions={"n": wanted}).fits(window_of(conditions={"n": 5.0})) is fits


def test_the_type_of_the_run_must_be_one_of_those_named() -> None:
    rule = ReferenceRule(("beam", "cosmics"))
    assert rule.fits(window_of(run_type="cosmics"))
    assert not rule.fits(window_of(run_type="pedestal"))
    assert ReferenceRule().fits(window_of(run_type="pedestal"))


def test_rules_and_windows_that_none_fits_are_told_in_words() -> None:
    rules = [ReferenceRule(("beam",)), ReferenceRule(("cosmics", "calib"), VOLTAGE)]
    assert [str(rule) for rule in (ReferenceRule(), *rules)] == [
        "all runs",
        "runs of type beam",
        "runs of type cosmics or calib with cathode_voltage = -1250 to -1150, trigger = external",
    ]
    assert (
        describe_unreferenced(window_of(run_type="pedestal"), rules)
        == "no reference for runs of type pedestal"
    )
    window = window_of(conditions={"cathode_voltage": -1100.0})
    told = "no reference for runs of type cosmics with cathode_voltage = -1100, trigger not given"
    assert describe_unreferenced(window, rules) == told
