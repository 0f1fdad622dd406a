"""A network between collector and daemon that is cut: two network namespaces and a pair of virtual cards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dqm.stream import make_keys
from tests.waiting import wait_until

from .conftest import Open, administer
from .site import STREAMS, Site

DAEMON_IP, COLLECTOR_IP = "198.18.77.1", "198.18.77.2"  # of the range for tests of networks
PORT = 5565


@dataclass(frozen=True)
class Network:
    """What lies between the two."""

    daemon: str
    collector: str

    def set_link(self, state: str) -> None:
        """Plug the cable in or out; neither side is told that its peer has gone."""
        administer("ip", "-n", self.daemon, "link", "set", "dqm0", state)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(f"dqm-{os.getpid()}-d", f"dqm-{os.getpid()}-c")
    with ExitStack() as opened:
        for name in (made.daemon, made.collector):
            administer("ip", "netns", "add", name)
            opened.callback(administer, "ip", "netns", "del", name)
        administer(
            "ip", "link", "add", "dqm0", "netns", made.daemon, "type", "veth",
            "peer", "name", "dqm1", "netns", made.collector,
        )  # fmt: skip
        for name, card, ip in ((made.daemon, "dqm0", DAEMON_IP), (made.collector, "dqm1", COLLECTOR_IP)):
            for link in ("lo", card):
                administer("ip", "-n", name, "link", "set", link, "up")
            administer("ip", "-n", name, "address", "add", f"{ip}/30", "dev", card)
        yield made


def give_keys(site: Site) -> str:
    """Keys of both, since they are different hosts; gives the collector's lines."""
    keys = site.folder / "keys"
    make_keys(keys, "daemon")
    make_keys(keys, "west", ["chamber-*"])
    secret = keys.parent / "west.secret"
    (keys / "west.secret").rename(secret)
    return f'key = "{secret}"\ndaemon_key = "{keys / "daemon.public"}"\nbuffer_windows = 20000'


def n_judged(log: Path) -> int:
    return log.read_text().count('"event": "judged"')


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3.0, pytest.param(150.0, marks=pytest.mark.long)])
def test_a_network_that_is_cut_delays_windows_and_loses_none(
    open_site: Open, network: Network, seconds: float
) -> None:
    site = open_site('workers = 0\nkeys = "keys"', listen=f"tcp://{DAEMON_IP}:{PORT}")
    keys = give_keys(site)
    site.start("ip", "netns", "exec", network.daemon)
    through = ("ip", "netns", "exec", network.collector)
    site.collect(healthy=STREAMS, rate_hz=10.0, section=keys, through=through)
    wait_until(lambda: n_judged(site.log) > 10, "windows")
    network.set_link("down")
    time.sleep(seconds)  # so long is the network cut
    during = n_judged(site.log)
    time.sleep(0.5)  # time for windows, which must not come
    assert n_judged(site.log) == during, "the network is not cut"
    network.set_link("up")
    begin = time.monotonic()
    wait_until(lambda: n_judged(site.log) > during + 10, "windows again")
    back_after = time.monotonic() - begin
    ended = site.end_collector()
    site.stop()
    assert (ended["lost"], ended["spooled"], ended["refused"]) == (0, 0, 0)
    judged = site.check_delivery()
    assert sum(judged.values()) == ended["windows"]
    assert not [verdict.reason for verdict in site.verdicts() if verdict.window.n_lost]
    print(f"cut for {seconds:.0f} s: {judged} windows judged, 0 lost; back after {back_after:.1f} s")  # noqa: T201
