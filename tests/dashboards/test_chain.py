"""From the daemon's metrics over Prometheus and Alertmanager to whoever must be woken; all of them real."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.waiting import wait_until

from .conftest import Chain
from .grafana_files import Target, dashboards, targets
from .monitor import FAULTY, GOOD
from .programs import get


@pytest.fixture(scope="module")
def alert(chain: Chain) -> dict[str, Any]:
    """What the pager hears first, when the daemon has its first faulty windows."""
    chain.monitor.send(GOOD, 0)
    wait_until(lambda: query(chain, "dqm_window_p_value") != [], "Prometheus has scraped a verdict")
    alerts = get(chain.prometheus, "/api/v1/alerts")["alerts"]
    assert not [alert for alert in alerts if alert["state"] == "firing"]
    assert not chain.heard
    chain.monitor.send(FAULTY, 0)
    wait_until(lambda: bool(chain.heard), "the pager rings")
    return chain.heard[0]


@pytest.mark.slow
def test_an_alarm_of_the_daemon_arrives_at_the_pager(chain: Chain, alert: dict[str, Any]) -> None:
    rules = get(chain.prometheus, "/api/v1/rules")["groups"]
    assert {group["name"] for group in rules} == {
        "dqm-alarms",
        "dqm-channels",
        "dqm-daemon",
        "dqm-daemon-records",
    }
    assert (alert["receiver"], alert["status"]) == ("shift-pager", "firing")
    labels = alert["labels"]
    assert (labels["alertname"], labels["stream"], labels["severity"]) == (
        "DqmStreamDiffers",
        FAULTY,
        "critical",
    )
    assert "runbook" not in labels
    told = alert["annotations"]
    assert told["runbook_url"] == "http://localhost/dqm/runbook.md#dqmstreamdiffers"
    assert re.fullmatch(r"Since 20\d\d-.+ UTC\. Most of it is in b \(\d.+%\)\.", told["description"])


PARAMETERS = [
    pytest.param(target, id=f"{target.dashboard}: {target.panel} {target.letter}")
    for target in targets()
    if "_channel" not in target.expr  # the daemon of this chain has no stream of channels
]


@pytest.fixture(scope="module")
def filled(chain: Chain, alert: dict[str, Any]) -> Chain:  # noqa: ARG001 - that is heard first
    """The chain when the fault has been there for some scrapes."""
    chain.monitor.send(GOOD, 10)
    chain.monitor.send(FAULTY, 10)

    def is_filled() -> bool:
        chain.monitor.explain()
        # of the verdict that is shown here: windows that were sent may be shown a moment after their answer
        return query(chain, "count_over_time(dqm_nuisance_pull[10s]) >= 4") != []

    wait_until(is_filled, "Prometheus has scraped the faulty stream four times")
    return chain


def query(chain: Chain, expr: str) -> list[dict[str, dict[str, str]]]:
    return list(get(chain.prometheus, "/api/v1/query", query=expr)["result"])


@pytest.mark.parametrize("target", PARAMETERS)
def test_every_panel_has_data(filled: Chain, target: Target) -> None:
    expr = target.expression({"stream": FAULTY, "feature": "a", "instance": instance(filled, target)})
    if target.instant:
        series = query(filled, expr)
        values = [s["value"][1] for s in series]
    else:
        now = time.time()
        window = {"start": now - 3.0, "end": now, "step": 0.5}
        series = get(filled.prometheus, "/api/v1/query_range", query=expr, **window)["result"]
        values = [value for s in series for _, value in s["values"]]
    assert [value for value in values if value not in ("NaN", "+Inf", "-Inf")], expr
    for label in target.legend_labels:
        assert all(label in s["metric"] for s in series), f"legend {label}: {series[0]['metric']}"


def instance(filled: Chain, target: Target) -> str:
    """As Grafana would put it in: a name where one is chosen, a pattern where all are."""
    if target.dashboard == "dqm-stream":
        return str(query(filled, "dqm_build_info")[0]["metric"]["instance"])
    return ".*"


@pytest.mark.parametrize(
    ("uid", "variable"),
    [
        (uid, variable)
        for uid, dashboard in dashboards().items()
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_every_variable_has_values(filled: Chain, uid: str, variable: dict[str, str]) -> None:
    text = variable["query"].replace("$stream", FAULTY)
    text = text.replace("$instance", query(filled, "dqm_build_info")[0]["metric"]["instance"])
    call = re.fullmatch(r"label_values\((.+), (\w+)\)", text)
    assert call, uid
    found = get(filled.prometheus, f"/api/v1/label/{call[2]}/values", **{"match[]": call[1]})
    assert len(found) == {"instance": 1, "stream": 2, "feature": 2}[variable["name"]]


def test_annotations_from_prometheus_show_the_alarm(filled: Chain) -> None:
    (expr,) = [a["expr"] for a in dashboards()["dqm-stream"]["annotations"]["list"] if "expr" in a]
    expr = expr.replace("$stream", FAULTY).replace('instance="$instance"', 'instance!=""')
    assert [s["metric"] for s in query(filled, expr)] == [{"stream": FAULTY, "cause": "differs"}]
