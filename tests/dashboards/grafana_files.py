"""The dashboards as Grafana would read them: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .programs import DASHBOARDS

FOLDER = DASHBOARDS / "grafana" / "dashboards"
BUILT_IN = {"__rate_interval": "30s"}


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    legend: str
    instant: bool

    def expression(self, variables: Mapping[str, str]) -> str:
        """Query with its variables filled in, as Grafana sends it."""
        text = self.expr
        for name, value in (BUILT_IN | dict(variables)).items():
            text = re.sub(rf"\$(?:{name}\b|{{{name}}})", lambda _, value=value: value, text)
        assert "$" not in text, text
        return text

    @property
    def legend_labels(self) -> list[str]:
        """Labels that the legend names."""
        return re.findall(r"{{\s*(\w+)\s*}}", self.legend)


def dashboards() -> dict[str, dict[str, Any]]:
    """Dashboards by uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Uid of the dashboard and panel, rows left out."""
    for uid, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield uid, panel


def targets() -> Iterator[Target]:
    """All queries of all panels."""
    for uid, panel in panels():
        for target in panel["targets"]:
            yield Target(
                uid,
                panel["title"],
                target["refId"],
                target["expr"],
                target["legendFormat"],
                target.get("instant", False),
            )


def expressions(folder: Path = FOLDER) -> str:
    """Everything asked of Prometheus, in one text."""
    return "\n".join(path.read_text() for path in folder.glob("*.json"))
