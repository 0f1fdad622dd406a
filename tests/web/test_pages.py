"""What the pages show, and what their forms do."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.alarm import AddMask, AlarmState, Cause, ChannelChoice, Thresholds
from dqm.events import Origin, PMethod, Quality, RateResult, RollingResult, TestResult, WindowCut
from tests.world import START, Browser, World, make_world, verdict_of


def text_of(client: Browser, path: str, status: int = 200) -> str:
    """Read a page as a person does: without tags, in one line."""
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    bare = re.sub(r"<script.*?</script>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
    return re.sub(r"\s+(?=[ .,;:])", "", re.sub(r"\s+", " ", html.unescape(bare)))


def send(client: Browser, path: str, **fields: str) -> tuple[int, str]:
    """Fill in a form of the page before; gives status and where it leads, or what is told."""
    answer = client.post(path, data={"token": client.token("/masks")} | fields)
    return answer.status_code, answer.headers.get("location", answer.text)


def test_at_one_look_quality_alarm_age_since_when_and_what_to_do(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 0), verdict_of("chamber-1", 1))
    world.raise_alarm("chamber-2")
    world.clock.time += 41.0
    text = text_of(client, "/")
    assert "1 alarm needs you" in text
    assert "chamber-2 differs for 41 s, since 20" in text
    assert "with p = 2e-09; looks like lowered cathode voltage, 92 %" in text
    assert "Do: Check the high voltage of the chamber. Call: Muon expert on call, 16-2345" in text
    rows = client.get("/").text.split('id="stream-')
    (row,) = [row for row in rows if row.startswith("chamber-2")]
    assert 'class="needs-response"' in row
    assert ">■■■</span>" in row
    assert "Bad" in row
    assert "~2e-09" in row
    assert "2 streams" in text
    assert "simulated data" in text


def test_what_raises_an_alarm_is_shown(client: Browser) -> None:
    text = text_of(client, "/alarms")
    assert "A window counts from p below 0.001" in text
    assert "slow deterioration alarms from a sum of 30" in text


def test_the_evidence_of_a_run_is_shown_as_odds(client: Browser, world: World) -> None:
    by_run = Thresholds(0.001, math.log(500.0), rate_p=0.001, drift_test="run")
    world.alarm_service.revise(world.alarm_service._rules, by_run)
    assert "slow deterioration alarms from 500 to 1 evidence in a run" in text_of(client, "/alarms")


def test_trends_show_the_runs_of_a_stream_which_differ_and_since_when(client: Browser, world: World) -> None:
    assert "No window is stored" in text_of(client, "/trends")
    for run in range(1, 13):
        p = 0.5 if run < 9 else 1e-4
        world.judge(
            *(verdict_of("chamber-1", seq, p=p, run=run, start=START + 100.0 * run + seq) for seq in range(6))
        )
    text = text_of(client, "/trends?stream=chamber-1&last=12")
    assert "12 runs" in text
    assert "Windows are worse since run " in text
    assert "100 % Bad, before 0 %" in text
    assert "drift_velocity" in text
    assert "share of t_2" in text, "where windows were explained"
    assert "What is blue behind the points is of the reference" in text
    assert "reference 3f9a21c7 -1.0 0.0 1.0 95 to 105" in text, "their borders are in the table"
    assert "-0.004 to 0.004" in text
    assert "-1210 to -1190" in text, "conditions of the reference"
    assert "No deterioration is certain" in text_of(client, "/trends?stream=chamber-1&last=2")
    assert "No window of chamber-3 is stored" in text_of(client, "/trends?stream=chamber-3")


def test_the_table_of_very_many_runs_has_the_values_that_differ_and_says_where_the_rest_is(
    client: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqm.export.trend_chart.MOST_CELLS", 120)
    for run in range(1, 13):
        conditions = {f"hv_{k:02}": 1200.0 if run < 10 or k < 18 else 600.0 for k in range(20)}
        world.judge(*(verdict_of("chamber-1", seq, run=run, conditions=conditions) for seq in range(6)))
    page = client.get("/trends?stream=chamber-1&last=12").text
    names = [name for name in re.findall(r'<th scope="col" class="number">(.*?)</th>', page) if "hv_" in name]
    assert names == ["hv_18", "hv_19", *(f"hv_{k:02}" for k in range(7))], (
        "with drift_velocity 10, of 12 runs"
    )
    text = text_of(client, "/trends?stream=chamber-1&last=12")
    assert "8 of 21 are drawn, the table has the first 10. Choose fewer runs to see more" in text
    assert "dqm trend CONFIG --stream chamber-1 --last 12 -o trend.csv" in text
    assert "the table has all" in text_of(client, "/trends?stream=chamber-1&last=5")
    api = client.get(re.findall(r'href="(/api/v1/streams/chamber-1/trend.*?)"', page)[0])
    assert len(api.json()["runs"][0]["conditions"]) == 20


def test_trends_of_all_streams_have_the_worst_first_and_put_many_runs_together(
    client: Browser, world: World
) -> None:
    for run in range(1, 121):
        world.judge(
            verdict_of("chamber-1", 0, run=run),
            verdict_of("chamber-2", 0, run=run, p=1e-6 if run > 60 else 0.5, explanation=None),
        )
    page = client.get("/trends?last=120").text
    assert "Bad windows of all streams, 120 runs" in text_of(client, "/trends?last=120")
    rows = re.findall(r'<th scope="row"><a class="main" href="(.*?)">(.*?)</a>', page)
    assert rows == [(f"/trends?stream={name}&amp;last=120", name) for name in ("chamber-2", "chamber-1")]
    assert '"1 to 3"' in page
    assert '"118 to 120"' in page
    assert ">50.0<" in page
    assert '"1 to 3"' not in client.get("/trends?last=5").text


def test_trends_show_the_runs_that_are_chosen(client: Browser, world: World) -> None:
    for run in range(1, 121):
        world.judge(verdict_of("chamber-1", 0, run=run), verdict_of("chamber-2", 0, run=run))
    text = text_of(client, "/trends?stream=chamber-1&last=30&runs=20-22, 30")
    assert "chamber-1: 4 runs" in text
    page = client.get("/trends?runs=20-22,30&last=30")
    assert "Bad windows of all streams, 4 runs" in text_of(client, "/trends?runs=20-22,30")
    assert 'href="/trends?stream=chamber-1&amp;runs=20-22%2C30"' in page.text
    assert 'value="20-22,30"' in page.text
    many = client.get("/trends?runs=1-59,61-120").text
    assert '"57 to 59"' in many
    assert '"61 to 63"' in many
    assert "No window of runs 500 is stored" in text_of(client, "/trends?runs=500")
    of_stream = text_of(client, "/trends?stream=chamber-1&runs=500")
    assert "No window of chamber-1 in runs 500 is stored" in of_stream
    assert "30 runs" in text_of(client, "/trends?stream=chamber-1&runs="), "an empty field of the form"


def test_the_trend_of_a_stream_is_in_the_api(world: World) -> None:
    program = Browser(world, as_program=True)
    for run in (1, 2):
        world.judge(*(verdict_of("chamber-1", seq, run=run) for seq in range(3)))
    told = program.get("/api/v1/streams/chamber-1/trend?last=1").json()
    (run,) = told["runs"]
    assert (told["stream"], told["onset"], run["run"]) == ("chamber-1", "", 2)
    assert run["qualities"] == {"Null": 0, "Good": 3, "Medium": 0, "Bad": 0}
    assert run["conditions"] == {"strip_voltage_v": -1200.0}
    assert len(run["z_quantiles"]) == 3
    assert program.get("/api/v1/streams/none/trend").status_code == 404
    chosen = program.get("/api/v1/streams/chamber-1/trend?runs=1,7-9").json()
    assert [run["run"] for run in chosen["runs"]] == [1]


@pytest.mark.parametrize("query", ["stream=none", "stream=chamber-1&last=0", "last=1e9", "stream=a%00"])
def test_trends_of_what_is_not_there_are_refused(client: Browser, query: str) -> None:
    assert client.get(f"/trends?{query}").status_code in (404, 422)


def test_without_alarm_the_page_says_so(client: Browser) -> None:
    text = text_of(client, "/")
    assert "No alarm needs you" in text
    assert "no window since the daemon started" in text


def test_a_stale_stream_shows_neither_p_nor_good(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 0, p=0.37))
    assert "0.37" in text_of(client, "/?name=chamber-1")
    world.statuses.mark_stale("chamber-1", "no window for more than 600 s")
    text = text_of(client, "/?name=chamber-1")
    assert "0.37" not in text
    assert "no window for more than 600 s" in text


def test_a_stream_whose_windows_are_refused_does_not_read_as_good(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", 0, p=0.37))
    assert "Good for" in text_of(client, "/streams/chamber-1")
    refusal = "NaN or infinity in 2 % of t_2"
    for _ in range(2):
        world.alarm_service.note_refusal("chamber-1", refusal)
    world.alarm_service.tick()
    text = text_of(client, "/streams/chamber-1")
    assert "Good for" not in text
    assert "Null for" in text
    assert text.count(refusal) == 1
    overview = text_of(client, "/?quality=Good")
    assert "chamber-1" not in overview.partition("last windows")[2]
    world.judge(verdict_of("chamber-1", 3, p=0.37), verdict_of("chamber-1", 4, p=0.37))
    assert "Good for" in text_of(client, "/streams/chamber-1")


def test_a_good_window_beside_an_alarm_shows_its_p_and_the_condition(world: World, client: Browser) -> None:
    world.judge(*(verdict_of("chamber-1", seq, p=p) for seq, p in enumerate([2e-9, 2e-9, 0.37])))
    assert "0.37" in text_of(client, "/?name=chamber-1")
    text = text_of(client, "/streams/chamber-1")
    assert "Medium for" in text
    assert text.count("2 of the last 3 windows differ from the reference") == 1


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("name=chamber-2", "chamber-2", "chamber-1"),
        ("name=station-2", "chamber-4", "chamber-1"),
        ("quality=Good", "chamber-1", "chamber-2"),
    ],
)
def test_streams_are_filtered(world: World, client: Browser, query: str, shown: str, hidden: str) -> None:
    world.judge(verdict_of("chamber-1"))
    page = client.get(f"/?{query}").text
    assert f'id="stream-{shown}"' in page
    assert f'id="stream-{hidden}"' not in page
    assert "matches the filter" in page


def test_only_what_is_not_live_is_badged(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-1", origin=Origin.LIVE))
    assert "data" not in re.findall(r'class="badge loud">\w+ (\w+)', client.get("/").text)
    world.judge(verdict_of("chamber-2", origin=Origin.REPLAYED))
    page = client.get("/").text
    assert re.findall(r'class="badge loud">([^<]+)', page) == ["replayed data"]
    assert "replayed" in page.split('id="stream-chamber-2"')[1].split("</tr>")[0]
    assert "badge" not in page.split('id="stream-chamber-1"')[1].split("</tr>")[0]


def test_the_stream_page_has_history_maps_windows_and_reference(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-2", 0), verdict_of("chamber-2", 1, p=0.005), verdict_of("chamber-2", 2))
    page = client.get("/streams/chamber-2").text
    text = text_of(client, "/streams/chamber-2")
    assert page.count("data-chart ") == 1 + 3 + 2 * 3
    assert "Looks like lowered cathode voltage, 92 %." in text
    assert "run 7 window 1" in text
    assert "drift_velocity" in text
    assert "All alarms of this stream are Normal" in text
    only = text_of(client, "/streams/chamber-2?quality=Medium")
    assert "Last 1 Medium window" in only
    assert "No window of this stream is stored for run 8. Show all" in text_of(
        client, "/streams/chamber-2?run=8"
    )


def test_empty_panels_say_why(world: World, client: Browser) -> None:
    text = text_of(client, "/streams/chamber-1")
    assert "No window of this stream is stored. No window since the daemon started." in text
    assert "No window of this stream was Medium or Bad since this store was made." in text
    world.judge(verdict_of("chamber-1", 0, conditions={}, bundle="other"))
    text = text_of(client, "/windows/chamber-1/7/0")
    assert "The window is Good: maps are made of windows that are Medium or Bad." in text
    assert "The collector sent no conditions with this window." in text
    assert "Bundle other judged this window; the stream does not use it any more." in text
    assert (
        "Not kept: the window is Good: only Medium and Bad ones are kept, and the share of Good ones" in text
    )
    assert "No mask: no alarm is suppressed." in text_of(client, "/masks")
    assert "All 36 alarms are Normal." in text_of(client, "/alarms")


def test_the_window_page_has_everything_about_it(world: World, client: Browser) -> None:
    verdict = verdict_of(
        "chamber-2", 3, p=2e-9, warnings={"drift_velocity": "drift_velocity is 4.1 sigma off"}
    )
    world.judge(replace(verdict, result=replace(verdict.result, remarks=("3 events beyond the reference",))))
    text = text_of(client, "/windows/chamber-2/7/3")
    for part in (
        "Bad judged", "~2e-09, 95 % from 1.6e-09 to 2.4e-09, extrapolated beyond the largest toy", "tau",
        "3 events beyond the reference.", "drift_velocity is 4.1 sigma off", "t_2 0.81 81 %",
        "lowered cathode voltage 0.92 92 %", "strip_voltage_v -1200.0", "cosmics",
        "500 seen; not tested: nobody says how many are expected",
        "3f9a21c7d0b4e865",
    ):  # fmt: skip
        assert part in text


def test_a_window_whose_fit_ended_early_shows_a_bound(world: World, client: Browser) -> None:
    verdict = verdict_of("chamber-1", 4, p=1e-15)
    result = replace(
        verdict.result, t=14500.0, tau=14505.0, p_low=1e-15, p_high=1e-15, p_method=PMethod.BOUND
    )
    world.judge(replace(verdict, result=result))
    text = text_of(client, "/windows/chamber-1/7/4")
    assert "p < 1e-15, the smallest that the null table can tell" in text
    assert "t > 14500 = tau 14505 - Delta 5" in text
    window = client.get("/api/v1/streams/chamber-1/windows/7/4").json()["verdict"]
    assert (window["t"], window["p"], window["p_method"]) == (14500.0, 1e-15, "bound")
    assert "> 1.45e+04" in text_of(client, "/streams/chamber-1")


def test_a_window_with_another_number_of_events_says_what_was_expected(world: World, client: Browser) -> None:
    rate = RateResult(WindowCut.TIME, n_expected=487.5, uncertainty=0.02, live_seconds=10.0, p=1e-15, z=-7.9)
    result = TestResult(30, 487.5, reason="30 events, fewer than 50 (expected 488)", rate=rate)
    reason = "30 events where 488 are expected (p < 1e-15), too few to test the shape"
    world.judge(replace(verdict_of("chamber-1", 3), result=result, quality=Quality.BAD, reason=reason))
    text = text_of(client, "/windows/chamber-1/7/3")
    assert "30 events where 488 are expected, p < 1e-15, Z -7.9; the expectation is uncertain by 2 %" in text
    assert "Only the number of events was judged: maps are made of the shape." in text
    assert "30 of 488" in text_of(client, "/streams/chamber-1")


def test_a_window_that_was_compared_with_the_last_good_ones_says_so(world: World, client: Browser) -> None:
    found = {
        3: (RollingResult(4, reason="4 of 10 good windows before it"), "not compared: 4 of 10 good windows"),
        4: (
            RollingResult(10, (6, 8), (7, 2), p=2e-4, p_method=PMethod.TAIL),
            "~0.0002 against 10 of them, run 6 window 8 to run 7 window 2",
        ),
    }
    for seq, (rolling, expected) in found.items():
        verdict = verdict_of("chamber-1", seq)
        world.judge(replace(verdict, result=replace(verdict.result, rolling=rolling)))
        assert expected in text_of(client, f"/windows/chamber-1/7/{seq}")
    told = client.get("/api/v1/streams/chamber-1/windows/7/4").json()["verdict"]["rolling"]
    assert (told["p"], told["first"], told["last"]) == (2e-4, [6, 8], [7, 2])


def test_kept_events_are_handed_out(world: World, client: Browser) -> None:
    world.judge(verdict_of("chamber-2", 0, p=1e-9), verdict_of("chamber-2", 1, p=1e-9))
    path = world.queries.kept("chamber-2", 7, 1)
    path.parent.mkdir()
    path.write_bytes(b"PAR1")
    assert "Kept events" in text_of(client, "/windows/chamber-2/7/1")
    answer = client.get("/windows/chamber-2/7/1/events.parquet")
    assert (answer.status_code, answer.content) == (200, b"PAR1")
    assert answer.headers["content-disposition"] == 'attachment; filename="chamber-2-7-1.parquet"'
    assert "gave way to newer ones" in text_of(client, "/windows/chamber-2/7/0")
    assert client.get("/windows/chamber-2/7/0/events.parquet").status_code == 404
    assert client.get("/windows/..%2Fchamber-2/7/1/events.parquet").status_code == 404


def test_what_is_not_there_is_told(client: Browser) -> None:
    assert "No verdict on window 9 of run 7" in text_of(client, "/windows/chamber-1/7/9", 404)
    assert "no stream 'nowhere'" in text_of(client, "/streams/nowhere", 404).lower()
    assert "no cause 'fire'" in text_of(client, "/alarms/chamber-1/fire", 404).lower()
    assert "Not Found" in text_of(client, "/nothing", 404)
    assert "run" in text_of(client, "/streams/chamber-1?run=x", 422)


def test_text_from_outside_is_shown_as_text(world: World, client: Browser) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    world.judge(verdict_of("chamber-1", 0, p=1e-9, reason=evil, conditions={"trigger": evil}))
    for path in ("/", "/streams/chamber-1", "/windows/chamber-1/7/0"):
        assert "<img" not in client.get(path).text


def test_an_alarm_is_acknowledged(world: World, client: Browser) -> None:
    world.raise_alarm("chamber-2")
    path = "/alarms/chamber-2/differs"
    assert send(client, f"{path}/acknowledge", comment="HV trips") == (303, path)
    alarm = world.queries.alarm("chamber-2", Cause.DIFFERS)
    assert alarm.acknowledged is not None
    assert (alarm.acknowledged.user, alarm.acknowledged.comment) == ("maria", "HV trips")
    text = text_of(client, path)
    assert "Seen by maria, 0 s ago: HV trips" in text
    assert "No alarm needs you" in text_of(client, "/")
    (row,) = [row for row in world.alarm_service.history.actions() if row["action"] == "acknowledge"]
    assert row["user"] == "maria"


def test_the_change_of_a_masked_stream_is_accepted(world: World, client: Browser) -> None:
    path = "/alarms/chamber-2/changed"
    assert f'action="{path}/accept"' not in client.get(path).text
    world.alarm_service.apply(AddMask("gas", "chamber-2", "work on the gas"), "jo")
    assert f'action="{path}/accept"' in client.get(path).text
    assert f'action="{path}/accept"' not in client.get("/alarms/chamber-2/differs").text
    assert send(client, f"{path}/accept", comment="new bottle") == (303, path)
    assert "new bottle" in text_of(client, path)
    assert world.alarm_service.for_rolling_references()["chamber-2"].accepted_at == START
    status, told = send(client, "/alarms/chamber-9/changed/accept", comment="x")
    assert (status, "unknown stream" in told) == (409, True)


def test_who_acknowledges_a_sudden_change_is_told_that_it_is_accepted(world: World, client: Browser) -> None:
    for seq in range(3):
        verdict = verdict_of("chamber-2", seq, judged_at=world.clock())
        rolling = RollingResult(10, (6, 8), (7, 2), p=2e-6, p_method=PMethod.TAIL)
        world.judge(replace(verdict, result=replace(verdict.result, rolling=rolling)))
    world.raise_alarm("chamber-1")
    for page in ("/", "/alarms", "/alarms/chamber-2/changed"):
        text = text_of(client, page)
        assert text.count("This accepts the change") == 1
        assert "What was changed" in text
    assert "It stays on until the condition has gone" not in text_of(client, "/alarms/chamber-2/changed")
    assert "It stays on until the condition has gone" in text_of(client, "/alarms/chamber-1/differs")
    assert "This accepts" not in text_of(client, "/alarms/chamber-1/differs")


def test_an_alarm_is_shelved_and_taken_off_again(world: World, client: Browser) -> None:
    world.raise_alarm("chamber-2")
    path = "/alarms/chamber-2/differs"
    assert send(client, f"{path}/shelve", reason="test pulses", hours="0.5")[0] == 303
    alarm = world.queries.alarm("chamber-2", Cause.DIFFERS)
    assert alarm.shelf is not None
    assert alarm.shelf.until == world.clock() + 1800.0
    assert "It comes back in 30 min 00 s." in text_of(client, path)
    assert send(client, f"{path}/unshelve", comment="over")[0] == 303
    assert world.queries.alarm("chamber-2", Cause.DIFFERS).state is AlarmState.ACTIVE


def test_streams_are_masked_and_unmasked(world: World, client: Browser) -> None:
    world.raise_alarm("chamber-2")
    told = send(
        client, "/masks", reason="gas leak", streams="muon/station-1/*", hours="2",
        run_types="cosmics, physics",
    )  # fmt: skip
    assert told == (303, "/masks")
    (mask,) = world.alarm_service.masks()
    assert (mask.streams, mask.run_types, mask.until) == (
        "muon/station-1/*", ("cosmics", "physics"), START + 7200.0,
    )  # fmt: skip
    assert "in 2 h 00 min" in text_of(client, "/masks")
    assert send(client, f"/masks/{mask.identifier}/remove", comment="sealed")[0] == 303
    assert world.alarm_service.masks() == ()
    send(client, "/masks", reason="HV work", streams="chamber-1", begin="1.5", hours="2")
    (mask,) = world.alarm_service.masks()
    assert (mask.start, mask.until) == (world.clock() + 1.5 * 3600.0, world.clock() + 3.5 * 3600.0)
    assert "begins in 1 h 30 min" in text_of(client, "/masks")


def test_channels_are_masked_on_the_page_of_their_stream(world: World, client: Browser) -> None:
    assert "Mask channels" not in text_of(client, "/streams/chamber-2")
    world.know_channels("chamber-2")
    page = text_of(client, "/streams/chamber-2")
    assert "No channel of this stream is masked." in page
    told = send(
        client, "/masks", streams="chamber-2", only="channels", channels="1, 4-5", cards="1",
        reason="amplifier broken", hours="2",
    )  # fmt: skip
    assert told == (303, "/streams/chamber-2")
    (mask,) = world.alarm_service.masks()
    assert (mask.streams, mask.user, mask.until) == ("chamber-2", "maria", START + 7200.0)
    assert mask.channels == ChannelChoice(channels=(1, 4, 5), cards=(1,))
    for path in ("/streams/chamber-2", "/masks"):
        page = text_of(client, path)
        assert "channels 1, 4-5; card 1" in page, path
        assert "amplifier broken" in page, path
        assert "ends in 2 h 00 min" in page, path
    assert world.queries.alarm("chamber-2", Cause.DIFFERS).state is AlarmState.NORMAL
    audit = world.alarm_service.history.actions()[-1]
    assert (audit["user"], audit["action"], audit["target"], audit["comment"]) == (
        "maria", "mask", "chamber-2: channels 1, 4-5; card 1", "amplifier broken",
    )  # fmt: skip
    assert send(client, f"/masks/{mask.identifier}/remove", comment="repaired")[0] == 303
    assert world.alarm_service.channel_masks() == {}
    assert send(client, "/masks", streams="chamber-2", layers="2", reason="HV off") == (303, "/masks")
    assert world.alarm_service.channel_masks()["chamber-2"][0].channels == ChannelChoice(layers=(2,))


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"reason": "x", "only": "channels"}, 422, "no channel is chosen"),
        ({"reason": "x", "channels": "17"}, 409, "has no channel 17"),
        ({"reason": "x", "channels": "a"}, 409, "is neither a number nor a range"),
        ({"channels": "1"}, 422, "reason: "),
        ({"reason": "x", "streams": "chamber-1", "channels": "1"}, 409, "chamber-1&#39; has no channels"),
        ({"reason": "x", "streams": "nowhere", "channels": "1"}, 409, "nowhere"),
        ({"reason": "x", "streams": "chamber-*", "channels": "1"}, 409, "has no channels"),
    ],
)
def test_channels_that_cannot_be_masked_are_told_on_the_page(
    world: World, client: Browser, fields: dict[str, str], status: int, told: str
) -> None:
    world.know_channels("chamber-2")
    code, page = send(client, "/masks", **{"streams": "chamber-2", **fields})
    assert code == status
    assert told in page
    assert world.alarm_service.masks() == ()


@pytest.mark.parametrize(
    ("path", "fields", "status", "told"),
    [
        ("/alarms/chamber-1/differs/acknowledge", {"comment": "x"}, 409, "Normal"),
        ("/alarms/chamber-1/differs/acknowledge", {"comment": "  "}, 422, "comment: "),
        ("/alarms/chamber-1/differs/unshelve", {"comment": "x"}, 409, "shel"),
        ("/alarms/chamber-1/differs/shelve", {"reason": "x"}, 422, "a shelf must end"),
        ("/alarms/chamber-1/differs/shelve", {"reason": "x", "hours": "-1"}, 422, "hours: "),
        ("/alarms/nowhere/differs/acknowledge", {"comment": "x"}, 404, "nowhere"),
        ("/masks", {"reason": "x", "streams": "tracker-*"}, 409, "tracker-"),
        ("/masks", {"reason": "x", "streams": "<b>"}, 422, "streams: "),
        ("/masks", {"reason": "x", "streams": "*", "hours": "soon"}, 422, "hours: "),
        ("/masks/none/remove", {"comment": "x"}, 409, "none"),
    ],
)
def test_what_cannot_be_done_is_told_on_the_page(
    world: World, client: Browser, path: str, fields: dict[str, str], status: int, told: str
) -> None:
    before = world.alarm_service.alarms(), world.alarm_service.masks()
    assert send(client, path, **fields)[0] == status
    assert told in send(client, path, **fields)[1]
    assert (world.alarm_service.alarms(), world.alarm_service.masks()) == before


def test_with_many_streams_healthy_groups_are_closed(
    tmp_path: Path, browse: Callable[[World], Browser]
) -> None:
    many = make_world(tmp_path / "many.sqlite", {f"s-{g}": [f"c-{g}-{n}" for n in range(25)] for g in (0, 1)})
    many.judge(*(verdict_of(name, p=1e-9 if name == "c-1-3" else 0.5) for name in many.statuses.names))
    page = browse(many).get("/").text
    assert re.findall(r'id="group-(s-\d)"( data-opened open)?>', page) == [
        ("s-0", ""),
        ("s-1", " data-opened open"),
    ]
    many.store.close()


def test_only_an_alarm_that_is_normal_is_green(world: World, client: Browser) -> None:
    world.raise_alarm()
    world.alarm_service.apply(AddMask("m", "chamber-2", "gas leak"), "maria")
    page = client.get("/alarms/chamber-2/differs").text
    assert 'id="alarm" class="respond is-masked"' in page
    assert "</svg>Masked</span>" in page
    assert 'class="respond is-normal"' in client.get("/alarms/chamber-1/differs").text


def test_qualities_have_a_shape_and_a_word(client: Browser) -> None:
    page = client.get("/help").text
    for quality in Quality:
        assert re.search(rf'<use href="#{quality.lower()}"></use></svg>{quality}<', page)
        assert f'<symbol id="{quality.lower()}"' in page


def test_the_help_says_when_to_look_at_each_page(client: Browser) -> None:
    page = client.get("/help").text
    head, _, content = page.partition("</nav>")
    pages = set(re.findall(r'<a href="(/\w*)"', head.partition("<nav")[2])) - {"/help", "/users"}
    assert len(pages) == 7
    assert pages <= set(re.findall(r'<dt><a href="(/\w*)">', content))


def test_the_help_explains_every_cause_and_state(client: Browser) -> None:
    page = client.get("/help").text
    assert [cause for cause in Cause if f"<dt>{cause}</dt>" not in page] == []
    assert [state for state in AlarmState if f"</svg>{state}<" not in page] == []
