"""A daemon that ends by a signal it cannot catch: the next one says so."""

from __future__ import annotations

import os
import signal

import pytest

from .conftest import Open
from .site import Site


def restart_after(site: Site, number: signal.Signals) -> None:
    os.kill(site.pid, number)
    assert site.wait_for_end() == -number
    site.start()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL])
def test_the_next_start_says_that_the_daemon_was_aborted(open_site: Open, number: signal.Signals) -> None:
    site = open_site("workers = 0")
    site.start()
    assert site.get("/api/v1/overview").json()["notice"] == ""
    assert ("dqm_broken_end_timestamp_seconds",) not in site.metrics()
    restart_after(site, number)
    told = site.get("/api/v1/overview").json()["notice"]
    assert told.startswith("restarted after an abort or a kill at 20")
    assert told in site.get("/").text
    assert site.metric("dqm_broken_end_timestamp_seconds") > 0.0
    assert [line["what"] for line in site.events("the last daemon ended unexpectedly")] == [told]
    site.stop()
