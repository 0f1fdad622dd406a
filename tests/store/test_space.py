"""How much room the store takes on the disk, and that it gives room back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from tests.verdicts import alter

from .test_verdict_store import FULL


def fill(store: VerdictStore, numbers: range) -> None:
    with store.database.transaction():
        for seq in numbers:
            store.append(alter(FULL, seq=seq, judged_at=float(seq), reason="x" * 2000))


def prune(store: VerdictStore, before: float) -> None:
    """As the daemon does it, second by second."""
    for _ in range(40):
        store.prune(before, 500)


@pytest.mark.slow
def test_a_store_whose_verdicts_go_shrinks_and_one_that_goes_on_does_not_churn(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    with VerdictStore(sqlite_url(path)) as store:
        fill(store, range(4000))
        prune(store, before=0.0)
        with store.database.reading() as connection:
            full = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        prune(store, before=3600.0)
        with store.database.reading() as connection:
            left = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            spare = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        assert left < 0.25 * full, "a tenth of the verdicts is left"
        assert 0.2 * left < spare < 0.3 * left, "and something to grow into"
        fill(store, range(4000, 4050))
        with store.database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA page_count").scalar_one() == left
        assert len(list(store.select())) == 450
    assert path.stat().st_size < 0.25 * full * 4096


@pytest.mark.slow
def test_a_long_reader_does_not_leave_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    log = path.with_name(f"{STORE_FILE}-wal")
    with VerdictStore(sqlite_url(path)) as store, VerdictStore(sqlite_url(path), create=False) as reader:
        fill(store, range(10))
        reading = reader.select()
        next(reading)
        for block in range(6):
            fill(store, range(1000 * block, 1000 * (block + 1)))
        assert log.stat().st_size > 2**24, "it cannot be written back while somebody reads what was before"
        reading.close()  # type: ignore[attr-defined]
        for seq in range(6000, 6010):
            fill(store, range(seq, seq + 1))
        assert log.stat().st_size <= 2**24


def test_postgresql_needs_no_help(postgres: Callable[[], str]) -> None:
    with VerdictStore(postgres()) as store:
        fill(store, range(10))
        assert store.prune(before=5.0, limit=500) == 5
        assert store.database.shrink(1000) == 0
