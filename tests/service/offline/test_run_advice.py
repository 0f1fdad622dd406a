"""Advice on a run: which sizes of windows are tried, and which is advised."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.events import WindowCut
from dqm.service.offline import run_advice
from dqm.service.offline.run_advice import Advice, Budget, advise
from tests.service.small import FEATURES, healthy_events

BUDGET = Budget.of(1, 1.0, 60.0)


def advice(n_events: int, *wanted: float) -> Advice:
    x = healthy_events(n_events, 1)
    return advise(x, FEATURES, wanted=wanted, cut=WindowCut.COUNT, budget=BUDGET, seed=1)


@pytest.fixture
def sizes_tried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sizes for which faults would be tried, which takes long."""
    tried: list[float] = []

    def note(*_: object, n_expected: float, **_numbers: object) -> list[object]:
        tried.append(n_expected)
        return []

    monkeypatch.setattr(run_advice, "time_to_detect", note)
    monkeypatch.setattr(run_advice, "advise_penalties", lambda *_: [])
    return tried


def test_faults_are_tried_for_windows_with_uncertain_p_too(sizes_tried: list[float]) -> None:
    found = advice(1500, 50, 200, 500)
    assert [one.light for one in found.windows] == ["green", "amber", "red"]
    assert sizes_tried == [50, 200]
    assert found.untried == ()
    assert found.best is not None
    assert found.best.n_expected == 50, "that of which p is certain"


def test_as_many_sizes_are_tried_as_there_is_time_for(sizes_tried: list[float]) -> None:
    found = advice(50_000)
    assert len(sizes_tried) >= 2
    assert sizes_tried == sorted(sizes_tried)
    assert sizes_tried[-1] == 2000, "the largest is tried in any case"
    possible = {one.n_expected for one in found.windows if one.light != "red"}
    assert {*sizes_tried, *found.untried} == possible
    assert found.untried
    sizes_tried.clear()
    assert advice(50_000, 50, 100, 200, 500).untried == ()
    assert sizes_tried == [50, 100, 200, 500]


@pytest.mark.slow
def test_the_time_of_each_fault_is_told_for_each_size_that_is_possible() -> None:
    found = advice(700, 20, 60)
    assert {one.n_expected for one in found.detections} == {20, 60}
    assert all(np.isfinite(one.share) for one in found.detections)
