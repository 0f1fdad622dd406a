"""Commands that exist are well formed; what a command changes is in its name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from pydantic import ValidationError

from dqm.alarm import (
    AcceptChange,
    AcknowledgeAlarm,
    AddMask,
    Cause,
    Command,
    RemoveMask,
    ShelveAlarm,
    UnshelveAlarm,
)

ALARM = ("chamber-1", Cause.DIFFERS)


@pytest.mark.parametrize(
    ("command", "action", "target"),
    [
        (AcknowledgeAlarm(*ALARM, "seen"), "acknowledge", "chamber-1 differs"),
        (ShelveAlarm(*ALARM, "seen", hours=1.0), "shelve", "chamber-1 differs"),
        (UnshelveAlarm(*ALARM, "seen"), "unshelve", "chamber-1 differs"),
        (AcceptChange("chamber-1", "seen"), "accept", "chamber-1 changed"),
        (AddMask("m", "muon/*", "seen"), "mask", "muon/*"),
        (RemoveMask("m", "seen"), "unmask", "m"),
    ],
)
def test_a_command_says_what_the_audit_writes(command: Command, action: str, target: str) -> None:
    assert (command.action, command.target, command.comment) == (action, target, "seen")
    with pytest.raises(FrozenInstanceError):
        command.comment = "x"  # type: ignore[misc]


def test_a_comment_is_stripped() -> None:
    assert AcknowledgeAlarm(*ALARM, comment="  seen \n").comment == "seen"


@pytest.mark.parametrize("comment", ["", " \t", "x" * 501])
@pytest.mark.parametrize("kind", [AcknowledgeAlarm, UnshelveAlarm])
def test_a_command_needs_a_comment_that_is_not_too_long(kind: Any, comment: str) -> None:
    with pytest.raises(ValidationError, match="String should have"):
        kind(*ALARM, comment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "a shelf must end: give hours, or one_shot"),
        ({"hours": 0.0}, "greater than 0"),
        ({"hours": 745.0}, "less than or equal to 744"),
        ({"hours": float("nan")}, "finite number"),
    ],
)
def test_a_shelf_needs_an_end(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ShelveAlarm(*ALARM, "known", **changes)
    assert ShelveAlarm(*ALARM, "known", one_shot=True).hours is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": ""}, "at least 1 character"),
        ({"streams": "<b>"}, "should match pattern"),
        ({"comment": ""}, "at least 1 character"),
        ({"identifier": ""}, "at least 1 character"),
        ({"start": 20.0, "until": 15.0}, "the mask ends before it begins"),
        ({"until": float("inf")}, "finite number"),
        ({"run_types": ("a b",)}, "should match pattern"),
        ({"run_types": ("a",) * 17}, "at most 16 items"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AddMask(**{"identifier": "m", "streams": "a", "comment": "work", **changes})
