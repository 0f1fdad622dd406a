"""How the daemon before ended, and for how long this is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dqm.service.monitor.last_end import LIFE_FILE, SHOWN_SECONDS, TOUCH_SECONDS, Life

BEGIN = 1_800_000_000.0


@dataclass
class Clock:
    now: float = BEGIN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begin(folder: Path, clock: Clock, boot: str = "a") -> Life:
    return Life(folder, clock, clock, boot=boot)


def test_a_first_start_and_one_after_an_orderly_end_have_nothing_to_tell(
    tmp_path: Path, clock: Clock
) -> None:
    for _ in range(3):
        life = begin(tmp_path, clock)
        assert (life.is_news, life.broken_at, life.notice) == (False, None, "")
        life.end()


def test_an_end_that_was_not_written_is_told_with_its_time(tmp_path: Path, clock: Clock) -> None:
    life = begin(tmp_path, clock)
    for _ in range(100):
        clock.now += TOUCH_SECONDS / 4
        life.touch()
    ended_at, clock.now = clock.now, clock.now + 3000.0
    after = begin(tmp_path, clock)
    assert after.is_news
    assert after.broken_at == pytest.approx(ended_at, abs=TOUCH_SECONDS)
    assert after.notice.startswith("restarted after an abort or a kill at 2027-01-15 08:0")


def test_a_machine_that_went_down_is_told_as_such(tmp_path: Path, clock: Clock) -> None:
    begin(tmp_path, clock, boot="a")
    assert "the machine went down at" in begin(tmp_path, clock, boot="b").notice


def test_it_is_told_through_orderly_restarts_for_a_day_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    begin(tmp_path, clock)
    first = begin(tmp_path, clock)
    first.end()
    clock.now += SHOWN_SECONDS - 60.0
    second = begin(tmp_path, clock)
    assert (second.is_news, second.notice) == (False, first.notice)
    clock.now += 60.0
    assert (second.broken_at, second.notice) == (None, "")
    assert second.story


@pytest.mark.parametrize("content", [b"", b"{", b'{"state": "asleep"}', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_cannot_be_read_says_nothing_and_stops_nothing(
    tmp_path: Path, clock: Clock, content: bytes
) -> None:
    (tmp_path / LIFE_FILE).write_bytes(content)
    life = begin(tmp_path, clock)
    assert (life.is_news, life.notice) == (False, "")
    assert begin(tmp_path, clock).is_news, "the file is good again"


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path: Path, clock: Clock) -> None:
    life = begin(tmp_path / "missing", clock)
    life.touch()
    life.end()
    assert life.notice == ""


def test_nobody_else_reads_or_writes_the_file(tmp_path: Path, clock: Clock) -> None:
    begin(tmp_path, clock)
    assert (tmp_path / LIFE_FILE).stat().st_mode & 0o777 == 0o600
