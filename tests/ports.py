"""Ports of the loopback that processes side by side do not take from each other."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, N_EACH, N_PROCESSES = 20_000, 500, 25
"""Below 32768, where those begin that the kernel gives to whoever asks for any."""

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % N_PROCESSES
_numbers = itertools.count(61 * os.getpid())  # another run of the tests on this machine begins far from here


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Give a port that nobody has bound, another one each time."""
    for n in itertools.islice(_numbers, N_EACH):
        port = FIRST + N_EACH * _process + n % N_EACH
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
