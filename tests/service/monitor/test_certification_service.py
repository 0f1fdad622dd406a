"""What people say of runs, with a real store: durable, audited, and refused if it was changed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.alarm import (
    AmendFlag,
    Decision,
    LabelFault,
    Scope,
    SignOffRules,
    SignRun,
    WithdrawAmendment,
)
from dqm.errors import InputError, StoreError
from dqm.events import Quality
from dqm.export.certified_run import registry_record
from dqm.service.monitor.certification_service import CertificationService
from dqm.store import AlarmStore
from tests.verdicts import alter
from tests.world import START, World, make_world, verdict_of

A0 = Scope(7, "chamber-1", 0, 0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "x.sqlite", {"muon": ["chamber-1", "chamber-2"]})
    for stream in ("chamber-1", "chamber-2"):
        made.judge(*(verdict_of(stream, seq) for seq in range(4)))
    yield made
    made.store.close()


@pytest.fixture
def service(world: World) -> CertificationService:
    rules, streams = SignOffRules(faults=("gas",)), ("chamber-1", "chamber-2", "chamber-3")
    return CertificationService(rules, world.store, lambda: streams, world.clock, created_by="dqm 0.1.0")


def test_an_amendment_is_in_the_audit_and_the_verdict_stays(
    world: World, service: CertificationService
) -> None:
    before = list(world.store.select())
    entry = service.apply(AmendFlag(A0, Quality.BAD, "HV ramp"), "maria")
    assert service.journal(7).entries == (entry,)
    assert list(world.store.select()) == before
    row = AlarmStore(world.store.database).actions()[-1]
    assert (row["user"], row["action"], row["comment"]) == ("maria", "amend", "HV ramp")
    assert row["target"] == "run 7 chamber-1, window 0: Bad"
    found = service.read_run(7)
    assert [flag.flag for flag in found.flags if flag.amended] == ["Bad"]
    assert found.facts.faults == ("gas",)
    assert found.facts.proposal.reason.startswith("2 of 3 streams are not good")


def test_of_many_at_the_same_time_one_amends_and_the_others_are_told_who(
    world: World, service: CertificationService
) -> None:
    refused: list[str] = []
    barrier = threading.Barrier(8)

    def amend(user: str) -> None:
        barrier.wait()
        try:
            service.apply(AmendFlag(A0, Quality.BAD, f"by {user}"), user)
        except InputError as error:
            refused.append(error.what)

    threads = [threading.Thread(target=amend, args=[f"user-{n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (entry,) = service.journal(7).entries
    assert len(refused) == 7
    assert all(f"{entry.user} has changed it meanwhile" in what for what in refused)
    assert [row["user"] for row in AlarmStore(world.store.database).actions()] == [entry.user]


def test_what_cannot_be_stored_is_neither_said_nor_audited(
    service: CertificationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("disk is full")

    monkeypatch.setattr(AlarmStore, "record", fail)
    with pytest.raises(StoreError):
        service.apply(AmendFlag(A0, Quality.BAD, "x"), "maria")
    assert service.journal(7).entries == ()


def test_a_sign_off_keeps_what_was_signed_when_its_verdicts_are_deleted(
    world: World, service: CertificationService
) -> None:
    service.apply(AmendFlag(Scope(7, "chamber-1"), Quality.MEDIUM, "warm"), "jo")
    service.apply(SignRun(7, Decision.WITHOUT, "looked at", ("chamber-3",), known=1), "maria")
    last = service.journal(7).sign_off
    assert last is not None
    signed = service.sign_off(last.identifier)
    record = registry_record(signed, service.journal(7), "dqm")
    assert (record["version"], record["decision"], record["without"]) == (2, "good without", ["chamber-3"])
    assert (record["origins"], record["run_types"]) == (["simulated"], ["cosmics"])
    used = {one["stream"]: one["used"] for one in record["streams"]}
    assert used == {"chamber-1": True, "chamber-2": True, "chamber-3": False}
    first = record["flags"][0]
    assert (first["flag"], first["original_flag"], first["amended_by"]) == ("Medium", "Good", "jo")
    world.store.prune(START + 3.0, 4)
    found = service.read_run(7)
    assert (found.facts.n_windows, found.n_deleted) == (4, 4)
    world.store.prune(START + 1e6, 10)
    assert service.read_run(7).n_deleted == 8
    assert registry_record(signed, service.journal(7), "dqm") == record
    assert service.last_runs(5)[0].sign_off == last
    with pytest.raises(InputError, match="has no windows"):
        service.apply(AmendFlag(Scope(7), Quality.BAD, "x", known=2), "jo")
    service.apply(WithdrawAmendment(7, 1, "it was cold"), "jo")
    assert registry_record(signed, service.journal(7), "dqm")["amended_since"] is True


def test_windows_that_come_after_the_sign_off_are_counted(
    world: World, service: CertificationService
) -> None:
    service.apply(SignRun(7, Decision.GOOD, "looked at"), "maria")
    world.judge(verdict_of("chamber-1", 4))
    assert (service.read_run(7).n_later, service.read_run(7).n_deleted) == (1, 0)


def test_windows_without_times_are_certified_by_the_times_of_their_verdicts(
    world: World, service: CertificationService
) -> None:
    for seq in range(3):
        judged = verdict_of("chamber-1", seq, judged_at=START + 10.0 * seq)
        world.judge(alter(judged, run=9, start=None, end=None))
    service.apply(LabelFault(Scope(9, "chamber-1", 1, 1), "gas", "seen"), "jo")
    assert [flag.fault for flag in service.read_run(9).flags if flag.stream == "chamber-1"] == ["", "gas", ""]


def test_runs_are_listed_by_number(world: World, service: CertificationService) -> None:
    world.judge(alter(verdict_of("chamber-1"), run=12), alter(verdict_of("chamber-1"), run=3))
    service.apply(SignRun(12, Decision.BAD, "no beam"), "maria")
    assert [(one.run, one.version) for one in service.last_runs(5)] == [(12, 1), (7, 0), (3, 0)]
    assert [one.run for one in service.last_runs(1, below=12)] == [7]
    with pytest.raises(InputError, match="run 4 has no windows"):
        service.read_run(4)
