"""Readings that other programs on this machine send to a socket, one JSON object on each line."""

from __future__ import annotations

import errno
import ipaddress
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dqm.errors import ConfigError, InputError
from dqm_collectors.slow_control.readings import MAX_LINE_BYTES, HistorySource, parse_json

__all__ = ["MAX_CLIENTS", "SocketSource"]

MAX_CLIENTS = 64
UNIX = "unix:"
TCP = "tcp:"
_LONGEST_PATH = 107  # of a Unix socket on Linux
_HIGHEST_PORT = 65_535


def _check_listen(address: str) -> str:
    """Refuse an address that other hosts can reach, or that is malformed."""
    if address.startswith(UNIX):
        if not 0 < len(address.removeprefix(UNIX).encode()) <= _LONGEST_PATH:
            raise ValueError(f"{address!r}: the path must have 1 to {_LONGEST_PATH} bytes")
        return address
    if not address.startswith(TCP):
        raise ValueError(f"{address!r} must be unix:PATH or tcp:127.0.0.1:PORT")
    host, port = _split_tcp(address)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _HIGHEST_PORT:
        raise ValueError(f"{address!r} is not tcp:HOST:PORT with a port from 1 to {_HIGHEST_PORT}")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{address!r}: listen at an IP address, such as 127.0.0.1, not at a name") from None
    if not is_loopback:
        raise ValueError(
            f"{address!r} is not a loopback address, and senders are not authenticated; listen at "
            "127.0.0.1, [::1] or unix:PATH, and use an SSH tunnel for readings from other hosts"
        )
    return address


def _split_tcp(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix(TCP).rpartition(":")
    return host.strip("[]"), port


@dataclass(slots=True)
class _Client:
    """A connection and the line that is not complete yet."""

    connection: socket.socket
    incomplete_line: bytearray = field(default_factory=bytearray)


class SocketSource(HistorySource):
    """Readings of up to `MAX_CLIENTS` clients at a time, received in a separate thread.

    A reading without time gets the time of its arrival. A line that is not a reading is refused, counted and
    logged; a line that is too long closes its connection.

    Parameters
    ----------
    options : SocketSource.Options
        Address.
    clock : callable
        Unix time, s.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        listen: Annotated[str, AfterValidator(_check_listen)] = Field(
            description="unix:PATH or tcp:HOST:PORT of the loopback, port 1 to 65535"
        )

    def __init__(self, options: Options, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(options.listen)
        self.listen = options.listen
        self._clock = clock

    def __enter__(self) -> Self:
        """Start to listen.

        Raises
        ------
        ConfigError
            If the address cannot be used, or another program uses it.
        """
        try:
            self._listener = _listen(self.listen)
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}",
                where=self.listen,
                fix="Another collector may be running: give each its own address"
                if error.errno == errno.EADDRINUSE
                else "Check that the directory exists and is writable",
            ) from error
        self._wake, self._woken = socket.socketpair()
        self._thread = Thread(target=self._serve, name="slow control", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.send(b"\0")
        self._thread.join()
        for one in (self._wake, self._woken, self._listener):
            one.close()
        if self.listen.startswith(UNIX):
            Path(self.listen.removeprefix(UNIX)).unlink(missing_ok=True)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                ready = [key for key, _ in selector.select()]
                if any(key.fileobj is self._woken for key in ready):
                    break
                for key in ready:
                    if key.data is None:
                        self._accept(selector)
                    elif not self._receive(key.data):
                        selector.unregister(key.data.connection)
                        key.data.connection.close()
            for key in selector.get_map().values():
                if key.data is not None:
                    key.data.connection.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # the client is gone, or no file descriptor is left
            self._refused.add(error.strerror)
            return
        if len(selector.get_map()) >= MAX_CLIENTS + 2:
            self._refused.add(f"more than {MAX_CLIENTS} connections")
            connection.close()
            return
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, _Client(connection))

    def _receive(self, client: _Client) -> bool:
        """Read the data that have arrived; False when the connection has ended."""
        try:
            data = client.connection.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        client.incomplete_line += data or b"\n"  # the end of a connection completes its line
        *lines, client.incomplete_line = client.incomplete_line.split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line)
        if len(client.incomplete_line) > MAX_LINE_BYTES:
            self._refused.add(f"a line of more than {MAX_LINE_BYTES} bytes: connection closed")
            return False
        return bool(data)

    def _take(self, line: bytearray) -> None:
        try:
            self._history.add(parse_json(bytes(line), self._clock()))
        except InputError as error:
            self._refused.add(error)


def _listen(address: str) -> socket.socket:
    """Open the listening socket; replace the Unix socket of a program that has ended."""
    if address.startswith(TCP):
        host, port = _split_tcp(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    path = Path(address.removeprefix(UNIX))
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
