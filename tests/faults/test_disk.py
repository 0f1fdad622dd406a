"""Disks that are full, read-only or broken under a running daemon, and at its start."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from dqm.events import Quality
from dqm.service.monitor.recorder import PROBE_SECONDS
from dqm.stream import Sender
from tests.cli.program import start_dqm
from tests.service.small import N_WINDOW, faulty_events, window_of
from tests.waiting import wait_until

from .conftest import Open, administer, mounted
from .site import STREAMS, Site

WAIT_SECONDS = 60.0
pytestmark = pytest.mark.slow
MOST_WINDOWS = 900


def send_until_it_fails(site: Site, sender: Sender, run: int) -> int:
    """Send windows worth keeping until the daemon says that it cannot store; gives how many were sent."""
    before = site.metric("dqm_store_failures_total")
    for seq in count():
        sender.send(window_of(faulty_events(N_WINDOW, seq), run=run, seq=seq))
        sender.confirm(0.05)
        if seq % 8 == 0 and site.metric("dqm_store_failures_total") > before and sender.n_kept:
            return seq + 1
        assert seq < MOST_WINDOWS, "the store never failed"
    raise AssertionError


def check_that_it_waits_and_says_why(site: Site, sender: Sender, why: str) -> None:
    """The fault lasts: nothing is acknowledged, the daemon answers, and its log has the remedy."""
    failures = site.metric("dqm_store_failures_total")
    wait_until(lambda: site.metric("dqm_store_failures_total") > failures, "another attempt")
    n_kept = sender.n_kept
    assert not sender.confirm(0.5)
    assert sender.n_kept == n_kept > 0
    assert site.get("/healthz").status_code == 200
    assert site.get("/").status_code == 200
    assert why in site.events("the store fails; trying again")[-1]["why"]


def check_that_it_goes_on(site: Site, sender: Sender, run: int, n_sent: int) -> None:
    """The fault is over: every window is judged once, without anybody's help."""
    assert sender.confirm(WAIT_SECONDS)
    sender.send(window_of(run=run, seq=n_sent))
    assert sender.confirm(WAIT_SECONDS)
    verdicts = site.run_of(run)
    assert sorted(verdict.window.seq for verdict in verdicts) == list(range(n_sent + 1))
    assert verdicts[-1].quality is Quality.GOOD
    assert not [verdict.reason for verdict in verdicts if verdict.quality is Quality.NULL]


def test_a_full_disk_leaves_windows_with_their_sender_until_there_is_room(
    shared: Site, disk: Path, sender: Sender
) -> None:
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    n_sent = send_until_it_fails(shared, sender, 100)
    check_that_it_waits_and_says_why(shared, sender, "is full. Free space on the disk")
    ballast.unlink()
    check_that_it_goes_on(shared, sender, 100, n_sent)


def test_a_disk_that_turns_read_only_is_waited_for(shared: Site, disk: Path, sender: Sender) -> None:
    files = sorted(disk.glob("verdicts.sqlite*"))
    administer("chattr", "+i", *files)
    try:
        n_sent = send_until_it_fails(shared, sender, 101)
        check_that_it_waits_and_says_why(shared, sender, "The disk fails or became read-only")
    finally:
        administer("chattr", "-i", *files)
    check_that_it_goes_on(shared, sender, 101, n_sent)


def test_writing_that_fails_is_tried_again(shared: Site, sender: Sender) -> None:
    sender.send(window_of(run=102))
    assert sender.confirm(WAIT_SECONDS)
    unlimited = resource.prlimit(shared.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(shared.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    try:  # neither can the daemon write to its log, which must not stop it
        sender.send(window_of(faulty_events(N_WINDOW, 1), run=102, seq=1))
        failures = shared.metric("dqm_store_failures_total")
        wait_until(lambda: shared.metric("dqm_store_failures_total") > failures + 1, "two attempts")
        assert not sender.confirm(0.5)
        assert shared.get("/").status_code == 200
    finally:
        resource.prlimit(shared.pid, resource.RLIMIT_FSIZE, unlimited)
    check_that_it_goes_on(shared, sender, 102, 2)


def test_kept_windows_that_cannot_be_written_do_not_stop_the_verdicts(shared: Site, sender: Sender) -> None:
    folder = shared.data / "windows" / STREAMS[1]
    assert not folder.exists()
    folder.write_text("in the way")
    failures = shared.metric("dqm_store_failures_total")
    try:
        sender.send(window_of(faulty_events(N_WINDOW, 1), stream=STREAMS[1], run=103))
        assert sender.confirm(WAIT_SECONDS)
        # the window is acknowledged first and kept afterwards
        wait_until(lambda: shared.metric("dqm_store_failures_total") == failures + 1, "one failure")
    finally:
        folder.unlink()
    assert shared.events("window not kept")[-1]["run"] == 103
    assert [verdict.quality for verdict in shared.run_of(103)] == [Quality.BAD]


def test_a_read_only_disk_at_the_start_is_told(open_site: Open) -> None:
    site = open_site("workers = 0")
    with mounted(site.data, "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs"):
        site.launch()
        assert site.wait_for_end() == 2
    told = site.log.read_text()
    assert "ended by an error" in told
    assert "writable for the daemon's user" in told
    assert "Traceback" not in told


def test_a_log_on_a_full_disk_stops_nothing(open_site: Open) -> None:
    site = open_site("workers = 0")
    site.logs.append(Path("/dev/full"))
    site.daemon = start_dqm("run", "daemon.toml", cwd=site.folder, log=site.log)
    wait_until(is_served(site), "the page")
    with Sender(site.address) as sender:
        for seq in range(3):
            sender.send(window_of(seq=seq))
        assert sender.confirm(WAIT_SECONDS)
    assert [verdict.quality for verdict in site.verdicts()] == [Quality.GOOD] * 3


def is_served(site: Site) -> Callable[[], bool]:
    def ask() -> bool:
        with suppress(httpx.TransportError):
            return site.get("/healthz").status_code == 200
        return False

    return ask


def test_a_store_damaged_in_use_is_noticed_and_windows_wait_for_another(open_site: Open) -> None:
    site = open_site("workers = 0")
    site.start()
    with Sender(site.address) as sender:
        for seq in range(30):
            sender.send(window_of(faulty_events(N_WINDOW, seq), seq=seq))
        assert sender.confirm(WAIT_SECONDS)
        damage(site.data / "verdicts.sqlite")
        time.sleep(PROBE_SECONDS)  # a store that was read back a moment ago is not read back again
        sender.send(window_of(seq=30))
        wait_until(lambda: site.n_logged("the store fails; trying again") > 1, "the damage is noticed")
        assert "ove the file away" in site.events("the store fails; trying again")[-1]["why"]
        assert site.metric("dqm_store_failures_total") > 1
        assert not sender.confirm(0.1)
        site.kill()
        site.launch()
        assert site.wait_for_end() == 2
        told = site.log.read_text()
        assert "ove the file away" in told
        assert "Traceback" not in told
        for each in site.data.glob("verdicts.sqlite*"):
            each.rename(each.with_name(f"damaged-{each.name}"))
        site.start()
        assert sender.confirm(WAIT_SECONDS)
    assert [verdict.window.seq for verdict in site.verdicts()] == [30]
    site.stop()


def damage(path: Path) -> None:
    """Overwrite all pages but the first."""
    with closing(sqlite3.connect(path)) as connection:  # let them be in the file rather than in its log
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    assert size > 20 * 4096
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
