"""Values at the edge, with either kind of store: what comes in is bounded, what is stored is shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy import update

from dqm.alarm import AddMask, Cause, Mask, Shelf, ShelveAlarm
from dqm.cli.verdicts import as_json_line
from dqm.events import NuisanceResult, Profiled, Verdict
from dqm.export.flags import flag_run, take_spans
from dqm.export.report import report_run
from dqm.service.monitor.alarm_service import AlarmService
from dqm.store.schema import alarm_states
from dqm.web import HttpServer, create_app
from tests.cli.program import call_dqm
from tests.store.postgres import PostgresServer
from tests.world import PASSWORDS, START, Browser, World, make_world, verdict_of

API = "/api/v1"
DIFFERS = f"{API}/alarms/chamber-2/differs"
WINDOWS = f"{API}/streams/chamber-1/windows"
LARGEST = 2**63 - 1
NOT_JSON = ("NaN", "Infinity")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Callable[[], str]]:
    with PostgresServer() as server:
        yield lambda: server.make_database().replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """As the other tests have it, with a store of either kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres")()
    made = make_world(tmp_path / "x.sqlite", {"muon": ["chamber-1", "chamber-2"]}, url)
    made.judge(verdict_of("chamber-1", 0))
    made.raise_alarm("chamber-2")
    yield made
    made.store.close()


ASKED: dict[str, tuple[str, str]] = {
    "run beyond 64 bits": (f"{WINDOWS}?run={LARGEST + 1}", "run"),
    "negative run": (f"{WINDOWS}?run=-1", "run"),
    "run of 5000 digits": (f"{WINDOWS}?run={'9' * 5000}", "run"),
    "run that is NaN": (f"{WINDOWS}?run=nan", "run"),
    "limit beyond 64 bits": (f"{WINDOWS}?limit={LARGEST + 1}", "limit"),
    "path beyond 64 bits": (f"{WINDOWS}/{LARGEST + 1}/0", "run"),
    "number beyond 64 bits": (f"{WINDOWS}/7/{LARGEST + 1}", "seq"),
    "path of 5000 digits": (f"{WINDOWS}/{'9' * 5000}/0", "run"),
    "stream with NUL": (f"{API}/streams/chamber%001/windows/7/0", "stream"),
    "stream in the supplementary planes": (f"{API}/streams/%F0%9F%92%A9/windows/7/0", "stream"),
    "history of a stream with NUL": (f"{API}/alarms/history?stream=a%00", "stream"),
    "history since infinity": (f"{API}/alarms/history?since=inf", "since"),
    "history since NaN": (f"{API}/alarms/history?since=nan", "since"),
    "history since ever": (f"{API}/alarms/history?since=1e300", "since"),
    "page of a run beyond 64 bits": (f"/windows/chamber-1/{LARGEST + 1}/0", "run"),
    "page of a run of 5000 digits": (f"/windows/chamber-1/{'9' * 5000}/0", "run"),
    "page of a number of 5000 digits": (f"/windows/chamber-1/7/{'9' * 5000}/events.parquet", "seq"),
    "page of a stream with NUL": ("/windows/chamber-1%00/7/0", "stream"),
    "comparison of a strange name": (f"{API}/compare/{'x' * 5000}", "identifier"),
    "trend of runs beyond 64 bits": (f"/trends?stream=chamber-1&last={LARGEST + 1}", "last"),
    "trend of runs of 5000 digits": (f"/trends?stream=chamber-1&last={'9' * 5000}", "last"),
    "trend of no range of runs": ("/trends?stream=chamber-1&runs=5-", "runs"),
    "trend of too many runs": (f"{API}/streams/chamber-1/trend?runs=0-{LARGEST}", "runs"),
    "trend of runs of 5000 characters": (f"/trends?runs={'9,' * 2500}", "runs"),
    "trend of a stream with NUL": ("/trends?stream=chamber%001", "stream"),
    "trend of a stream that reads backwards": ("/trends?stream=%E2%80%AEchamber-1", "stream"),
    "filter beyond 64 bits": (f"/streams/chamber-1?run={LARGEST + 1}", "run"),
    "filter of 5000 digits": (f"/streams/chamber-1?run={'9' * 5000}", "run"),
}


