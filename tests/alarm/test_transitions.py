"""The table of transitions: complete, without contradiction, and as the rules say in plain words."""

from __future__ import annotations

from collections import Counter
from itertools import product

from dqm.alarm import RAISED, Acknowledgement, AlarmState, Shelf, Timing
from dqm.alarm.transitions import TRANSITIONS, AlarmInputs, AlarmRecord, Facts, advance, next_state

from . import transition_table

NOW = 1000.0
BOTH = (False, True)
ALL_FACTS = [
    Facts(*found)
    for found in product(
        (None, AlarmState.DISABLED, AlarmState.MASKED, AlarmState.SHELVED, AlarmState.FILTERED),
        BOTH,
        BOTH,
        BOTH,
    )
]


def test_exactly_one_row_fits_any_state_and_any_facts() -> None:
    counts = Counter(case for row in TRANSITIONS for case in row.cases())
    assert counts == Counter(dict.fromkeys(product(AlarmState, ALL_FACTS), 1))


def test_every_state_can_be_reached_and_left() -> None:
    for state in AlarmState:
        assert any(row.after is state for row in TRANSITIONS)
        assert {next_state(state, facts) for facts in ALL_FACTS} - {state}


def rule(
    record: AlarmRecord, inputs: AlarmInputs, *, is_shelved: bool, lasted: float, timing: Timing
) -> AlarmState:
    """The rules as sentences, one after the other; the first that applies decides."""
    before = record.state
    if inputs.disabled:
        return AlarmState.DISABLED
    if inputs.mask:
        return AlarmState.MASKED
    if is_shelved:
        return AlarmState.SHELVED
    if inputs.filtered and before not in RAISED:
        return AlarmState.FILTERED
    was_on = before in (AlarmState.ACTIVE, AlarmState.OFF_DELAYED)
    was_latched = before is AlarmState.LATCHED
    if inputs.condition and (was_on or lasted >= timing.on_delay_seconds):
        return AlarmState.ACTIVE
    if inputs.condition:
        return AlarmState.LATCHED if was_latched else AlarmState.ON_DELAYED
    if was_on and lasted < timing.off_delay_seconds:
        return AlarmState.OFF_DELAYED
    if (was_on or was_latched) and timing.latching and record.acknowledged is None:
        return AlarmState.LATCHED
    return AlarmState.NORMAL


def test_a_step_is_what_the_rules_say_in_every_case() -> None:
    n_cases = 0
    seen = Acknowledgement("ann", "seen", 0.0)
    timings = [Timing(*delays, latching) for *delays, latching in product((0.0, 3.0), (0.0, 4.0), BOTH)]
    for timing, state, (before, condition), lasted in product(
        timings, AlarmState, product(BOTH, BOTH), (0.0, 2.9, 3.0, 3.9, 4.0, 100.0)
    ):
        for acknowledged, shelf, disabled, filtered, mask in product(
            (None, seen),
            (None, Shelf("ann", "x", 0.0, NOW + 1.0, False), Shelf("ann", "x", 0.0, NOW, False)),
            BOTH,
            BOTH,
            ("", "m"),
        ):
            record = AlarmRecord(state, 0.0, NOW - lasted, before, acknowledged=acknowledged, shelf=shelf)
            inputs = AlarmInputs(condition, "seen", disabled, filtered, mask)
            expected = rule(
                record,
                inputs,
                is_shelved=shelf is not None and shelf.until != NOW,
                lasted=lasted if condition == before else 0.0,
                timing=timing,
            )
            assert advance(record, inputs, timing, NOW).state is expected, (record, inputs, timing)
            n_cases += 1
    assert n_cases == 8 * 9 * 4 * 6 * 48


def test_the_table_in_the_documents_is_that_of_the_code() -> None:
    hint = "docs/alarms.md differs from the code; write it again: python -m tests.alarm.transition_table"
    assert transition_table.documented() == transition_table.render(), hint
