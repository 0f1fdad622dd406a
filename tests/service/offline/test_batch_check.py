"""What the check of a collector sees in its batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dqm.events import EventBatch
from dqm.service.offline.batch_check import BatchCheck

GOOD = EventBatch("1", ("a", "b"), np.zeros((3, 2)), np.array([1.0, 2.0, 3.0]), 1.0, 4.0)
LATER = replace(GOOD, times=np.array([5.0, 6.0, 7.0]), start=5.0, end=8.0)


@pytest.mark.parametrize("has_runs", [False, True])
def test_batches_in_order_have_no_fault(has_runs: bool) -> None:
    check = BatchCheck(has_runs)
    run = 1 if has_runs else None
    for batch in (GOOD, replace(GOOD, chamber="2"), LATER, replace(LATER, x=np.full((3, 2), np.nan))):
        assert check.find_fault(replace(batch, run=run)) == ""


def test_another_run_may_have_other_features_and_times() -> None:
    check = BatchCheck(has_runs=True)
    assert check.find_fault(replace(LATER, run=1)) == ""
    assert check.find_fault(replace(GOOD, run=2, names=("c", "d"))) == ""


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (replace(GOOD, names=("a", "drift time [ns]")), "no window can carry the name 'drift time [ns]'"),
        (replace(GOOD, chamber=".1"), "no window can carry the name '.1'"),
        (replace(GOOD, x=np.array([[1.0, np.inf], [0.0, 0.0], [-np.inf, 0.0]])), "infinite values in 2 of 3"),
        (replace(GOOD, end=0.5), "the batch starts at 1.0 and ends at 0.5"),
        (replace(GOOD, end=2.5), "event times must ascend within [1.0, 2.5)"),
    ],
)
def test_a_batch_that_no_window_can_carry_is_seen(batch: EventBatch, words: str) -> None:
    assert words in BatchCheck(has_runs=False).find_fault(batch)


def test_a_batch_without_run_of_a_source_of_runs_is_seen() -> None:
    assert "it has no run" in BatchCheck(has_runs=True).find_fault(GOOD)


def test_a_batch_that_does_not_fit_the_one_before_is_seen() -> None:
    check = BatchCheck(has_runs=False)
    assert check.find_fault(LATER) == ""
    assert "features changed from a, b to a, c" in check.find_fault(replace(LATER, names=("a", "c")))
    assert check.find_fault(GOOD) == "it starts at 1, and the one before it of chamber 1 at 5"
