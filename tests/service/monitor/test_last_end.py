"""How the daemon before ended, and for how long this is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dqm.service.monitor.last_end import END_FILE, SHOWN_SECONDS, TOUCH_SECONDS, LastEnd

BEGIN = 1_800_000_000.0


@dataclass
class Clock:
    now: float = BEGIN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begin(folder: Path, clock: Clock, boot: str = "a") -> LastEnd:
    return LastEnd(folder, clock, clock, boot=boot)


def test_a_first_start_and_one_after_an_orderly_end_have_nothing_to_tell(
    tmp_path: Path, clock: Clock
) -> None:
    for _ in range(3):
        last_end = begin(tmp_path, clock)
        assert (last_end.is_new, last_end.broken_at, last_end.notice) == (False, None, "")
        last_end.end()
        ended_at, clock.now = clock.now, clock.now + 60.0
        assert begin(tmp_path, clock).alive_until == ended_at
        last_end.end()


def test_an_end_that_was_not_written_is_told_with_its_time(tmp_path: Path, clock: Clock) -> None:
    last_end = begin(tmp_path, clock)
    for _ in range(100):
        clock.now += TOUCH_SECONDS / 4
        last_end.touch()
    ended_at, clock.now = clock.now, clock.now + 3000.0
    after = begin(tmp_path, clock)
    assert after.is_new
    assert after.alive_until == after.broken_at
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
    assert (second.is_new, second.notice) == (False, first.notice)
    clock.now += 60.0
    assert (second.broken_at, second.notice) == (None, "")
    assert second.text


@pytest.mark.parametrize("content", [b"", b"{", b'{"state": "asleep"}', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_cannot_be_read_says_nothing_and_stops_nothing(
    tmp_path: Path, clock: Clock, content: bytes
) -> None:
    (tmp_path / END_FILE).write_bytes(content)
    last_end = begin(tmp_path, clock)
    assert (last_end.is_new, last_end.notice) == (False, "")
    assert begin(tmp_path, clock).is_new, "the file is good again"


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path: Path, clock: Clock) -> None:
    last_end = begin(tmp_path / "missing", clock)
    last_end.touch()
    last_end.end()
    assert last_end.notice == ""


def test_nobody_else_reads_or_writes_the_file(tmp_path: Path, clock: Clock) -> None:
    begin(tmp_path, clock)
    assert (tmp_path / END_FILE).stat().st_mode & 0o777 == 0o600
