"""One Prometheus with a watched monitor, for all tests that ask it something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import start_http_server

from . import programs
from .exposition import Exposition


@dataclass(frozen=True)
class Chain:
    """A monitor, the Prometheus that scrapes it, the Alertmanager behind, and what its webhook has heard."""

    monitor: Exposition
    prometheus: str
    alertmanager: str
    heard: list[dict[str, Any]]


@pytest.fixture(scope="module")
def chain(
    require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    prometheus, manager = require_program("prometheus"), require_program("prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("chain")
    with ExitStack() as stack:
        monitor = Exposition()
        server, thread = start_http_server(0, "127.0.0.1", monitor.registry)
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        webhook, heard = stack.enter_context(programs.webhook())
        managing = stack.enter_context(programs.alertmanager(manager, folder, webhook))
        target = f"127.0.0.1:{server.server_port}"
        watching = stack.enter_context(programs.prometheus(prometheus, folder, target, managing))
        yield Chain(monitor, watching, managing, heard)
