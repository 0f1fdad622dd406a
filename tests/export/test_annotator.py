from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from dqm.alarm.values import Alarm, AlarmChange, AlarmState, Cause, Guidance, Priority
from dqm.export import Annotator, Grafana
from tests.waiting import wait_until

from .grafana_server import TOKEN, FakeGrafana, serve

RAISED_AT = 1_700_000_000.0
GUIDANCE = Guidance("differs", "look at the high voltage", "the expert")


def change(
    before: AlarmState, state: AlarmState, later: float = 0.0, *, stream: str = "a", user: str = ""
) -> AlarmChange:
    alarm = Alarm(
        stream,
        Cause.DIFFERS,
        Priority.P1,
        GUIDANCE,
        state,
        since=RAISED_AT + later,
        raised_at=RAISED_AT,
        text="p < 0.001 in 3 of 3",
    )
    return AlarmChange(alarm, before, RAISED_AT + later, "window", user, "gas work" if user else "")


UP = change(AlarmState.ON_DELAYED, AlarmState.ACTIVE, 5.0)
DOWN = change(AlarmState.OFF_DELAYED, AlarmState.NORMAL, 600.0)


@pytest.fixture
def server() -> Iterator[FakeGrafana]:
    with serve(FakeGrafana()) as running:
        yield running


@pytest.fixture
def make(server: FakeGrafana) -> Iterator[Callable[..., Annotator]]:
    made: list[Annotator] = []

    def make_one(**options: float) -> Annotator:
        made.append(Annotator(Grafana(server.url, TOKEN), **options))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make_one
    for one in made:
        one.stop()


def test_an_alarm_becomes_a_region(server: FakeGrafana, make: Callable[..., Annotator]) -> None:
    annotator = make()
    annotator.observe([UP])
    wait_until(lambda: annotator.n_written == 1, "1 written")
    assert server.annotations[1] == {
        "id": 1,
        "time": 1_700_000_000_000,
        "timeEnd": 1_700_000_000_000,
        "tags": ["dqm", "stream:a", "cause:differs", "P1", "open"],
        "text": "a differs: p &lt; 0.001 in 3 of 3<br>look at the high voltage",
    }
    annotator.observe([DOWN])
    wait_until(lambda: annotator.n_written == 2, "2 written")
    assert len(server.annotations) == 1
    assert server.annotations[1]["timeEnd"] == 1_700_000_600_000
    assert server.annotations[1]["tags"] == ["dqm", "stream:a", "cause:differs", "P1"]


def test_steps_within_an_alarm_are_passed_over(server: FakeGrafana, make: Callable[..., Annotator]) -> None:
    annotator = make()
    steps = [AlarmState.ACTIVE, AlarmState.OFF_DELAYED, AlarmState.LATCHED, AlarmState.LATCHED]
    annotator.observe([UP, *(change(a, b) for a, b in pairwise(steps))])
    annotator.observe([change(AlarmState.NORMAL, AlarmState.ON_DELAYED)])
    annotator.stop()
    assert (annotator.n_written, len(server.writes)) == (1, 1)


def test_to_shelve_ends_the_region_and_says_who(server: FakeGrafana, make: Callable[..., Annotator]) -> None:
    annotator = make()
    annotator.observe([UP, change(AlarmState.ACTIVE, AlarmState.SHELVED, 60.0, user="<anna>")])
    annotator.stop()
    assert server.annotations[1]["timeEnd"] == 1_700_000_060_000
    assert server.annotations[1]["text"].endswith("<br>Shelved by &lt;anna&gt;: gas work")


def test_a_region_is_closed_after_a_restart(server: FakeGrafana, make: Callable[..., Annotator]) -> None:
    first = make()
    first.observe([UP, change(AlarmState.NORMAL, AlarmState.ACTIVE, stream="b")])
    first.stop()
    second = make()
    second.observe([UP])  # told twice: written once
    second.observe([DOWN])
    second.stop()
    ends = {tuple(one["tags"])[1]: one["timeEnd"] for one in server.annotations.values()}
    assert ends == {"stream:a": 1_700_000_600_000, "stream:b": 1_700_000_000_000}
    assert len(server.annotations) == 2


def test_an_end_without_beginning_is_written_whole(
    server: FakeGrafana, make: Callable[..., Annotator]
) -> None:
    annotator = make()
    annotator.observe([DOWN])
    annotator.stop()
    assert (server.annotations[1]["time"], server.annotations[1]["timeEnd"]) == (
        1_700_000_000_000,
        1_700_000_600_000,
    )
    assert "open" not in server.annotations[1]["tags"]


def test_nothing_is_lost_while_grafana_is_away(server: FakeGrafana, make: Callable[..., Annotator]) -> None:
    server.status = 503
    annotator = make(retry_seconds=0.01)
    annotator.observe([UP, DOWN])
    wait_until(lambda: annotator.n_failed >= 3, "3 failed")
    server.status = None
    wait_until(lambda: annotator.n_written == 2, "2 written")
    assert server.annotations[1]["timeEnd"] == 1_700_000_600_000
    assert annotator.n_dropped == 0


@pytest.mark.parametrize("status", [200, 403])  # 200: something else answers
def test_a_refusal_for_good_does_not_block_the_rest(
    server: FakeGrafana, make: Callable[..., Annotator], status: int
) -> None:
    server.status = status
    annotator = make()
    annotator.observe([UP])
    wait_until(lambda: annotator.n_failed == 1, "1 failed")
    server.status = None
    annotator.observe([change(AlarmState.NORMAL, AlarmState.ACTIVE, stream="b")])
    wait_until(lambda: annotator.n_written == 1, "1 written")
    assert (annotator.n_failed, annotator.n_dropped) == (1, 1)


def test_the_caller_never_waits_and_memory_is_bounded(server: FakeGrafana) -> None:
    held, released = threading.Event(), threading.Event()
    answer = server.answer

    def stuck(*arguments: object) -> object:
        held.set()
        released.wait(60.0)
        return answer(*arguments)  # type: ignore[arg-type]

    server.answer = stuck  # type: ignore[method-assign, assignment]
    annotator = Annotator(Grafana(server.url, TOKEN), capacity=10)
    annotator.start()
    annotator.observe([UP])
    assert held.wait(60.0)
    for n in range(1000):
        annotator.observe([change(AlarmState.NORMAL, AlarmState.ACTIVE, stream=f"s{n}")])
    assert (annotator.n_written, annotator.n_dropped) == (0, 990), "it went on while the server held it up"
    released.set()
    annotator.stop()
    assert annotator.n_written == 11


def test_to_stop_while_grafana_is_away_takes_one_attempt(server: FakeGrafana) -> None:
    server.status = 503
    annotator = Annotator(Grafana(server.url, TOKEN), retry_seconds=1000.0)
    annotator.start()
    annotator.observe([UP, DOWN])
    wait_until(lambda: annotator.n_failed == 1, "1 failed")
    annotator.stop()
    assert (annotator.n_written, annotator.n_dropped) == (0, 2)


def test_one_that_was_never_started_can_be_stopped(server: FakeGrafana) -> None:
    Annotator(Grafana(server.url, TOKEN)).stop()
