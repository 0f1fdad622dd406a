from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.errors import GrafanaError
from dqm.export.grafana import Annotation, Grafana, PushOutcome, dashboard_files, holds, push

from .grafana_server import TOKEN, FakeGrafana, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[FakeGrafana]:
    with serve(FakeGrafana()) as running:
        yield running


@pytest.fixture
def grafana(server: FakeGrafana) -> Iterator[Grafana]:
    with Grafana(server.url, TOKEN) as connected:
        yield connected


def outcomes(grafana: Grafana, **options: object) -> list[str]:
    return [step.outcome.value for step in push(grafana, **options)]  # type: ignore[arg-type]


def test_everything_is_pushed_once(server: FakeGrafana, grafana: Grafana) -> None:
    steps = list(push(grafana, "http://prometheus:9090"))
    assert [step.what for step in steps] == [
        "folder dqm",
        "data source dqm-prometheus",
        "dashboard dqm: daemon health",
        "dashboard dqm: shift overview",
        "dashboard dqm: stream",
    ]
    assert {step.outcome for step in steps} == {PushOutcome.CREATED}
    assert server.sources["dqm-prometheus"]["url"] == "http://prometheus:9090"
    assert {dashboard["meta"]["folderUid"] for dashboard in server.dashboards.values()} == {"dqm"}
    assert set(server.dashboards) == {"dqm-health", "dqm-overview", "dqm-stream"}
    written = len(server.writes)
    assert outcomes(grafana, prometheus="http://prometheus:9090") == ["unchanged"] * 5
    assert len(server.writes) == written


def test_what_was_changed_by_hand_is_put_back_and_nothing_else(server: FakeGrafana, grafana: Grafana) -> None:
    list(push(grafana))
    server.folders["dqm"]["title"] = "something else"
    server.dashboards["dqm-stream"]["dashboard"]["panels"].pop()
    server.dashboards["dqm-health"]["meta"]["folderUid"] = "elsewhere"
    assert outcomes(grafana) == ["changed", "unchanged", "changed", "unchanged", "changed"]
    assert outcomes(grafana) == ["unchanged"] * 5
    assert server.dashboards["dqm-stream"]["dashboard"]["version"] == 2


def test_what_grafana_adds_is_no_change(server: FakeGrafana, grafana: Grafana) -> None:
    list(push(grafana))
    dashboard = server.dashboards["dqm-stream"]["dashboard"]
    dashboard["schemaVersion"] += 3
    dashboard["panels"][0]["pluginVersion"] = "12.1.0"
    dashboard["preload"] = False
    assert outcomes(grafana) == ["unchanged"] * 5


def test_a_data_source_keeps_its_address_unless_one_is_given(server: FakeGrafana, grafana: Grafana) -> None:
    list(push(grafana))
    source = server.sources["dqm-prometheus"]
    assert source["url"] == "http://localhost:9090"
    source |= {"url": "http://there:9090", "secureJsonFields": {"basicAuthPassword": True}}
    assert outcomes(grafana)[1] == "unchanged"
    assert outcomes(grafana, prometheus="http://here:9090")[1] == "changed"
    assert source["url"] == "http://here:9090"
    assert source["secureJsonFields"] == {"basicAuthPassword": True}


def test_a_dry_run_only_looks(server: FakeGrafana, grafana: Grafana) -> None:
    assert outcomes(grafana, dry_run=True) == ["created"] * 5
    assert not server.writes
    list(push(grafana))
    server.folders["dqm"]["title"] = "something else"
    written = len(server.writes)
    assert outcomes(grafana, dry_run=True, prometheus="http://here:9090")[:2] == ["changed", "changed"]
    assert len(server.writes) == written


def test_a_grafana_under_a_path_is_found() -> None:
    with serve(FakeGrafana(prefix="/grafana")) as server, Grafana(server.url, TOKEN) as grafana:
        assert outcomes(grafana) == ["created"] * 5


