"""``dqm keys new``, and what the other commands say of keys: never the secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Told

Dqm = Callable[..., Told]

DAEMON = """
[daemon]
listen = ["tcp://127.0.0.1:0"]
keys = "keys"
keyed = "all"
[[streams]]
name = "chamber-1"
bundle = "none"
"""
COLLECTOR = """
[collector]
name = "simulate"
connect = "tcp://10.255.255.1:1"
key = "keys/west.secret"
daemon_key = "keys/daemon.public"
[window]
events = 10
"""


@pytest.fixture
def keys(dqm: Dqm, tmp_path: Path) -> Path:
    for command in (("daemon",), ("west", "--stream", "chamber-1")):
        assert dqm("keys", "new", *command, "--dir", "keys").code == 0
    (tmp_path / "daemon.toml").write_text(DAEMON)
    (tmp_path / "collector.toml").write_text(COLLECTOR)
    return tmp_path / "keys"


def secret_of(path: Path) -> str:
    return path.read_text().split('"')[3]


def test_a_new_key_says_where_its_files_go(dqm: Dqm, tmp_path: Path) -> None:
    told = dqm("keys", "new", "daemon")
    assert (told.code, told.err) == (0, "")
    assert "daemon.public: goes to every collector" in told.out
    assert secret_of(tmp_path / "daemon.secret") not in told.out
    assert "may not send anything yet" in dqm("keys", "new", "west").out
    assert "may not send" not in dqm("keys", "new", "east", "--stream", "gas-*").out
    again = dqm("keys", "new", "west")
    assert (again.code, "a key of this name already exists" in again.err) == (2, True)


@pytest.mark.parametrize("config", ["daemon.toml", "collector.toml"])
def test_sound_keys_pass_the_check(dqm: Dqm, keys: Path, config: str) -> None:
    told = dqm("check", config)
    assert "the secret key" not in told.err
    assert ".secret" not in told.err
    assert secret_of(keys / "daemon.secret") not in told.out + told.err


@pytest.mark.parametrize(
    ("config", "name", "commands"),
    [("daemon.toml", "daemon.secret", ["check"]), ("collector.toml", "west.secret", ["check", "collect"])],
)
def test_a_secret_open_to_others_is_a_mistake(
    dqm: Dqm, keys: Path, config: str, name: str, commands: list[str]
) -> None:
    (keys / name).chmod(0o644)
    for command in commands:
        told = dqm(command, config)
        assert told.code > 0
        assert "the secret key is open to others" in told.err
        assert secret_of(keys / name) not in told.out + told.err


@pytest.mark.parametrize("config", ["daemon.toml", "collector.toml"])
def test_a_broken_key_is_a_mistake_and_is_not_shown(dqm: Dqm, keys: Path, config: str) -> None:
    for path in keys.glob("*.secret"):
        path.write_text(path.read_text()[:-4])
    told = dqm("check", config)
    assert told.code == 1
    assert "not a secret key" in told.err
    for path in keys.glob("*.secret"):
        assert secret_of(path)[:12] not in told.err
