"""What systemd would be told, heard at a socket of the test's own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.events import Quality, TestResult
from dqm.service.sd_notify import Notifier, ProgressWatch, ServiceReport
from tests.verdicts import make_verdict

VERDICT = make_verdict(
    stream="chamber-1",
    run=7,
    seq=0,
    quality=Quality.GOOD,
    reason="",
    result=TestResult(n_data=60, n_expected=60.0),
    bundle="b",
    seconds=0.0,
    judged_at=100.0,
)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's end, and its address as it is written."""
    written = f"{tmp_path}/notify" if request.param == "path" else f"@dqm-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + written[1:] if written.startswith("@") else written)
        end.settimeout(60.0)
        yield end, written


def heard(end: socket.socket) -> list[str]:
    """Everything told so far."""
    end.setblocking(False)
    told = []
    while True:
        try:
            told.append(end.recv(4096).decode())
        except BlockingIOError:
            return told


def test_the_life_of_a_service_is_told(manager: tuple[socket.socket, str]) -> None:
    end, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    before = time.monotonic_ns() // 1000
    assert notifier.ready()
    assert notifier.status("run 7,\nlast window 3 s ago")
    assert not notifier.status("run 7, last window 3 s ago"), "the same is not told twice"
    assert notifier.reloading()
    assert notifier.stopping()
    ready, status, reloading, stopping = heard(end)
    assert (ready, status, stopping) == ("READY=1", "STATUS=run 7, last window 3 s ago", "STOPPING=1")
    state, moment = reloading.split("\n")
    assert state == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("address", [None, "", "/no/such/socket"])
def test_without_a_manager_nothing_is_told_and_nothing_fails(address: str | None) -> None:
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    assert not notifier.ready()
    assert notifier.watchdog_seconds is None


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "180000000"}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": str(os.getpid())}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_by_the_process_it_watches(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environ).watchdog_seconds == seconds


def test_the_watchdog_is_fed_by_progress_alone(manager: tuple[socket.socket, str]) -> None:
    end, address = manager
    now = 0.0
    watch = ProgressWatch(Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000000"}), lambda: now)
    fed = []
    for n_done, n_waiting, held in [
        (0, 0, False),  # nothing to do
        (0, 5, False),  # windows wait ...
        (0, 5, False),  # ... and none gets done: silence
        (1, 5, False),
        (1, 5, False),
        (1, 5, True),  # the disk is full, say
        (1, 0, False),
    ]:
        fed.append(watch.note(n_done=n_done, n_waiting=n_waiting, held=held))
        now += 10.0
    assert fed == [True, False, False, True, False, True, True]
    assert heard(end) == ["WATCHDOG=1"] * 4


def test_the_watchdog_is_not_fed_too_often(manager: tuple[socket.socket, str]) -> None:
    end, address = manager
    now = 0.0
    watch = ProgressWatch(Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000000"}), lambda: now)
    for n_done in range(1000):
        watch.note(n_done=n_done, n_waiting=1)
        now += 0.1
    assert len(heard(end)) == 10


def test_progress_between_two_feeds_is_not_forgotten(manager: tuple[socket.socket, str]) -> None:
    _, address = manager
    now = 0.0
    watch = ProgressWatch(Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000000"}), lambda: now)
    assert watch.note(n_done=1, n_waiting=5)
    now = 1.0
    assert not watch.note(n_done=2, n_waiting=5)
    now = 11.0
    assert watch.note(n_done=2, n_waiting=5)


@pytest.mark.parametrize(("n_judged", "text"), [(0, "0 windows"), (1, "1 window"), (2, "2 windows")])
def test_counts_in_the_status_agree_with_their_nouns(
    manager: tuple[socket.socket, str], n_judged: int, text: str
) -> None:
    end, address = manager
    report = ServiceReport(Notifier({"NOTIFY_SOCKET": address}), lambda: 103.0, lambda: 0.0)
    report.count([VERDICT] * n_judged)
    report.note(n_waiting=1, held=False)
    last = "run 7, last window 3 s ago" if n_judged else "no window yet"
    assert heard(end) == [f"STATUS={last}; {text} judged, 1 waiting"]
