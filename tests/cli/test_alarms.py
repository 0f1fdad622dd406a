"""``dqm alarms`` against the JSON API of a real server, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.alarm import AlarmState, Cause, ChannelChoice
from dqm.export import Metrics
from dqm.web import HttpServer, Queries, create_app
from tests.world import PASSWORDS, START, World, make_world

from .conftest import Told

Dqm = Callable[..., Told]
ALARM = ("chamber-2", "differs")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "x.sqlite", {"muon": ["chamber-1", "chamber-2"]})
    yield made
    made.store.close()


@pytest.fixture
def url(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("DQM_USER", "DQM_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "maria")
    monkeypatch.setenv("DQM_PASSWORD", PASSWORDS["maria"])
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://{server.address}"
    server.stop()


def test_alarms_are_listed_with_what_is_seen_since_when_and_what_to_do(
    dqm: Dqm, world: World, url: str
) -> None:
    assert dqm("alarms", "list", url).out == "all 18 alarms are Normal\n"
    world.raise_alarm("chamber-2")
    world.clock.time += 161.0
    text = " ".join(dqm("alarms", "list", url).out.split())
    assert "Active P2 chamber-2 differs 0:02:41 3 of the last 3 windows differ" in text
    assert "Check the high voltage of the chamber." in text
    assert "Muon expert" in text
    assert "chamber-1" not in text
    assert dqm("alarms", "list", url, "--all").out.count("chamber-1") == len(Cause)
    told = json.loads(dqm("alarms", "list", url, "--json").out)
    assert told["alarms"][0]["stream"] == "chamber-2"
    assert told["explained"] == {"chamber-2": "looks like lowered cathode voltage, 92 %"}
    assert "p = 2e-09; looks like" in text, "the known fault is named, as on the page"
    assert "lowered cathode voltage, 92 %" in text


def test_an_alarm_is_acknowledged_shelved_and_unshelved(dqm: Dqm, world: World, url: str) -> None:
    world.raise_alarm("chamber-2")
    told = dqm("alarms", "ack", url, *ALARM, "-c", "HV trips")
    assert (told.code, told.out) == (0, "chamber-2 differs: acknowledged by maria, Active\n")
    alarm = world.queries.alarm("chamber-2", Cause.DIFFERS)
    assert alarm.acknowledged is not None
    assert (alarm.acknowledged.user, alarm.acknowledged.comment) == ("maria", "HV trips")
    assert "seen by maria: HV trips" in dqm("alarms", "list", url).out
    told = dqm("alarms", "shelve", url, *ALARM, "-r", "test", "--hours", 2, "--one-shot")
    assert told.out == "chamber-2 differs: shelved until 09-21 16:13:20 UTC, or when the condition has gone\n"
    assert "shelved by maria: test" in dqm("alarms", "list", url).out
    assert dqm("alarms", "unshelve", url, *ALARM, "-c", "over").out == "chamber-2 differs: Active\n"
    lines = dqm("alarms", "history", url, "--stream", "chamber-2").out.splitlines()
    assert [line.split()[5] for line in lines[1:]][-3:] == ["Active", "Shelved", "Active"]
    assert "no changes match" in dqm("alarms", "history", url, "--stream", "chamber-1").out


def test_the_change_of_a_masked_stream_is_accepted_and_audited(dqm: Dqm, world: World, url: str) -> None:
    dqm("alarms", "mask", url, "chamber-2", "-r", "gas work")
    told = dqm("alarms", "accept", url, "chamber-2", "-c", "new bottle")
    assert (told.code, told.err) == (0, "")
    assert told.out == "chamber-2 changed: accepted, Masked; its rolling reference begins anew\n"
    assert world.alarm_service.for_rolling_references()["chamber-2"].accepted_at == START
    assert "new bottle" in dqm("alarms", "history", url, "--stream", "chamber-2").out
    row = world.alarm_service.history.actions()[-1]
    assert [row[key] for key in ("user", "action", "target", "comment")] == [
        "maria", "accept", "chamber-2 changed", "new bottle",
    ]  # fmt: skip
    assert dqm("alarms", "accept", url, "chamber-9", "-c", "x").code == 2


def test_an_alarm_that_ends_when_it_is_acknowledged_is_told(
    dqm: Dqm, url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was Latched is Normal then, and holds nobody who acknowledged it."""
    world.raise_alarm("chamber-2")
    alarm = replace(world.queries.alarm("chamber-2", Cause.DIFFERS), state=AlarmState.NORMAL)
    monkeypatch.setattr(Queries, "alarm", lambda *_: alarm)
    told = dqm("alarms", "ack", url, *ALARM, "-c", "HV trips")
    assert (told.code, told.out) == (0, "chamber-2 differs: acknowledged, Normal\n")


