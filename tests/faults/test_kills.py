"""Daemon and collector killed at random under load: nothing lost, nothing twice, alarms as they were."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from dqm.web.auth.users import add_user
from tests.cli.program import call_dqm
from tests.waiting import wait_until

from .conftest import Open
from .live import MADE
from .site import STREAMS, Site

HEALTHY, FAULTY = STREAMS
MOST_WINDOWS_BETWEEN = 20
ROUNDS_UNTIL_CAUGHT_UP = 10  # or more windows would be made than judged, until the buffer is full
CATCH_UP_SECONDS = 600.0  # on a machine that others use too
SPOOL = "buffer_windows = 5000"
USER, PASSWORD = "maria", "correct horse"


def start_collector(site: Site, rate_hz: float) -> None:
    site.collect(healthy=[HEALTHY], faulty=[FAULTY], rate_hz=rate_hz, section=SPOOL)


def is_caught_up(site: Site) -> bool:
    """Whether a window was judged that is not old: none waits in the collector."""
    return time.time() - site.metrics().get(("dqm_condition", MADE, HEALTHY), 0.0) < 2.0


def respond(site: Site) -> dict[str, Any]:
    """Do what a shift does: acknowledge, shelve, mask; gives what must be remembered."""
    url = f"http://{site.http}"
    wait_until(lambda: of_alarm(site, FAULTY, "differs")["state"] == "Active", "an alarm")
    secret = site.folder / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORD)
    for command in (
        ("ack", url, FAULTY, "differs", "-c", "HV trip"),
        ("shelve", url, HEALTHY, "silent", "-r", "gas works", "--hours", "8"),
        ("mask", url, HEALTHY, "-r", "known noise", "--run-type", "calib"),
    ):
        assert call_dqm("alarms", *command, "--user", USER, "--password-file", secret) == 0
    remembered = remember(site)
    assert remembered["acknowledged"]["user"] == USER
    assert remembered["shelf"]["reason"] == "gas works"
    assert len(remembered["masks"]) == 1
    return remembered


def remember(site: Site) -> dict[str, Any]:
    alarm = of_alarm(site, FAULTY, "differs")
    return {
        "raised_at": alarm["raised_at"],
        "acknowledged": alarm["acknowledged"],
        "shelf": of_alarm(site, HEALTHY, "silent")["shelf"],
        "masks": site.get("/api/v1/masks").json()["masks"],
    }


def of_alarm(site: Site, stream: str, cause: str) -> dict[str, Any]:
    alarms: list[dict[str, Any]] = site.get("/api/v1/alarms").json()["alarms"]
    return next(alarm for alarm in alarms if (alarm["stream"], alarm["cause"]) == (stream, cause))


VICTIMS = ("both", "daemon", "collector")
N_ROUNDS = int(os.environ.get("DQM_KILLS", "200")) * 3 // 4
"""In three rounds, two kill the daemon and two the collector: ``DQM_KILLS`` is the sum of both."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_rounds", "rate_hz"), [(1, 2.0), pytest.param(N_ROUNDS, 8.0, marks=pytest.mark.long)]
)
def test_nothing_is_lost_or_judged_twice_when_daemon_and_collector_are_killed(
    open_site: Open, n_rounds: int, rate_hz: float
) -> None:
    chance = np.random.default_rng(n_rounds)
    site = open_site(f'workers = {int(n_rounds > 1)}\n[web]\nusers = "users.toml"')
    add_user(site.folder / "users.toml", USER, PASSWORD)
    victims = [VICTIMS[n % 3] for n in range(n_rounds)]
    start_collector(site, rate_hz)
    site.start()
    remembered = respond(site)
    for n, victim in enumerate(victims):
        if n % ROUNDS_UNTIL_CAUGHT_UP == 0:
            wait_until(lambda: is_caught_up(site), "the collector has caught up", CATCH_UP_SECONDS)
        wanted = site.n_logged("judged") + chance.integers(MOST_WINDOWS_BETWEEN)
        wait_until(lambda n=wanted: site.n_logged("judged") >= n, "windows")  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, 0.3))
        if victim != "daemon":
            site.collectors["live"].kill()
            site.collectors["live"].wait()
        if victim != "collector":
            site.kill()
        if victim != "daemon":
            start_collector(site, rate_hz)
        if victim != "collector":
            site.start()
        assert remember(site) == remembered
        if n % 20 == 19:
            print(f"{n + 1} of {n_rounds} rounds", flush=True)  # noqa: T201
    wait_until(lambda: is_caught_up(site), "the collector has caught up", CATCH_UP_SECONDS)
    ended = site.end_collector()
    site.stop()
    assert (ended["lost"], ended["spooled"], ended["refused"]) == (0, 0, 0)
    judged = site.check_delivery()
    assert not [verdict.reason for verdict in site.verdicts() if verdict.window.n_lost]
    killed = {name: sum(victim in (name, "both") for victim in victims) for name in VICTIMS[1:]}
    print(f"killed {killed}: {judged} windows judged, each once, 0 lost, alarms as they were")  # noqa: T201
