"""``dqm dashboards``, from its entry point to a server that answers as Grafana does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.export.grafana_server import TOKEN, FakeGrafana, serve

from .conftest import Told

Dqm = Callable[..., Told]
THINGS = (
    "folder dqm",
    "data source dqm-prometheus",
    "dashboard dqm: daemon health",
    "dashboard dqm: shift overview",
    "dashboard dqm: stream",
)


@pytest.fixture
def server() -> Iterator[FakeGrafana]:
    with serve(FakeGrafana()) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


def lines(*outcomes: str) -> str:
    given = outcomes * 5 if len(outcomes) == 1 else outcomes
    return "".join(f"{what}: {outcome}\n" for what, outcome in zip(THINGS, given, strict=True))


def test_the_second_push_has_nothing_to_do(dqm: Dqm, server: FakeGrafana, token_file: Path) -> None:
    push = ("dashboards", "push", "--url", server.url, "--token-file", token_file)
    first = dqm(*push, "--prometheus", "http://prometheus:9090")
    assert (first.code, first.out, first.err) == (0, lines("created"), "")
    written = len(server.writes)
    second = dqm(*push)
    assert (second.code, second.err) == (0, "")
    assert second.out == lines("unchanged") + "nothing to do: Grafana has all of it\n"
    assert len(server.writes) == written
    assert TOKEN not in first.out + second.out


def test_a_dry_run_says_what_would_be_done(
    dqm: Dqm, server: FakeGrafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQM_GRAFANA_TOKEN", TOKEN)
    told = dqm("dashboards", "push", "--url", server.url, "--dry-run")
    assert (told.code, told.out) == (0, lines("would be created"))
    assert not server.writes


def test_mistakes_end_with_a_message(dqm: Dqm, server: FakeGrafana, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DQM_GRAFANA_TOKEN", raising=False)
    told = dqm("dashboards", "push", "--url", server.url)
    assert (told.code, told.out) == (2, "")
    assert "no token for Grafana. Give a file with the token, or set DQM_GRAFANA_TOKEN" in told.err
    monkeypatch.setenv("DQM_GRAFANA_TOKEN", "wrong-secret")
    told = dqm("dashboards", "push", "--url", server.url)
    assert told.code == 2
    assert "refused with 401: Unauthorized. The token is wrong or has expired" in told.err
    assert "wrong-secret" not in told.err
    told = dqm("dashboards", "push", "--url", "http://admin:admin@localhost")
    assert (told.code, "--url: must hold no user, password" in told.err) == (2, True)


def test_the_files_are_where_it_says(dqm: Dqm) -> None:
    told = dqm("dashboards", "path")
    assert (Path(told.out.strip()) / "runbook.md").exists()
