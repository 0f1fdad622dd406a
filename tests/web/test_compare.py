"""Picking two of kept windows on the page, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.store import GOOD_WINDOWS, WINDOWS, WindowKeeper
from dqm.web.comparisons import ComparisonState
from tests.service.small import faulty_events, healthy_events, window_of
from tests.waiting import wait_until
from tests.web.test_pages import send, text_of
from tests.world import Browser, World, verdict_of

SIDES = {"a_stream": "chamber-1", "a_runs": "7", "b_stream": "chamber-1", "b_runs": "8"}
KEPT = "Only events of kept windows can be compared. This daemon keeps those of Medium and Bad windows"


@pytest.fixture
def kept(world: World, tmp_path: Path) -> Iterator[World]:
    """Run 7 of chamber-1 is Good and run 8 is Bad; the events of all windows are kept."""
    for run, folder in ((7, GOOD_WINDOWS), (8, WINDOWS)):
        keeper = WindowKeeper(tmp_path / folder, 10**8)
        for seq in range(3):
            verdict = verdict_of(seq=seq, run=run, p=0.5 if run == 7 else 1e-9)
            world.store.append(verdict)
            x = (healthy_events if run == 7 else faulty_events)(100, 10 * run + seq)
            keeper.keep(window_of(x, run=run, seq=seq), verdict)
    yield world
    world.queries.comparisons.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_two_runs_are_picked_compared_and_shown(client: Browser) -> None:
    page = text_of(client, "/compare?a_stream=chamber-1&b_stream=chamber-1")
    assert "2 runs with kept windows" in page
    assert "8 0 3 as A as B 7 3 0 as A as B" in page
    assert "None yet. Pick two above." in page
    status, address = send(client, "/compare", permutations="99", **SIDES)
    assert status == 303
    wait_until(lambda: "data-poll" not in client.get(address).text, "it is made")
    text = text_of(client, address)
    assert "chamber-1, run 7: 300 events of 3 of 3 windows that were Good" in text
    assert "chamber-1, run 8: 300 events of 3 of 3 windows that were Medium or Bad" in text
    assert "p 0.01, Z = 2.33 the smallest that 99 permutations can give" in text
    assert "They differ: for events of one distribution, one comparison in 100 shows as much." in text
    assert "B is scaled to the events of A. The reference is not drawn" in text
    assert client.get(address).text.count("data-chart ") == 2 + 2
    found = client.get(f"/api/v1{address}").json()
    assert (found["state"], found["outcome"]["p"], found["permutations"]) == ("Done", 0.01, 99)
    assert "chamber-1, run 8 0.01 Done maria" in text_of(client, "/compare")
    listed = client.get("/api/v1/compare").json()["comparisons"]
    assert [one["identifier"] for one in listed] == [address.removeprefix("/compare/")]
    assert "outcome" not in listed[0]
    assert client.get("/api/v1/streams/chamber-1/kept").json() == [
        {"run": 8, "n_good": 0, "n_anomalous": 3}, {"run": 7, "n_good": 3, "n_anomalous": 0},
    ]  # fmt: skip


def test_one_that_runs_shows_how_far_it_is_and_is_cancelled(kept: World, client: Browser) -> None:
    _, address = send(client, "/compare", permutations="10000", **SIDES)
    text = text_of(client, address)
    assert "of 10000 permutations" in text
    assert "data-poll" in client.get(address).text
    assert send(client, f"{address}/cancel") == (303, address)
    assert "It was cancelled." in text_of(client, address)
    (one,) = kept.queries.comparisons.all()
    assert one.state is ComparisonState.CANCELLED


def test_without_kept_events_it_is_said_what_to_do(world: World, client: Browser) -> None:
    text = text_of(client, "/compare?a_stream=chamber-2")
    assert "No events of chamber-2 are kept." in text
    assert KEPT in text
    world.judge(verdict_of("chamber-2", 0))
    status, told = send(client, "/compare", **SIDES | {"a_stream": "chamber-2"})
    assert status == 409
    assert "none of 1 Good window is kept" in told
    assert "Raise [keep] good_share (0.05)" in told
    assert 'name="a_runs" pattern="[0-9, \\-]*" maxlength="1000" autocomplete="off" value="7"' in told, (
        "it stays"
    )


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"a_runs": ""}, 422, "first.runs"),
        ({"a_runs": "9-7"}, 409, "is not a range"),
        ({"a_runs": "7,8", "a_window": "1"}, 409, "window 1 of 2 runs"),
        ({"a_stream": "nowhere"}, 404, "No stream &#39;nowhere&#39;"),
        ({"a_taken": "some"}, 422, "first.taken"),
        ({"permutations": "1000000"}, 422, "permutations"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    client: Browser, fields: dict[str, str], status: int, told: str
) -> None:
    found = send(client, "/compare", **SIDES | fields)
    assert found[0] == status, found[1]
    assert told in found[1]


def test_pages_lead_to_it(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 3))
    assert (
        'href="/compare?a_stream=chamber-1&amp;a_runs=7&amp;a_window=3'
        in client.get("/windows/chamber-1/7/3").text
    )
    assert 'href="/compare?a_stream=chamber-1&amp;b_stream=chamber-1' in client.get("/streams/chamber-1").text
    page = client.get("/compare?a_stream=chamber-1&a_runs=7&a_window=3").text
    assert "<option selected>chamber-1" in page
    assert 'value="3"' in page


def test_who_may_not_compare_reads_on(kept: World) -> None:
    reader = Browser(kept)
    text = text_of(reader, "/compare?a_stream=chamber-1")
    assert "Sign in to do this." in text
    assert "Show what is kept of these streams" in text
    assert "2 runs with kept windows" in text
    assert ">Compare</button>" not in reader.get("/compare").text


def test_what_is_not_remembered_is_told(client: Browser) -> None:
    text = text_of(client, "/compare/0123456789ab", 404)
    assert "remembered until the daemon ends; see /compare" in text
