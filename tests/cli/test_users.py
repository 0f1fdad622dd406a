"""``dqm users``, and what the other commands say of users: never a password or its hash."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Told
from .program import ENVIRONMENT, PROGRAM

Dqm = Callable[..., Told]

DAEMON = """
[daemon]
http = "127.0.0.1:0"
[web]
users = "users.toml"
[[streams]]
name = "chamber-1"
bundle = "none"
"""


@pytest.fixture
def add(dqm: Dqm, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    def call(name: str, password: str, *options: object) -> Told:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\nmore\n"))
        return dqm("users", "add", name, *options)

    return call


def test_users_are_added_listed_and_removed(dqm: Dqm, add: Callable[..., Told], tmp_path: Path) -> None:
    told = add("maria", "correct horse")
    assert (told.code, told.out, told.err) == (0, "users.toml: maria added as expert\n", "")
    assert add("jo", "battery staple", "--role", "shifter").out == "users.toml: jo added as shifter\n"
    told = add("jo", "another one")
    assert told.out == "users.toml: jo has a new password, is signed out, and is shifter\n"
    assert dqm("users", "list").out == "jo shifter\nmaria expert\n"
    assert dqm("users", "role", "maria", "admin").out == "users.toml: maria is admin\n"
    told = dqm("users", "role", "anna", "admin")
    assert (told.code, "no user 'anna'" in told.err) == (2, True)
    assert dqm("users", "role", "maria", "root").code == 2
    assert dqm("users", "list").out == "jo shifter\nmaria admin\n"
    assert (tmp_path / "users.toml").stat().st_mode & 0o777 == 0o600
    assert "correct horse" not in (tmp_path / "users.toml").read_text()
    assert dqm("users", "remove", "jo").out == "users.toml: jo removed\n"
    assert dqm("users", "list").out == "maria admin\n"
    told = dqm("users", "remove", "jo")
    assert (told.code, "no user 'jo'" in told.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "password", "what"),
    [
        ("maria", "short", "a password must have 8 to 256 characters"),
        ("maria", "", "a password must have 8 to 256 characters"),
        ("ma:ria", "correct horse", "'ma:ria' is not a name"),
        ("", "correct horse", "'' is not a name"),
        ("x" * 65, "correct horse", "is not a name"),
    ],
)
def test_what_is_no_user_is_told(
    add: Callable[..., Told], tmp_path: Path, name: str, password: str, what: str
) -> None:
    told = add(name, password)
    assert (told.code, what in told.err) == (2, True)
    assert not (tmp_path / "users.toml").exists()


def test_a_password_is_asked_for_twice_and_never_shown(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "users", "add", "maria"],
        cwd=tmp_path, env=ENVIRONMENT, stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    shown = ""
    for prompt in ("New password of maria: ", "The same again: "):
        while prompt not in shown:
            shown += os.read(leader, 1000).decode()
        os.write(leader, b"correct horse\n")
    while "maria added" not in shown:
        shown += os.read(leader, 1000).decode()
    assert process.wait(60) == 0
    os.close(leader)
    assert "correct" not in shown


def test_a_password_mistyped_changes_nothing(
    dqm: Dqm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["correct horse", "correct hose"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    told = dqm("users", "add", "maria")
    assert (told.code, "the two passwords differ" in told.err) == (2, True)
    assert not (tmp_path / "users.toml").exists()


def test_a_file_that_cannot_be_used_is_a_mistake(dqm: Dqm, add: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "daemon.toml").write_text(DAEMON)
    told = dqm("check", "daemon.toml")
    assert "the file of users cannot be read: No such file" in told.err
    assert "dqm users add" in told.err
    add("maria", "correct horse")
    assert "users" not in dqm("check", "daemon.toml").err
    users = tmp_path / "users.toml"
    users.chmod(0o644)
    told = dqm("check", "daemon.toml")
    assert (told.code, "the file of users is open to others (mode 0644)" in told.err) == (1, True)
    users.chmod(0o600)
    users.write_text(users.read_text().replace("argon2id", "plain"))
    told = dqm("check", "daemon.toml")
    assert (told.code, "not a file of users" in told.err) == (1, True)
    assert "$v=19" not in told.err


def test_a_provider_that_cannot_be_used_is_a_mistake(dqm: Dqm, tmp_path: Path) -> None:
    provider = (
        '[web.oidc]\nissuer = "https://sso.example"\nclient_id = "dqm"\nclient_secret = "oidc-secret"\n'
    )
    text = DAEMON.replace('[web]\nusers = "users.toml"\n', provider)
    (tmp_path / "daemon.toml").write_text(text)
    secret = tmp_path / "oidc-secret"
    told = dqm("check", "daemon.toml")
    assert (told.code, "the secret of [web.oidc] cannot be read: No such file" in told.err) == (1, True)
    secret.write_text("the client's secret")
    secret.chmod(0o644)
    told = dqm("check", "daemon.toml")
    assert "the secret of [web.oidc] is open to others (mode 0644)" in told.err
    secret.chmod(0o600)
    assert "oidc" not in dqm("check", "daemon.toml").err
    secret.write_text("two\nlines")
    assert "must be one line of text" in dqm("check", "daemon.toml").err
    (tmp_path / "daemon.toml").write_text(text.replace("https://", "http://"))
    told = dqm("check", "daemon.toml")
    assert (told.code, "web.oidc.issuer: 'http://sso.example' is not https" in told.err) == (1, True)
    (tmp_path / "daemon.toml").write_text(
        text.replace("[web.oidc]", '[web]\nproxies = ["0.0.0.0/0"]\n[web.oidc]')
    )
    told = dqm("check", "daemon.toml")
    assert "web.proxies[0]: 0.0.0.0/0 has 4294967296 addresses" in told.err


@pytest.mark.parametrize("http", ["0.0.0.0:8787", "[::]:8787", "192.0.2.7:8787", "monitor:8787"])
@pytest.mark.parametrize("command", ["check", "run"])
def test_other_hosts_are_let_in_with_users_alone(dqm: Dqm, tmp_path: Path, http: str, command: str) -> None:
    (tmp_path / "daemon.toml").write_text(DAEMON.replace('users = "users.toml"', ""))
    told = dqm(command, "daemon.toml", "--set", f"daemon.http={http}")
    assert told.code == (1 if command == "check" else 2)
    assert f"daemon.http: '{http}' can be reached from other hosts: web.users must name a file" in told.err
    assert "or listen at 127.0.0.1 or [::1]" in told.err