def test_streams_are_masked_and_unmasked(dqm: Dqm, world: World, url: str) -> None:
    assert "no mask" in dqm("alarms", "masks", url).out
    told = dqm("alarms", "mask", url, "muon/*", "-r", "gas leak", "--run-type", "cosmics")
    (mask,) = world.alarm_service.masks()
    assert told.out == f"mask {mask.identifier}: muon/* until it is removed\n"
    assert (mask.user, mask.reason, mask.run_types, mask.until) == ("maria", "gas leak", ("cosmics",), None)
    assert "gas leak" in dqm("alarms", "masks", url).out
    assert dqm("alarms", "unmask", url, mask.identifier, "-c", "sealed").out.endswith("ended; 0 left\n")
    world.clock.time = START
    assert world.alarm_service.masks() == ()
    told = dqm("alarms", "mask", url, "chamber-1", "-r", "HV work", "--begin", 1, "--hours", 2)
    (mask,) = world.alarm_service.masks()
    assert mask.start is not None
    assert mask.until == mask.start + 2 * 3600.0
    assert "chamber-1 from " in told.out


def test_channels_are_masked(dqm: Dqm, world: World, url: str) -> None:
    world.know_channels("chamber-2")
    mask = ("alarms", "mask", url, "chamber-2", "-r", "amplifier broken")
    told = dqm(*mask, "--channels", "1, 4-5", "--layers", 2, "--hours", 2)
    assert told.code == 0, told.err
    (made,) = world.alarm_service.masks()
    assert made.channels == ChannelChoice(channels=(1, 4, 5), layers=(2,))
    assert told.out.startswith(f"mask {made.identifier}: chamber-2, channels 1, 4-5; layer 2 until ")
    assert "channels 1, 4-5; layer 2" in dqm("alarms", "masks", url).out
    assert dqm("alarms", "unmask", url, made.identifier, "-c", "repaired").code == 0
    told = dqm(*mask, "--cards", 7)
    assert (told.code, world.alarm_service.masks()) == (2, ())
    assert "stream 'chamber-2' has no card 7" in told.err
    told = dqm(*mask, "--channels", "5-1")
    assert (told.code, world.alarm_service.masks()) == (2, ())
    assert "'5-1' is not a range" in told.err


