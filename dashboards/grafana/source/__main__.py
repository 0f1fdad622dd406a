"""Write the dashboards that Grafana reads."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana.source.health import health
from dashboards.grafana.source.overview import overview
from dashboards.grafana.source.stream import stream

__all__ = ["render"]

FOLDER = Path(__file__).parents[1] / "dashboards"


def render() -> dict[str, str]:
    """Text of each dashboard's file, by its name."""
    texts = {}
    for builder in (overview(), stream(), health()):
        texts[f"{builder.build().uid}.json"] = _text(builder)
    return texts


def _text(builder: Dashboard) -> str:
    built = builder.build()
    for number, panel in enumerate(built.panels or [], 1):
        panel.id_val = number  # the library leaves them to the server, which would number them anew each time
    return json.dumps(built, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
