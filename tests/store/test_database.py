from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from dqm.errors import StoreError
from dqm.events import Quality
from dqm.store import AlarmStore, Database, RunStore, VerdictStore, sqlite_url
from dqm.store.database import Prepared
from dqm.store.schema import alarm_states
from tests.verdicts import alter

SCHEMAS = Path(__file__).parent / "schemas"


def write(path: Path, schema: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript((SCHEMAS / f"{schema}.sql").read_text())
    connection.close()


def layout(path: Path) -> dict[str, object]:
    """Columns, with type, and indexes of every table."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        name: (
            {(row[1], row[3]) for row in connection.execute(f"PRAGMA table_info({name})")},
            {row[1] for row in connection.execute(f"PRAGMA index_list({name})")},
        )
        for name in tables
    }
    connection.close()
    return found


@pytest.mark.parametrize(
    "schema", ["version-1", "version-2", "version-3", "version-4", "version-5", "version-6", "version-7"]
)
def test_a_store_of_every_earlier_version_is_brought_up_to_date(tmp_path: Path, schema: str) -> None:
    # and the present one is what it was when it was first written
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    write(old, schema)
    with VerdictStore(sqlite_url(old)) as store:
        (verdict,) = store.select()
        assert verdict.quality is Quality.BAD
        assert verdict.result.p == 3e-4
        assert verdict.window.conditions == {}
        assert (len(verdict.result.nuisances), len(verdict.result.remarks)) == (
            (0, 0) if schema == "version-1" else (1, 1)
        )
        (summary,) = store.summaries.select("chamber-1")
        assert (summary.run, summary.n_bad, summary.n_z) == (7, 1, 1)
        assert store.append(verdict) is False
        for record in RunStore(store.database).recent(1):
            assert (record.began_at, record.ended_at) == (1.69e9, 1.69e9 + 60.5)
            assert record.resumed_at == (None if schema == "version-4" else 1.69e9 + 30.25)
    VerdictStore(sqlite_url(new)).close()
    assert layout(old) == layout(new)
    VerdictStore(sqlite_url(old), create=False).close()


@pytest.mark.parametrize(
    "schema", ["version-1", "version-2", "version-3", "version-4", "version-5", "version-6", "version-7"]
)
def test_so_is_one_in_postgresql(postgres: Callable[[], str], schema: str) -> None:
    url = postgres()
    script = (SCHEMAS / f"{schema}.sql").read_text()
    for ours, theirs in [
        ("DOUBLE", "DOUBLE PRECISION"),
        ("id INTEGER NOT NULL", "id BIGSERIAL NOT NULL"),
        ("\tuser ", '\t"user" '),
        ("BEGIN TRANSACTION;", ""),
        ("COMMIT;", ""),
    ]:
        script = script.replace(ours, theirs)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(script.replace("%", "%%"))
        connection.exec_driver_sql("SELECT setval('verdicts_id_seq', 10)")
    engine.dispose()
    with VerdictStore(url) as store:
        (verdict,) = store.select()
        assert verdict.result.p == 3e-4
        assert store.append(alter(verdict, seq=99, conditions={"hv": 1200.0}))
        (summary,) = store.summaries.select("chamber-1")
        assert summary.n_windows == 2
        assert store.latest()[0].window.conditions == {"hv": 1200.0}


def test_who_only_reads_leaves_an_earlier_store_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    write(path, "version-2")
    before = layout(path)
    with pytest.raises(StoreError, match=r"schema version 2.*Start the daemon of this version once"):
        VerdictStore(sqlite_url(path), create=False)
    assert layout(path) == before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    write(path, "version-1")
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE verdicts ADD COLUMN conditions TEXT")  # in the way of the last step
    connection.commit()
    connection.close()
    before = layout(path)
    with pytest.raises(StoreError, match="duplicate column"):
        VerdictStore(sqlite_url(path))
    assert layout(path) == before


def count(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM audit").scalar_one())


ROW = "INSERT INTO audit (time, \"user\", action, target, comment) VALUES (0, '', '', '', '')"


def test_a_transaction_is_kept_whole_or_not_at_all(url: str) -> None:
    database = Database(url)

    def fail_after_two_rows() -> None:
        with database.transaction() as outer:
            outer.exec_driver_sql(ROW)
            with database.transaction() as inner:
                inner.exec_driver_sql(ROW)
            assert count(database) == 2  # its own thread sees them already
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_two_rows()
    assert count(database) == 0
    with database.transaction() as connection:
        connection.exec_driver_sql(ROW)
    assert count(database) == 1
    database.close()


def test_other_threads_see_nothing_of_an_open_transaction(url: str) -> None:
    database = Database(url)
    seen: list[int] = []
    with database.transaction() as connection:
        connection.exec_driver_sql(ROW)
        other = threading.Thread(target=lambda: seen.append(count(database)))
        other.start()
        other.join()
    assert seen == [0]
    database.close()


def prepared(database: Database) -> Prepared:
    return database.prepare(database.insert(alarm_states))


def test_a_prepared_statement_that_fails_is_an_error_of_the_store(url: str) -> None:
    database = Database(url)
    keep = prepared(database)
    states = {"name": "a", "content": {"n": 1}}, {"name": "a", "content": {"n": 2}}
    with pytest.raises(StoreError, match=r"(?i)unique"), database.transaction() as connection:
        keep(connection, *states)
    with database.transaction() as connection:
        assert keep(connection, states[1]) == 1
    assert AlarmStore(database).states() == {"a": {"n": 2}}
    database.close()


def test_so_is_a_connection_that_was_cut_and_the_next_one_works(postgres: Callable[[], str]) -> None:
    url = postgres()
    database = Database(url)
    keep = prepared(database)
    killer = create_engine(url)

    def cut_and_keep() -> None:
        with database.transaction() as connection:
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with killer.begin() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
            keep(connection, {"name": "a", "content": {}})

    with pytest.raises(StoreError):
        cut_and_keep()
    with database.transaction() as connection:
        assert keep(connection, {"name": "a", "content": {}}) == 1
    database.close()
    killer.dispose()
