"""A real daemon with every kind of secret: none is in its log, metrics, pages, store or command line."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dqm.config import Role
from dqm.store import STORE_FILE
from dqm.stream import Sender, SenderKeys, make_keys, read_public, read_secret
from dqm.web import add_user, set_role
from tests.export.grafana_server import TOKEN, FakeGrafana, serve
from tests.service.small import N_WINDOW, faulty_events, window_of
from tests.waiting import get, wait_until

from .program import logged
from .test_online import Running, daemon_of

OIDC_SECRET = "secret of the daemon at the provider"  # noqa: S105 - of a test
USER, PASSWORD, TYPO, MISPLACED = "maria", "correct horse", "corect horse", "battery staple"
PAGES = (
    "/", "/alarms", "/alarms?show=all", "/alarms/chamber-1/differs", "/masks", "/streams/chamber-1",
    "/windows/chamber-1/7/0", "/help", "/login", "/nothing", "/healthz", "/metrics", "/api/v1/overview",
    "/api/v1/alarms", "/api/v1/alarms/history", "/api/v1/masks", "/api/v1/openapi.json",
    "/api/v1/streams/chamber-1/windows/7/0",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A daemon, and the directory with its configuration, keys, users and token."""

    folder: Path
    grafana: FakeGrafana
    running: Running

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ready['http'].rpartition(':')[2]}"

    @property
    def ready(self) -> dict[str, Any]:
        found = logged(self.running.log, "ready")
        assert found is not None
        return found

    @property
    def secrets(self) -> dict[str, str]:
        hashed = (self.folder / "users.toml").read_text().split('"')[3]
        return {
            "password": PASSWORD, "mistyped password": TYPO, "password in the field of the name": MISPLACED,
            "hash": hashed, "end of the hash": hashed.rsplit("$")[-1], "kind of hash": "argon2",
            "Basic": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
            "key of the daemon": read_secret(self.folder / "keys" / "daemon.secret").secret,
            "key of the collector": read_secret(self.folder / "west.secret").secret, "token": TOKEN,
            "secret at the provider": OIDC_SECRET,
        }  # fmt: skip

    def find(self, text: str) -> list[str]:
        """Names of the secrets that a text holds."""
        return [name for name, secret in self.secrets.items() if secret in text]

    def send_faults(self) -> None:
        """Raise an alarm, with the collector's key."""
        daemon = read_public(self.folder / "keys" / "daemon.public")
        keys = SenderKeys(read_secret(self.folder / "west.secret"), daemon)
        with Sender(self.ready["listen"][0], keys=keys) as sender:
            for seq in range(3):
                sender.send(window_of(faulty_events(N_WINDOW, seq), seq=seq))
            assert sender.flush(120.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("secrets")
    make_keys(folder / "keys", "daemon")
    make_keys(folder, "west", ["chamber-1"])
    (folder / "west.public").rename(folder / "keys" / "west.public")
    add_user(folder / "users.toml", USER, PASSWORD)
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "oidc-secret").touch(mode=0o600)
    (folder / "oidc-secret").write_text(OIDC_SECRET)
    with serve(FakeGrafana()) as grafana:
        config = folder / "daemon.toml"
        config.write_text(
            f'[daemon]\nlisten = ["tcp://127.0.0.1:0"]\nkeys = "keys"\nkeyed = "all"\n'
            f'http = "[::]:0"\nworkers = 1\n'
            f'[web]\nusers = "users.toml"\nproxy_header = "X-Remote-User"\nproxies = ["10.1.2.3"]\n'
            '[web.oidc]\nissuer = "http://localhost:1"\nclient_id = "dqm"\nclient_secret = "oidc-secret"\n'
            f'[grafana]\nurl = "{grafana.url}"\ntoken_file = "token"\n'
            f'[[streams]]\nname = "chamber-1"\nbundle = "{bundle}"\n'
        )
        with daemon_of(config) as running:
            yield Place(folder, grafana, running)
            assert running.end() == 0


def fields(client: httpx.Client, path: str, **fields: str) -> dict[str, str]:
    found = re.search(r'name="token" value="([^"]+)"', client.get(path).text)
    assert found
    return {"token": found[1], **fields}


