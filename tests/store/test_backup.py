"""A store copied while it is written to, and put back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dqm.errors import ConfigError, StoreError
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.store.backup import back_up, compact, restore
from tests.verdicts import alter

from .test_verdict_store import FULL

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """File of a store with ten verdicts."""
    path = tmp_path / "data" / STORE_FILE
    path.parent.mkdir()
    with VerdictStore(sqlite_url(path)) as store:
        for seq in range(10):
            store.append(alter(FULL, seq=seq))
    return path


@contextmanager
def written_to(url: str) -> Iterator[Callable[[], int]]:
    """A store that one verdict after the other goes into; gives how many are there for certain."""
    acknowledged, stop = [9], threading.Event()

    def write() -> None:
        with VerdictStore(url) as store:
            while not stop.is_set():
                store.append(alter(FULL, seq=acknowledged[-1] + 1))
                acknowledged.append(acknowledged[-1] + 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: acknowledged[-1]
    finally:
        stop.set()
        thread.join()


def numbers(path: Path) -> list[int]:
    with VerdictStore(sqlite_url(path), create=False) as store:
        return [verdict.window.seq for verdict in store.select()]


def wait_for(count: Callable[[], int], more: int) -> int:
    goal = count() + more
    while count() < goal:
        pass
    return count()


def test_a_copy_of_a_store_under_writes_has_all_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy-{k}" for k in range(3)]
    with written_to(sqlite_url(path)) as count:
        for copy in copies:
            before = wait_for(count, 20)
            assert back_up(path, copy) >= before + 1
            wait_for(count, 20)
    for copy in copies:
        shutil.move(copy, tmp_path / "alone.sqlite")  # nothing else belongs to it
        found = numbers(tmp_path / "alone.sqlite")
        assert found == list(range(len(found)))
    assert len(found) < len(numbers(path)), "the writer went on"


def test_what_is_restored_opens_and_goes_on(path: Path, tmp_path: Path) -> None:
    assert back_up(path, tmp_path / "copy") == 10
    elsewhere = tmp_path / "new" / STORE_FILE
    assert restore(tmp_path / "copy", elsewhere) is None
    with VerdictStore(sqlite_url(elsewhere)) as store:
        assert store.append(alter(FULL, seq=9)) is False
        assert store.append(alter(FULL, seq=10)) is True
    assert numbers(elsewhere) == list(range(11))
    assert numbers(path) == list(range(10))
    assert not list(tmp_path.glob("**/.*"))


def test_a_store_that_is_there_is_moved_aside_only_when_asked(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    with VerdictStore(sqlite_url(path)) as store:
        store.append(alter(FULL, seq=10))
    with pytest.raises(StoreError, match=r"verdicts\.sqlite: already exists\..*--replace"):
        restore(tmp_path / "copy", path)
    assert numbers(path) == list(range(11))
    aside = restore(tmp_path / "copy", path, replace=True)
    assert aside is not None
    assert numbers(path) == list(range(10))
    assert numbers(aside.rename(tmp_path / "aside.sqlite")) == list(range(11))


def test_a_store_in_use_is_not_replaced(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    with VerdictStore(sqlite_url(path)) as store:
        assert store.find("chamber-1", FULL.window.run, 9)
        with pytest.raises(StoreError, match=r"is in use\. Stop the daemon"):
            restore(tmp_path / "copy", path, replace=True)
        assert store.append(alter(FULL, seq=10))
    restore(tmp_path / "copy", path, replace=True)


def test_a_damaged_store_is_replaced_and_its_log_is_not_played_into_the_copy(
    path: Path, tmp_path: Path
) -> None:
    back_up(path, tmp_path / "copy")
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 4096 + content[4096:])
    Path(f"{path}-wal").write_bytes(b"\xee" * 5000)
    restore(tmp_path / "copy", path, replace=True)
    assert numbers(path) == list(range(10))
    assert len(list(path.parent.glob(f"{STORE_FILE}.before-*"))) >= 1


def test_a_copy_that_is_damaged_or_none_is_refused(path: Path, tmp_path: Path) -> None:
    copy, target = tmp_path / "copy", tmp_path / "new.sqlite"
    with pytest.raises(StoreError, match="no such file"):
        restore(copy, target)
    back_up(path, copy)
    with pytest.raises(StoreError, match=r"copy: already exists"):
        back_up(path, copy)
    content = bytearray(copy.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    copy.write_bytes(content)
    with pytest.raises(StoreError, match=r"copy: (damaged|.*malformed)"):
        restore(copy, target)
    copy.write_text("no store at all, but long enough to look like a file" * 100)
    with pytest.raises(StoreError, match="not a database"):
        restore(copy, target)
    copy.unlink()
    sqlite3.connect(copy).executescript("CREATE TABLE other (x)").close()
    with pytest.raises(StoreError, match="has no verdicts"):
        restore(copy, target)
    assert not target.exists()


@pytest.mark.parametrize("version", [1, 2])
def test_a_copy_of_an_earlier_version_is_brought_up_to_date_when_it_is_opened(
    tmp_path: Path, version: int
) -> None:
    connection = sqlite3.connect(tmp_path / "copy")
    connection.executescript((SCHEMAS / f"version-{version}.sql").read_text()).close()
    connection.close()
    restore(tmp_path / "copy", tmp_path / "new.sqlite")
    with VerdictStore(sqlite_url(tmp_path / "new.sqlite")) as store:
        assert len(list(store.select())) == 1


def test_a_copy_of_a_later_version_is_refused(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy") as connection:
        connection.execute("UPDATE dqm_schema SET version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"schema version 99.*Use the version of dqm that wrote it"):
        restore(tmp_path / "copy", tmp_path / "new.sqlite")


def test_a_file_of_an_earlier_version_becomes_compact_under_writes_and_can_shrink_from_then_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / STORE_FILE
    connection = sqlite3.connect(path)
    connection.executescript((SCHEMAS / "version-2.sql").read_text()).close()
    connection.close()
    with VerdictStore(sqlite_url(path)) as store:
        fill_and_prune(store)
        assert store.database.shrink(1000) == 0, "such a file cannot"
        with written_to(sqlite_url(path)) as count:
            wait_for(count, 5)
            before, after = compact(path)
            wait_for(count, 5)
        assert after < 0.5 * before, "what is written meanwhile counts, too"
        n_pages = fill_and_prune(store)
        assert n_pages > 200, "what was open meanwhile knows"
    assert max(numbers(path)) == count()


def fill_and_prune(store: VerdictStore) -> int:
    """Store many verdicts and let them go; gives the pages that went with them."""
    with store.database.transaction():
        for seq in range(10_000, 11_000):
            store.append(alter(FULL, seq=seq, judged_at=1.0, reason="x" * 2000))
    while store.prune(before=2.0, limit=500):
        pass
    return sum(store.database.shrink(100) for _ in range(10))


def test_postgresql_is_copied_by_its_own_programs(postgres: Callable[[], str], tmp_path: Path) -> None:
    """The commands of docs/reliability.md."""
    here, there = (url.replace("+psycopg", "") for url in (postgres(), postgres()))
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    with VerdictStore(here.replace("postgresql:", "postgresql+psycopg:")) as store:
        for seq in range(10):
            store.append(alter(FULL, seq=seq))
    with written_to(here.replace("postgresql:", "postgresql+psycopg:")) as count:
        before = wait_for(count, 20)
        dump = [programs / "pg_dump", "--format=custom", f"--file={tmp_path / 'copy'}", here]
        subprocess.run(dump, check=True, capture_output=True)
    back = [programs / "pg_restore", "--exit-on-error", f"--dbname={there}", tmp_path / "copy"]
    subprocess.run(back, check=True, capture_output=True)
    with VerdictStore(there.replace("postgresql:", "postgresql+psycopg:")) as store:
        found = [verdict.window.seq for verdict in store.select()]
        assert found == list(range(len(found)))
        assert len(found) > before
        assert store.append(alter(FULL, seq=len(found))) is True


def test_a_copy_never_goes_onto_the_store(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    hard, soft = path.with_name("hard"), tmp_path / "soft"
    hard.hardlink_to(path)
    soft.symlink_to(path.parent)
    with VerdictStore(sqlite_url(path)):  # with its log
        names = [path, Path(STORE_FILE), Path(f"./{STORE_FILE}"), hard, soft / STORE_FILE]
        names += [Path(f"{path}-wal"), soft / f"{STORE_FILE}-shm"]
        for target in names:
            with pytest.raises(StoreError, match="is the store itself"):
                back_up(path, target, replace=True)
    with pytest.raises(StoreError, match="belongs to the store"):
        back_up(path, Path(f"{path}-wal"))
    with pytest.raises(StoreError, match="is the store itself"):
        restore(hard, path, replace=True)
    assert numbers(path) == list(range(10))


def test_a_copy_follows_no_link(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    for target in (precious, tmp_path / "nowhere"):
        link = tmp_path / "copy"
        link.symlink_to(target)
        for replace in (False, True):
            with pytest.raises(StoreError, match=r"copy: is a symbolic link"):
                back_up(path, link, replace=replace)
        link.unlink()
    (tmp_path / ".copy.tmp").symlink_to(precious)  # where others can guess the name of a half-written file
    back_up(path, tmp_path / "copy")
    assert precious.read_text() == "keep"
    assert not (tmp_path / "nowhere").exists()


def test_a_store_in_use_is_not_the_place_of_a_copy(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with VerdictStore(sqlite_url(other)) as store:
        store.append(alter(FULL, seq=77))
        with pytest.raises(StoreError, match=r"other\.sqlite: is in use"):
            back_up(path, other, replace=True)
    assert numbers(other) == [77]
    with pytest.raises(StoreError, match="is not a file"):
        back_up(path, tmp_path, replace=True)


def test_what_others_may_write_is_no_place_for_a_copy_and_none_to_restore(path: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        back_up(path, shared / "copy")
    back_up(path, tmp_path / "copy")
    (tmp_path / "copy").chmod(0o666)
    with pytest.raises(ConfigError, match="others may write"):
        restore(tmp_path / "copy", tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()
