"""Alertmanager tells nobody twice: of a failed scrape of a minute, and of a restart of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from dqm.reference import Bundle
from tests.ports import free_port
from tests.waiting import wait_until

from . import programs
from .monitor import FAULTY, monitor

DOWN_SECONDS = 55.0
"""A little less than the minute after which DqmDown is an alert of its own."""


@pytest.mark.long
def test_a_minute_without_scrapes_and_a_restart_tell_nobody_twice(
    require_program: Callable[[str], Path], bundle: Bundle, tmp_path: Path
) -> None:
    prometheus, manager = require_program("prometheus"), require_program("prometheus-alertmanager")
    port = free_port()
    with ExitStack() as stack:
        webhook, heard = stack.enter_context(programs.webhook())
        managing = stack.enter_context(programs.alertmanager(manager, tmp_path, webhook))
        watching = stack.enter_context(
            programs.prometheus(prometheus, tmp_path, f"127.0.0.1:{port}", managing)
        )
        with monitor(bundle, tmp_path, port) as first:
            first.send(FAULTY, 0)
            wait_until(lambda: bool(heard), "the pager rings")
        time.sleep(DOWN_SECONDS)  # so long the daemon is down
        with monitor(bundle, tmp_path, port):
            series = f'dqm_alarm_active{{stream="{FAULTY}",cause="differs"}} == 1'
            wait_until(
                lambda: programs.get(watching, "/api/v1/query", query=series)["result"] != [], "it is back"
            )
            time.sleep(30.0)  # time for a second message, which must not come
        told = [(alert["labels"]["alertname"], alert["status"]) for alert in heard]
        assert told.count(("DqmStreamDiffers", "firing")) == 1
        assert ("DqmStreamDiffers", "resolved") not in told