def sign_in_and_act(client: httpx.Client) -> str:
    """Sign in wrongly and rightly, by form and by Basic, and acknowledge; gives the session's cookie."""
    for name, password in [(USER, TYPO), (MISPLACED, TYPO)]:
        form = fields(client, "/login", user=name, password=password)
        assert client.post("/login", data=form).status_code == 401
    assert client.get("/api/v1/overview", auth=(USER, TYPO)).status_code == 401
    form = fields(client, "/login", user=USER, password=PASSWORD)
    assert client.post("/login", data=form).status_code == 303
    path = "/alarms/chamber-1/differs/acknowledge"
    assert client.post(path, data=fields(client, "/masks", comment="HV trips")).status_code == 303
    told = client.post(f"/api/v1{path}", json={"comment": "ramping"}, auth=(USER, PASSWORD))
    assert told.json()["acknowledged"]["user"] == USER
    told = client.post(f"/api/v1{path}", json={"password": PASSWORD}, auth=(USER, PASSWORD))
    assert told.status_code == 422
    return client.cookies["dqm_session"]


def test_a_daemon_runs_without_its_provider_and_says_so(place: Place) -> None:
    answer = get(f"{place.url}/login/provider?next=/masks", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "Single sign-on does not answer" in answer.text
    assert 'name="password"' in answer.text
    told = logged(place.running.log, "the provider of OpenID Connect cannot be used")
    assert told is not None
    assert told["issuer"] == "http://localhost:1"


def command_lines(pid: int) -> list[str]:
    """Command line of a process and of all below it, as `ps` shows them."""
    found = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += command_lines(int(child))
    return found


def test_a_local_process_that_claims_to_be_the_proxy_changes_nothing(place: Place) -> None:
    lie = {"X-Remote-User": "anna", "X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "https"}
    mask = {"reason": "x", "streams": "*"}
    answer = httpx.post(f"{place.url}/api/v1/masks", json=mask, headers=lie, trust_env=False)
    assert answer.status_code == 401
    assert get(f"{place.url}/api/v1/masks").json()["masks"] == []


def test_passwords_that_cross_the_network_are_warned_of(place: Place) -> None:
    told = logged(place.running.log, "passwords are sent over the network in clear text")
    assert told is not None
    assert "reverse proxy" in told["fix"]


def test_secrets_never_reach_log_metrics_pages_store_or_ps(place: Place) -> None:
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    place.send_faults()
    set_role(place.folder / "users.toml", USER, Role.SHIFTER)
    with httpx.Client(base_url=place.url, headers=headers, trust_env=False, timeout=60.0) as client:
        session = sign_in_and_act(client)
        wait_until(lambda: bool(place.grafana.annotations), "the alarm is annotated")
        pages = {path: client.get(path).text for path in PAGES}
    processes = command_lines(place.running.process.pid)
    log = place.running.log.read_text()
    for name, text in {**pages, "log": log, "ps": "\n".join(processes)}.items():
        assert place.find(text) == [], name
        assert session not in text, name
    assert "<b>maria</b>" in pages["/masks"]  # they were those of somebody signed in
    assert 'dqm_sign_ins_total{outcome="accepted"} 1.0' in pages["/metrics"]
    assert 'dqm_sign_ins_total{outcome="refused"} 3.0' in pages["/metrics"]
    assert log.count("sign-in refused") == 3
    assert len(processes) >= 2
    assert "daemon.toml" in processes[0]
    written = b"".join(path.read_bytes() for path in place.folder.glob(f"data/{STORE_FILE}*"))
    assert place.find(written.decode(errors="replace")) == []
    with closing(sqlite3.connect(place.folder / "data" / STORE_FILE)) as connection:
        rows = connection.execute("SELECT user, action, target, comment FROM audit ORDER BY id").fetchall()
    assert rows == [
        ("", "set role", f"{USER} (shifter)", "in the file of users"),
        (USER, "sign-in", "127.0.0.1", ""), (USER, "acknowledge", "chamber-1 differs", "HV trips"),
        (USER, "acknowledge", "chamber-1 differs", "ramping"),
    ]  # fmt: skip
