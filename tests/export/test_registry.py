"""Sign-offs are sent to a registry: each once, again after a failure, and the secret stays one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from dqm.alarm import Decision, SignOff
from dqm.config import RegistrySection
from dqm.errors import ConfigError
from dqm.export.registry import HttpRegistry, RegistrySender
from dqm.store import CertificationStore, VerdictStore, sqlite_url
from tests.ports import free_port
from tests.waiting import wait_until

from .registry_server import FakeRegistry, run_registry

TOKEN = "s3cret-token"  # noqa: S105 - of this test


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with run_registry() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CertificationStore]:
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as verdicts:
        yield CertificationStore(verdicts.database)


def sign(store: CertificationStore, run: int = 7) -> int:
    record = {"streams": [{"stream": "a"}], "flags": [], "reason": "1 stream keeps the rules"}
    made = SignOff(0, 12.5, "maria", "looked at", run, Decision.GOOD, (), Decision.GOOD, 12, record)
    return store.add(made).identifier


def sender_of(store: CertificationStore, url: str, **section: object) -> RegistrySender:
    made = RegistrySection.model_validate({"url": url, **section})
    return RegistrySender(HttpRegistry(made), store, lambda: 1000.0, "dqm 0.1.0")


def token_file(folder: Path, text: str = TOKEN) -> Path:
    path = folder / "token"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def test_a_sign_off_is_sent_once_with_the_token(
    store: CertificationStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    number = sign(store)
    sender = sender_of(store, registry.url, token_file=token_file(tmp_path))
    for _ in range(3):
        assert sender.send_unsent() == 60.0
    (record,) = registry.records
    assert (record["run"], record["version"], record["decision"]) == (7, number, "good")
    assert (record["format"], record["signed_by"]) == ("dqm-run-certification-1", "maria")
    assert registry.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert registry.headers[0]["content-type"] == "application/json"
    assert store.sent_at(number) == 1000.0
    status = sender.status
    assert (status.n_sent, status.n_failed, status.n_waiting, status.failing_since) == (1, 0, 0, None)


@pytest.mark.parametrize(("code", "words"), [(500, "500"), (403, "403"), (404, "404"), (302, "302")])
def test_what_is_not_taken_is_tried_again_later_and_later(
    store: CertificationStore, registry: FakeRegistry, code: int, words: str
) -> None:
    sign(store)
    sender = sender_of(store, registry.url)
    registry.status = code
    assert [sender.send_unsent() for _ in range(9)] == [
        5.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
        300.0,
        300.0,
        300.0,
    ]
    status = sender.status
    assert (status.n_sent, status.n_failed, status.n_waiting, status.failing_since) == (0, 9, 1, 1000.0)
    assert f"run 7: it answers {words}" in status.reason
    registry.status = 200
    assert sender.send_unsent() == 60.0
    assert (sender.status.n_sent, sender.status.failing_since, sender.status.reason) == (1, None, "")
    registry.status = 500
    sign(store)
    assert sender.send_unsent() == 5.0


@pytest.mark.slow
def test_one_that_is_never_taken_holds_no_other_up(store: CertificationStore, registry: FakeRegistry) -> None:
    for run in range(50):
        sign(store, run)
    registry.refused = set(range(40))
    sender = sender_of(store, registry.url)
    sender.send_unsent()
    sender.send_unsent()
    assert sorted(record["run"] for record in registry.records) == list(range(40, 50))
    assert sender.status.n_waiting == 40


def test_a_registry_that_is_away_is_asked_once_in_a_round(store: CertificationStore) -> None:
    for run in range(5):
        sign(store, run)
    sender = sender_of(store, f"http://127.0.0.1:{free_port()}/runs")
    assert sender.send_unsent() == 5.0
    assert (sender.status.n_failed, sender.status.n_waiting) == (1, 5)
    assert "no answer" in sender.status.reason


def test_a_registry_that_does_not_answer_in_time_has_failed(
    store: CertificationStore, registry: FakeRegistry
) -> None:
    sign(store)
    registry.delay = 3.0
    sender = sender_of(store, registry.url, timeout_seconds=0.2)
    assert sender.send_unsent() == 5.0
    assert "no answer: timed out" in sender.status.reason


def test_only_the_last_sign_off_of_a_run_is_sent(store: CertificationStore, registry: FakeRegistry) -> None:
    sign(store)
    last = sign(store)
    sender_of(store, registry.url).send_unsent()
    assert [record["version"] for record in registry.records] == [last]


def test_its_thread_sends_what_is_signed_and_what_was_signed_before_it_began(
    store: CertificationStore, registry: FakeRegistry
) -> None:
    sign(store)
    sender = sender_of(store, registry.url)
    sender.start()
    wait_until(lambda: len(registry.records) == 1, "the first is sent")
    sign(store, 8)
    sender.wake()
    wait_until(lambda: len(registry.records) == 2, "the second is sent")
    sender.stop()


def test_the_token_is_read_anew_and_is_in_no_message(
    store: CertificationStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    sign(store)
    path = token_file(tmp_path)
    sender = sender_of(store, registry.url, token_file=path)
    path.chmod(0o644)
    assert sender.send_unsent() == 5.0
    assert "the token of the registry is open to others" in sender.status.reason
    assert TOKEN not in sender.status.reason
    assert registry.headers == []
    token_file(tmp_path, "renewed")
    assert sender.send_unsent() == 60.0
    assert registry.headers[0]["authorization"] == "Bearer renewed"


def test_a_token_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    section = RegistrySection(url="https://registry.example.org", token_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="the token of the registry cannot be read"):
        HttpRegistry(section)


def test_a_token_is_not_sent_readable_to_another_host(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="is not https"):
        RegistrySection(url="http://registry.example.org/runs", token_file=tmp_path / "token")
    assert RegistrySection(url="http://127.0.0.1:8080/runs", token_file=tmp_path / "token")
    with pytest.raises(ValidationError, match="must hold no user, password"):
        RegistrySection(url="https://dqm:secret@registry.example.org/runs")
