"""``dqm certify`` against the JSON API of a real server, and templates learned from what was labelled."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.alarm import Amendment, Scope
from dqm.config import load_daemon
from dqm.events import Quality
from dqm.store import GOOD_WINDOWS, WINDOWS, CertificationStore, VerdictStore, WindowKeeper, store_url
from dqm.stream import Sender
from dqm.web import HttpServer, add_user, create_app
from tests.export.registry_server import run_registry
from tests.service.small import N_WINDOW, faulty_events, healthy_events, window_of
from tests.verdicts import alter
from tests.waiting import wait_until
from tests.world import PASSWORDS, START, World, make_world, verdict_of

from .conftest import Told
from .test_online import daemon_of, write_daemon

Dqm = Callable[..., Told]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "x.sqlite", {"muon": ["chamber-1", "chamber-2"]})
    for seq in range(4):
        times = {"start": START + 10.0 * seq, "end": START + 10.0 * (seq + 1)}
        made.judge(verdict_of("chamber-1", seq, **times))
        made.judge(verdict_of("chamber-2", seq, p=2e-9 if seq < 2 else 0.4, **times))
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


def test_a_run_is_amended_labelled_signed_and_exported(dqm: Dqm, url: str, tmp_path: Path) -> None:
    run = ("--run", 7, "-c", "HV ramp")
    of_chamber = (*run, "--stream", "chamber-2")
    assert "not signed" in dqm("certify", "list", url).out
    told = dqm("certify", "amend", url, "good", *of_chamber, "--windows", "0-1")
    assert (told.code, told.out) == (0, "entry 1: run 7 chamber-2, windows 0 to 1: Good, was 2 Bad\n")
    stretch = ("--from", "2026-09-21T14:13:20", "--until", "2026-09-21 14:13:35")
    told = dqm("certify", "label", url, "HV trip", *run, *stretch)
    assert told.out.endswith("14:13:35 UTC: 'HV trip', windows 2 Good, 2 Bad\n")
    told = dqm("certify", "sign", url, *run)
    assert (told.code, "maria has changed it meanwhile" in told.err, "know entry 2" in told.err) == (
        2,
        True,
        True,
    )
    told = dqm("certify", "sign", url, *run, "--known", 2)
    assert told.out == "entry 3: run 7: good, signed by maria\n"
    assert dqm("certify", "withdraw", url, 1, *run).out == (
        "entry 4 withdraws entry 1, run 7 chamber-2, windows 0 to 1\n"
    )
    page = " ".join(dqm("certify", "list", url, "--run", 7).out.split())
    assert "proposed: good without chamber-2: chamber-2 (Bad for 50 %" in page
    assert "signed: good by maria" in page
    assert "Good (withdrawn)" in page
    listed = " ".join(dqm("certify", "list", url).out.split())
    assert "7 good (+1 entry) maria" in listed
    assert json.loads(dqm("certify", "list", url, "--json").out)["runs"][0]["run"] == 7
    told = dqm("certify", "export", url, "--run", 7, "-o", "run-7.json")
    assert told.out.startswith("run-7.json: good, ")
    record = json.loads((tmp_path / "run-7.json").read_text())
    assert (record["version"], record["amended_since"]) == (3, True)
    assert json.loads(dqm("certify", "export", url, "--run", 7).out) == record
    told = dqm("certify", "sign", url, *run, "--known", 4, "--without", "chamber-2")
    assert told.out == "entry 5: run 7: good without chamber-2, signed by maria\n"


def test_flags_and_reports_say_what_was_amended(dqm: Dqm, url: str, tmp_path: Path) -> None:
    dqm("certify", "amend", url, "medium", "--run", 7, "--stream", "chamber-1", "-c", "=cmd|warm")
    dqm("certify", "label", url, "HV trip", "--run", 7, "--stream", "chamber-2", "--windows", 0, "-c", "seen")
    rows = list(csv.DictReader(dqm("flags", tmp_path / "x.sqlite", "--format", "csv").out.splitlines()))
    names = ("stream", "flag", "original_flag", "amended_by", "comment", "fault")
    found = [tuple(row[name] for name in names) for row in rows]
    assert found[0] == ("chamber-1", "Medium", "Good", "maria", "=cmd|warm", "")
    assert found[1][:4] == ("chamber-2", "Bad", "", "")
    assert found[1][5] == "HV trip"
    assert dqm("report", tmp_path / "x.sqlite", "-o", "run.html").code == 0
    text = (tmp_path / "run.html").read_text()
    assert "Nobody has signed this run." in text
    assert "=cmd|warm" in text
    assert "HV trip" in text
    assert dqm("certify", "sign", url, "bad", "--run", 7, "-c", "no gas", "--known", 2).code == 0
    dqm("report", tmp_path / "x.sqlite", "-o", "run.html")
    assert "signed by maria" in (tmp_path / "run.html").read_text()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("amend", "good", "--run", 8), "run 8 has no windows"),
        (("amend", "good", "--run", 7, "--stream", "chamber-2", "--windows", "7-9"), "It has windows 0 to 3"),
        (
            ("amend", "good", "--run", 7, "--windows", "1-2"),
            "--windows: windows are numbered within a stream",
        ),
        (("amend", "good", "--run", 7, "--windows", "five"), "--windows: 'five' is no window and no range"),
        (("amend", "good", "--run", 7, "--windows", "5-3"), "--windows: '5-3' ends before it begins"),
        (("amend", "good", "--run", 7, "--from", "2026-09-21"), "two ends"),
        (
            ("amend", "good", "--run", 7, "--from", "2020-01-01", "--until", "2020-01-02"),
            "Its windows are from",
        ),
        (("withdraw", 3, "--run", 7), "no amendment and no label 3"),
        (("sign", "--run", 8), "run 8 has no windows"),
        (("sign", "good without", "--run", 7), "0 streams to leave out"),
    ],
)
def test_what_cannot_be_done_is_told(dqm: Dqm, url: str, command: tuple[object, ...], told: str) -> None:
    result = dqm("certify", command[0], url, *command[1:], "-c", "x")
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert told in result.err
    assert "nobody has signed it" in dqm("certify", "export", url, "--run", 7).err
    assert "run 99 has no windows" in dqm("certify", "export", url, "--run", 99).err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--windows", "0-1"), "--windows: windows are numbered within a stream. Add --stream NAME"),
        (("--from", "2020-01-01"), "--from: a stretch of time has two ends. Add --until TIME"),
        (("--until", "2020-01-01"), "--until: a stretch of time has two ends. Add --from TIME"),
        (
            ("--stream", "s", "--windows", "0-1", "--until", "2020-01-01"),
            "--windows cannot be given with --from or --until",
        ),
        (("-c", "  "), "--comment: the comment is empty"),
    ],
)
def test_mistakes_in_a_stretch_name_the_option_and_ask_nobody(
    dqm: Dqm, options: tuple[str, ...], said: str
) -> None:
    told = dqm("certify", "amend", "http://127.0.0.1:1", "good", "--run", 7, "-c", "x", *options)
    assert told.code == 2
    assert said in told.err


def test_a_sign_off_does_not_take_the_place_of_another_kind_of_file(
    dqm: Dqm, url: str, tmp_path: Path
) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text("[daemon]")
    told = dqm("certify", "export", url, "--run", 7, "-o", config)
    assert told.code == 2
    assert "the sign-off is JSON, and the ending is '.toml'. Choose a name with the ending .json" in told.err
    assert config.read_text() == "[daemon]"


def keep(config: Path, run: int, shift: float, n: int = 12, directory: str = WINDOWS) -> None:
    """Let windows of a run be judged Bad and kept."""
    daemon = load_daemon(config).daemon
    keeper = WindowKeeper(daemon.data_dir / directory, 10**8)
    with VerdictStore(store_url(daemon)) as store:
        for seq in range(n):
            times = {"start": START + 10.0 * seq, "end": START + 10.0 * (seq + 1)}
            verdict = alter(verdict_of("chamber-1", seq, p=2e-9, **times), run=run)
            store.append(replace(verdict, explanation=None))
            x = healthy_events(N_WINDOW, 1000 * run + seq) + shift
            keeper.keep(window_of(x, run=run, seq=seq), verdict)


def label(config: Path, scope: Scope, fault: str) -> None:
    with VerdictStore(store_url(load_daemon(config).daemon), create=False) as store:
        CertificationStore(store.database).add(Amendment(0, START, "jo", "seen", scope, fault=fault))


LEARN = ("reference", "templates", "ref", "--from", "daemon.toml", "--stream", "chamber-1")


def test_templates_are_learned_from_labelled_windows_that_were_kept(
    dqm: Dqm, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    config = write_daemon(tmp_path, bundle)
    (tmp_path / "data").mkdir(mode=0o700)
    keep(config, 7, 0.8)
    keep(config, 8, -0.8)
    keep(config, 9, 0.8, n=3, directory=GOOD_WINDOWS)
    label(config, Scope(7, "chamber-1"), "late trigger")
    label(config, Scope(7, "chamber-1", 10, 11), "noise")
    label(config, Scope(8, start=START, end=START + 105.0), "early trigger")
    label(config, Scope(9), "late trigger")
    label(config, Scope(7, "chamber-2"), "of another stream")
    label(config, Scope(7, "chamber-1", 10, 11), "late trigger")
    told = dqm(*LEARN)
    assert told.code == 0, told.err
    assert f"late trigger: took 15 kept windows of runs 7, 9, {15 * N_WINDOW} events" in told.out
    # the middle of window 10 is where the label ends
    assert f"early trigger: took 10 kept windows of runs 8, {10 * N_WINDOW} events" in told.out
    learned = json.loads(dqm("reference", "show", "ref", "--json").out)["templates"]
    assert [(entry["fault"], [s["name"] for s in entry["sources"]]) for entry in learned] == [
        ("late trigger", ["chamber-1, run 7", "chamber-1, run 9"]), ("early trigger", ["chamber-1, run 8"]),
    ]  # fmt: skip


def test_what_is_not_labelled_or_not_kept_is_told(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    config = write_daemon(tmp_path, bundle)
    (tmp_path / "data").mkdir(mode=0o700)
    keep(config, 7, 0.8)
    told = dqm(*LEARN)
    assert (told.code, "no window of stream 'chamber-1' is labelled" in told.err) == (2, True)
    label(config, Scope(9, "chamber-1"), "late trigger")
    told = dqm(*LEARN)
    assert (told.code, "no labelled window of stream 'chamber-1' was kept" in told.err) == (2, True)
    for options, message in [
        (("--from", "daemon.toml"), "--from needs --stream"),
        (("--stream", "chamber-1"), "--stream needs --from"),
        ((*LEARN[3:], "--fault", "a=b.csv"), "--from cannot be given with --fault"),
        (("--from", "daemon.toml", "--stream", "nobody"), "no stream 'nobody'"),
    ]:
        told = dqm("reference", "templates", "ref", *options)
        assert (told.code, message in told.err) == (2, True), told.err


def test_labels_by_number_hold_when_the_verdicts_are_deleted(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    config = write_daemon(tmp_path, bundle)
    (tmp_path / "data").mkdir(mode=0o700)
    keep(config, 7, 0.8)
    label(config, Scope(7, "chamber-1", 0, 9), "late trigger")
    label(config, Scope(7, start=START, end=START + 200.0), "by time")
    with VerdictStore(store_url(load_daemon(config).daemon)) as store:
        store.prune(START + 1e6, 1000)
        assert list(store.select(quality=Quality.BAD)) == []
    told = dqm(*LEARN)
    assert told.code == 0, told.err
    assert f"late trigger: took 10 kept windows of runs 7, {10 * N_WINDOW} events" in told.out
    assert "by time" not in told.out


@pytest.mark.slow
def test_a_daemon_certifies_while_it_judges_and_sends_what_is_signed_after_a_kill_too(
    dqm: Dqm, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_daemon(tmp_path, bundle)
    add_user(tmp_path / "users.toml", "maria", PASSWORDS["maria"])
    token = tmp_path / "token"
    token.write_text("s3cret-token")
    token.chmod(0o600)
    monkeypatch.setenv("LOGNAME", "maria")
    monkeypatch.setenv("DQM_PASSWORD", PASSWORDS["maria"])
    with run_registry() as registry:
        registry.status = 503
        config.write_text(
            f'{config.read_text()}[web]\nusers = "users.toml"\n[certification]\nfaults = ["HV trip"]\n'
            f'[registry]\nurl = "{registry.url}"\ntoken_file = "token"\n'
        )
        assert dqm("check", config).code == 0
        run = ("--run", 7, "-c", "HV trip, see the log")
        with daemon_of(config) as daemon, Sender(f"ipc://{tmp_path}/windows.ipc") as sender:
            for seq in range(8):
                x = healthy_events(N_WINDOW, 50 + seq) if seq < 4 else faulty_events(N_WINDOW, seq)
                sender.send(window_of(x, seq=seq))
                sender.send(window_of(healthy_events(N_WINDOW, 90 + seq), stream="chamber-2", seq=seq))
            wait_until(lambda: sender.pump() or sender.n_kept == 0, "all windows are acknowledged")
            of_stream = (*run, "--stream", "chamber-1", "--windows", "4-7")
            assert dqm("certify", "label", daemon.url, "HV trip", *of_stream).code == 0
            told = dqm("certify", "sign", daemon.url, *run, "--known", 1, "--without", "chamber-1")
            assert told.out == "entry 2: run 7: good without chamber-1, signed by maria\n"
            wait_until(
                lambda: "dqm_registry_failing_timestamp_seconds 1" in daemon.get("/metrics").text,
                "the failure is shown",
            )
            assert "it answers 503" in daemon.get("/certification").text
            assert "s3cret-token" not in daemon.get("/certification").text + daemon.log.read_text()
            daemon.process.kill()
        assert registry.records == []
        registry.status = 200
        with daemon_of(config) as daemon:
            wait_until(lambda: registry.records, "the next daemon sends it")
            wait_until(lambda: 'outcome="sent"} 1.0' in daemon.get("/metrics").text, "and counts it")
            page = daemon.get("/api/v1/certification/7").json()
            assert page["sent_at"] is not None
            assert daemon.end() == 0
        (record,) = registry.records
        assert (record["version"], record["without"]) == (2, ["chamber-1"])
        assert registry.headers[-1]["authorization"] == "Bearer s3cret-token"
    flags = json.loads(dqm("flags", config, "--run", 7, "--by-judgement", "--format", "json").out)
    assert {flag["fault"] for flag in flags if flag["stream"] == "chamber-1"} >= {"HV trip", None}
