"""Who may write the files of daemons and collectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.config import check_writers, make_private_directory, make_private_file, replacing
from dqm.errors import ConfigError
from dqm.store import STORE_FILE, VerdictStore, WindowKeeper, sqlite_url
from dqm.store.backup import back_up, restore
from dqm.stream import Spool
from tests.verdicts import alter


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in sorted(folder.rglob("*"))
    }


@pytest.mark.usefixtures("umask")
def test_everything_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    from tests.store.test_verdict_store import FULL
    from tests.store.test_window_keeper import WINDOW

    data = tmp_path / "var" / "data"
    make_private_directory(data)
    with VerdictStore(sqlite_url(data / STORE_FILE)) as store:
        store.append(alter(FULL, seq=0))
        WindowKeeper(data / "windows", 10**6).keep(WINDOW, FULL)
        back_up(data / STORE_FILE, data / "copy")
        restore(data / "copy", tmp_path / "new" / STORE_FILE)
        with Spool(tmp_path / "spool"):
            found = modes(tmp_path)
    assert {f"var/data/{STORE_FILE}{end}" for end in ("", "-wal", "-shm")} <= found.keys()
    assert "var/data/windows/chamber-1/7-3.parquet" in found
    for name, mode in found.items():
        assert mode == (0o700 if (tmp_path / name).is_dir() else 0o600), name


@pytest.mark.parametrize("mode", [0o720, 0o770, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    for use in (make_private_directory, lambda path: WindowKeeper(path, 1), Spool):
        with pytest.raises(
            ConfigError, match=rf"{path}: others may write to it \(mode {mode:04o}\).*chmod go-w"
        ):
            use(path)
    path.chmod(0o755)
    make_private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o755, "readable stays readable"


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_store_that_others_may_write_is_refused(tmp_path: Path, end: str) -> None:
    path = tmp_path / STORE_FILE
    with VerdictStore(sqlite_url(path)):
        Path(f"{path}{end}").chmod(0o660)
        with pytest.raises(ConfigError, match="others may write"):
            VerdictStore(sqlite_url(path))


def test_a_directory_above_that_everybody_may_write_needs_its_sticky_bit(tmp_path: Path) -> None:
    above = tmp_path / "shared"
    make_private_directory(above / "data")
    above.chmod(0o777)
    with pytest.raises(ConfigError, match=rf"{above}: others may write.*chmod o-w"):
        check_writers(above / "data")
    above.chmod(0o1777)
    check_writers(above / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.mkdir()
    os.chown(path, 4242, 4242)
    check_writers(path)  # root works in the directories of the daemon
    monkeypatch.setattr("os.geteuid", lambda: 4243)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid 4242, this is 4243\)"):
        check_writers(path)


def test_a_file_is_not_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="No such file"):
        make_private_file(tmp_path / "link")
    assert not (tmp_path / "target").exists()


def test_a_file_is_complete_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError), replacing(path) as scratch:  # noqa: PT012
        scratch.write_text("half")
        raise RuntimeError
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]
    with replacing(path) as scratch:
        scratch.write_text("after")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["after"]


def test_a_file_is_not_written_through_a_link_that_somebody_planted(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    for name in (f".report.html.{os.getpid()}.tmp", "report.html"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "report.html") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "precious").read_text() == "as it was"
    assert (tmp_path / "report.html").read_text() == "new"
    assert not (tmp_path / "report.html").is_symlink()


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "directory", "link"):
        with pytest.raises(OSError, match="is not a file"), replacing(tmp_path / name):
            pytest.fail("nothing may be computed for it")
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "link").is_symlink()
