"""Every panel of every dashboard, asked of a Prometheus that watches the demonstration."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from dqm.demo.demonstration import USER, Demonstration, learn_known_faults, prepare_reference

from . import programs
from .grafana_files import Target, targets

SECONDS = 90.0
FAULTY = "chamber-2"
NOT_IN_THE_DEMONSTRATION = re.compile(r"dqm_nuisance_\w+")
"""Its reference has no nuisance parameters."""


@pytest.mark.long
def test_every_panel_has_data_of_the_demonstration(
    require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    prometheus = require_program("prometheus")
    bundle = prepare_reference(tmp_path / "cache", lambda _done, _total: None)
    learn_known_faults(bundle, lambda _done, _total: None)
    with Demonstration(bundle, tmp_path / "state", SECONDS) as running:
        running.start_daemon()
        wait(lambda: running.is_listening, running)
        with programs.prometheus(prometheus, tmp_path, running.http, None) as address:
            running.start_collectors()

            def is_alarmed() -> bool:
                asked = f'dqm_alarm_active{{stream="{FAULTY}", cause="differs"}} == 1'
                return programs.get(address, "/api/v1/query", query=asked)["result"] != []

            wait(is_alarmed, running)
            time.sleep(2.0)
            known = (USER, running.password)
            asked = httpx.get(f"http://{running.http}/api/v1/masks", auth=known, trust_env=False)
            assert asked.status_code == 200
            shown = httpx.get(f"http://{running.http}/metrics", trust_env=False).text
            empty = [target for target in targets() if not has_data(address, running.http, target)]
    for target in empty:
        missing = set(re.findall(r"dqm_\w+", target.expr)) - set(re.findall(r"^dqm_\w+", shown, re.MULTILINE))
        assert missing, target
        assert all(NOT_IN_THE_DEMONSTRATION.fullmatch(name) for name in missing), target


def wait(done: Callable[[], bool], running: Demonstration) -> None:
    deadline = time.monotonic() + 2 * SECONDS
    while not done():
        running.check_processes()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def has_data(address: str, instance: str, target: Target) -> bool:
    every = ".*" if target.board != "dqm-stream" else instance
    expr = target.expression({"stream": FAULTY, "feature": "t_1", "instance": every})
    now = time.time()
    window = {"start": now - 20.0, "end": now, "step": 1.0}
    return programs.get(address, "/api/v1/query_range", query=expr, **window)["result"] != []
