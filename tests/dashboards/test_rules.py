"""Rules for Prometheus and the example for Alertmanager, by the programs that will read them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dqm.alarm.values import Cause
from dqm.export import METRICS

from .grafana_files import expressions
from .programs import DASHBOARDS

FOLDER = DASHBOARDS / "prometheus"
RULES = [
    rule
    for path in sorted(FOLDER.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = [
    case
    for path in FOLDER.glob("tests/*.yml")
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["alert_rule_test"]
]
RUNBOOK = (DASHBOARDS / "runbook.md").read_text()

Program = Callable[[str], Path]


def told(program: Path, *arguments: object) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=FOLDER / "tests"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_no_fault(require_program: Program) -> None:
    promtool = require_program("promtool")
    rules = sorted(FOLDER.glob("rules/*.yml"))
    assert "SUCCESS" in told(promtool, "check", "rules", "--lint=all", "--lint-fatal", *rules)
    assert f"{len(rules)} rule files found" in told(promtool, "check", "config", FOLDER / "prometheus.yml")


def test_the_unit_tests_of_the_rules_pass(require_program: Program) -> None:
    told(require_program("promtool"), "test", "rules", *sorted(FOLDER.glob("tests/*.yml")))


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_to_fire_and_not_to(alert: str) -> None:
    cases = [case for case in CASES if case["alertname"] == alert]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_every_alert_says_what_a_shifter_needs(rule: dict[str, Any]) -> None:
    assert "for" in rule
    assert rule["labels"]["component"] in ("stream", "daemon")
    assert rule["labels"]["severity"] in ("critical", "warning", "info") or "{{" in rule["labels"]["severity"]
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    place, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert place == "{{ $externalLabels.runbook }}"
    assert anchor == rule["alert"].lower()


def test_each_cause_of_the_daemon_has_its_alert() -> None:
    found = {
        cause
        for rule in ALERTS.values()
        # a failed scrape must not end it: somebody would be told twice
        for cause in re.findall(
            r'^last_over_time\(dqm_alarm_active{cause="(\w+)"}\[2m\]\) == 1$', rule["expr"]
        )
    }
    assert found == {cause.value for cause in Cause}


def test_the_runbook_has_exactly_one_entry_for_each_alert() -> None:
    entries = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert [entry.partition("\n")[0] for entry in entries] == [rule["alert"] for rule in ALERTS.values()]
    for entry in entries:
        assert re.findall(r"^\*\*(.+)\.\*\* .{20}", entry, re.MULTILINE) == [
            "Meaning",
            "First check",
            "Remedy",
        ]


def test_rules_and_dashboards_ask_for_metrics_that_the_daemon_shows() -> None:
    asked = re.findall(r"(?<![:\w])dqm_\w+(?!:)\b", "\n".join([expressions(), *(r["expr"] for r in RULES)]))
    shown = {metric.name for metric in METRICS}
    assert {re.sub("_bucket$", "", name) for name in asked} <= shown


def test_amtool_finds_no_fault(require_program: Program) -> None:
    told(require_program("amtool"), "check-config", DASHBOARDS / "alertmanager" / "alertmanager.yml")


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "shift-pager"), ("warning", "shift-mail"), ("info", "shift-log")],
)
def test_severity_decides_who_hears_of_it(require_program: Program, severity: str, receiver: str) -> None:
    config = f"--config.file={DASHBOARDS / 'alertmanager' / 'alertmanager.yml'}"
    amtool = require_program("amtool")
    assert told(amtool, "config", "routes", "test", config, f"severity={severity}").strip() == receiver


def test_streams_of_one_cause_share_a_message() -> None:
    config = yaml.safe_load((DASHBOARDS / "alertmanager" / "alertmanager.yml").read_text())
    routes = [config["route"], *config["route"]["routes"]]
    assert [route["group_by"] for route in routes if "group_by" in route] == [["alertname", "instance"]]
