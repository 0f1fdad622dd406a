"""Certification of runs on the page and by the API: what is shown, done and refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dqm.alarm import AmendFlag, Decision, LabelFault, Scope, SignOffRules, SignRun, WithdrawAmendment
from dqm.config import Role
from dqm.events import Quality
from dqm.export.registry import RegistryStatus
from dqm.export.sender_metrics import SenderMetrics
from dqm.web import set_role
from tests.world import START, Browser, World, verdict_of

RUN = "/certification/7"
API = f"/api/v1{RUN}"


@pytest.fixture
def judged(world: World) -> World:
    """Four windows of 10 s of each of two chambers; those of chamber-2 are Bad at first."""
    for seq in range(4):
        times = {"start": START + 10.0 * seq, "end": START + 10.0 * (seq + 1)}
        world.judge(verdict_of("chamber-1", seq, **times))
        world.judge(verdict_of("chamber-2", seq, p=2e-9 if seq < 2 else 0.4, **times))
    return world


@pytest.fixture
def program(judged: World) -> Browser:
    return Browser(judged, as_program=True, user="maria")


def post(client: Browser, action: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{API}/{action}", json={"comment": "HV ramp"} | body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def send(client: Browser, action: str, **fields: str) -> Any:
    return client.post(f"{RUN}/{action}", data={"token": client.token(RUN), "comment": "HV ramp"} | fields)


def test_a_window_is_amended_and_its_verdict_stays(program: Browser, judged: World) -> None:
    before = list(judged.store.select())
    made = post(program, "amend", stream="chamber-2", first=1, last=1, quality="Good")
    assert (made["identifier"], made["user"], made["judged"]) == (1, "maria", {"Bad": 1})
    assert list(judged.store.select()) == before
    window = program.get("/api/v1/streams/chamber-2/windows/7/1").json()
    assert window["verdict"]["quality"] == "Bad"
    assert window["said"] == [
        {"quality": "Good", "fault": "", "user": "maria", "time": START, "comment": "HV ramp"}
    ]
    flags = [f for f in program.get(API).json()["flags"] if f["stream"] == "chamber-2"]
    assert [(f["flag"], f["original_flag"], f["amended_by"]) for f in flags][:3] == [
        ("Bad", None, None), ("Good", "Bad", "maria"), ("Good", None, None),
    ]  # fmt: skip
    text = Browser(judged, user="maria").get("/windows/chamber-2/7/1").text
    assert "by maria" in text
    assert f'href="{RUN}?stream=chamber-2&amp;windows=1#amend"' in text


def test_a_stretch_of_time_of_all_streams_is_labelled_and_withdrawn(program: Browser) -> None:
    made = post(program, "label", fault="HV trip", start=START, end=START + 15.0)
    assert made["judged"] == {"Good": 2, "Bad": 2}
    page = program.get(API).json()
    assert page["faults"] == ["HV trip"]
    assert {f["fault"] for f in page["flags"]} == {"HV trip", None}
    assert program.get("/api/v1/certification").json()["runs"][0]["faults"] == ["HV trip"]
    post(program, "withdraw", identifier=made["identifier"])
    page = program.get(API).json()
    assert {f["fault"] for f in page["flags"]} == {None}
    assert [(e["action"], e["is_withdrawn"]) for e in page["entries"]] == [
        ("withdraw", False),
        ("label", True),
    ]
    told = post(program, "withdraw", 409, identifier=made["identifier"])
    assert "maria has withdrawn it at" in told["detail"]


def test_a_run_is_signed_as_proposed_and_given_to_registries(program: Browser) -> None:
    page = program.get(API).json()
    # the other two streams of this detector have no windows
    assert (page["proposed"], page["line"]["decision"]) == ("bad", None)
    assert program.get(f"{API}/record").status_code == 404
    made = post(program, "sign", decision="good without", without=["chamber-3", "chamber-4"])
    assert made["what"] == "run 7: good without chamber-3, chamber-4"
    record = program.get(f"{API}/record").json()
    assert (record["decision"], record["proposed"], record["signed_by"]) == ("good without", "bad", "maria")
    assert [one["used"] for one in record["streams"]] == [True, True, False, False]
    assert len(record["flags"]) == len(program.get(API).json()["flags"])
    line = program.get("/api/v1/certification").json()["runs"][0]
    assert (line["run"], line["decision"], line["n_since"]) == (7, "good without", 0)


@pytest.mark.parametrize(
    ("action", "body", "status", "told"),
    [
        (
            "amend",
            {"stream": "chamber-2", "first": 9, "last": 9, "quality": "Good"},
            409,
            "It has windows 0 to 3",
        ),
        ("amend", {"stream": "nobody", "quality": "Good"}, 409, "Streams with windows: chamber-1, chamber-2"),
        ("amend", {"start": 5.0, "end": 6.0, "quality": "Good"}, 409, "Its windows are from"),
        ("amend", {"start": 6.0, "end": 5.0, "quality": "Good"}, 422, "ends before it begins"),
        ("amend", {"first": 1, "last": 2, "quality": "Good"}, 422, "name the stream"),
        ("amend", {"quality": "Superb"}, 422, "quality"),
        ("amend", {"quality": "Good", "comment": " "}, 422, "comment"),
        ("label", {"fault": "x" * 65}, 422, "fault"),
        ("label", {"fault": "a\u202eb"}, 422, "invisible characters"),
        ("withdraw", {"identifier": 5}, 409, "no amendment and no label 5"),
        ("sign", {"decision": "good without"}, 409, "0 streams to leave out"),
        ("sign", {"decision": "good without", "without": ["nobody"]}, 409, "no stream 'nobody'"),
        ("sign", {"decision": "superb"}, 422, "decision"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(
    program: Browser, judged: World, action: str, body: dict[str, Any], status: int, told: str
) -> None:
    problem = post(program, action, status, **body)
    assert told in f"{problem['detail']}. {problem['fix']} {problem['where']}"
    assert judged.queries.certification.journal(7).entries == ()


def test_a_run_that_there_is_not_cannot_be_looked_at_or_amended(program: Browser) -> None:
    assert program.get("/api/v1/certification/8").status_code == 404
    assert program.get("/api/v1/certification/8/record").status_code == 404
    answer = program.post("/api/v1/certification/8/amend", json={"comment": "x", "quality": "Good"})
    assert (answer.status_code, "run 8 has no windows" in answer.text) == (409, True)
    assert program.get("/certification/x").status_code == 404
    assert program.get(f"/certification/{2**63}").status_code == 404


def test_who_was_amended_meanwhile_sees_by_whom_and_keeps_what_was_written(judged: World) -> None:
    client = Browser(judged, user="maria")
    page = client.get(f"{RUN}?stream=chamber-2&windows=1").text
    assert '<option value="chamber-2">' in page
    assert 'name="windows" value="1"' in page
    judged.queries.certification.apply(AmendFlag(Scope(7, "chamber-2"), Quality.MEDIUM, "warm"), "jo")
    answer = send(client, "amend", known="0", stream="chamber-2", windows="1-2", quality="Good")
    assert answer.status_code == 409
    assert "jo has changed it meanwhile" in answer.text
    assert 'name="windows" value="1-2"' in answer.text
    assert 'name="known" value="1"' in answer.text
    answer = send(client, "amend", known="1", stream="chamber-2", windows="1-2", quality="Good")
    assert (answer.status_code, answer.headers["location"]) == (303, RUN)


def test_forms_amend_label_withdraw_and_sign(judged: World) -> None:
    client = Browser(judged, user="maria")
    assert "Nobody has signed this run." in client.get(RUN).text
    times = {"start": "2026-09-21T14:13:20", "end": "2026-09-21T14:13:35"}
    assert send(client, "amend", known="0", quality="Null", **times).status_code == 303
    assert (
        send(client, "label", known="1", fault="HV trip", stream="chamber-2", windows="0-1").status_code
        == 303
    )
    assert send(client, "withdraw", identifier="1").status_code == 303
    assert (
        send(client, "sign", known="3", decision="good without", without="chamber-3, chamber-4").status_code
        == 303
    )
    journal = judged.queries.certification.journal(7)
    assert [one.fault for one in journal.amendments] == ["HV trip"]
    assert journal.sign_off is not None
    assert journal.sign_off.without == ("chamber-3", "chamber-4")
    page = client.get(RUN).text
    assert "signed by <b>maria</b>" in page
    assert "withdrawn" in page
    listed = client.get("/certification").text
    assert "good without" in listed
    assert "HV trip" in listed
    for fields, told in (
        ({"windows": "five"}, "no range of windows"), ({"start": "today", "end": "later"}, "is not a time"),
        ({"stream": "chamber-1", "windows": "5-3"}, "ends before it begins"),
    ):  # fmt: skip
        answer = send(client, "amend", known="4", quality="Good", **fields)
        assert answer.status_code in (409, 422)
        assert told in answer.text


def test_only_those_who_are_named_sign(judged: World) -> None:
    judged.queries.certification.revise(SignOffRules(signers=frozenset({"jo"})))
    client = Browser(judged, user="maria")
    assert "names who may sign; you are not among them" in client.get(RUN).text
    answer = send(client, "sign", known="0", decision="bad")
    assert answer.status_code == 403
    row = judged.alarm_service.history.actions()[-1]
    assert (row["user"], row["action"], row["target"]) == ("maria", "sign refused", "run 7: bad")
    assert send(Browser(judged, user="jo"), "sign", known="0", decision="bad").status_code == 303


def test_a_viewer_sees_everything_and_is_offered_nothing(judged: World) -> None:
    judged.queries.certification.apply(LabelFault(Scope(7, "chamber-2"), "HV trip", "seen"), "jo")
    set_role(judged.users, "maria", Role.VIEWER)
    page = Browser(judged, user="maria").get(RUN).text
    assert "HV trip" in page
    assert page.count("This needs the role expert; your role is viewer.") == 3
    assert f'action="{RUN}/' not in page


def test_what_was_said_after_the_sign_off_is_told(judged: World) -> None:
    actions = judged.queries.certification
    actions.apply(SignRun(7, Decision.BAD, "looked at"), "jo")
    actions.apply(LabelFault(Scope(7, "chamber-2"), "HV trip", "seen"), "jo")
    actions.apply(WithdrawAmendment(7, 2, "no"), "jo")
    judged.judge(verdict_of("chamber-1", 4))
    page = Browser(judged, user="maria").get(RUN).text
    assert "2 entries were added since" in page
    assert "1 window came since" in page
    judged.store.prune(START + 1e6, 100)
    page = Browser(judged, user="maria").get(RUN).text
    assert "8 of its windows are deleted since. The flags below are those that were signed." in page
    assert "chamber-1" in page
    assert f'action="{RUN}/sign"' not in page


def test_a_registry_that_fails_is_told(judged: World) -> None:
    class Failing:
        status = RegistryStatus(0, 3, 2, START, "run 7: it answers 500")

        def wake(self) -> None:
            """Nothing is sent."""

    judged.queries.certification._registry = Failing()
    page = Browser(judged, user="maria").get("/certification").text
    assert "does not take sign-offs since" in page
    assert "it answers 500" in page
    judged.metrics.registry.register(SenderMetrics(tuple, judged.queries.certification.registry_status))
    text = Browser(judged, user="maria").get("/metrics").text
    assert 'dqm_registry_sends_total{outcome="failed"} 3.0' in text
    assert "dqm_registry_waiting 2.0" in text
    assert dataclasses.asdict(Failing.status)["n_waiting"] == 2


def test_names_and_comments_are_text(judged: World) -> None:
    actions = judged.queries.certification
    actions.apply(LabelFault(Scope(7, "chamber-2"), "<b>&trip", "<script>alert(1)</script>"), "jo")
    client = Browser(judged, user="maria")
    for path in (
        RUN,
        "/certification",
        "/windows/chamber-2/7/1",
        f"{RUN}?stream=%22%3E%3Cscript%3E&fault=%3Cb%3E",
    ):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<b>&trip" not in page
        assert '"><script>' not in page
