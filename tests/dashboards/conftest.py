"""One Prometheus with a watched daemon, for all tests that ask it something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dqm.reference import Bundle

from . import programs
from .monitor import Monitor, monitor


@dataclass(frozen=True)
class Chain:
    """A daemon, the Prometheus that scrapes it, the Alertmanager behind, and what its webhook has heard."""

    monitor: Monitor
    prometheus: str
    alertmanager: str
    heard: list[dict[str, Any]]


@pytest.fixture(scope="module")
def chain(
    require_program: Callable[[str], Path], bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    prometheus, manager = require_program("prometheus"), require_program("prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("chain")
    with ExitStack() as stack:
        watched = stack.enter_context(monitor(bundle, folder))
        webhook, heard = stack.enter_context(programs.webhook())
        managing = stack.enter_context(programs.alertmanager(manager, folder, webhook))
        watching = stack.enter_context(programs.prometheus(prometheus, folder, watched.address, managing))
        yield Chain(watched, watching, managing, heard)
