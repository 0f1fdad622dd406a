"""The wall: what each stream is shown as, which come first, how it was before, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from dqm.alarm import AcknowledgeAlarm, Activity, AddMask, Cause, StreamSign, attention, find_sign
from dqm.events import Quality, RunRecord
from dqm.web.timeline import N_COLUMNS, SLOT_SECONDS, Timeline
from dqm.web.wall import strip_paths
from tests.world import START, Browser, World, make_world, verdict_of

API = "/api/v1"


@pytest.fixture
def many(tmp_path: Path) -> Iterator[World]:
    """Eight streams in two groups, each in another condition."""
    world = make_world(tmp_path / "x.sqlite", {"muon/a": list("abcd"), "muon/b": list("efgh")})
    world.judge(*(verdict_of(name, p=0.4) for name in "abcdgh"))
    world.raise_alarm("a")
    world.raise_alarm("b")
    world.alarm_service.apply(AcknowledgeAlarm("b", Cause.DIFFERS, "known"), "maria")
    world.judge(verdict_of("c", 5, p=0.005, judged_at=START + 5.0))
    world.alarm_service.apply(AddMask("m", "d", "gas leak"), "maria")
    world.judge(verdict_of("e", 0, p=None))
    ended = RunRecord(
        "g", 7, "cosmics", 1, noted_at=START + 6.0, began_at=START, ended_at=START + 6.0, why="end"
    )
    world.alarm_service.observe([], lambda: None, [ended])
    world.statuses.note_run(ended)
    yield world
    world.store.close()


def test_each_condition_has_a_sign_and_the_worst_come_first(many: World) -> None:
    program = Browser(many, as_program=True)
    wall = program.get(f"{API}/wall").json()
    signs = {s["name"]: s["sign"] for group in wall["groups"] for s in group["streams"]}
    assert signs == {
        "a": "alarm", "b": "Bad", "c": "Medium", "d": "masked", "e": "Null", "f": "Null", "g": "idle",
        "h": "Good",
    }  # fmt: skip
    assert [s["name"] for s in wall["first"]][:3] == ["a", "b", "c"]
    assert {s["name"] for s in wall["first"]} == set("abcef")
    assert (wall["signs"]["alarm"], wall["signs"]["Good"], wall["n_more"]) == (1, 1, 0)
    assert [group["path"] for group in wall["groups"]] == ["muon/a", "muon/b"]


def test_the_page_has_a_row_and_a_shape_for_every_stream_and_a_way_to_it(many: World) -> None:
    page = Browser(many, user="maria").get("/wall").text
    for name in "abcdefgh":
        assert f'id="wall-{name}"' in page
        assert page.count(f'href="/streams/{name}"') == (2 if name in "abcef" else 1)
    for shape in ("active", "bad", "medium", "null", "masked", "wall-idle", "good"):
        assert f'href="#{shape}"' in page
    assert "(1) Wall" in page
    assert "Nothing needs you" not in page


def test_a_stream_that_is_silent_and_known_to_be_is_stale(many: World) -> None:
    many.clock.time += 601.0
    many.alarm_service.tick()
    many.alarm_service.apply(AcknowledgeAlarm("h", Cause.SILENT, "powered off"), "maria")
    wall = Browser(many, as_program=True).get(f"{API}/wall").json()
    signs = {s["name"]: s["sign"] for group in wall["groups"] for s in group["streams"]}
    assert (signs["h"], signs["a"], signs["g"], signs["d"]) == ("stale", "alarm", "idle", "masked")


def test_without_trouble_the_wall_says_so(tmp_path: Path) -> None:
    world = make_world(tmp_path / "x.sqlite", {"": ["a"]})
    world.judge(verdict_of("a", p=0.4))
    page = Browser(world, user="maria").get("/wall").text
    assert "Nothing needs you" in page
    assert "no group" in page
    world.store.close()


@pytest.mark.parametrize("hours", ["0", "9", "1.5", "x", "9" * 5000, ""])
def test_other_hours_are_refused(many: World, hours: str) -> None:
    answer = Browser(many, as_program=True).get(f"{API}/wall?hours={hours}")
    assert (answer.status_code, answer.json()["where"]) == (422, "hours")
    assert Browser(many, user="maria").get(f"/wall?hours={hours}").status_code == 422


def test_the_sign_of_a_stream_is_decided_by_the_alarms_first() -> None:
    assert find_sign(Quality.GOOD, None, Activity.RUNNING) is StreamSign.GOOD
    assert find_sign(Quality.BAD, None, Activity.RUNNING, is_suppressed=True) is StreamSign.MASKED
    assert find_sign(Quality.NULL, None, Activity.SILENT) is StreamSign.STALE
    assert find_sign(Quality.BAD, None, Activity.IDLE) is StreamSign.IDLE
    keys = [
        attention(sign, since)
        for sign, since in ((StreamSign.ALARM, 1.0), (StreamSign.BAD, 9.0), (StreamSign.BAD, 5.0))
    ]
    assert None not in keys
    assert keys == sorted(keys, key=lambda key: key or (0, 0.0))
    assert [sign for sign in StreamSign if attention(sign, 0.0) is None] == [
        StreamSign.MASKED,
        StreamSign.GOOD,
        StreamSign.IDLE,
    ]


def test_a_column_of_time_has_the_worst_window_of_it() -> None:
    line, now = Timeline(), 1_000_000 * SLOT_SECONDS + 60.0
    windows = (
        (0, Quality.GOOD), (0, Quality.NULL), (1, Quality.BAD), (1, Quality.GOOD), (29, Quality.MEDIUM),
        (30, Quality.BAD),
    )  # fmt: skip
    for back, quality in windows:
        line.note("a", now - back * SLOT_SECONDS, quality)
    columns = line.columns("a", now, 1)
    assert columns[-1] is Quality.NULL
    assert columns[-2] is Quality.BAD
    assert columns[0] is Quality.MEDIUM
    assert columns[1:-2] == [None] * (N_COLUMNS - 3)
    assert line.columns("a", now + 30 * SLOT_SECONDS, 1) == [None] * N_COLUMNS
    shift = line.columns("a", now, 8)
    assert Quality.BAD in shift
    assert shift.count(None) >= N_COLUMNS - 6
    assert line.columns("unknown", now, 1) == [None] * N_COLUMNS


def test_the_past_is_bounded_and_says_what_is_missing() -> None:
    line = Timeline()
    for slot in range(2000):
        line.note("a", slot * SLOT_SECONDS, Quality.GOOD)
    assert len(line._streams["a"]) <= 8 * 3600 // SLOT_SECONDS
    line.recall([("b", 500.0, Quality.GOOD), ("b", 400.0, Quality.BAD)], most=2)
    assert line.known_since == 400.0
    line.recall([("b", 500.0, Quality.GOOD)], most=2)
    assert line.known_since is None
    line.follow(["b"])
    assert list(line._streams) == ["b"]


def test_a_strip_is_drawn_with_one_path_for_each_quality() -> None:
    assert strip_paths("-" * 30) == []
    assert strip_paths("GGB-N") == [
        ("good", "M0 .4h2v.2h-2z"), ("bad", "M2 0h1v1h-1z"), ("null", "M4.2 .3h.6v.4h-.6z"),
    ]  # fmt: skip
    assert strip_paths("MGM") == [
        ("medium", "M0 1h1l-.5-1zM2 1h1l-.5-1z"), ("good", "M1 .4h1v.2h-1z"),
    ]  # fmt: skip


@contextmanager
def statements(world: World) -> Iterator[list[tuple[str, object]]]:
    """All statements that are executed within the block."""
    found: list[tuple[str, object]] = []

    def note(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        found.append((statement, parameters))

    engine = world.store.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def plans(world: World, found: list[tuple[str, object]]) -> list[str]:
    """How SQLite finds the rows of statements."""
    with world.store.database.reading() as connection:
        return [
            str(row[3])
            for statement, parameters in found
            if statement.startswith(("SELECT", "WITH"))
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


def test_the_wall_reads_nothing_from_the_store(many: World) -> None:
    client = Browser(many, user="maria")
    with statements(many) as found:
        assert client.get("/wall?hours=8").status_code == 200
    assert [
        statement for statement, _ in found if "verdicts" in statement or "run_summaries" in statement
    ] == []


@pytest.mark.parametrize("n_runs", [5, 60])
def test_trends_read_a_bounded_number_of_rows_however_many_verdicts_there_are(
    many: World, n_runs: int
) -> None:
    for run in range(n_runs):
        many.judge(
            *(verdict_of(name, seq, run=run, judged_at=START + run) for name in "abc" for seq in range(3))
        )
    client = Browser(many, user="maria")
    with statements(many) as of_one:
        assert client.get("/trends?stream=a&last=1000").status_code == 200
    with statements(many) as of_all:
        assert client.get("/trends?last=1000").status_code == 200
    assert len([s for s, _ in of_one if "run_summaries" in s or "verdicts" in s]) == 3
    assert len([s for s, _ in of_all if "run_summaries" in s or "verdicts" in s]) == 2
    assert not any("verdicts" in statement for statement, _ in of_all)
    steps = plans(many, [*of_one, *of_all])
    assert any("run_summaries_by_run" in step for step in steps), "the shares are read from the index alone"
    assert any(step.startswith("SEARCH verdicts") for step in steps)
    assert not [
        step for step in steps if step.startswith("SCAN") and step.endswith(("verdicts", "run_summaries"))
    ]


def test_a_start_recalls_the_last_hours(many: World) -> None:
    line = Timeline()
    line.recall(many.store.last_qualities(START - 1.0, 100), 100)
    assert Quality.BAD in line.columns("a", START + 10.0, 1)
    assert set(line._streams) >= set("abcde")
