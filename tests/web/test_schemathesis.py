"""Schemathesis asks a real server everything that the description of the API allows, and more."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from requests import Request
from schemathesis import GenerationMode, checks

from dqm.alarm import AddMask
from dqm.web import HttpServer, create_app
from dqm.web.connections import ConnectionLimits
from tests.waiting import get
from tests.world import PASSWORDS, make_world, verdict_of

API = "/api/v1"
FEW, MANY = 6, 500
PLAIN = ("alarms", "comparisons", "masks", "overview", "runs", "thresholds")
WITH_INPUT = (
    "accept", "acknowledge", "acknowledge_alarms", "alarm", "amend", "cancel_comparison", "compare",
    "comparison", "history", "kept", "label", "mask", "record", "run_of", "shelve", "sign", "stream", "trend",
    "unmask", "unshelve", "wall", "window", "windows", "withdraw",
)  # fmt: skip
OF_ADMINS = ("remove_user", "set_role", "sign_out_user", "users")
"""Tested one by one in ``auth/``: made-up requests would remove the user who asks."""
ASKED = [
    *((name, GenerationMode.POSITIVE) for name in (*PLAIN, *WITH_INPUT)),
    *((name, GenerationMode.NEGATIVE) for name in WITH_INPUT),
]
NOT_IN_THE_SCHEMA = (
    "ends before it begins", "a stretch has two ends", "by windows or by time", "name the stream",
    "invisible characters", "less than or equal to 9223372036854775807",  # which the description rounds
    "more than 16384 bytes",
)  # fmt: skip
"""Rules that a schema cannot express."""
CHECKS = [  # those that look at one answer; others send requests of their own
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
]
KNOWN = {"Authorization": "Basic " + base64.b64encode(f"maria:{PASSWORDS['maria']}".encode()).decode()}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a store, windows, an alarm and a mask; maria may change as much as she likes."""
    folder: Path = tmp_path_factory.mktemp("world")
    world = make_world(folder / "x.sqlite", {"muon": ["chamber-1", "chamber-2"]})
    world.judge(verdict_of("chamber-1", 0), verdict_of("chamber-1", 1, p=0.004))
    world.raise_alarm("chamber-2")
    world.alarm_service.apply(AddMask("3f9a", "chamber-1", "gas leak"), "jo")
    authenticator = world.authenticator(changes_per_minute=6000)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=authenticator)
    server = HttpServer(app, "127.0.0.1", 0, limits=ConnectionLimits(idle_seconds=600.0))
    server.start()
    yield f"http://{server.address}{API}"
    server.stop()
    world.store.close()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60.0) as opened:
        yield opened


@pytest.fixture(scope="module")
def schema(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(get(f"{url}/openapi.json").json())


def test_every_operation_is_asked(schema: schemathesis.BaseSchema) -> None:
    found = [result.ok().definition.raw["operationId"] for result in schema.get_all_operations()]
    assert sorted(found) == sorted([*PLAIN, *WITH_INPUT, *OF_ADMINS])


@pytest.mark.parametrize("n_examples", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize(("name", "mode"), ASKED)
def test_every_answer_is_described(
    url: str,
    client: httpx.Client,
    schema: schemathesis.BaseSchema,
    name: str,
    mode: GenerationMode,
    n_examples: int,
) -> None:
    operation = schema.find_operation_by_id(name)

    @settings(
        max_examples=n_examples,
        derandomize=n_examples == FEW,  # the same each time; the long form finds something new
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        if mode is GenerationMode.POSITIVE and "stream" in (case.path_parameters or {}):
            case.path_parameters["stream"] = "chamber-2"  # one that is there
        # sent by httpx: Schemathesis's own sender reads the inside of urllib3, which another package replaces
        asked = Request(**case.as_transport_kwargs(base_url=url, headers=KNOWN)).prepare()
        response = client.request(
            asked.method or "", asked.url or "", headers=dict(asked.headers), content=asked.body
        )
        assert response.status_code < 500
        if any(text in response.text for text in NOT_IN_THE_SCHEMA):
            return
        case.validate_response(response, checks=CHECKS)

    ask()
