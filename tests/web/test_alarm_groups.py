"""Alarms of one kind in a group, on the page and in the API."""

from __future__ import annotations

from dqm.alarm import needs_response
from tests.world import Browser, World

SILENT_SECONDS = 601.0
ALL = {"cause": "silent", "comment": "beam stop"}


def fall_silent(world: World) -> None:
    """All four chambers of both stations."""
    world.clock.time += SILENT_SECONDS
    world.alarm_service.tick()


def waiting(world: World) -> list[str]:
    return [alarm.stream for alarm in world.alarm_service.alarms() if needs_response(alarm)]


def test_a_group_is_one_line_of_the_api_and_of_both_pages(world: World, client: Browser) -> None:
    fall_silent(world)
    answer = client.get("/api/v1/alarms").json()
    (line,) = answer["groups"]
    assert (line["group"], line["name"], line["cause"], line["priority"]) == ("muon", "muon", "silent", "P2")
    assert line["streams"] == [f"chamber-{n}" for n in range(1, 5)]
    assert line["needs_response"] is True
    assert len([a for a in answer["alarms"] if a["state"] == "Active"]) == 4
    overview = client.get("/api/v1/overview").json()
    assert [g["name"] for g in overview["groups"]] == ["muon"]
    assert len(overview["needs_response"]) == 4
    for page in ("/", "/alarms"):
        text = client.get(page).text
        assert text.count("muon: 4 streams") == 1
        assert text.count("Acknowledge all 4") == 1
        assert all(f'<a href="/alarms/chamber-{n}/silent">' in text for n in range(1, 5))
    assert "1 alarm needs you" in client.get("/").text


def test_the_line_of_few_streams_names_them_and_says_of_which_its_text_is(
    world: World, client: Browser
) -> None:
    for stream in ("chamber-1", "chamber-2", "chamber-3"):
        world.raise_alarm(stream)
    for page in ("/", "/alarms"):
        text = client.get(page).text
        assert "muon: chamber-1, chamber-2, chamber-3</summary>" in text
        assert "chamber-1: 3 of the last 3 windows differ" in text


def test_one_form_acknowledges_all_and_the_audit_names_who_did_each(world: World, client: Browser) -> None:
    fall_silent(world)
    form = ALL | {"group": "muon", "before": str(world.clock()), "token": client.token("/alarms")}
    answer = client.post("/alarms/groups/acknowledge", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/alarms")
    assert waiting(world) == []
    audit = world.alarm_service.history.actions(limit=4)
    assert [(row["user"], row["action"], row["target"], row["comment"]) for row in audit] == [
        ("maria", "acknowledge", f"chamber-{n} silent", "beam stop") for n in range(1, 5)
    ]
    assert "seen by maria: beam stop" in client.get("/alarms").text
    assert client.get("/alarms").text.count("muon: 4 streams") == 1  # still one line


def test_what_came_meanwhile_stays_and_is_told(world: World, client: Browser) -> None:
    seen_at = world.clock() + SILENT_SECONDS
    fall_silent(world)
    form = ALL | {"group": "muon", "before": str(seen_at - 1.0), "token": client.token("/alarms")}
    answer = client.post("/alarms/groups/acknowledge", data=form)
    assert answer.status_code == 409
    assert "nothing to acknowledge" in answer.text
    assert "it has changed" in answer.text
    assert len(waiting(world)) == 4
    told = client.get("/alarms?left=2").text
    assert "2 alarms of this kind came after you looked, and were not acknowledged" in told
    assert "came after" not in client.get("/alarms?left=<script>").text


def test_a_program_learns_what_was_acknowledged_and_what_was_left(world: World) -> None:
    fall_silent(world)
    program = Browser(world, as_program=True)
    auth = ("maria", "correct horse")
    body = ALL | {"group": "muon/station-2"}
    answer = program.ask("POST", "/api/v1/alarms/groups/acknowledge", json=body, auth=auth)
    assert answer.json() == {"acknowledged": ["chamber-3", "chamber-4"], "left": []}
    assert waiting(world) == ["chamber-1", "chamber-2"]
    again = program.ask("POST", "/api/v1/alarms/groups/acknowledge", json=body, auth=auth)
    assert (again.status_code, "nothing to acknowledge" in again.json()["detail"]) == (409, True)


def test_false_alarms_a_shift_agree_in_number(world: World, client: Browser) -> None:
    text = client.get("/alarms").text
    total = sum(world.alarm_service.thresholds().false_alarms_per_shift.values())
    assert f"{total:.2g} false alarm{'' if f'{total:.2g}' == '1' else 's'} a shift" in text
