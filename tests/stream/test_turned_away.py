from __future__ import annotations

from dqm.stream.turned_away import TurnedAwayPeer, TurnedAwayPeers


def test_tries_are_counted_by_address_and_forgotten_after_the_last_one() -> None:
    now = [100.0]
    peers = TurnedAwayPeers(lambda: now[0])
    peers.add("10.0.0.1", "unknown key A")
    now[0] = 400.0
    peers.add("10.0.0.2", "unknown key B")
    peers.add("10.0.0.1", "unknown key C")
    assert peers.peers() == (
        TurnedAwayPeer("10.0.0.1", 2, 100.0, 400.0, "unknown key C"),
        TurnedAwayPeer("10.0.0.2", 1, 400.0, 400.0, "unknown key B"),
    )
    now[0] = 1000.0
    assert len(peers.peers()) == 2
    now[0] = 1000.5
    assert peers.peers() == ()
    peers.add("10.0.0.1", "again")
    assert peers.peers()[0].since == 1000.5


def test_the_number_of_addresses_is_bounded() -> None:
    peers = TurnedAwayPeers(lambda: 0.0)
    for number in range(1000):
        peers.add(f"10.0.{number // 256}.{number % 256}", "no key")
    found = peers.peers()
    assert (len(found), found[0].address, found[-1].address) == (64, "10.0.3.231", "10.0.3.168")