@pytest.mark.parametrize(
    ("status", "words", "is_final"),
    [
        (401, "refused with 401: Unauthorized. The token is wrong", True),
        (403, "refused with 403: .*as the test wants it. The service account needs", True),
        (400, "refused with 400", True),
        (429, "refused with 429", False),
        (200, "this is not how Grafana answers. Is this the address", True),
        (500, "refused with 500: Server Error 500: as the test wants it", False),
    ],
)
def test_refusals_say_what_to_do(
    server: FakeGrafana, grafana: Grafana, status: int, words: str, is_final: bool
) -> None:
    server.status = status
    with pytest.raises(GrafanaError, match=f"{server.url}: folder: {words}") as caught:
        outcomes(grafana)
    assert caught.value.is_final is is_final


def test_a_wrong_token_is_refused_and_not_shown(server: FakeGrafana) -> None:
    with Grafana(server.url, "wrong-secret") as grafana, pytest.raises(GrafanaError) as caught:
        outcomes(grafana)
    assert "401" in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


def test_what_was_provisioned_is_left_to_its_file(server: FakeGrafana, grafana: Grafana) -> None:
    list(push(grafana))
    server.sources["dqm-prometheus"]["readOnly"] = True
    with pytest.raises(GrafanaError, match=r"data source: refused with 403: .* can only be changed there"):
        outcomes(grafana, prometheus="http://here:9090")


def test_a_server_that_is_away_is_named() -> None:
    with serve(FakeGrafana()) as gone:
        pass
    with (
        Grafana(gone.url, TOKEN) as grafana,
        pytest.raises(GrafanaError, match=f"{gone.url}: does not answer") as caught,
    ):
        outcomes(grafana)
    assert not caught.value.is_final


def test_annotations_are_written_found_and_changed(server: FakeGrafana, grafana: Grafana) -> None:
    grafana.write_annotation(Annotation(1000.5, 1000.5, ("dqm", "stream:a"), "first"))
    grafana.write_annotation(Annotation(2000.0, 2300.0, ("dqm", "stream:a", "open"), "second"))
    newest, oldest = grafana.find_annotations(["dqm", "stream:a"])
    assert oldest == Annotation(1000.5, 1000.5, ("dqm", "stream:a"), "first", 1)
    assert newest == Annotation(2000.0, 2300.0, ("dqm", "stream:a", "open"), "second", 2)
    assert grafana.find_annotations(["dqm", "stream:b"]) == []
    grafana.write_annotation(Annotation(1000.5, 1500.0, ("dqm",), "longer", 1))
    assert server.annotations[1] == {
        "id": 1,
        "time": 1_000_500,
        "timeEnd": 1_500_000,
        "tags": ["dqm"],
        "text": "longer",
    }


def test_holds_tells_additions_from_changes() -> None:
    wanted = {"a": 1, "b": [{"c": 2}], "schemaVersion": 41}
    assert holds({"a": 1, "b": [{"c": 2, "d": 3}], "schemaVersion": 42, "id": 9}, wanted)
    assert not holds({"a": 1, "b": [{"c": 2}, {}], "schemaVersion": 41}, wanted)
    assert not holds({"a": 1, "b": [{"c": 3}], "schemaVersion": 41}, wanted)
    assert not holds({"a": 1, "b": [{"c": 2}], "schemaVersion": 40}, wanted)
    assert not holds({"b": [{"c": 2}], "schemaVersion": 41}, wanted)


def test_the_dashboards_of_a_checkout_are_found() -> None:
    assert dashboard_files() == ROOT / "dashboards"


def test_a_wheel_has_all_that_is_read_and_not_what_makes_it(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {name.removeprefix("dqm/") for name in names if name.startswith("dqm/dashboards/")}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "dashboards").rglob("*") if path.is_file()}
    assert inside == {name for name in files if "/grafana/source/" not in name}
    assert not [name for name in names if name.startswith("dashboards")]
