"""Reports, as files that need nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from dqm.alarm import AcknowledgeAlarm, Cause
from dqm.errors import InputError
from dqm.events import Origin, Quality
from dqm.export.report import report_run
from tests.world import START, World, verdict_of

from .test_charts import check

RESOURCES = {"src", "href", "action", "data", "poster", "srcset"}


class Addresses(HTMLParser):
    """Everything that a page would load or lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("use", "time", "meta"):
            self.found += [value or "" for name, value in attrs if name in RESOURCES]


def make_report(world: World, run: int = 7) -> str:
    return report_run(world.store, world.alarm_service.history, run, version="0.1.0", now=START + 900.0)


def figures(text: str) -> dict[str, dict[str, object]]:
    found = re.findall(r'<script type="application/json" id="chart-(.*?)-data">(.*?)</script>', text)
    return {name: json.loads(data) for name, data in found}


@pytest.fixture
def text(world: World) -> str:
    """Report of a run with two faulty windows, an alarm and one that somebody acknowledged."""
    for seq in range(10):
        world.judge(verdict_of("chamber-1", seq, p=0.05 + 0.09 * seq))
        world.judge(verdict_of("chamber-2", seq, p=1e-9 if seq > 7 else 0.5, n_lost=int(seq == 3)))
    world.alarm_service.apply(AcknowledgeAlarm("chamber-2", Cause.DIFFERS, "<b>HV</b> trips"), "maria")
    world.judge(verdict_of("chamber-1", 0, run=8, p=1e-7))
    return make_report(world)


def test_nothing_is_loaded_from_elsewhere(text: str) -> None:
    assert Addresses(text).found == ["data:,"]
    assert "default-src 'none'" in text
    assert "plotly.js v" in text


def test_a_run_has_timeline_p_values_alarms_worst_windows_and_conditions(text: str) -> None:
    drawn = figures(text)
    assert {"timeline", "p", "worst-1-map-1", "worst-1-pair-1-1", "worst-1-pair-1-2", "worst-2-map-3"} <= set(
        drawn
    )
    for figure in drawn.values():
        check(figure)
    bare = re.sub(r"\s+", " ", re.sub(r"<script.*?</script>|<[^>]+>", " ", text, flags=re.DOTALL))
    assert "20 windows of 2 streams: 2 Bad , 0 Medium , 18 Good , 0 Null" in bare
    assert "Looks like lowered cathode voltage, 92 %." in bare
    assert "&lt;b&gt;HV&lt;/b&gt; trips" in bare
    assert "maria" in bare
    assert "strip_voltage_v -1200.0 -1200.0 -1200 -1200 0" in bare
    assert "simulated data" in bare
    assert "Run 8" not in bare


def test_the_timeline_is_that_of_the_flags(text: str) -> None:
    traces = {trace["name"]: trace for trace in figures(text)["timeline"]["data"]}  # type: ignore[attr-defined, index]
    assert set(traces["Bad"]["y"]) == {"chamber-2", None}
    assert len(traces["Bad"]["x"]) == 3
    widths = [traces[name]["line"]["width"] for name in ("Unknown Quality", "Good", "Medium", "Bad")]
    assert widths == sorted(widths)


def test_the_histogram_counts_every_p_value(text: str) -> None:
    (bars,) = figures(text)["p"]["data"]  # type: ignore[misc]
    assert sum(bars["y"]) == 20


def test_every_stream_that_was_bad_is_among_the_worst_windows(world: World) -> None:
    for seq in range(6):
        world.judge(verdict_of("chamber-1", seq, p=1e-12), verdict_of("chamber-2", seq, p=1e-5 / (seq + 1)))
    titles = re.findall(r"<h2>(chamber-. window .)</h2>", make_report(world))
    assert titles == [
        "chamber-1 window 0", "chamber-2 window 5", "chamber-1 window 1", "chamber-2 window 4",
        "chamber-1 window 2",
    ]  # fmt: skip


def test_a_healthy_run_says_so(world: World) -> None:
    world.judge(verdict_of("chamber-1", conditions={}, origin=Origin.LIVE))
    text = make_report(world)
    assert "No window of this run was Medium or Bad." in text
    assert "No alarm changed its state" in text
    assert "The collectors sent no conditions." in text
    assert 'badge loud">' not in text


def test_windows_without_times_or_p_are_reported_as_such(world: World) -> None:
    world.judge(verdict_of("chamber-1", p=None, start=None, end=None))
    text = make_report(world)
    assert "the times of their verdicts are used" in text
    assert "No window has a p-value: all are Null." in text
    assert world.statuses.find("chamber-1").quality is Quality.NULL


def test_a_run_without_windows_is_an_error(world: World) -> None:
    with pytest.raises(InputError, match="run 9 has no windows"):
        make_report(world, 9)
