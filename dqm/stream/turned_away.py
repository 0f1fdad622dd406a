"""Peers whose connections are turned away: how often, since when and why, by their address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

__all__ = ["TurnedAwayPeer", "TurnedAwayPeers"]

_MAX_ADDRESSES = 64
_REMEMBERED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class TurnedAwayPeer:
    """An address whose connections are turned away.

    Parameters
    ----------
    address : str
        IP address; empty if the peer was gone before it could be asked for.
    count : int
        Connections that were turned away.
    since, last : float
        When the first and the last of them came, Unix seconds.
    what : str
        Why the last one was turned away.
    """

    address: str
    count: int
    since: float
    last: float
    what: str


class TurnedAwayPeers:
    """Remembers the last 64 addresses for 10 minutes after their last try; for several threads.

    Parameters
    ----------
    clock : callable
        Unix time, s.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._peers: OrderedDict[str, TurnedAwayPeer] = OrderedDict()

    def add(self, address: str, what: str) -> None:
        """Count a connection."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            known = self._peers.pop(address, TurnedAwayPeer(address, 0, now, now, what))
            self._peers[address] = replace(known, count=known.count + 1, last=now, what=what)
            while len(self._peers) > _MAX_ADDRESSES:
                self._peers.popitem(last=False)

    def peers(self) -> tuple[TurnedAwayPeer, ...]:
        """Addresses that have tried in the last 10 minutes, the last one first."""
        with self._lock:
            self._forget(self._clock())
            return tuple(reversed(self._peers.values()))

    def _forget(self, now: float) -> None:
        """Forget who has not tried for a long time, or tried in the future of a clock that was put back."""
        for peer in list(self._peers.values()):
            if abs(now - peer.last) > _REMEMBERED_SECONDS:
                del self._peers[peer.address]
