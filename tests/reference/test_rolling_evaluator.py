"""A window against the last good ones, with the kernels of a bundle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dqm.alarm.rolling_reference import MOST_EVENTS
from dqm.errors import InputError
from dqm.events import Origin, PMethod, Window, WindowCut
from dqm.reference import RollingEvaluator, StoredBundle, open_bundle
from tests.conftest import Once
from tests.reference.channels import channel_bundle
from tests.reference.conftest import healthy_events


def window(seq: int, n: int = 60, shift: float = 0.0) -> Window:
    x = healthy_events(n, 100 + seq) + np.array([shift, 0.0])
    return Window("s", 1, seq, "", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x)


def test_gives_p_and_what_it_was_compared_with(calibrated: StoredBundle) -> None:
    rolling = RollingEvaluator(calibrated, 200)
    past = [window(seq) for seq in range(5)]
    healthy, moved = rolling.evaluate(window(7), past), rolling.evaluate(window(7, shift=1.0), past)
    assert (healthy.n_windows, healthy.first, healthy.last) == (5, (1, 0), (1, 4))
    assert healthy.p is not None
    assert healthy.p > 0.01
    assert moved.p is not None
    assert moved.p < 1.0 / 201
    assert moved.p_method is PMethod.TAIL
    assert moved.z is not None
    assert moved.z > 3.0


def test_a_window_that_is_tested_again_has_the_same_p(calibrated: StoredBundle) -> None:
    past = [window(seq) for seq in range(5)]
    first, second = (RollingEvaluator(calibrated, 100).evaluate(window(7), past) for _ in range(2))
    assert first == second
    other = RollingEvaluator(calibrated, 100).evaluate(replace(window(7), seq=8), past)
    assert other.p != first.p  # other permutations


def test_takes_the_features_of_the_bundle_and_leaves_nan_out(calibrated: StoredBundle) -> None:
    rolling = RollingEvaluator(calibrated, 100)
    past = [window(seq) for seq in range(5)]
    plain = window(7)
    rows = np.insert(plain.x, 3, [np.nan, 0.0], axis=0)
    turned = replace(plain, names=("other", "b", "a"), x=rows[:, [0, 1, 0]])
    assert rolling.evaluate(turned, past) == rolling.evaluate(plain, past)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (window(7, 10), "10 events, fewer than 50"),
        (replace(window(7), names=("a", "c")), "the window has no feature b"),
        (window(7, MOST_EVENTS), f"{MOST_EVENTS + 300} events in the window and those before it"),
    ],
)
def test_says_why_there_is_no_p(calibrated: StoredBundle, one: Window, reason: str) -> None:
    past = [window(seq) for seq in range(5)]
    found = RollingEvaluator(calibrated, 100).evaluate(one, past, min_events=50)
    assert found.p is None
    assert found.reason.startswith(reason)


def test_refuses_a_bundle_of_counted_rows(once: Once) -> None:
    with pytest.raises(InputError, match="needs single events"):
        RollingEvaluator(open_bundle(once("channels.dqmref", channel_bundle)), 200)
