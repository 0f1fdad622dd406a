"""The sample of Good windows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.alarm.good_sample import is_sampled
from dqm.events import Quality
from tests.world import verdict_of

MANY = [verdict_of(seq=seq) for seq in range(2000)]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_share_is_kept(share: float) -> None:
    n = sum(is_sampled(verdict, share) for verdict in MANY)
    assert abs(n - 2000 * share) <= 4 * (2000 * share * (1 - share)) ** 0.5


def test_a_larger_share_has_the_smaller_one_within_it() -> None:
    few = [verdict for verdict in MANY if is_sampled(verdict, 0.05)]
    assert few
    assert all(is_sampled(verdict, 0.1) for verdict in few)


def test_streams_and_runs_are_sampled_apart() -> None:
    def chosen(**fields: object) -> list[bool]:
        return [
            is_sampled(replace(verdict, window=replace(verdict.window, **fields)), 0.5)  # type: ignore[arg-type]
            for verdict in MANY
        ]

    assert chosen() != chosen(run=8)
    assert chosen() != chosen(stream="chamber-2")


def test_only_good_windows_are_sampled() -> None:
    for quality in set(Quality) - {Quality.GOOD}:
        assert not is_sampled(replace(MANY[0], quality=quality), 1.0)
