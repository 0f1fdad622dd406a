"""The receiving end: a bound socket that returns windows, or the reason why a message was refused."""

from __future__ import annotations

import errno
import socket as unix
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import zmq

from dqm.config import is_local
from dqm.errors import ConfigError, PeerError
from dqm.events import Window
from dqm.stream.acknowledgement import (
    Identity,
    Reason,
    encode_acknowledgement,
    encode_refusal,
    encode_run_answer,
    identity_of,
)
from dqm.stream.connection import set_options
from dqm.stream.keys import CollectorKey, KeyRing
from dqm.stream.run_message import RunMessage, claimed_run, decode_run, is_run_message, run_identity_of
from dqm.stream.turned_away import TurnedAwayPeer
from dqm.stream.wire import Limits, claimed_identity, decode
from dqm.stream.zap import ZapAuthenticator

__all__ = ["Receiver"]

_MAX_FRAMES = 3  # one more than a message has, so that `decode` sees when there are too many
_MAX_UNANSWERED = 100_000  # windows whose senders are remembered until they are answered
_MAX_QUEUED_ANSWERS = 10_000  # for each sender that does not read
_MAX_TOLD_IDS = 1000
_REMINDER_SECONDS = 600.0
_PROBE_SECONDS = 1.0


class Receiver:
    """Receives windows at one or more addresses; to be used from one thread.

    Parameters
    ----------
    addresses : sequence of str
        Addresses to listen at: ``tcp://127.0.0.1:5565``, ``ipc:///run/dqm/windows``; port 0: any free port.
    limits : Limits, optional
        Largest message that is accepted.
    keys : KeyRing, optional
        Collectors that may connect to addresses that are not local, and their streams; required for such
        addresses.
    keyed_everywhere : bool
        Whether local addresses require keys as well.
    monotonic : callable
        Monotonic clock, s.

    Raises
    ------
    ConfigError
        If an address is in use or cannot be used, or is not local and there are no keys.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        limits: Limits | None = None,
        *,
        keys: KeyRing | None = None,
        keyed_everywhere: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or Limits()
        self._nan_shares: Mapping[str, float] = {}
        self._keys = keys
        self._keyless = [a for a in addresses if is_local(a) and not (keys and keyed_everywhere)]
        self._monotonic = monotonic
        self._refusal_was_last = False
        self._told_ids: OrderedDict[bytes, float] = OrderedDict()  # of peers, and when each was told
        self._peers: OrderedDict[Identity, bytes] = OrderedDict()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        largest = max(self._limits.max_header_bytes, self._limits.max_payload_bytes)
        # ZeroMQ drops further answers without an error
        set_options(self._socket, max_message_bytes=largest, most_unsent=_MAX_QUEUED_ANSWERS)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # for ids that the daemon did not give, see `zap`
        self._zap = ZapAuthenticator(self._context, self._socket, keys)
        try:
            bound = {address: self._bind(address) for address in self._keyless}
            if keys is not None:
                self._zap.protect(keys)
            bound |= {address: self._bind(address) for address in addresses if address not in bound}
            self._addresses = tuple(bound[address] for address in addresses)
        except ConfigError:
            self.close()
            raise

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses as bound, with the actual port numbers."""
        return self._addresses

    def turned_away(self) -> tuple[TurnedAwayPeer, ...]:
        """Addresses whose connections are turned away; may be called from any thread."""
        return self._zap.turned_away.peers()

    def wait(self, timeout_ms: int, descriptors: Sequence[int] = (), *, messages: bool = True) -> None:
        """Wait for a message, or for a file descriptor.

        Parameters
        ----------
        timeout_ms : int
            Longest wait, ms.
        descriptors : sequence of int
            File descriptors that also end the wait when they become readable.
        messages : bool
            Whether a message ends the wait.
        """
        poller = zmq.Poller()
        for one in (self._socket, *descriptors) if messages else descriptors:
            poller.register(one, zmq.POLLIN)
        poller.poll(timeout_ms)

    def receive(self, timeout_ms: int) -> Window | RunMessage | PeerError | None:
        """Receive the next message, or the next refusal of a peer.

        Parameters
        ----------
        timeout_ms : int
            Longest wait, ms.

        Returns
        -------
        Window, RunMessage, PeerError or None
            A window; a message about a run; the reason why a message or a peer was refused, to be counted;
            or None if nothing came.
            A refused message is answered if its header identifies the window or the run.
        """
        refused_peer = self._next_refused_peer()
        if refused_peer is not None or not self._socket.poll(timeout_ms, zmq.POLLIN):
            return refused_peer
        peer, user, frames = self._read_message()
        if is_run_message(frames, self._limits):
            return self._receive_run(peer, user, frames)
        try:
            self._check_routing_id(peer, user)
            window = self._decode(user, frames)
        except PeerError as refusal:
            claimed = claimed_identity(frames, self._limits)
            self._identify(refusal, user, claimed)
            # without an answer a sender may send it again with another key or routing id
            if claimed is not None and refusal.reason not in (Reason.UNKNOWN_KEY, Reason.ROUTING_ID):
                self._answer(peer, encode_refusal(claimed, refusal.reason))
            return refusal
        self._peers[identity_of(window)] = peer
        while len(self._peers) > _MAX_UNANSWERED:
            self._peers.popitem(last=False)
        return window

    def _receive_run(self, peer: bytes, user: str | None, frames: list[bytes]) -> RunMessage | PeerError:
        """Decode a message about a run; whoever knows the streams decides whether its key may send it."""
        try:
            self._check_routing_id(peer, user)
            sender = self._find_collector(user)
            return RunMessage(decode_run(frames, self._limits), sender, peer)
        except PeerError as refusal:
            claimed = claimed_run(frames)
            self._identify(refusal, user, None)
            if claimed is not None:
                refusal.run = claimed[:2]
                if refusal.reason not in (Reason.UNKNOWN_KEY, Reason.ROUTING_ID):
                    self._answer(peer, encode_run_answer(claimed, refusal.reason, refusal.what))
            return refusal

    def answer_run(self, message: RunMessage, refusal: PeerError | None = None) -> None:
        """Acknowledge a message about a run, which is stored, or refuse it.

        Parameters
        ----------
        message : RunMessage
            As received; if its sender has disconnected, nothing is sent.
        refusal : PeerError, optional
            Why it is refused.
        """
        reason, what = (refusal.reason, refusal.what) if refusal is not None else ("", "")
        self._answer(message.peer, encode_run_answer(run_identity_of(message.notice), reason, what))

    def acknowledge(self, window: Window) -> None:
        """Acknowledge a window to its sender: its verdict is stored.

        Parameters
        ----------
        window : Window
            A window that was received; if its sender has disconnected, nothing is sent.
        """
        identity = identity_of(window)
        peer = self._peers.pop(identity, None)
        if peer is not None:
            self._answer(peer, encode_acknowledgement(identity))

    def refuse(self, window: Window, reason: str) -> None:
        """Refuse a window, so that its sender does not send it again.

        Parameters
        ----------
        window : Window
            A window that was received.
        reason : str
            One of `Reason`.
        """
        identity = identity_of(window)
        peer = self._peers.pop(identity, None)
        if peer is not None:
            self._answer(peer, encode_refusal(identity, reason))

    def allow_nan(self, shares: Mapping[str, float]) -> None:
        """Accept NaN in some streams, up to a share of the events in each feature; the others have none."""
        self._nan_shares = shares

    def reload_keys(self) -> None:
        """Read the public keys again: new keys may connect, and messages with removed keys are refused.

        Raises
        ------
        ConfigError
            If a file cannot be used; the keys then do not change.
        """
        if self._keys is not None:
            self._keys.reload()

    def close(self) -> None:
        """Stop listening; messages that were not received yet are dropped."""
        self._zap.close()
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, peer: bytes, frames: list[bytes]) -> None:
        """Send without waiting; if the sender's queue is full the answer is lost, and the sender repeats."""
        self._socket.send_multipart([peer, *frames], zmq.NOBLOCK)

    def _read_message(self) -> tuple[bytes, str | None, list[bytes]]:
        """Read routing identity and key of the sender, and its first `_MAX_FRAMES` frames."""
        peer = self._socket.recv()
        user = None
        frames: list[bytes] = []
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(copy=False)
            if not frames:
                user = _user_of(frame)
            if len(frames) < _MAX_FRAMES:
                frames.append(frame.bytes)
        return peer, user, frames

    def _check_routing_id(self, peer: bytes, user: str | None) -> None:
        """Tell of a peer that kept a routing id of its own; raises `PeerError` if it has a key.

        Another peer with the same id takes its connection over, and gets its answers. Nobody but a peer that
        delays its handshake on purpose comes so far with a key. Ids of ZeroMQ begin with a zero byte.
        """
        if self._zap.routing_ids.is_own(peer) or peer[:1] == b"\0":
            return
        what = f"a sender has set the routing id {ascii(peer[:64])[2:-1]!r}: senders set none"
        if user is not None:
            raise PeerError(Reason.ROUTING_ID, what)
        now = self._monotonic()
        if now - self._told_ids.get(peer, float("-inf")) >= _REMINDER_SECONDS:
            self._told_ids[peer] = now
            self._zap.add_refusal(Reason.ROUTING_ID, what)
            self._zap.turned_away.add("", what)  # for the page; its messages are taken
        if len(self._told_ids) > _MAX_TOLD_IDS:
            self._told_ids.popitem(last=False)

    def _next_refused_peer(self) -> PeerError | None:
        """Return the next refused peer, at most every second call: many refusals must not block messages."""
        self._refusal_was_last = not self._refusal_was_last
        return self._zap.next_refusal() if self._refusal_was_last else None

    def _decode(self, user: str | None, frames: list[bytes]) -> Window:
        """Decode a message; raises `PeerError` if it breaks the format or its key may not send the stream."""
        collector = self._find_collector(user)
        window = decode(frames, self._limits, self._nan_shares)
        if collector is not None and not collector.may_send(window.stream):
            raise PeerError(
                Reason.STREAM_NOT_ALLOWED, f"{collector.name} may not send stream {window.stream}"
            )
        return window

    def _find_collector(self, user: str | None) -> CollectorKey | None:
        """Find the collector of a key; None if no key is needed, `PeerError` if the key was removed."""
        if self._keys is None or (user is None and self._keyless):
            return None
        collector = self._keys.find(user) if user else None
        if collector is None:
            raise PeerError(Reason.UNKNOWN_KEY, f"a message with the key {user}, which was removed")
        return collector

    def _identify(self, refusal: PeerError, user: str | None, claimed: Identity | None) -> None:
        """Say whose window was refused; a sender can say it only of streams that it may send."""
        collector = self._keys.find(user) if self._keys is not None and user else None
        refusal.sender = collector.name if collector is not None else ""
        is_keyless = self._keys is None or (user is None and bool(self._keyless))
        if claimed is not None and (is_keyless or (collector is not None and collector.may_send(claimed[0]))):
            refusal.window = claimed

    def _bind(self, address: str) -> str:
        in_use = ConfigError(
            f"address {address} is already in use",
            fix="Another daemon may be running: stop it, or choose another address",
        )
        if _is_served(address):
            raise in_use
        if self._keys is None and not is_local(address):
            raise ConfigError(
                f"{address} can be reached from other hosts, and there are no keys",
                fix="Make keys with 'dqm keys new', see [daemon] keys; or listen at 127.0.0.1, [::1] or ipc://",
            )
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                raise in_use from error
            raise ConfigError(
                f"cannot listen at {address!r}: {error}", fix="Use tcp://IP:PORT or ipc://PATH"
            ) from error
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _user_of(frame: zmq.Frame) -> str | None:
    """Key (Z85) of the peer that sent a frame; None at an address without keys."""
    try:
        return str(frame.get("User-Id")) or None
    except zmq.ZMQError:
        return None


def _is_served(address: str) -> bool:
    """Whether a program listens at an ipc address; ZeroMQ would take the address over without an error."""
    if not address.startswith("ipc://"):
        return False
    path = address.removeprefix("ipc://")
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            return False
    return True
