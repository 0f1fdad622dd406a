"""``dqm store``: copies of a store that a daemon writes to, and back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from tests.waiting import wait_until

from .conftest import Told
from .test_online import daemon_of, write_daemon
from .test_reload import Place, judged_of, logged_events, place, under_load

Dqm = Callable[..., Told]

__all__ = ["place"]


@pytest.mark.long
def test_a_daemon_is_copied_at_work_and_another_goes_on_from_the_copy(dqm: Dqm, place: Place) -> None:
    config = place.write()
    store = place.folder / "data" / STORE_FILE
    with under_load(place, "west") as west:
        with daemon_of(config) as daemon:
            wait_until(lambda: judged_of(daemon, "chamber-1") > 10, "windows are judged")
            n_judged = len(logged_events(daemon.log, "judged"))
            told = dqm("store", "backup", config, place.folder / "copy")
            assert told.code == 0, told.err
            assert int(told.out.split()[-2]) >= n_judged
            told = dqm("store", "compact", config)
            assert told.code == 0, told.err
            told = dqm("store", "restore", config, place.folder / "copy", "--replace")
            assert (told.code, "is in use. Stop the daemon" in told.err) == (2, True)
            assert daemon.end() == 0
        shutil.rmtree(store.parent)
        told = dqm("store", "restore", config, place.folder / "copy")
        assert (told.code, told.out) == (0, f"{store}: restored\n")
        told = dqm("store", "restore", config, place.folder / "copy")
        assert (told.code, "--replace" in told.err) == (2, True)
        with daemon_of(config) as daemon:
            wait_until(lambda: judged_of(daemon, "chamber-1") > 10, "the next one goes on")
    assert west.n_lost == 0
    with VerdictStore(sqlite_url(store), create=False) as opened:
        numbers = [verdict.window.seq for verdict in opened.select()]
    assert set(range(n_judged)) <= set(numbers)
    assert len(numbers) == len(set(numbers)) > n_judged + 10


def test_a_store_of_postgresql_is_left_to_its_own_programs(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    config = write_daemon(tmp_path, bundle)
    config.write_text(
        config.read_text().replace("[daemon]\n", '[daemon]\nstore = "postgresql://dqm@/none"\n')
    )
    for command in (("backup", config, "copy"), ("restore", config, "copy"), ("compact", config)):
        told = dqm("store", *command)
        assert (told.code, told.out) == (2, "")
        assert "the verdicts are in PostgreSQL. Use pg_dump and pg_restore" in told.err


def test_a_copy_is_a_store_that_other_commands_read(dqm: Dqm, tmp_path: Path) -> None:
    VerdictStore(sqlite_url(tmp_path / "a.sqlite")).close()
    assert dqm("store", "backup", "a.sqlite", "b.sqlite").out == "b.sqlite: 0 verdicts\n"
    assert dqm("history", "b.sqlite").out == "no verdicts match\n"
    assert "b.sqlite: already exists" in dqm("store", "backup", "a.sqlite", "b.sqlite").err
    assert dqm("store", "backup", "a.sqlite", "b.sqlite", "--replace").code == 0
    assert "none.sqlite: no such file" in dqm("store", "compact", "none.sqlite").err
