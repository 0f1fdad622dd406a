"""How often somebody may try, and that it takes bounded memory."""

from __future__ import annotations

import pytest

from dqm.web.auth.rate_limit import Backoff, TokenBucket
from dqm.web.auth.sessions import Sessions


class Seconds:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def test_each_failure_doubles_the_wait_up_to_the_longest(seconds: Seconds) -> None:
    backoff = Backoff(3, 60.0, seconds)
    waits = []
    for _ in range(12):
        backoff.fail("maria")
        waits.append(backoff.wait("maria"))
    assert waits == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert backoff.wait("jo") == 0.0
    seconds.now += 59.0
    assert backoff.wait("maria") == 1.0
    seconds.now += 1.0
    assert backoff.wait("maria") == 0.0
    backoff.fail("maria")
    assert backoff.wait("maria") == 60.0
    seconds.now += 901.0
    backoff.fail("maria")
    assert backoff.wait("maria") == 0.0


def test_failures_are_taken_back_and_forgotten(seconds: Seconds) -> None:
    backoff = Backoff(1, 60.0, seconds)
    backoff.fail("a")
    assert backoff.wait("a") > 0.0
    backoff.take_back("a")
    assert backoff.wait("a") == 0.0
    for _ in range(5):
        backoff.fail("a")
    backoff.forget("a")
    assert backoff.wait("a") == 0.0
    backoff.take_back("never seen")
    assert backoff.wait("never seen") == 0.0


def test_a_minutes_worth_may_be_done_at_once_and_then_at_its_pace(seconds: Seconds) -> None:
    quota = TokenBucket(30, seconds)
    assert [quota.take("maria") for _ in range(31)] == [0.0] * 30 + [2.0]
    assert quota.take("jo") == 0.0
    seconds.now += 2.0
    assert quota.take("maria") == 0.0
    assert quota.take("maria") == 2.0
    seconds.now += 3600.0
    assert sum(quota.take("maria") == 0.0 for _ in range(100)) == 30


def test_memory_is_bounded(seconds: Seconds) -> None:
    backoff, quota = Backoff(1, 60.0, seconds), TokenBucket(1, seconds)
    for n in range(10_000):
        backoff.fail(f"stranger-{n}")
        quota.take(f"user-{n}")
    assert len(backoff._failures) == len(quota._left) == 4096
    assert backoff.wait("stranger-9999") > 0.0
    sessions = Sessions(60.0, seconds)
    tokens = [sessions.begin(f"user-{n // 20}", "x") for n in range(4000)]
    assert len(sessions._open) <= 1024
    assert [sessions.find(token) is not None for token in tokens[-20:]] == [False] * 4 + [True] * 16


def test_a_session_ends_by_time_by_hand_and_for_newer_ones(seconds: Seconds) -> None:
    sessions = Sessions(60.0, seconds)
    first, second = sessions.begin("maria", "hash"), sessions.begin("maria", "hash")
    assert first != second
    found = sessions.find(first)
    assert found is not None
    assert (found.user, found.credential) == ("maria", "hash")
    sessions.end(first)
    sessions.end("never begun")
    assert sessions.find(first) is None
    seconds.now += 59.9
    assert sessions.find(second) is not None
    seconds.now += 0.2
    assert sessions.find(second) is None
    assert sessions.find("") is None
