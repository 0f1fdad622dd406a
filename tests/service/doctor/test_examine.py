"""What the doctor says of an installation that is sound, and of each thing in it that is broken for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from dqm.config import load_daemon
from dqm.errors import ConfigError
from dqm.events import Origin
from dqm.export.grafana import Grafana, push
from dqm.reference import Light, StoredBundle, calibrate, read_certificate, write_certificate
from dqm.reference.certificate_lines import extrapolation_line
from dqm.service.doctor import NAMES, Diagnosis, DoctorOptions, examine
from dqm.service.doctor.host import ask_time_server, look_at_disk
from dqm.service.doctor.running import Answers, look_at_daemon
from dqm.service.doctor.storage import Storage, look_at_storage
from dqm.service.monitor.resolved_config import resolve
from dqm.store import STORE_FILE, StoreSize
from dqm.store.schema import SCHEMA_VERSION
from dqm.stream import make_keys
from dqm.web import add_user
from tests.cli.dask_cluster import DaskCluster, another_service
from tests.cli.program import ENVIRONMENT, PROGRAM
from tests.dashboards import programs
from tests.dashboards.monitor import FAULTY, GOOD, Monitor, monitor
from tests.export.grafana_server import TOKEN, FakeGrafana
from tests.export.grafana_server import serve as serve_grafana
from tests.faults.conftest import mounted
from tests.ports import free_port
from tests.receivers import mail_server, webhook
from tests.reference.test_certificate import certificate_of
from tests.service.small import N_WINDOW, healthy_events, window_of
from tests.waiting import wait_until

Require = Callable[[str], Path]
DAY = 86_400.0


@pytest.fixture(scope="module")
def watched(bundle: StoredBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Monitor, Path]]:
    """A daemon that has judged windows, and its configuration."""
    folder = tmp_path_factory.mktemp("watched")
    with monitor(bundle, folder, port=free_port()) as running:
        running.send(GOOD, 0)
        running.send(FAULTY, 0)
        assert running.sender.confirm(20.0)
        yield running, folder / "daemon.toml"


@pytest.fixture
def config(watched: tuple[Monitor, Path]) -> Path:
    return watched[1]


@pytest.fixture
def copied(bundle: StoredBundle, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return shutil.copytree(bundle.path, tmp_path / "ref")


def look(
    config: Path, name: str, prometheus: str | None = None, ntp: str | None = None, **keys: object
) -> list[Diagnosis]:
    """Examine an installation; give what is said of one thing."""
    wanted = DoctorOptions(prometheus, has_prometheus=prometheus is not None, time_server=ntp)
    overrides = {key.replace("__", "."): value for key, value in keys.items()}
    found = list(examine(config, overrides, wanted))
    assert {one.name for one in found} <= NAMES.keys()
    assert all((one.light is Light.GREEN) == (not one.action) for one in found)
    return [one for one in found if one.name == name]


def lights(findings: list[Diagnosis]) -> list[str]:
    return [one.light for one in findings]


def edited(config: Path, folder: Path, *changes: tuple[str, str], more: str = "") -> Path:
    """Write a changed copy of a configuration that works on the same data."""
    text = config.read_text()
    for old, new in (*changes, ("workers = 0\n", f'workers = 0\ndata_dir = "{config.parent}/data"\n')):
        assert old in text
        text = text.replace(old, new)
    path = folder / "daemon.toml"
    path.write_text(text + more)
    return path


def test_nothing_is_red_in_a_sound_installation(config: Path) -> None:
    found = list(examine(config, {}, DoctorOptions(has_prometheus=False)))
    assert [one for one in found if one.light is Light.RED] == []
    said = {one.name: one.found for one in found if one.light is Light.GREEN}
    assert {
        "configuration",
        "disk",
        "permissions",
        "store",
        "retention",
        "keys",
        "ports",
        "daemon",
    } <= said.keys()
    assert re.fullmatch(r"2 streams: the last is \d+ to \d+ s old", said["windows"])
    assert said["store"].startswith(f"schema {SCHEMA_VERSION}, 6 verdicts")


def test_a_configuration_that_is_wrong_by_itself_ends_it_with_every_mistake(
    config: Path, tmp_path: Path
) -> None:
    wrong = edited(config, tmp_path, ("[alarm]", "[alram]"))
    with pytest.raises(ConfigError, match=r"did you mean 'alarm'\?"):
        list(examine(wrong, {}))


def has_scraped(prometheus: str) -> bool:
    """Whether every target was tried; asking the doctor again and again would take longer."""
    targets = programs.get(prometheus, "/api/v1/targets")["activeTargets"]
    return bool(targets) and all(target["health"] != "unknown" for target in targets)


@pytest.mark.slow
def test_prometheus_must_scrape_the_daemon_and_have_its_rules(
    require_program: Require, config: Path, tmp_path: Path
) -> None:
    program = require_program("prometheus")
    http = load_daemon(config, environ={}).daemon.http
    with programs.prometheus(program, tmp_path, http, None) as address:
        programs.wait_until(lambda: has_scraped(address), "it scrapes")
        assert lights(look(config, "prometheus", f"http://{address}")) == ["green"]
        other = edited(config, tmp_path, (http, f"127.0.0.1:{free_port()}"))
        (found,) = look(other, "prometheus", f"http://{address}")
        assert found.light is Light.RED
        assert "has the port" in found.found
    (found,) = look(config, "prometheus", f"http://{address}")
    assert found.light is Light.RED
    assert "no answer" in found.found


@pytest.mark.slow
def test_a_target_that_prometheus_cannot_scrape_is_told_with_its_reason(
    require_program: Require, config: Path, tmp_path: Path
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with programs.prometheus(require_program("prometheus"), tmp_path, nobody, None) as address:
        other = edited(config, tmp_path, (load_daemon(config, environ={}).daemon.http, nobody))
        programs.wait_until(lambda: has_scraped(address), "it tries")
        assert any("refused" in one.found for one in look(other, "prometheus", f"http://{address}"))


def test_without_an_address_a_missing_prometheus_is_no_fault(config: Path) -> None:
    found = [one for one in examine(config, {}) if one.name == "prometheus"]
    assert lights(found) == ["amber"]


def test_a_full_disk_is_red(config: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "data", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs"):
        shutil.copy(config.parent / "data" / STORE_FILE, tmp_path / "data")
        found = look(config, "disk", daemon__data_dir=str(tmp_path / "data"))
        assert lights(found) == ["red"]
        assert "cannot be stored" in found[0].found
        assert str(tmp_path / "data") in found[0].action


def test_a_disk_that_will_be_full_is_told_with_the_day(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    free = facts.f_bavail * facts.f_frsize
    (found,) = look_at_disk(tmp_path, free / 9.5, 0.0)
    assert found.light is Light.AMBER
    assert "full in 9 days" in found.found or "full in 10 days" in found.found
    (found,) = look_at_disk(tmp_path, 0.0, 2.0 * free)
    assert "kept windows may take" in found.found
    (found,) = look_at_disk(tmp_path, free / 1e6, 0.0)
    assert found.light is Light.GREEN


def test_data_that_others_may_write_are_red_with_the_command_that_mends_it(
    config: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(config.parent / "data", tmp_path / "data")
    data.chmod(0o777)
    found = look(config, "permissions", daemon__data_dir=str(data))
    assert lights(found) == ["red", "green"] or lights(found) == ["red"]
    assert f"chmod go-w {data}" in found[0].action


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_what_the_user_of_the_daemon_cannot_read_is_named(config: Path, tmp_path: Path) -> None:
    data = shutil.copytree(config.parent / "data", tmp_path / "data")
    os.chown(data, 65_534, 65_534)
    found = [one for one in look(config, "permissions", daemon__data_dir=str(data)) if one.light is Light.RED]
    assert found
    assert "cannot read it" in found[0].found


def test_an_old_certificate_and_a_red_line_are_told(
    config: Path, copied: Path, bundle: StoredBundle, tmp_path: Path
) -> None:
    mine = edited(config, tmp_path, (str(bundle.path), str(copied)))
    assert "no certificate" in look(mine, "certificate")[0].found
    fresh = certificate_of(bundle, Light.GREEN)
    write_certificate(copied, fresh.model_copy(update={"made_at": time.time() - 5 * DAY}))
    assert lights(look(mine, "certificate")) == ["green"]
    write_certificate(copied, fresh.model_copy(update={"made_at": time.time() - 200 * DAY}))
    (found,) = look(mine, "certificate")
    assert found.light is Light.AMBER
    assert "200 days old" in found.found
    write_certificate(copied, certificate_of(bundle, Light.RED))
    assert "its certificate is red" in look(mine, "configuration")[0].found
    assert read_certificate(copied) is not None


def test_one_number_of_toys_is_advised(
    config: Path, copied: Path, bundle: StoredBundle, tmp_path: Path
) -> None:
    mine = edited(config, tmp_path, (str(bundle.path), str(copied)))
    entry = bundle.manifest.null[0]
    threshold = resolve(load_daemon(mine, environ={}), warns=False).thresholds.p_threshold
    of_many = extrapolation_line(entry, min(0.05, 4.0 * threshold))
    green = certificate_of(bundle, Light.GREEN)
    write_certificate(copied, green.model_copy(update={"lines": (*green.lines, of_many)}))
    (certificate,), (of_bundle,) = (
        [one for one in look(mine, name) if "calibrate" in one.action] for name in ("certificate", "bundle")
    )
    assert certificate.action == of_bundle.action
    assert of_many.action not in certificate.action


def test_a_bundle_that_was_replaced_on_disk_is_not_the_one_that_judges(
    config: Path, copied: Path, bundle: StoredBundle, tmp_path: Path
) -> None:
    renewed = calibrate(StoredBundle.read(copied), 160, kind=bundle.manifest.kind, seed=5, n_processes=1)
    mine = edited(config, tmp_path, (str(bundle.path), str(copied)))
    found = look(mine, "bundle")
    assert [one for one in found if "not the bundle on disk any more" in one.found and "Reload" in one.action]
    assert renewed.identifier not in found[-1].found
    assert bundle.identifier in found[-1].found


def test_a_damaged_bundle_is_red_and_the_rest_is_looked_at(
    config: Path, copied: Path, bundle: StoredBundle, tmp_path: Path
) -> None:
    next(copied.glob("pool-*.npy")).write_bytes(b"x")
    mine = edited(config, tmp_path, (str(bundle.path), str(copied)))
    assert lights(look(mine, "configuration"))[0] == "red"
    assert lights(look(mine, "ports")) == ["green"]


def test_a_sender_whose_clock_is_ahead_is_named(watched: tuple[Monitor, Path]) -> None:
    running, config = watched
    end = time.time() + 3600.0
    window = window_of(
        healthy_events(N_WINDOW, 9), stream=GOOD, seq=90, start=end - 60.0, end=end, origin=Origin.LIVE
    )
    running.sender.send(window)
    assert running.sender.confirm(20.0)
    found = look(config, "clock")
    assert found[0].light is Light.RED
    assert f"the sender of {GOOD} is 3600 s ahead of this clock" in found[0].found


@pytest.mark.slow
def test_a_wrong_clock_shows_beside_that_of_the_daemon(require_program: Require, config: Path) -> None:
    command = [
        require_program("faketime"),
        "-f",
        "-2h",
        PROGRAM,
        "doctor",
        config,
        "--json",
        "--prometheus",
        "none",
    ]
    told = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100.0, check=False
    )
    assert told.returncode == 1, told.stderr
    clock = [one for one in json.loads(told.stdout)["findings"] if one["name"] == "clock"]
    assert any("the daemon is 7200 s ahead of" in one["found"] or "7199 s" in one["found"] for one in clock)


def test_a_time_server_is_asked(config: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer(ahead: float) -> None:
            question, peer = server.recvfrom(512)
            assert question[0] & 7 == 3
            moment = int((time.time() + ahead + 2_208_988_800) * 2**32)
            server.sendto(bytes(32) + 2 * struct.pack("!Q", moment), peer)

        for ahead, light in ((0.0, ""), (-30.0, "amber"), (900.0, "red")):
            thread = Thread(target=answer, args=[ahead])
            thread.start()
            assert ask_time_server(address) == pytest.approx(ahead, abs=1.0)
            thread.join()
            thread = Thread(target=answer, args=[ahead])
            thread.start()
            found = [one for one in look(config, "clock", ntp=address) if "time server" in one.found]
            thread.join()
            if light:
                assert lights(found) == [light]
    assert any(
        "time server" in one.found or "refused" in one.found for one in look(config, "clock", ntp=address)
    )


def test_receivers_are_reached_without_a_message(config: Path, tmp_path: Path) -> None:
    mails = tmp_path / "mails"
    with mail_server(mails) as server, webhook() as hook:
        for name, url in (("crew", server.url), ("chat", hook.url)):
            (tmp_path / name).write_text(url)
            (tmp_path / name).chmod(0o600)
        more = '[notify.targets.crew]\nurl_file = "crew"\n[notify.targets.chat]\nurl_file = "chat"\n'
        mine = edited(config, tmp_path, more=more)
        assert lights(look(mine, "mail")) == ["green", "green"]
        assert (server.mails() if (mails / "new").exists() else []) == []
        assert hook.seen == []
    found = look(mine, "mail")
    assert lights(found) == ["red", "red"]
    assert "target crew: the connection was refused" in found[0].found
    assert "s3cr3t" not in " ".join(one.found + one.action for one in found)


def test_a_service_without_address_of_its_own_is_not_called_sound(config: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("dbus://")
    (tmp_path / "odd").chmod(0o600)
    mine = edited(config, tmp_path, more='[notify.targets.odd]\nurl_file = "odd"\n')
    assert "green" not in lights(look(mine, "mail"))


def test_dashboards_that_grafana_lacks_are_told(config: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with serve_grafana(FakeGrafana()) as server:
        mine = edited(config, tmp_path, more=f'[grafana]\nurl = "{server.url}"\ntoken_file = "token"\n')
        (found,) = look(mine, "grafana")
        assert found.light is Light.AMBER
        assert "dashboard dqm: stream: missing" in found.found
        assert server.writes == []
        with Grafana(server.url, TOKEN) as grafana:
            list(push(grafana))
        assert lights(look(mine, "grafana")) == ["green"]
    (found,) = look(mine, "grafana")
    assert found.light is Light.RED
    assert "does not answer" in found.found


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_as_one_is_told(config: Path, tmp_path: Path) -> None:
    assert look(config, "cluster") == []
    with another_service(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n") as address:
        (found,) = look(config, "cluster", daemon__scheduler=address)
        assert found.light is Light.RED
        assert f"{address}: what answers is no Dask scheduler" in found.found
    with DaskCluster(tmp_path) as dask:
        asked = {"daemon__scheduler": dask.address}
        assert lights(look(config, "cluster", **asked)) == ["amber"]
        dask.add_worker(n_threads=2)
        wait_until(lambda: lights(look(config, "cluster", **asked)) == ["green"], "a worker")
        (found,) = look(config, "cluster", **asked)
        assert found.found == f"{dask.address} has 1 worker with 2 threads"


def test_keys_without_a_right_and_streams_without_a_key_are_told(config: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    make_keys(keys, "daemon")
    make_keys(keys, "hall", ["chamber-9"])
    asked = {"daemon__keys": str(keys), "daemon__keyed": "all"}
    found = look(config, "keys", **asked)
    assert lights(found) == ["amber", "red"]
    assert "hall may send chamber-9" in found[0].found
    make_keys(keys, "west", ["chamber-*"])
    assert (
        lights(look(config, "keys", **asked)) == ["amber", "green"]
        or "west" in look(config, "keys", **asked)[-1].found
    )
    (keys / "daemon.secret").chmod(0o644)
    (found_now, *_) = look(config, "configuration", **asked)
    assert "open to others" in found_now.found


def test_users_that_can_sign_in_are_counted(config: Path, tmp_path: Path) -> None:
    assert lights(look(config, "users")) == ["amber"]
    add_user(tmp_path / "users.toml", "maria", "correct horse")
    (found,) = look(config, "users", web__users=str(tmp_path / "users.toml"))
    assert (found.light, found.found) == (Light.GREEN, "1 user with a password")


SYSTEMCTL = """#!{python}
import sys
if sys.argv[1] == "is-system-running":
    print("running")