@pytest.fixture
def program(world: World) -> Browser:
    return Browser(world, as_program=True, user="maria")


def check_refusal(answer: Any, where: str) -> str:
    assert answer.status_code == 422, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["where"] == where
    assert len(problem["detail"]) < 400
    return str(problem["detail"])


def test_what_is_asked_for_beyond_the_edge_is_refused_with_its_field(program: Browser) -> None:
    for path, where in ASKED.values():
        check_refusal(program.get(path), where)
    assert str(LARGEST) in check_refusal(program.get(ASKED["run of 5000 digits"][0]), "run")
    assert str(LARGEST) in check_refusal(program.get(ASKED["path beyond 64 bits"][0]), "run")


def test_the_edge_itself_is_allowed(program: Browser) -> None:
    assert program.get(f"{WINDOWS}?run={LARGEST}").json()["windows"] == []
    assert program.get(f"{WINDOWS}/{LARGEST}/{LARGEST}").status_code == 404
    assert program.get(f"{API}/alarms/history?since=0&stream={'a' * 64}").json() == {"changes": []}


MASK = '{"streams": "chamber-1", "reason": "x", %s}'
SENT: dict[str, tuple[str, str, str]] = {
    "mask from the end of time": (f"{API}/masks", MASK % '"start": 1e300', "start"),
    "mask from infinity": (f"{API}/masks", MASK % '"start": Infinity', "start"),
    "mask until NaN": (f"{API}/masks", MASK % '"until": NaN', "until"),
    "mask from before 1970": (f"{API}/masks", MASK % '"start": -1', "start"),
    "mask until 1e400": (f"{API}/masks", MASK % '"until": 1e400', "until"),
    "mask until 5000 digits": (f"{API}/masks", MASK % f'"until": {"9" * 5000}', "until"),
    "mask until -400 digits": (f"{API}/masks", MASK % f'"until": -{"9" * 400}', "until"),
    "mask of NUL": (f"{API}/masks", '{"streams": "a\\u0000", "reason": "x"}', "streams"),
    "mask in runs of NUL": (f"{API}/masks", MASK % '"run_types": ["a\\u0000"]', "run_types.0"),
    "shelf for long": (f"{DIFFERS}/shelve", '{"reason": "x", "hours": 99999999}', "hours"),
    "shelf for NaN": (f"{DIFFERS}/shelve", '{"reason": "x", "hours": NaN}', "hours"),
    "reason with NUL": (f"{DIFFERS}/shelve", '{"reason": "a\\u0000b", "hours": 1}', "reason"),
    "comment with NUL": (f"{DIFFERS}/acknowledge", '{"comment": "a\\u0000b"}', "comment"),
    "comment with half a character": (f"{DIFFERS}/acknowledge", '{"comment": "a\\ud800"}', "comment"),
    "key with half a character": (f"{DIFFERS}/acknowledge", '{"comment": "a", "\\ud800": 1}', "\ufffd"),
    "comparison of runs that are no numbers": (
        f"{API}/compare",
        '{"first": {"stream": "chamber-1", "runs": "a"}, "second": {"stream": "chamber-1", "runs": "7"}}',
        "first.runs",
    ),
    "comparison of a window beyond 64 bits": (
        f"{API}/compare",
        '{"first": {"stream": "chamber-1", "runs": "7", "window": 9223372036854775808}, '
        '"second": {"stream": "chamber-1", "runs": "7"}}',
        "first.window",
    ),
    "15 000 brackets": (f"{DIFFERS}/acknowledge", "[" * 15_000, "body"),
    "no JSON": (f"{DIFFERS}/acknowledge", '{"comment": ', "body"),
    "no UTF-8": (f"{DIFFERS}/acknowledge", '{"comment": "\udcff"}', "body"),
}


