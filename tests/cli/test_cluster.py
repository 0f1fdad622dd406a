"""``--scheduler``: work on a Dask cluster whose scheduler and workers are processes of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dask import config
from distributed.utils import LoopRunner

from dqm.errors import WorkerError
from dqm.events import FloatArray
from dqm.reference import (
    Bundle,
    Processes,
    Recipe,
    Workers,
    calibrate,
    cluster,
    create_bundle,
    dask_client,
    open_bundle,
    open_cluster,
)
from dqm.reference.cluster import WorkerTask
from dqm.reference.dask_client import ClosingClient
from tests.service.small import N_WINDOW, bare_bundle, healthy_events, write_csv
from tests.waiting import wait_until

from .conftest import Told
from .dask_cluster import DaskCluster, another_service
from .program import json_lines

Dqm = Callable[..., Told]

N_CHUNKS = 8
N_TOYS = 25 * N_CHUNKS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Dask's configuration for a laboratory with one certificate; empty where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return {}
    folder = tmp_path_factory.mktemp("certificates")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=lab",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    files = {"ca-file": certificate}
    for role in ("client", "scheduler", "worker"):
        files |= {f"{role}.key": key, f"{role}.cert": certificate}
    return {f"distributed.comm.tls.{name}": file for name, file in files.items()}


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory, certificates: dict[str, str]) -> Iterator[DaskCluster]:
    """A scheduler and two workers, one of them with two threads."""
    import distributed  # noqa: F401 - its defaults first: the end of the block would remove them

    folder = tmp_path_factory.mktemp("dask")
    with config.set(certificates), DaskCluster(folder, certificates) as dask:
        dask.add_worker(n_threads=1)
        dask.add_worker(n_threads=2)
        yield dask


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bare_bundle(tmp_path_factory.mktemp("plain") / "plain.dqmref")


@pytest.fixture
def fresh(plain: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(plain.path, tmp_path / "copy.dqmref")))


@pytest.fixture(scope="module")
def expected(plain: Bundle, tmp_path_factory: pytest.TempPathFactory) -> FloatArray:
    """The table of `N_TOYS` toys as it is made here."""
    copy = shutil.copytree(plain.path, tmp_path_factory.mktemp("local") / "copy.dqmref")
    return make_table(open_bundle(Path(copy)), Processes(1))


def make_table(
    bundle: Bundle, workers: Workers, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> FloatArray:
    kind = bundle.manifest.kind
    made = calibrate(bundle, N_TOYS, kind=kind, seed=9, workers=workers, progress=progress)
    return made.toys(made.manifest.null[-1])


@pytest.mark.slow
def test_a_worker_killed_meanwhile_changes_nothing(
    dask: DaskCluster, fresh: Bundle, expected: FloatArray
) -> None:
    told = []

    def kill_one(done: int, total: int) -> None:
        told.append((done, total))
        if done:
            dask.workers[0].kill()

    with open_cluster(dask.address) as workers:
        wait_until(lambda: len(workers.threads()) == 2, "both workers")
        table = make_table(fresh, workers, progress=kill_one)
        assert list(workers.threads().values()) == [2]
    np.testing.assert_array_equal(table, expected)
    assert told == [(25 * k, N_TOYS) for k in range(N_CHUNKS + 1)]
    assert not list(fresh.path.glob("toys-*"))


@pytest.mark.slow
def test_commands_do_there_what_they_do_here(
    dqm: Dqm, dask: DaskCluster, fresh: Bundle, folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(fresh.path, tmp_path / "other.dqmref"))
    there, here = ("--scheduler", dask.address), ("--processes", 1)
    for path, where in ((fresh.path, there), (other, here)):
        assert dqm("reference", "calibrate", path.name, "--toys", 150, *where).code == 0
    assert open_bundle(other).identifier == open_bundle(fresh.path).identifier
    validate = ("reference", "validate", fresh.path.name, "--toys", 50)
    told, same = dqm(*validate, *there), dqm(*validate, *here)
    assert (told.code, told.out) == (0, same.out)
    compare = ("compare", fresh.path.name, folder / "mixed.csv", "--window", N_WINDOW, "--json")
    told, same = dqm(*compare, *there), dqm(*compare)
    assert (told.code, same.code, same.err) == (0, 0, "")
    varying = {"seconds": 0, "judged_at": 0}
    assert [w | varying for w in json_lines(told.out)] == [w | varying for w in json_lines(same.out)]


def seen_by_each_process_in_its_own_folder(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Give the bundle a path under which others see something else, as on machines that share no files."""
    monkeypatch.chdir(bundle.path.parent)
    return open_bundle(Path("/proc/self/cwd") / bundle.path.name)


