"""The JSON API: what it answers, what it does, and its description."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dqm.alarm import AddMask, AlarmState, Cause, Decision, SignRun
from dqm.config import Role
from dqm.web import set_role
from tests.world import START, Browser, World, verdict_of

API = "/api/v1"
DIFFERS = f"{API}/alarms/chamber-2/differs"


@pytest.fixture
def busy(world: World) -> World:
    """One anomalous window, one alarm, one mask, one sign-off."""
    world.judge(
        verdict_of("chamber-1", 0), verdict_of("chamber-1", 1, p=0.004), verdict_of("chamber-1", 2, p=None)
    )
    world.raise_alarm("chamber-2")
    world.alarm_service.apply(AddMask("3f9a", "chamber-4", "gas leak"), "jo")
    world.queries.certification.apply(SignRun(7, Decision.BAD, "looked at"), "jo")
    return world


_described: dict[str, Any] = {}


def description(client: Browser) -> dict[str, Any]:
    """What the application says of itself; every application says the same, and making it takes long."""
    if not _described:
        _described.update(client.get(f"{API}/openapi.json").json())
    return _described


def check(client: Browser, schema: dict[str, Any], value: object) -> None:
    """Hold an answer against the description of the API."""
    from jsonschema import Draft202012Validator  # takes a second to load
    from referencing import Registry, Resource

    registry = Registry().with_resource(
        "api",
        Resource.from_contents({"$schema": Draft202012Validator.META_SCHEMA["$id"], **description(client)}),
    )
    absolute = json.loads(json.dumps(schema).replace('"#/', '"api#/'))
    Draft202012Validator(absolute, registry=registry).validate(value)


def test_the_description_is_sound_openapi(client: Browser) -> None:
    from openapi_spec_validator import validate  # takes a second to load

    found = description(client)
    assert found["openapi"].startswith("3.1")
    validate(found)


def test_what_is_null_by_default_is_described_as_such(client: Browser) -> None:
    schemas = description(client)["components"]["schemas"]
    for name, optional in {
        "Alarm": {"raised_at", "acknowledged", "shelf"},
        "Mask": {"start", "until", "channels"},
        "MaskBody": {"start", "until", "channels"},
        "ShelveBody": {"hours"},
    }.items():
        properties = schemas[name]["properties"]
        assert {key for key, value in properties.items() if value.get("default", "") is None} == optional


def test_every_answer_is_as_described(busy: World, client: Browser) -> None:
    values = {"stream": "chamber-1", "run": "7", "seq": "1", "cause": "differs"}
    set_role(busy.users, "maria", Role.ADMIN)
    n_checked = 0
    for path, operations in description(client)["paths"].items():
        if "get" not in operations or "{identifier}" in path:  # a comparison is looked at where one is made
            continue
        answer = client.get(API + re.sub(r"{(\w+)}", lambda found: values[found[1]], path))
        assert answer.status_code == 200, path
        content = operations["get"]["responses"]["200"]["content"]["application/json"]
        check(client, content["schema"], answer.json())
        n_checked += 1
    assert n_checked == 17
    assert len(busy.alarm_service.alarms()) == 4 * len(Cause)


def test_the_overview_has_what_the_page_has(busy: World, client: Browser) -> None:
    told = client.get(f"{API}/overview").json()
    assert [alarm["stream"] for alarm in told["needs_response"]] == ["chamber-2"]
    assert told["qualities"] == {"Null": 3, "Good": 0, "Medium": 0, "Bad": 1}
    assert told["origins"] == ["simulated"]
    streams = {stream["name"]: stream for stream in told["streams"]}
    assert streams["chamber-2"]["path"] == "muon/station-1"
    assert [w["quality"] for w in streams["chamber-1"]["recent"]] == ["Good", "Medium", "Null"]
    assert streams["chamber-1"]["last"]["p"] is None
    assert told["tree"]["groups"][0]["groups"][0]["streams"] == ["chamber-1", "chamber-2"]
    assert busy.clock() == told["time"]


def test_maps_are_given_in_full(busy: World, client: Browser) -> None:
    verdict = busy.store.find("chamber-1", 7, 1)
    assert verdict is not None
    assert verdict.explanation is not None
    told = client.get(f"{API}/streams/chamber-1/windows/7/1").json()["explanation"]
    for ratio, shown in zip(verdict.explanation.maps, told["maps"], strict=True):
        assert shown["features"] == list(ratio.features)
        for name in ("reference", "reference_error", "data", "fitted"):
            assert shown[name] == getattr(ratio, name).tolist()
    assert len(told["pairs"][0]["data"]) == 12
    assert told["ranking"][0] == ["t_2", 0.81]


def test_windows_are_the_newest_first_and_filtered(busy: World, client: Browser) -> None:
    path = f"{API}/streams/chamber-1/windows"
    assert busy.store.find("chamber-1", 7, 0)
    for query, expected in [("", [2, 1, 0]), ("?limit=1", [2]), ("?quality=Good", [0]), ("?run=8", [])]:
        assert [w["seq"] for w in client.get(path + query).json()["windows"]] == expected


def test_people_act_by_the_api(busy: World, client: Browser) -> None:
    signed = {"comment": "HV trips"}
    told = client.post(f"{DIFFERS}/acknowledge", json=signed)
    assert told.status_code == 200
    assert told.json()["acknowledged"] == {"user": "maria", "comment": "HV trips", "time": START}
    shelved = client.post(f"{DIFFERS}/shelve", json={"reason": "test", "hours": 2}).json()
    assert (shelved["state"], shelved["shelf"]["until"]) == ("Shelved", START + 7200)
    assert client.post(f"{DIFFERS}/unshelve", json=signed).json()["shelf"] is None
    mask = {"reason": "work", "streams": "chamber-3", "until": START + 60}
    made = client.post(f"{API}/masks", json=mask).json()
    assert len(client.get(f"{API}/masks").json()["masks"]) == 2
    ended = client.post(f"{API}/masks/{made['identifier']}/remove", json=signed)
    assert [m["streams"] for m in ended.json()["masks"]] == ["chamber-4"]
    changes = client.get(f"{API}/alarms/history?stream=chamber-2").json()["changes"]
    assert [c["action"] for c in changes][:3] == ["unshelve", "shelve", "acknowledge"]
    assert busy.queries.alarm("chamber-2", Cause.DIFFERS).state is AlarmState.ACTIVE


@pytest.mark.parametrize(
    ("path", "body", "status", "where", "detail"),
    [
        (f"{DIFFERS}/acknowledge", {}, 422, "comment", "Field required"),
        (f"{DIFFERS}/acknowledge", {"comment": " "}, 422, "comment", "at least 1 character"),
        (f"{DIFFERS}/acknowledge", {"user": "jo", "comment": "x"}, 422, "user", "not permitted"),
        (f"{DIFFERS}/acknowledge", {"comment": "x" * 501}, 422, "comment", "at most 500"),
        (f"{DIFFERS}/acknowledge", [], 422, "request", "valid dictionary"),
        (f"{DIFFERS}/shelve", {"reason": "x"}, 422, "request", "a shelf must end"),
        (f"{DIFFERS}/shelve", {"reason": "x", "hours": 1e9}, 422, "hours", "less than or equal"),
        (f"{API}/masks", {"reason": "x", "streams": "a", "start": 2, "until": 1}, 422, "request",
         "ends before it begins"),
        (f"{API}/masks", {"reason": "x", "streams": "*", "until": 1}, 409, None,
         "ended already"),
        (f"{API}/alarms/chamber-1/fire/acknowledge", {"comment": "x"}, 422, "cause",
         "'differs'"),
        (f"{API}/alarms/x/differs/acknowledge", {"comment": "x"}, 404, None, "no alarm"),
        (f"{API}/nothing", {}, 404, None, "Not Found"),
        (f"{API}/masks", {"reason": "x", "streams": "a", "until": 4_102_444_801}, 422, "until", "4102444800"),
    ],
)  # fmt: skip
def test_mistakes_are_told_what_where_and_how_to_mend_them(
    busy: World, client: Browser, path: str, body: object, status: int, where: str | None, detail: str
) -> None:
    before = busy.alarm_service.alarms(), busy.alarm_service.masks()
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["where"]) == (status, where)
    assert detail in problem["detail"]
    assert (busy.alarm_service.alarms(), busy.alarm_service.masks()) == before
    check(client, {"$ref": "#/components/schemas/Problem"}, problem)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "quality=Fine", "run=x", "colour=red"])
def test_what_is_asked_for_is_checked(client: Browser, query: str) -> None:
    assert client.get(f"{API}/streams/chamber-1/windows?{query}").status_code == 422


def test_a_store_that_fails_is_told(busy: World, client: Browser, tmp_path: Path) -> None:
    busy.store.close()
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        connection.execute("DROP TABLE verdicts")
    answer = client.get(f"{API}/streams/chamber-1/windows")
    assert answer.status_code == 503
    assert "no such table" in answer.json()["detail"]