else:
    print("Id=dqm.target\\nActiveState=active\\n")
    print("Id=dqm-west.service\\nActiveState={active}\\nSubState={sub}\\nResult={result}\\nNRestarts={restarts}")
    print("UnitFileState={file}")
    print("ExecStart={{ path=/opt/dqm/bin/dqm ; argv[]=/opt/dqm/bin/dqm run {config} ; ignore_errors=no }}")
"""


@pytest.mark.parametrize(
    ("state", "light", "said"),
    [
        ({}, "green", "dqm-west.service is active and enabled"),
        ({"restarts": "3"}, "green", "started again 3 times"),
        (
            {"active": "failed", "sub": "failed", "result": "watchdog"},
            "red",
            "failed (failed, result watchdog)",
        ),
        ({"file": "disabled"}, "amber", "does not start with the machine"),
        ({"config": "/etc/dqm/other.toml"}, "amber", "no unit runs"),
    ],
)
def test_the_unit_that_runs_it_is_looked_at(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, str],
    light: str,
    said: str,
) -> None:
    usual = {"active": "active", "sub": "running", "result": "success", "restarts": "0", "file": "enabled"}
    values = {**usual, "config": str(config), **state}
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable, **values))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (found,) = look(config, "systemd")
    assert found.light == light
    assert said in found.found


def test_a_store_of_another_version_is_red(config: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with (
        sqlite3.connect(config.parent / "data" / STORE_FILE) as store,
        sqlite3.connect(data / STORE_FILE) as copy,
    ):
        store.backup(copy)
        copy.execute("UPDATE dqm_schema SET version = 99")
    (data / STORE_FILE).chmod(0o600)
    (found,) = look(config, "store", daemon__data_dir=str(data))
    assert found.light is Light.RED
    assert "schema version 99" in found.found


def test_a_store_that_grows_without_end_is_told(config: Path) -> None:
    size = StoreSize(6, 1_000_000, 900_000, 0.0, 2_000_000_000)
    storage = Storage(size, days=7.0, kept_bytes=0.0, kept_ceiling=1e9, senders_ahead={})
    loaded = load_daemon(config, environ={})
    assert lights(list(look_at_storage(loaded, storage))) == ["green", "amber"]
    kept = loaded.model_copy(update={"keep": loaded.keep.model_copy(update={"verdict_days": 400.0})})
    assert lights(list(look_at_storage(kept, storage))) == ["green", "green"]
    assert lights(list(look_at_storage(loaded, replace(storage, days=0.0)))) == ["green", "green"]


@pytest.mark.parametrize(("activity", "light"), [("Silent", "red"), ("Running", "green"), ("Idle", "green")])
def test_a_stream_is_silent_if_the_daemon_says_so(config: Path, activity: str, light: str) -> None:
    loaded, now = load_daemon(config, environ={}), time.time()
    streams = [
        {"name": one.name, "activity": activity, "last": {"judged_at": now - 9000.0}}
        for one in loaded.streams
    ]
    overview = {"version": "0", "time": now, "streams": streams}
    found = list(look_at_daemon(loaded, Answers("http://x", {"status": "ok"}, overview), now))
    assert lights(found) == ["green", light]


def test_a_daemon_that_is_stuck_or_away_is_red(config: Path, tmp_path: Path) -> None:
    loaded = load_daemon(config, environ={})
    stuck = Answers("http://x", {"status": "stuck", "reason": "no progress for 90 s, at most 30 s allowed"})
    (first, *_) = look_at_daemon(loaded, stuck, time.time())
    assert first.light is Light.RED
    assert "no progress for 90 s" in first.found
    away = edited(
        config, tmp_path, (loaded.daemon.http, f"127.0.0.1:{free_port()}"), ("windows.ipc", "nobody.ipc")
    )
    assert lights(look(away, "daemon")) == ["red"]
    assert lights(look(away, "ports")) == ["red"]


def test_a_collector_is_looked_at_too(config: Path, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("a,b\n1,2\n")
    path = tmp_path / "collector.toml"
    address = load_daemon(config, environ={}).daemon.listen[0]
    path.write_text(
        f'[collector]\nname = "replay"\nconnect = "{address}"\nspool = "spool"\n[window]\nevents = 9\n'
        '[options]\ninputs = ["events.csv"]\n'
    )
    (tmp_path / "spool").mkdir(mode=0o700)
    assert lights(look(path, "daemon")) == ["green"]
    assert lights(look(path, "disk")) == ["green"]
    path.write_text(path.read_text().replace(address, f"tcp://127.0.0.1:{free_port()}"))
    assert lights(look(path, "daemon")) == ["red"]
