"""What the page cannot show it explains; and what it leaves closed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dqm.alarm import AddMask
from dqm.events import Quality
from tests.web.test_pages import text_of
from tests.world import Browser, World, make_world, verdict_of


def test_only_streams_that_somebody_should_look_at_are_open(tmp_path: Path) -> None:
    groups = {f"muon/station-{s}": [f"chamber-{s}{n:02}" for n in range(30)] for s in (1, 2)}
    world = make_world(tmp_path / "x.sqlite", groups)
    world.judge(*(verdict_of(stream) for streams in groups.values() for stream in streams))
    world.judge(*(verdict_of("chamber-103", seq, p=2e-9) for seq in range(1, 4)))
    page = Browser(world).get("/").text
    assert "Only those streams are open that are Bad, Medium or Null" in page
    assert re.search(r'id="group-muon/station-1" data-opened open>', page)
    assert not re.search(r'id="group-muon/station-2" open>', page)
    first, _, rest = page.partition('id="rest-muon/station-1">')
    assert 'id="stream-chamber-103"' in first
    assert 'id="stream-chamber-104"' not in first
    assert "29 other streams, Good, Idle or masked" in rest
    assert rest.count('id="stream-') == 59
    filtered = Browser(world).get("/?name=chamber-1").text
    assert 'class="rest"' not in filtered
    assert filtered.count('id="stream-') == 30
    assert "None of the 60 streams matches the filter." in text_of(Browser(world), "/?name=x")
    world.store.close()


def test_groups_of_few_streams_are_closed_as_well_while_nobody_needs_to_look(tmp_path: Path) -> None:
    world = make_world(tmp_path / "x.sqlite", {"muon/a": ["a-1", "a-2"], "muon/b": ["b-1"], "rpc": ["r-1"]})
    world.judge(*(verdict_of(stream) for stream in ("a-1", "a-2", "b-1", "r-1")))
    assert opened(world) == []
    world.judge(verdict_of("b-1", 1, p=2e-9))
    assert opened(world) == ["muon", "muon/b"]
    world.judge(*(verdict_of("r-1", seq, p=2e-9) for seq in range(1, 4)))
    assert opened(world) == ["muon", "muon/b", "rpc"]
    world.alarm_service.apply(AddMask("m", "r-1", "work on the gas"), "maria")
    assert opened(world) == ["muon", "muon/b"]
    world.store.close()


def opened(world: World) -> list[str]:
    """Groups that are open on the overview."""
    return re.findall(r'id="group-([^"]+)" data-opened open>', Browser(world).get("/").text)


def test_streams_without_groups_are_open_while_all_are_good(tmp_path: Path) -> None:
    world = make_world(tmp_path / "x.sqlite", {"": ["a", "b"]})
    world.judge(verdict_of("a"), verdict_of("b"))
    page = Browser(world).get("/").text
    assert re.search(r'class="rest" id="rest-all" open>', page)
    world.store.close()


def test_a_statistic_without_maps_is_named(world: World, client: Browser) -> None:
    verdict = replace(verdict_of("chamber-1", 0, p=1e-9), explanation=None)
    world.judge(verdict)
    told = "The statistic kernel learns no density ratio, so there are no maps. If its events were kept"
    assert told in text_of(client, "/windows/chamber-1/7/0")
    assert told in text_of(client, "/streams/chamber-1")
    world.judge(replace(verdict_of("chamber-1", 1, p=1e-9, bundle="other"), explanation=None))
    assert "The statistic that judged it learns no" in text_of(client, "/windows/chamber-1/7/1")
    told = "no maps: MemoryError (statistic 'kernel')"
    failed = replace(verdict.result, remarks=(told,))
    world.judge(replace(verdict_of("chamber-1", 3, p=1e-9), explanation=None, result=failed))
    assert "Where and why No maps: MemoryError (statistic 'kernel')." in text_of(
        client, "/windows/chamber-1/7/3"
    )
    by_rate = replace(verdict_of("chamber-1", 2, p=0.5), quality=Quality.BAD)
    world.judge(by_rate)
    assert "its shape does not depart from the reference" in text_of(client, "/windows/chamber-1/7/2")


def test_a_stream_of_channels_without_a_window_or_a_map_says_so(world: World, client: Browser) -> None:
    world.know_channels("chamber-1")
    assert "Occupancy There is no window yet." in text_of(client, "/streams/chamber-1")
    world.judge(verdict_of("chamber-1", 0))
    assert "The last window has no map: the reference does not say" in text_of(client, "/streams/chamber-1")


def test_more_windows_than_the_table_has_are_told(world: World, client: Browser) -> None:
    world.judge(*(verdict_of("chamber-1", seq) for seq in range(51)))
    text = text_of(client, "/streams/chamber-1")
    assert "Last 51 windows" in text
    assert "The last 50 of those in the figure." in text
    assert "No stored window matches: show all." in text_of(client, "/streams/chamber-1?run=8")


def test_more_changes_of_alarms_than_the_page_has_are_told(world: World, client: Browser) -> None:
    assert "The last 50 changes" not in text_of(client, "/alarms")
    for n in range(30):
        world.judge(*(verdict_of("chamber-1", 10 * n + seq, p=2e-9 if seq < 3 else 0.5) for seq in range(6)))
    assert len(world.queries.changes(limit=50).changes) == 50
    assert "The last 50 changes" in text_of(client, "/alarms")


def test_windows_without_p_say_so_in_the_figure(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 0, p=None))
    assert "no window has a p-value: all are Null" in client.get("/streams/chamber-1").text


def test_without_javascript_the_place_of_a_figure_says_so(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 0))
    page = client.get("/streams/chamber-1").text
    assert page.count("<noscript>") == page.count("data-chart ") == 1
    assert "The figure is drawn by JavaScript, which is switched off." in page


def test_a_masked_alarm_names_its_mask(world: World, client: Browser) -> None:
    from dqm.alarm import AddMask

    world.raise_alarm("chamber-2")
    world.alarm_service.apply(AddMask("3f9a21c7", "chamber-2", "gas leak"), "maria")
    world.alarm_service.tick()
    assert "masked by 3f9a21c7" in text_of(client, "/streams/chamber-2")
