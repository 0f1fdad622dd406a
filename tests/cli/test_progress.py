"""Progress where there is no terminal: a line now and then, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dqm.cli import progress
from dqm.cli.progress import LINE_SECONDS, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Time of the progress, s; a test moves it."""
    now = [100.0]

    class Time:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(progress, "time", Time)
    return now


def test_a_log_file_is_told_how_far_it_is_and_how_long_it_takes(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("toys", 1000) as show:
        show(0)
        for done in (100, 150, 900):
            clock[0] += 0.75 * LINE_SECONDS
            show(done)
    assert capsys.readouterr().err.splitlines() == [
        "toys: 150 of 1000 (15%) after 0:00:15, 0:01:25 left",
    ]


def test_what_was_done_before_does_not_shorten_the_time_that_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("toys", None) as show:
        show(500, 1000)
        clock[0] += 20.0
        show(600, 1000)
    assert capsys.readouterr().err == "toys: 600 of 1000 (60%) after 0:00:20, 0:01:20 left\n"


def test_the_first_steps_tell_no_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """They are not typical: a validation of two minutes began with more than an hour."""
    with progress_bar("windows", 1000) as show:
        show(0)
        for done in (10, 20, 60):
            clock[0] += 1.1 * LINE_SECONDS
            show(done)
    assert capsys.readouterr().err.splitlines() == [
        "windows: 10 of 1000 (1%) after 0:00:11",
        "windows: 20 of 1000 (2%) after 0:00:22",
        "windows: 60 of 1000 (6%) after 0:00:33, 0:08:37 left",
    ]


@pytest.mark.parametrize("total", [None, 7])
def test_short_work_and_work_that_is_not_shown_say_nothing(
    total: int | None, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("windows", total) as show:
        show(5)
    with progress_bar("windows", total, shown=False) as show:
        clock[0] += 2 * LINE_SECONDS
        show(5)
    with progress_bar("windows", None) as show:
        clock[0] += 2 * LINE_SECONDS
        show(5)
    assert capsys.readouterr().err == "windows: 5 after 0:00:20\n"