def test_what_is_sent_beyond_the_edge_is_refused_and_changes_nothing(world: World, program: Browser) -> None:
    before = world.alarm_service.alarms(), world.alarm_service.masks(), world.queries.history.actions()
    for name, (path, body, where) in SENT.items():
        content = body.encode("utf-8", "surrogateescape")
        answer = program.post(path, content=content, headers={"Content-Type": "application/json"})
        if name == "key with half a character":
            assert answer.status_code == 422
            continue
        check_refusal(answer, where)
    after = world.alarm_service.alarms(), world.alarm_service.masks(), world.queries.history.actions()
    assert after == before


@pytest.mark.parametrize(
    ("path", "fields", "where"),
    [
        ("/masks", {"streams": "*", "reason": "x", "hours": "99999999"}, "hours"),
        ("/masks", {"streams": "*", "reason": "x", "begin": "1e300"}, "begin"),
        ("/masks", {"streams": "*", "reason": "x", "hours": "nan"}, "hours"),
        ("/masks", {"streams": "*", "reason": "x", "hours": "9" * 5000}, "hours"),
        ("/masks", {"streams": "*", "reason": "x", "until": "1e300"}, "until"),
        ("/masks", {"streams": "*", "reason": "a\0b"}, "reason"),
        ("/alarms/chamber-2/differs/shelve", {"reason": "x", "hours": "inf"}, "hours"),
        ("/alarms/chamber-2/differs/acknowledge", {"comment": "\0"}, "comment"),
    ],
)
def test_forms_have_the_same_limits(world: World, path: str, fields: dict[str, str], where: str) -> None:
    client = Browser(world, user="maria")
    answer = client.post(path, data=fields | {"token": client.token("/masks")})
    assert answer.status_code == 422
    assert f"{where}: " in answer.text


def test_text_of_every_plane_is_kept(world: World, program: Browser) -> None:
    comment = "\u00e9 \u4e2d \U0001f4a9 \u202e [31m\nend"
    assert program.post(f"{DIFFERS}/acknowledge", json={"comment": comment}).status_code == 200
    told = program.get(f"{API}/alarms/history?stream=chamber-2&limit=1").json()["changes"][0]
    assert told["comment"] == comment
    assert world.queries.history.actions()[-1]["comment"] == comment


def keep_masks(world: World, *masks: dict[str, Any]) -> None:
    """Put masks into the store as an older version may have, and start the alarms anew."""
    world.alarm_service.apply(AddMask("good", "chamber-1", "work"), "jo")
    with world.store.database.transaction() as connection:
        stored = connection.execute(alarm_states.select()).all()
        (row,) = [row for row in stored if "masks" in row.content]
        content = {"masks": [*row.content["masks"], *masks]}
        changed = update(alarm_states).where(alarm_states.c.name == row.name).values(content=content)
        connection.execute(changed)
    service = world.alarm_service
    object.__setattr__(
        world.queries,
        "alarm_service",
        AlarmService(service._rules, service.thresholds(), world.store.database, world.clock),
    )


def mask_of(identifier: str, start: float | None, until: float | None) -> dict[str, Any]:
    return {
        "identifier": identifier, "streams": "chamber-2", "user": "jo", "reason": "x", "time": 1e300,
        "run_types": [], "start": start, "until": until,
    }  # fmt: skip


