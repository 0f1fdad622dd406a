"""What a reload takes over, and what it leaves to a restart."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from dqm.config import DaemonConfig, load_daemon
from dqm.errors import DqmError
from dqm.reference import Bundle, open_bundle
from dqm.service.monitor.job_runner import LocalWorker
from dqm.service.monitor.reload import PreparedReload, Reloader, find_settled
from dqm.service.monitor.resolved_config import ResolvedConfig, resolve
from tests.conftest import Once
from tests.reference.channels import channel_bundle
from tests.service.small import wait_until


def load(tmp_path: Path, bundle: Bundle, text: str = "") -> DaemonConfig:
    path = tmp_path / "daemon.toml"
    path.write_text(f'[daemon]\n{text}\n[[streams]]\nname = "a"\nbundle = "{bundle.path}"\n')
    return load_daemon(path, environ={})


FREE = (
    "[alarm]\nk = 1\n[quality]\nmin_events = 9\n[keep]\nverdict_days = 3.0\n[nuisances]\nlargest_pull = 5.0"
)
SETTLED = "http = '127.0.0.1:1'\nworkers = 3\n[daemon.limits]\nmax_events = 5"


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("", []),
        (FREE, []),
        (SETTLED, ["daemon.http", "daemon.limits", "daemon.workers"]),
        ("[grafana]\nurl = 'http://127.0.0.1:1'", ["grafana"]),
    ],
)
def test_what_needs_a_restart_is_named_and_stays(
    tmp_path: Path, bundle: Bundle, text: str, settled: list[str]
) -> None:
    present, wanted = load(tmp_path, bundle), load(tmp_path, bundle, text)
    assert find_settled(present, wanted) == settled
    assert find_settled(wanted, present) == settled
    prepared = prepare(present, wanted)
    assert isinstance(prepared, PreparedReload)
    config = prepared.resolved.config
    assert (config.daemon, config.grafana) == (present.daemon, present.grafana)
    assert (config.alarm, config.quality, config.keep) == (wanted.alarm, wanted.quality, wanted.keep)


def prepare(present: DaemonConfig, wanted: DaemonConfig | DqmError) -> PreparedReload | Exception:
    """Ask for a reload, and wait until it is prepared."""
    asked = Event()

    def read() -> DaemonConfig:
        if isinstance(wanted, DqmError):
            raise wanted
        return wanted

    reloader = Reloader(asked, read, lambda _resolved: LocalWorker(abs), lambda _stream: [])
    resolved = resolve(present)
    assert not reloader.begin(resolved), "nobody asked"
    asked.set()
    assert reloader.begin(resolved)
    assert not reloader.begin(resolved), "it is under way"
    wait_until(lambda: reloader.outcome is not None, "prepared")
    outcome = reloader.outcome
    assert outcome is not None
    reloader.finish(adopted=False)
    assert reloader.outcome is None
    return outcome


@pytest.mark.parametrize(
    ("text", "is_alike"),
    [
        ("[alarm]\ncontact = 'nobody'\n[keep]\nverdict_days = 3.0", True),
        ("[alarm]\nfalse_alarms_per_shift = 9.0", True),
        ("[quality]\nmin_events = 9", True),
        ("[nuisances]\nmax_age_seconds = 9.0", False),
    ],
)
def test_workers_are_started_anew_if_windows_are_evaluated_otherwise(
    tmp_path: Path, bundle: Bundle, text: str, is_alike: bool
) -> None:
    present = load(tmp_path, bundle)
    prepared = prepare(present, load(tmp_path, bundle, text))
    assert isinstance(prepared, PreparedReload)
    assert (prepared.workers is None) == is_alike


def test_what_cannot_be_read_is_the_outcome(tmp_path: Path, bundle: Bundle) -> None:
    present = load(tmp_path, bundle)
    assert str(prepare(present, DqmError("no such key"))) == "no such key"
    lost = present.model_copy(
        update={"streams": (present.streams[0].model_copy(update={"bundle": tmp_path / "lost"}),)}
    )
    assert "no reference bundle" in str(prepare(present, lost))


def test_a_stream_that_is_new_is_recalled(tmp_path: Path, bundle: Bundle) -> None:
    present = load(tmp_path, bundle)
    more = present.model_copy(
        update={"streams": (*present.streams, present.streams[0].model_copy(update={"name": "b"}))}
    )
    prepared = prepare(present, more)
    assert isinstance(prepared, PreparedReload)
    assert prepared.recent.keys() == {"b"}
    assert isinstance(prepared.resolved, ResolvedConfig)
    assert prepared.resolved.most_waiting == 256


def test_workers_that_are_ready_after_the_daemon_has_stopped_are_closed(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqm.service.monitor.reload._CLOSE_SECONDS", 0.01)
    present = load(tmp_path, bundle)
    asked, stopped, closed = Event(), Event(), Event()

    class Workers(LocalWorker[object, object]):
        def close(self) -> None:
            closed.set()

    def start(_resolved: ResolvedConfig) -> Workers:
        assert stopped.wait(60)
        return Workers(str)

    wanted = load(tmp_path, bundle, "[nuisances]\nmax_age_seconds = 9.0")
    reloader = Reloader(asked, lambda: wanted, start, lambda _stream: [])  # type: ignore[arg-type]
    asked.set()
    assert reloader.begin(resolve(present))
    reloader.close()
    assert not closed.is_set()
    stopped.set()
    assert closed.wait(60)
    assert reloader.outcome is None


@pytest.mark.slow
def test_other_channels_that_are_known_to_be_bad_need_no_new_workers(tmp_path: Path, once: Once) -> None:
    bundle = open_bundle(once("channels-small.dqmref", channel_bundle))

    def of(channels: str) -> DaemonConfig:
        path = tmp_path / "daemon.toml"
        path.write_text(f'[[streams]]\nname = "a"\nbundle = "{bundle.path}"\nbad_channels = {channels}\n')
        return load_daemon(path, environ={})

    prepared = prepare(of("[117]"), of("[117, 103]"))
    assert isinstance(prepared, PreparedReload)
    assert prepared.workers is None
    assert prepared.resolved.settings.streams["a"].bad_channels == (117, 103)
    refused = prepare(of("[117]"), of("[99]"))
    assert isinstance(refused, DqmError)
    assert "streams a: bad_channels: channel 99 is not in the bundle" in str(refused)
