"""The receiving end: a bound socket that gives windows, or says why a message was refused."""

from __future__ import annotations

import errno
import socket as unix
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import zmq

from dqm.config import is_local
from dqm.errors import ConfigError, PeerError
from dqm.events import Window
from dqm.stream.acknowledgement import Identity, encode_acknowledgement, encode_refusal, identity_of
from dqm.stream.keys import Collector, KeyRing
from dqm.stream.limits import Limits, Reason
from dqm.stream.sockets import set_options
from dqm.stream.wire import claimed_identity, decode
from dqm.stream.zap import ZapAuthenticator

__all__ = ["Receiver"]

_MOST_FRAMES = 3  # one more than a message has, so that `decode` sees there were too many
_MOST_PEERS = 100_000  # windows whose senders are remembered until they are acknowledged
_MOST_ANSWERS = 10_000  # small ones, for each sender that does not read
_PROBE_SECONDS = 1.0


class Receiver:
    """Receives windows at one or more addresses; to be used from one thread.

    Parameters
    ----------
    addresses : sequence of str
        Where to listen: ``tcp://127.0.0.1:5565``, ``ipc:///run/dqm/windows``; port 0 takes a free port.
    limits : Limits, optional
        How much one message may claim.
    queue_messages : int
        Messages ZeroMQ holds for each sender before it makes the sender wait.
    keys : KeyRing, optional
        Who may come in at addresses that are not local, and what each may send; without it there are none.
    keyed_everywhere : bool
        Whether local addresses ask for keys too.

    Raises
    ------
    ConfigError
        If an address is in use or cannot be used, or is not local and there are no keys.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        limits: Limits | None = None,
        queue_messages: int = 16,
        *,
        keys: KeyRing | None = None,
        keyed_everywhere: bool = False,
    ) -> None:
        self._limits = limits or Limits()
        self._keys = keys
        self._open_to_all = [a for a in addresses if is_local(a) and not (keys and keyed_everywhere)]
        self._was_refusal = False
        self._peers: OrderedDict[Identity, bytes] = OrderedDict()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        largest = max(self._limits.max_header_bytes, self._limits.max_payload_bytes)
        set_options(self._socket, max_message_bytes=largest, queue_messages=queue_messages)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_ANSWERS)  # beyond it ZeroMQ drops them without a word
        self._zap = ZapAuthenticator(self._context, self._socket, keys) if keys else None
        try:
            bound = {address: self._bind(address) for address in self._open_to_all}
            if self._zap is not None:
                self._zap.protect(self._socket)
            bound |= {address: self._bind(address) for address in addresses if address not in bound}
            self._addresses = tuple(bound[address] for address in addresses)
        except ConfigError:
            self.close()
            raise

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses as bound, with the port numbers chosen."""
        return self._addresses

    def wait(self, timeout_ms: int, descriptors: Sequence[int] = (), *, messages: bool = True) -> None:
        """Wait for a message, or for something else to read.

        Parameters
        ----------
        timeout_ms : int
            Longest wait, ms.
        descriptors : sequence of int
            File descriptors that end the wait too when they become readable.
        messages : bool
            Whether a message ends the wait; if none would be received now, it need not.
        """
        poller = zmq.Poller()
        for one in (self._socket, *descriptors) if messages else descriptors:
            poller.register(one, zmq.POLLIN)
        poller.poll(timeout_ms)

    def receive(self, timeout_ms: int) -> Window | PeerError | None:
        """Next message, or the next peer that was turned away.

        Parameters
        ----------
        timeout_ms : int
            Longest wait, ms.

        Returns
        -------
        Window, PeerError or None
            A window; the reason why a message or a peer was refused, to be counted; None if nothing came. The
            sender of a refused message is told, if its header says which window it was.
        """
        turned_away = self._next_turned_away()
        if turned_away is not None or not self._socket.poll(timeout_ms, zmq.POLLIN):
            return turned_away
        peer, user, frames = self._read_message()
        try:
            window = self._admit(user, frames)
        except PeerError as refusal:
            self._tell(peer, frames, refusal.reason)
            return refusal
        self._peers[identity_of(window)] = peer
        while len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)
        return window

    def acknowledge(self, window: Window) -> None:
        """Tell the sender of a window that its verdict is stored.

        Parameters
        ----------
        window : Window
            As it was received; a sender that has gone is not told.
        """
        identity = identity_of(window)
        peer = self._peers.pop(identity, None)
        if peer is not None:
            self._answer(peer, encode_acknowledgement(identity))

    def refuse(self, window: Window, reason: str) -> None:
        """Tell the sender of a window that it is refused and need not be sent again.

        Parameters
        ----------
        window : Window
            As it was received.
        reason : str
            One of `Reason`.
        """
        identity = identity_of(window)
        peer = self._peers.pop(identity, None)
        if peer is not None:
            self._answer(peer, encode_refusal(identity, reason))

    def reload_keys(self) -> None:
        """Read the public keys again: new ones may come in, messages of those taken away are refused.

        Raises
        ------
        ConfigError
            If a file cannot be used; the keys are as before.
        """
        if self._keys is not None:
            self._keys.reload()

    def close(self) -> None:
        """Stop listening; messages not received yet are dropped."""
        if self._zap is not None:
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
        """Send without waiting: what a slow sender does not take is dropped, and it will ask again."""
        self._socket.send_multipart([peer, *frames], zmq.NOBLOCK)

    def _read_message(self) -> tuple[bytes, str | None, list[bytes]]:
        """Routing identity of the sender, its key and frames; those beyond `_MOST_FRAMES` are not kept."""
        peer = self._socket.recv()
        user = None
        frames: list[bytes] = []
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(copy=False)
            if not frames:
                user = _user_of(frame)
            if len(frames) < _MOST_FRAMES:
                frames.append(frame.bytes)
        return peer, user, frames

    def _next_turned_away(self) -> PeerError | None:
        """Peer that the gate did not let in; every second time at most, so that messages have their turn."""
        self._was_refusal = not self._was_refusal
        return self._zap.next_refusal() if self._zap and self._was_refusal else None

    def _admit(self, user: str | None, frames: list[bytes]) -> Window:
        """Decode a message; raises `PeerError` if it breaks the format or its key may not send it."""
        collector = self._find_collector(user)
        window = decode(frames, self._limits)
        if collector is not None and not collector.may_send(window.stream):
            raise PeerError(
                Reason.STREAM_NOT_ALLOWED, f"{collector.name} may not send stream {window.stream}"
            )
        return window

    def _find_collector(self, user: str | None) -> Collector | None:
        """Find whose key it is; None for a peer that needs none, `PeerError` if the key was taken away."""
        if self._keys is None or (user is None and self._open_to_all):
            return None
        collector = self._keys.find(user) if user else None
        if collector is None:
            raise PeerError(Reason.UNKNOWN_KEY, f"a message with the key {user}, which is not known any more")
        return collector

    def _tell(self, peer: bytes, frames: list[bytes], reason: str) -> None:
        """Tell the sender of a refused message; not if its next key may be welcome."""
        identity = claimed_identity(frames, self._limits)
        if identity is not None and reason != Reason.UNKNOWN_KEY:
            self._answer(peer, encode_refusal(identity, reason))

    def _bind(self, address: str) -> str:
        in_use = ConfigError(
            f"address {address} is already in use",
            fix="another daemon may be running; stop it or choose another address",
        )
        if _is_served(address):
            raise in_use
        if self._keys is None and not is_local(address):
            raise ConfigError(
                f"{address} can be reached from other hosts, and there are no keys",
                fix="make them by 'dqm keys new', see [daemon] keys; or listen at 127.0.0.1, [::1] or ipc://",
            )
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                raise in_use from error
            raise ConfigError(
                f"cannot listen at {address!r}: {error}", fix="use tcp://IP:PORT or ipc://PATH"
            ) from error
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _user_of(frame: zmq.Frame) -> str | None:
    """Key that the gate let in, Z85; None for a peer at an address without keys."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None


def _is_served(address: str) -> bool:
    """Whether somebody listens at an ipc address: ZeroMQ itself would take it over without a word."""
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