def test_one_absurd_mask_in_the_store_does_not_end_the_list(
    world: World, program: Browser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_masks(
        world, mask_of("long", None, 1e300), mask_of("late", 4e11, 1.7e308), mask_of("old", -1e18, 1e12)
    )
    program = Browser(world, as_program=True, user="maria")
    assert [m["identifier"] for m in program.get(f"{API}/masks").json()["masks"]] == [
        "good", "long", "late", "old",
    ]  # fmt: skip
    page = Browser(world, user="maria").get("/masks")
    assert page.status_code == 200
    assert page.text.count("more than 100 years") >= 2
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    monkeypatch.setenv("DQM_PASSWORD", PASSWORDS["maria"])
    assert call_dqm("alarms", "masks", f"http://{server.address}") == 0
    assert "12-31 23:59:59" in capsys.readouterr().out
    assert call_dqm("alarms", "mask", f"http://{server.address}", "*", "-r", "x", "--hours", "nan") == 2
    assert call_dqm("alarms", "mask", f"http://{server.address}", "*", "-r", "x", "--hours", "1e9") == 2
    server.stop()
    for identifier in ("long", "late", "old"):
        answer = program.post(f"{API}/masks/{identifier}/remove", json={"comment": "absurd"})
        assert answer.status_code == 200


def odd_verdict(**numbers: float | None) -> Verdict:
    """A healthy window whose numbers are at the edge."""
    plain = verdict_of("chamber-1", 9, 0.5)
    odd = Profiled(math.nan, math.inf, -math.inf)
    nuisances = {"drift_velocity": NuisanceResult(math.nan, odd, odd)}
    return replace(plain, result=replace(plain.result, nuisances=nuisances, **numbers))


AT_THE_EDGE = [
    {"p": 1.0, "z": -math.inf},
    {"t": -math.inf, "tau": math.nan, "delta": math.inf, "p": None, "z": None},
    {"t": math.inf, "p": 1e-15, "z": math.inf},
    {"p_low": 0.0, "p_high": math.nan},
]


@pytest.mark.parametrize("numbers", AT_THE_EDGE, ids=["p=1", "t=-inf", "t=inf", "interval"])
def test_no_number_that_is_not_finite_reaches_json_or_metrics(
    world: World, program: Browser, numbers: dict[str, float | None]
) -> None:
    verdict = odd_verdict(**numbers)
    world.judge(verdict)
    texts = [
        program.get(path).text
        for path in (
            WINDOWS,
            f"{WINDOWS}/7/9",
            f"{API}/overview",
            f"{API}/streams/chamber-1",
            f"{API}/alarms",
        )
    ]
    stored = list(world.store.select(stream="chamber-1"))
    assert stored[-1].window.seq == 9
    texts += map(as_json_line, stored)
    for text in texts:
        json.loads(text, parse_constant=pytest.fail)
    told = json.loads(texts[0])["windows"][0]
    for name, value in numbers.items():
        assert told[name] == (value if value is None or math.isfinite(value) else None)
    shown = generate_latest(world.metrics.registry).decode()
    assert re.findall(r"(?i) [+-]?(?:nan|inf)$", shown, re.MULTILINE) == []
    flags = flag_run({"chamber-1": take_spans(stored)})
    json.dumps([flag.as_row("x") for flag in flags], allow_nan=False)
    report = report_run(world.store, world.queries.history, 7, version="x", now=START + 99.0)
    for page in (
        report,
        Browser(world).get("/streams/chamber-1").text,
        Browser(world).get("/windows/chamber-1/7/9").text,
    ):
        for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL):
            json.loads(data, parse_constant=pytest.fail)


def test_a_shelf_that_never_ends_is_shown(world: World) -> None:
    world.alarm_service.apply(ShelveAlarm("chamber-2", Cause.DIFFERS, "x", hours=1.0), "jo")
    alarm = world.queries.alarm("chamber-2", Cause.DIFFERS)
    endless = replace(alarm, since=-1e300, raised_at=1e300, shelf=Shelf("jo", "x", 1e18, 1e300, False))
    object.__setattr__(world.queries, "alarm_service", Fixed(world.alarm_service, endless))
    client = Browser(world, user="maria")
    for path in ("/", "/alarms", "/alarms/chamber-2/differs", "/streams/chamber-2"):
        assert client.get(path).status_code == 200, path
    assert "more than 100 years" in client.get("/alarms/chamber-2/differs").text


class Fixed:
    """Alarms as they are, but for one."""

    def __init__(self, service: AlarmService, alarm: Any) -> None:
        self._service, self._alarm = service, alarm

    def alarms(self) -> list[Any]:
        one = self._alarm
        return [
            one if (each.stream, each.cause) == (one.stream, one.cause) else each
            for each in self._service.alarms()
        ]

    def masks(self) -> tuple[Mask, ...]:
        return ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)