@pytest.mark.slow
def test_a_bundle_that_workers_do_not_see_can_be_sent(
    dask: DaskCluster, fresh: Bundle, expected: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = seen_by_each_process_in_its_own_folder(fresh, monkeypatch)
    with open_cluster(dask.address) as workers:
        message = (
            r"worker t(ls|cp)://127\.0\.0\.1:\d+: /proc/self/cwd/copy\.dqmref: no reference bundle.*"
            r"Keep the bundle where all workers see it at the same path, or send it with --ship"
        )
        with pytest.raises(WorkerError, match=message):
            make_table(hidden, workers)
    with open_cluster(dask.address, ship=True) as workers:
        np.testing.assert_array_equal(make_table(hidden, workers), expected)


@pytest.mark.slow
def test_another_bundle_at_the_same_path_is_refused(
    dask: DaskCluster, fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Recipe(("a", "b"), n_reference=400, n_expected=60, width=2.5, penalty=1e-5, centers=80, seed=3)
    path = create_bundle(healthy_events(4000, 1), other, dask.folder / fresh.path.name).path
    hidden = seen_by_each_process_in_its_own_folder(fresh, monkeypatch)
    with (
        open_cluster(dask.address) as workers,
        pytest.raises(WorkerError, match=r"tests as \w+, not as \w+: it is another bundle"),
    ):
        make_table(hidden, workers)
    shutil.rmtree(path)


@pytest.mark.slow
def test_certificates_are_those_of_dasks_own_configuration(
    dask: DaskCluster, certificates: dict[str, str], require_program: Callable[[str], Path]
) -> None:
    require_program("openssl")
    assert dask.address.startswith("tls://")
    with (
        config.set(dict.fromkeys(certificates)),
        pytest.raises(WorkerError, match="no scheduler answers"),
        open_cluster(dask.address),
    ):
        pass


def test_an_address_without_scheduler_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    before = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        for address in (f"tcp://127.0.0.1:{port}", "tcp://no-such-host.invalid:8786", "nonsense"):
            message = f"--scheduler {address}: no scheduler answers: .*tcp://host:8786"
            with pytest.raises(WorkerError, match=message), open_cluster(address):
                pass
            left = [thread.name for thread in threading.enumerate() if thread not in before]
            assert "IO loop" not in left, "the garbage collector would have to close the client"


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "what answers is no Dask scheduler: Unable to allocate"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "what answers is no Dask scheduler: "),
        (bytes(64), "what answers is no Dask scheduler: "),
        (b"", "no scheduler answers: nothing was said for 0.5 s. Give the address"),
    ],
    ids=["ssh", "http", "zeros", "silent"],
)
def test_another_service_at_the_address_is_told_in_one_message(
    dqm: Dqm, plain: Bundle, bundle: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes, why: str
) -> None:
    monkeypatch.setattr(dask_client, "START_SECONDS", 0.5)
    write_csv(Path("events.csv"), healthy_events(2 * N_WINDOW, 1))
    with another_service(greeting) as address:
        for command in (
            ("compare", bundle, "events.csv", "--window", N_WINDOW),
            ("reference", "calibrate", plain.path, "--toys", 100),
            ("reference", "validate", bundle, "--toys", 100),
        ):
            told = dqm(*command, "--scheduler", address)
            assert (told.code, told.out) == (2, "")
            assert told.err.startswith(f"error: --scheduler {address}: {why}"), told.err
            assert told.err.count("\n") == 1


@pytest.mark.slow
def test_the_garbage_collector_waits_for_no_lock_of_a_closed_client(dask: DaskCluster) -> None:
    client = ClosingClient(dask.address, timeout=30, set_as_default=False)
    client.close()
    with LoopRunner._lock:  # as while another client is being made, whose thread collects the garbage
        collector = threading.Thread(target=client.__del__, daemon=True)
        collector.start()
        collector.join(timeout=60)
        assert not collector.is_alive()


def test_nobody_to_work_and_a_lost_scheduler_are_told(
    tmp_path: Path, fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "DESERTED_SECONDS", 0.1)
    monkeypatch.setattr("dqm.reference.processes.SILENCE_SECONDS", 0.1)
    with DaskCluster(tmp_path) as dask, open_cluster(dask.address) as workers:
        with pytest.raises(WorkerError, match=r"no worker for 0 s. Start some: dask worker tcp://"):
            make_table(fresh, workers)
        monkeypatch.setattr(workers, "_look", dask.scheduler.kill)
        with pytest.raises(WorkerError, match=r"the connection was lost: .*Run it again when"):
            make_table(fresh, workers)


def test_workers_with_other_software_are_refused(fresh: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_task = WorkerTask(SimpleNamespace(bundle=fresh.path), {})
    monkeypatch.setattr(cluster, "version", lambda _name: "0.0.1")
    monkeypatch.setattr(cluster, "_this_worker", lambda: "worker 7")
    with pytest.raises(WorkerError, match=r"worker 7: has dqm 0\.0\.1, not \d.*Install the same"):
        worker_task.work(b"")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--processes", 2, "--scheduler", "tcp://host:8786"),
            "--processes cannot be given with --scheduler",
        ),
        (("--ship",), "--ship needs --scheduler"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    dqm: Dqm, plain: Bundle, options: tuple[object, ...], message: str
) -> None:
    told = dqm("reference", "calibrate", plain.path, "--toys", 100, *options)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
