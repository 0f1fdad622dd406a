"""The dashboards as files: made by their program, valid by Grafana's own schema, and readable at night."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from .grafana_files import FOLDER, dashboards, panels
from .programs import DASHBOARDS

PROVISIONING = DASHBOARDS / "grafana" / "provisioning"
PANELS = [pytest.param(panel, id=f"{uid}: {panel['title']}") for uid, panel in panels()]
UIDS = ["dqm-health", "dqm-overview", "dqm-stream"]


def test_the_files_are_what_their_program_writes() -> None:
    from dashboards.grafana.source.__main__ import render  # loads Grafana's schema

    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == render()


def test_there_are_three_with_fixed_names() -> None:
    assert list(dashboards()) == [dashboard["uid"] for dashboard in dashboards().values()] == UIDS


@pytest.mark.parametrize("uid", UIDS)
def test_the_schema_of_grafana_knows_every_key(uid: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    dashboard = dashboards()[uid]
    read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert list(lost(dashboard, read)) == []


def lost(written: Any, read: Any, place: str = "") -> Iterator[str]:
    """Places of what the schema did not take over; it may add defaults."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from lost(value, read.get(key), f"{place}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from lost(one, other, f"{place}[{index}]")
    elif written != read:
        yield place


@pytest.mark.parametrize("uid", UIDS)
def test_no_host_and_no_data_source_is_built_in(uid: str) -> None:
    dashboard = dashboards()[uid]
    assert "://" not in (FOLDER / f"{uid}.json").read_text()
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    sources = {
        (p["datasource"]["uid"], *(t["datasource"]["uid"] for t in p["targets"]))
        for u, p in panels()
        if u == uid
    }
    assert {name for names in sources for name in names} == {"${datasource}"}


@pytest.mark.parametrize("uid", UIDS)
def test_panels_are_numbered_and_do_not_overlap(uid: str) -> None:
    placed = dashboards()[uid]["panels"]
    assert [panel["id"] for panel in placed] == list(range(1, len(placed) + 1))
    for a, b in combinations((panel["gridPos"] for panel in placed), 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in placed)


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert "?" in panel["description"] or panel["title"] == "Z"
    assert defaults["unit"]
    assert len(defaults["noValue"]) > 10
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    assert len(set(legends)) == len(legends)
    assert "__auto" not in legends


def test_qualities_have_words_and_colours_everywhere() -> None:
    wanted = {
        "-1": ("Idle", "blue"),
        "0": ("Null", "#8e8e8e"),
        "1": ("Good", "green"),
        "2": ("Medium", "orange"),
        "3": ("Bad", "red"),
    }
    seen = 0
    for _, panel in panels():
        codes = [t["expr"] for t in panel["targets"] if "3 * dqm_window_quality" in t["expr"]]
        if not codes or panel["title"] in ("Streams not known",):
            continue
        held = [panel["fieldConfig"]["defaults"].get("mappings", [])]
        for override in panel["fieldConfig"]["overrides"]:
            held += [p["value"] for p in override["properties"] if p["id"] == "mappings"]
        shown = [{c: (r["text"], r["color"]) for c, r in m["options"].items()} for ms in held for m in ms]
        assert wanted in shown, panel["title"]
        seen += 1
    assert seen >= 5


def test_provisioning_names_what_the_client_would_push() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "dqm.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "dqm.yml").read_text())["providers"]
    assert (source["uid"], source["type"]) == ("dqm-prometheus", "prometheus")
    assert (provider["folder"], provider["folderUid"], provider["type"]) == ("dqm", "dqm", "file")