def test_who_acts_has_to_prove_it(
    dqm: Dqm, world: World, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.raise_alarm("chamber-2")
    acknowledge = ("alarms", "ack", url, *ALARM, "-c", "HV trips")
    told = dqm(*acknowledge, "--user", "jo")  # with the password of maria
    assert (told.code, "wrong name or password" in told.err) == (2, True)
    monkeypatch.delenv("DQM_PASSWORD")
    told = dqm(*acknowledge)
    assert (told.code, "a change needs a user" in told.err, "DQM_PASSWORD" in told.err) == (2, True, True)
    file = tmp_path / "password"
    file.write_text(PASSWORDS["jo"] + "\n")
    file.chmod(0o640)
    told = dqm(*acknowledge, "--user", "jo", "--password-file", file)
    assert "the password is open to others (mode 0640)" in told.err
    assert world.queries.alarm("chamber-2", Cause.DIFFERS).acknowledged is None
    file.chmod(0o600)
    assert "by jo, Active" in dqm(*acknowledge, "--user", "jo", "--password-file", file).out


def test_a_password_is_asked_for_on_a_terminal(
    dqm: Dqm, world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.raise_alarm("chamber-2")
    monkeypatch.delenv("DQM_PASSWORD")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or PASSWORDS["maria"])
    assert "chamber-2" in dqm("alarms", "list", url).out
    assert asked == []  # to read needs none here
    assert "acknowledged by maria" in dqm("alarms", "ack", url, *ALARM, "-c", "HV trips").out
    assert asked == ["Password of maria: "]


def test_without_users_nobody_acts_and_what_to_do_is_told(dqm: Dqm, world: World) -> None:
    server = HttpServer(create_app(world.metrics, lambda: 0.0, queries=world.queries), "127.0.0.1", 0)
    server.start()
    told = dqm("alarms", "mask", f"http://{server.address}", "muon/*", "-r", "gas leak")
    server.stop()
    assert (told.code, world.alarm_service.masks()) == (2, ())
    assert "nobody may change anything" in told.err
    assert "Run 'dqm users add NAME" in told.err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("ack", *ALARM, "-c", "x"), "the alarm is Normal"),
        (("ack", "nowhere", "differs", "-c", "x"), "no alarm differs of stream 'nowhere'"),
        (("shelve", *ALARM, "-r", "x"), "a shelf must end"),
        (("mask", "tracker-*", "-r", "x"), "tracker-*"),
        (("unmask", "none", "-c", "x"), "none"),
    ],
)
def test_what_cannot_be_done_is_told(dqm: Dqm, url: str, command: tuple[str, ...], told: str) -> None:
    result = dqm("alarms", command[0], url, *command[1:])
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert told in result.err
    assert "Traceback" not in result.err


def test_the_address_comes_from_the_configuration(dqm: Dqm, url: str, tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    streams = '[[streams]]\nname = "chamber-1"\nbundle = "b"\n'
    config.write_text(f'[daemon]\nhttp = "{url.removeprefix("http://")}"\n{streams}')
    assert "all 18 alarms are Normal" in dqm("alarms", "list", config).out
    config.write_text(f'[daemon]\nhttp = "127.0.0.1:0"\n{streams}')
    assert "Give its address" in dqm("alarms", "list", config).err
    config.write_text(f'[daemon]\nhttp = "127.0.0.1:1"\n{streams}')
    told = dqm("alarms", "list", config)
    assert told.code == 2
    assert "http://127.0.0.1:1: no daemon answers" in told.err
    assert "Start it by 'dqm run'" in told.err


def test_something_else_that_answers_is_told(dqm: Dqm) -> None:
    server = HttpServer(create_app(Metrics({}, lambda: 0.0, ""), lambda: 0.0), "127.0.0.1", 0)
    server.start()
    told = dqm("alarms", "list", f"http://{server.address}/")
    server.stop()
    assert "HTTP status 404 Not Found. This is not the page of a dqm daemon" in told.err


def test_a_group_is_one_line_and_is_acknowledged_by_one_command(dqm: Dqm, world: World, url: str) -> None:
    world.clock.time += 601.0
    world.alarm_service.tick()
    text = " ".join(dqm("alarms", "list", url).out.split())
    assert text.count("Active") == 1
    assert "muon: 2 streams silent" in text
    assert text.endswith("muon silent: chamber-1, chamber-2")
    assert dqm("alarms", "list", url, "--each").out.count("Active") == 2
    told = dqm("alarms", "ack-group", url, "muon", "silent", "-c", "beam stop")
    assert (told.code, told.out) == (0, "muon silent: acknowledged 2 alarms: chamber-1, chamber-2\n")
    assert "seen by maria: beam stop" in dqm("alarms", "list", url).out
    told = dqm("alarms", "ack-group", url, "muon", "silent", "-c", "beam stop")
    assert (told.code, "no alarm silent in the group 'muon' waits" in told.err) == (2, True)
