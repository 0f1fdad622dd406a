"""The file of users: what is in it, who may read it, and that it is read again."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dqm.config import Role
from dqm.errors import ConfigError, InputError
from dqm.web import UserFile, add_user, remove_user, set_role
from tests.world import CHEAP


@pytest.fixture
def path(tmp_path: Path) -> Path:
    add_user(tmp_path / "users.toml", "maria", "correct horse", CHEAP)
    return tmp_path / "users.toml"


def test_a_password_is_known_by_its_hash_alone(path: Path) -> None:
    users = UserFile(path, CHEAP)
    assert users.verify("maria", "correct horse") == users.find("maria")
    for name, password in [("maria", "correct hors"), ("maria", ""), ("jo", "correct horse"), ("", "")]:
        assert users.verify(name, password) is None
    assert "correct" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_hash_is_costly_unless_asked_otherwise(tmp_path: Path) -> None:
    add_user(tmp_path / "users.toml", "maria", "correct horse")
    assert "$argon2id$v=19$m=65536,t=3,p=1$" in (tmp_path / "users.toml").read_text()


def test_a_name_that_is_not_known_costs_as_much_as_a_known_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = UserFile(path, CHEAP)
    verified: list[str] = []
    monkeypatch.setattr(type(CHEAP), "verify", lambda _self, hashed, _password: verified.append(hashed))
    users.verify("jo", "correct horse")
    users.verify("maria", "correct horse")
    parameters = [hashed.rsplit("$", 2)[0] for hashed in verified]
    assert parameters[0] == parameters[1]


def test_one_password_is_one_however_the_keyboard_writes_it(path: Path) -> None:
    add_user(path, "Zo\u00eb", "na\u00efvet\u00e9!", CHEAP)
    assert UserFile(path, CHEAP).verify("Zo\u00eb", "nai\u0308vete\u0301!")
    assert not add_user(path, "Zoe\u0308", "another one", CHEAP)


def test_changes_of_the_file_count_at_once(path: Path) -> None:
    users = UserFile(path, CHEAP)
    before = users.find("maria")
    add_user(path, "maria", "another one", CHEAP)
    assert users.find("maria") not in (before, None)
    assert users.verify("maria", "correct horse") is None
    add_user(path, "jo", "battery staple", CHEAP)
    remove_user(path, "maria")
    assert (users.find("maria"), users.names) == (None, ("jo",))


def test_users_of_a_file_without_roles_are_experts_as_they_were(path: Path) -> None:
    hashed = UserFile(path, CHEAP).find("maria")
    path.write_text(f'[users]\n"maria" = "{hashed}"\n')
    assert UserFile(path, CHEAP).role("maria") is Role.EXPERT
    add_user(path, "jo", "battery staple", CHEAP, Role.VIEWER)
    users = UserFile(path, CHEAP)
    assert [users.role(name) for name in ("jo", "maria", "anna")] == [Role.VIEWER, Role.EXPERT, None]
    assert users.verify("maria", "correct horse") == hashed
    assert '"maria" = "expert"' in path.read_text()  # written by the first change


def test_a_new_password_leaves_the_role_as_it_is(path: Path) -> None:
    set_role(path, "maria", Role.SHIFTER)
    add_user(path, "maria", "another one", CHEAP)
    assert UserFile(path, CHEAP).role("maria") is Role.SHIFTER
    add_user(path, "maria", "another one", CHEAP, Role.ADMIN)
    assert UserFile(path, CHEAP).role("maria") is Role.ADMIN
    with pytest.raises(InputError, match=r"no user 'jo'\. Known: maria"):
        set_role(path, "jo", Role.VIEWER)


@pytest.mark.parametrize(
    ("roles", "what"),
    [
        ('"mraia" = "viewer"', "a role for 'mraia', who is not a user"),
        ('"maria" = "root"', "not a file of users"),
    ],
)
def test_a_role_that_reaches_nobody_is_refused(path: Path, roles: str, what: str) -> None:
    path.write_text(path.read_text().partition("[roles]")[0] + f"[roles]\n{roles}\n")
    with pytest.raises(ConfigError, match=what) as error:
        UserFile(path, CHEAP)
    assert "argon2" not in str(error.value)


def test_changes_of_the_file_are_told_once_and_without_hashes(path: Path) -> None:
    told: list[tuple[str, str]] = []
    users = UserFile(path, CHEAP, lambda action, user: told.append((action, user)))
    assert users.find("maria")
    assert told == []
    set_role(path, "maria", Role.SHIFTER)
    add_user(path, "jo", "battery staple", CHEAP, Role.ADMIN)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(users.find, ["maria"] * 40))
    add_user(path, "maria", "another one", CHEAP)
    remove_user(path, "jo")
    path.chmod(0o644)
    assert users.find("maria") is None  # not one who was removed
    path.chmod(0o600)
    assert users.find("maria")
    assert told == [
        ("add user", "jo (admin)"), ("set role", "maria (shifter)"),
        ("remove user", "jo"), ("set password", "maria"),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["open", "gone", "broken"])
def test_a_file_that_has_become_unusable_lets_nobody_in_until_it_is_mended(path: Path, fault: str) -> None:
    users = UserFile(path, CHEAP)
    content = path.read_text()
    if fault == "open":
        path.chmod(0o644)
    elif fault == "gone":
        path.unlink()
    else:
        path.write_text(content + "[")
    with capture_logs() as logs:
        assert [users.find("maria"), users.verify("maria", "correct horse")] == [None, None]
    assert [entry["event"] for entry in logs] == [
        "nobody may sign in: the file of users cannot be used"
    ]  # once, not at each request
    assert "argon2" not in str(logs)
    with pytest.raises(ConfigError):
        users.reload()
    path.write_text(content)
    path.chmod(0o600)
    assert users.verify("maria", "correct horse")


def test_users_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "users.toml"
    names = [f"user-{n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: add_user(path, name, "correct horse", CHEAP), names))
    assert UserFile(path).names == tuple(sorted(names))
    assert os.listdir(tmp_path) == ["users.toml"]  # noqa: PTH208 - with hidden files


def test_what_cannot_be_is_refused_and_the_password_is_not_told(path: Path, tmp_path: Path) -> None:
    for name, password in [
        ("a b", "correct horse"),
        ('"', "correct horse"),
        ("a\n", "correct horse"),
        ("jo", "horse"),
    ]:
        with pytest.raises(InputError) as error:
            add_user(path, name, password, CHEAP)
        assert "horse" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        add_user(tmp_path / "none" / "users.toml", "jo", "correct horse", CHEAP)
    with pytest.raises(ConfigError, match="cannot be read"):
        remove_user(tmp_path / "other.toml", "jo")
    with pytest.raises(InputError, match=r"no user 'jo'\. Known: maria"):
        remove_user(path, "jo")
    assert UserFile(path, CHEAP).verify("maria", "correct horse")


def test_users_are_not_written_through_a_link_that_somebody_planted(path: Path) -> None:
    precious = path.with_name("precious")
    precious.write_text("as it was")
    path.with_name(f".{path.name}.new").symlink_to(precious)
    add_user(path, "kim", "correct horse", CHEAP)
    assert precious.read_text() == "as it was"
    assert "kim" in path.read_text()
