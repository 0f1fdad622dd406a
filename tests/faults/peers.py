"""Peers of every kind as a process of their own: ``python -m tests.faults.peers``; see `Plan` for its input.

Each peer is a thread with a generator of its own: what it does follows from the seed, the moments do not. The
last line of the output is JSON: windows that were answered, and windows of healthy peers that were not.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread

import numpy as np
import zmq

from dqm.events import Origin, Window, WindowCut
from dqm.stream import Identity, Sender, SenderKeys, encode, identity_of, read_public, read_secret
from tests.stream.zmtp import GREETING, connect, end_handshake, frames_of

from .live import FEATURES, N_WINDOW

__all__ = ["Outcome", "Plan"]

STREAMS = ("chamber-1", "chamber-2")
SHARED_ID = b"daq-1"
MOST_IN_FLIGHT = 16
MOST_AT_ONCE = 6  # or the daemon has windows of peers that are gone to test for minutes
ANSWER_SECONDS = 5.0
LAST_SECONDS = 90.0


@dataclass(frozen=True)
class Plan:
    """What the peers do.

    Parameters
    ----------
    seed : int
        Of all decisions.
    seconds : float
        How long windows are made.
    open_addresses : list of str
        Addresses without keys.
    keyed_address : str
        An address with keys.
    keys : list of str
        Secret files of collectors, then the daemon's public file.
    """

    seed: int
    seconds: float
    open_addresses: list[str]
    keyed_address: str
    keys: list[str]


@dataclass
class Outcome:
    """What became of the windows."""

    answered: list[Identity] = field(default_factory=list)
    unanswered: list[Identity] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    n_connections: int = 0
    problems: list[str] = field(default_factory=list)


class Peer(Thread):
    """One thread; a failure in it is a problem of the outcome."""

    def __init__(self, plan: Plan, outcome: Outcome, number: int) -> None:
        super().__init__(daemon=True)
        self.plan, self.outcome, self.number = plan, outcome, number
        self.chance = np.random.default_rng([plan.seed, number])
        self.ends_at = time.monotonic() + plan.seconds
        self.context = zmq.Context.instance()
        addresses = [*plan.open_addresses, plan.keyed_address]
        self.address = addresses[number % len(addresses)]
        self._seqs = itertools.count()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.outcome.problems.append(f"{type(self).__name__} {self.number}: {error!r}")

    def work(self) -> None:
        raise NotImplementedError

    def make_window(self) -> Window:
        x = self.chance.normal(size=(N_WINDOW, 2)) @ [[1.0, 1.0], [0.0, 1.0]]
        stream = STREAMS[self.number % 2]
        return Window(
            stream, 1000 + self.number, next(self._seqs), "cosmics", Origin.LIVE, WindowCut.COUNT, FEATURES, x
        )

    def keys(self) -> SenderKeys | None:
        if self.address != self.plan.keyed_address:
            return None
        *secrets, daemon = map(Path, self.plan.keys)
        return SenderKeys(read_secret(secrets[self.number // 3 % len(secrets)]), read_public(daemon))

    def is_working(self) -> bool:
        return time.monotonic() < self.ends_at

    def connect(self, routing_id: bytes = b"") -> zmq.Socket[bytes]:
        opened = self.context.socket(zmq.DEALER)
        opened.linger = 0
        opened.setsockopt(zmq.IMMEDIATE, 1)
        if routing_id:
            opened.setsockopt(zmq.ROUTING_ID, routing_id)
        keys = self.keys()
        if keys is not None:
            keys.set_on(opened)
        opened.connect(self.address)
        self.outcome.n_connections += 1
        return opened

    def note(self, frames: list[bytes]) -> Identity:
        answer = json.loads(frames[1])
        identity = answer["stream"], answer["run"], answer["seq"]
        if frames[0] == b"ack":
            self.outcome.answered.append(identity)
        else:
            self.outcome.refused[answer["reason"]] = self.outcome.refused.get(answer["reason"], 0) + 1
        return identity


class OwnSender(Peer):
    """The sender of `dqm collect`."""

    def work(self) -> None:
        sent = []
        with Sender(self.address, keys=self.keys(), ack_timeout_seconds=ANSWER_SECONDS) as sender:
            while self.is_working():
                window = self.make_window()
                sender.send(window)
                sent.append(identity_of(window))
                sender.confirm(self.chance.exponential(0.2))
            is_done = sender.confirm(LAST_SECONDS)
            self.outcome.refused |= sender.refusals
            self.outcome.problems += [f"{self.number} lost {sender.n_lost}"] * bool(sender.n_lost)
        (self.outcome.answered if is_done else self.outcome.unanswered).extend(sent)


class SameId(Peer):
    """A sender in another language that sets a routing id, the same as others, and else keeps the rules."""

    def work(self) -> None:
        waiting: dict[Identity, list[bytes]] = {}
        opened = self.connect(SHARED_ID)
        heard = time.monotonic()
        deadline = self.ends_at + LAST_SECONDS
        while self.is_working() or (waiting and time.monotonic() < deadline):
            if self.is_working() and len(waiting) < MOST_IN_FLIGHT:
                window = self.make_window()
                waiting[identity_of(window)] = encode(window)
                self.send(opened, waiting[identity_of(window)])
            if opened.poll(self.chance.integers(1, 200)):
                waiting.pop(self.note(opened.recv_multipart()), None)
                heard = time.monotonic()
            elif time.monotonic() - heard > ANSWER_SECONDS and waiting:
                opened.close()
                opened = self.connect(SHARED_ID)
                heard = time.monotonic()
                for frames in waiting.values():
                    self.send(opened, frames)
        opened.close()
        self.outcome.unanswered += waiting

    def send(self, opened: zmq.Socket[bytes], frames: list[bytes]) -> None:
        if opened.poll(1000, zmq.POLLOUT):
            opened.send_multipart(frames)


class Rude(Peer):
    """Connects, floods, reads or not, and goes away; with the id of others or none."""

    def work(self) -> None:
        opened: list[zmq.Socket[bytes]] = []
        while self.is_working():
            deed = self.chance.choice(["connect", "flood", "read", "close", "rest"])
            if deed == "connect" and len(opened) < 6:
                opened.append(self.connect(SHARED_ID if self.chance.random() < 0.6 else b""))
            elif deed == "rest" or not opened:
                time.sleep(self.chance.exponential(0.1))
            elif deed == "close":
                opened.pop(self.chance.integers(len(opened))).close()
            else:
                self.use(opened[self.chance.integers(len(opened))], deed)
        for each in opened:
            each.close()

    def use(self, one: zmq.Socket[bytes], deed: str) -> None:
        with suppress(zmq.Again):
            for _ in range(self.chance.integers(MOST_AT_ONCE)):
                if deed == "flood":
                    one.send_multipart(encode(self.make_window()), zmq.NOBLOCK)
                else:
                    self.note(one.recv_multipart(zmq.NOBLOCK))


class ByHand(Peer):
    """Speaks ZMTP itself: ends its handshake late, so that it keeps the id of others, or not at all."""

    def work(self) -> None:
        self.address = self.plan.open_addresses[self.number % len(self.plan.open_addresses)]
        opened: list[socket.socket] = []
        while self.is_working():
            if len(opened) < 5:
                with suppress(OSError):
                    opened.append(self.shake_hands())
            time.sleep(self.chance.exponential(0.05))
            if opened and self.chance.random() < 0.5:
                opened.pop(self.chance.integers(len(opened))).close()

    def shake_hands(self) -> socket.socket:
        opened = connect(self.address)
        self.outcome.n_connections += 1
        opened.sendall(GREETING[: self.chance.choice([10, 64, 64, 64])])
        end_handshake(opened, SHARED_ID)
        for _ in range(self.chance.integers(MOST_AT_ONCE)):
            opened.sendall(b"".join(frames_of(encode(self.make_window()))))
        return opened


KINDS = (OwnSender, OwnSender, OwnSender, SameId, SameId, SameId, Rude, Rude, Rude, ByHand, ByHand)


def main(plan: Plan) -> Outcome:
    """Let all peers work to their end."""
    outcome = Outcome()
    peers = [kind(plan, outcome, number) for number, kind in enumerate(KINDS)]
    for peer in peers:
        peer.start()
    for peer in peers:
        peer.join(plan.seconds + 2 * LAST_SECONDS)
        outcome.problems += [f"{type(peer).__name__} {peer.number} does not end"] * peer.is_alive()
    return outcome


if __name__ == "__main__":
    print(json.dumps(asdict(main(Plan(**json.loads(sys.argv[1]))))), flush=True)  # noqa: T201
    sys.exit(0)
