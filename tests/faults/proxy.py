"""A network between collectors and daemon that can be cut: a relay of TCP in this process."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from threading import Event, Lock, Thread

from tests.ports import free_port

__all__ = ["Relay"]


class Relay:
    """Passes on what comes at `address`, unless it is cut; then it keeps all connections and says nothing.

    Parameters
    ----------
    target : str
        Address of the daemon.
    """

    def __init__(self, target: str) -> None:
        self._target = _endpoint(target)
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self._listener = socket.create_server(("127.0.0.1", port))
        self._connections: set[socket.socket] = set()
        self._lock = Lock()
        self._whole = Event()
        self._whole.set()
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Pass nothing on from now on."""
        self._whole.clear()

    def mend(self, *, forget: bool) -> None:
        """Pass on again; what was connected before may have been forgotten, as by a firewall."""
        if forget:
            self.drop()
        self._whole.set()

    def drop(self) -> None:
        """Close all connections."""
        with self._lock:
            for each in self._connections:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.mend(forget=True)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._whole.wait()
            try:
                far = socket.create_connection(self._target, 5.0)
            except OSError:
                near.close()
                time.sleep(0.05)
                continue
            far.settimeout(None)
            with self._lock:
                self._connections |= {near, far}
            for source, sink in ((near, far), (far, near)):
                Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                self._whole.wait()
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._connections.discard(source)
        source.close()


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)
