"""Every panel of every dashboard, asked of a Prometheus that watches the demonstration."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.demo.demonstration import USER, Demonstration
from dqm.demo.simulated import (
    CHANNELS,
    learn_known_faults,
    prepare_channels,
    prepare_reference,
    simulated_scenario,
)
from tests.waiting import get, wait_until

from . import programs
from .grafana_files import Target, targets

SECONDS = 90.0
FAULTY = "chamber-2"
NOT_IN_THE_DEMONSTRATION = re.compile(r"dqm_(nuisance|window_rolling)_\w+|dqm_alarm_changed_p_threshold")
"""Its reference has no nuisance parameters, and no stream has a rolling reference."""


@pytest.mark.long
def test_every_panel_has_data_of_the_demonstration(
    require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    prometheus = require_program("prometheus")
    bundle = prepare_reference(tmp_path / "cache", lambda _done, _total: None)
    learn_known_faults(bundle, lambda _done, _total: None)
    channels = prepare_channels(tmp_path / "cache", lambda _done, _total: None, SECONDS)
    scenario = simulated_scenario(bundle, channels, SECONDS)
    with Demonstration(scenario, tmp_path / "state") as running:
        running.start_daemon()
        wait(lambda: running.is_listening, running, "it listens")
        with programs.prometheus(prometheus, tmp_path, running.http, None) as address:
            running.start_collectors()

            def is_alarmed() -> bool:
                asked = f'dqm_alarm_active{{stream="{FAULTY}", cause="differs"}} == 1'
                return programs.get(address, "/api/v1/query", query=asked)["result"] != []

            wait(is_alarmed, running, "an alarm")
            known = (USER, running.password)
            asked = get(f"http://{running.http}/api/v1/masks", auth=known)
            assert asked.status_code == 200
            for target in targets():
                wait(lambda target=target: is_filled(address, running.http, target), running, str(target))


def wait(done: Callable[[], bool], running: Demonstration, what: str) -> None:
    def is_done() -> bool:
        running.check_processes()
        return done()

    wait_until(is_done, what, 2 * SECONDS)


def is_filled(address: str, instance: str, target: Target) -> bool:
    """Whether a panel has data, or the demonstration has nothing for it."""
    shown = re.findall(r"^dqm_\w+", get(f"http://{instance}/metrics").text, re.MULTILINE)
    missing = set(re.findall(r"dqm_\w+", target.expr)) - set(shown)
    nothing = bool(missing) and all(NOT_IN_THE_DEMONSTRATION.fullmatch(name) for name in missing)
    return nothing or has_data(address, instance, target)


def has_data(address: str, instance: str, target: Target) -> bool:
    every = ".*" if target.dashboard != "dqm-stream" else instance
    stream = CHANNELS if re.search(r"dqm_(worst_)?channel", target.expr) else FAULTY
    expr = target.expression({"stream": stream, "feature": "t_1", "instance": every})
    now = time.time()
    window = {"start": now - 20.0, "end": now, "step": 1.0}
    return programs.get(address, "/api/v1/query_range", query=expr, **window)["result"] != []
