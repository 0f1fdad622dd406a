"""Journals of runs in the store: SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dqm.alarm import Amendment, Decision, Entry, RunJournal, Scope, SignOff, Withdrawal
from dqm.errors import InputError
from dqm.events import Quality
from dqm.store import CertificationStore, VerdictStore, sqlite_url
from dqm.store.backup import back_up, restore
from tests.verdicts import alter
from tests.world import START, verdict_of

from .postgres import PostgresServer

SCOPES = (
    Scope(7),
    Scope(7, "a"),
    Scope(7, "a", 3, 5),
    Scope(7, "a", start=1.5, end=2.5),
    Scope(7, start=0, end=9),
)


def sign_off(run: int = 7, without: tuple[str, ...] = ("b",)) -> SignOff:
    decision = Decision.WITHOUT if without else Decision.GOOD
    return SignOff(
        0, 12.5, "maria", "looked at", run, decision, without, Decision.BAD, 12, {"flags": [{"to": 1.5}]}
    )


def fill(store: CertificationStore) -> list[Entry]:
    """Store one entry of each kind, of runs 7 and 8."""
    made = [
        store.add(Amendment(0, 1.0, "jo", "x", scope, Quality.BAD, judged={Quality.GOOD: 2}))
        for scope in SCOPES
    ]
    label = store.add(
        Amendment(0, 2.0, "jo", "seen", Scope(7, "a"), fault="HV trip", judged={Quality.BAD: 1})
    )
    assert isinstance(label, Amendment)
    other = store.add(Amendment(0, 2.0, "jo", "seen", Scope(8), fault="noise"))
    gone = store.add(Withdrawal(0, 3.0, "maria", "no", label))
    return [*made, label, other, gone, store.add(sign_off())]


def test_what_was_said_is_read_as_it_was_said(url: str) -> None:
    with VerdictStore(url) as verdicts:
        store = CertificationStore(verdicts.database)
        entries = fill(store)
        numbers = [entry.identifier for entry in entries]
        assert numbers == sorted(set(numbers))
        *of_seven, other, gone, signed = entries
        assert isinstance(signed, SignOff)
        assert store.journal(7) == RunJournal(7, (*of_seven, gone, replace(signed, record={})))
        assert store.journals([8, 9]) == {8: RunJournal(8, (other,)), 9: RunJournal(9)}
        assert store.sign_off(signed.identifier) == signed
        with pytest.raises(InputError, match="no sign-off 1"):
            store.sign_off(1)


def test_faults_and_labels_are_found(url: str) -> None:
    with VerdictStore(url) as verdicts:
        store = CertificationStore(verdicts.database)
        *_, other, _gone, _signed = fill(store)
        assert store.faults() == ["HV trip", "noise"]
        assert store.labels("a") == [other], "that of run 7 is withdrawn"
        again = store.add(Amendment(0, 4.0, "jo", "seen", Scope(7, "b", 1, 1), fault="HV trip"))
        assert store.labels("a") == [other]
        assert store.labels("b") == [other, again]


def test_the_last_sign_off_of_each_run_is_sent_once(url: str) -> None:
    with VerdictStore(url) as verdicts:
        store = CertificationStore(verdicts.database)
        first, other, last = (store.add(sign_off(run)) for run in (7, 8, 7))
        assert isinstance(other, SignOff)
        assert store.unsent() == [other.identifier, last.identifier]
        store.note_sent(other, 99.5)
        assert store.unsent() == [last.identifier]
        assert (store.sent_at(other.identifier), store.sent_at(first.identifier)) == (99.5, None)
        assert store.journal(8).entries == (replace(other, record={}),), (
            "that it was sent is nothing that anybody said"
        )


def test_the_largest_runs_are_found_without_reading_all(url: str) -> None:
    with VerdictStore(url) as verdicts:
        for run in (3, 12, 5, 12, 2**62):
            verdicts.append(alter(verdict_of(seq=run % 7), run=run))
        assert verdicts.last_runs(2) == [2**62, 12]
        assert verdicts.last_runs(10, below=12) == [5, 3]
        assert verdicts.last_runs(10, below=3) == []
        store = CertificationStore(verdicts.database)
        fill(store)
        assert store.last_runs(1) == [8]
        assert store.last_runs(9, below=8) == [7]


def test_an_outline_has_what_flags_need(url: str) -> None:
    with VerdictStore(url) as verdicts:
        told = [verdict_of("a", 0), verdict_of("a", 1, p=2e-9), verdict_of("b", 0, p=None)]
        for verdict in told:
            verdicts.append(alter(verdict, explanation=None))
        found = list(verdicts.outline(7))
        for one, other in zip(found, told, strict=True):
            assert replace(one.window, conditions=other.window.conditions) == other.window
            names = ("quality", "reason", "bundle", "seconds", "judged_at")
            assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
            assert (one.result.p, one.result.n_data) == (other.result.p, other.result.n_data)
        assert [one.window.stream for one in verdicts.outline(7, "b")] == ["b"]
        assert list(verdicts.outline(8)) == []


def test_what_was_said_outlives_the_verdicts(url: str) -> None:
    with VerdictStore(url) as verdicts:
        verdicts.append(verdict_of())
        store = CertificationStore(verdicts.database)
        fill(store)
        before = store.journal(7)
        assert verdicts.prune(START + 1e6, 10) == 1
        assert (list(verdicts.select()), store.journal(7)) == ([], before)


def test_a_backup_has_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "x.sqlite", tmp_path / "copy.sqlite"
    with VerdictStore(sqlite_url(path)) as verdicts:
        fill(CertificationStore(verdicts.database))
        before = CertificationStore(verdicts.database).journal(7)
        back_up(path, copy)
        CertificationStore(verdicts.database).add(sign_off())
    restore(copy, path, replace=True)
    with VerdictStore(sqlite_url(path)) as verdicts:
        assert CertificationStore(verdicts.database).journal(7) == before


def test_a_backup_of_postgresql_has_it(tmp_path: Path) -> None:
    with PostgresServer() as server:
        address = server.make_database()
        url = address.replace("postgresql:", "postgresql+psycopg:")
        with VerdictStore(url) as verdicts:
            fill(CertificationStore(verdicts.database))
            before = CertificationStore(verdicts.database).journal(7)
        server.back_up(address, tmp_path / "copy")
        with VerdictStore(url) as verdicts:
            CertificationStore(verdicts.database).add(sign_off())
        server.restore(address, tmp_path / "copy")
        with VerdictStore(url) as verdicts:
            assert CertificationStore(verdicts.database).journal(7) == before


def test_numbers_go_on_growing_after_a_restart(postgres: Callable[[], str]) -> None:
    address = postgres()
    numbers = []
    for _ in range(3):
        with VerdictStore(address) as verdicts:
            numbers.append(CertificationStore(verdicts.database).add(sign_off()).identifier)
    assert numbers == sorted(set(numbers))
