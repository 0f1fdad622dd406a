"""Waiting for a condition, and asking a daemon over HTTP; little of the processor goes into either."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

WAIT_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 0.2


def wait_until(
    done: Callable[[], bool], what: str | Callable[[], str], seconds: float = WAIT_SECONDS
) -> None:
    """Ask until it is done, less and less often; fail after some seconds, and say what was waited for."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not done():
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:.0f} s: {told}")
        time.sleep(pause)
        pause = min(1.3 * pause, LONGEST_PAUSE_SECONDS)


def get(url: str, **options: Any) -> httpx.Response:
    """Ask for a page of this machine; no certificates are loaded, which takes longer than everything else."""
    return httpx.get(url, trust_env=False, verify=False, timeout=60.0, **options)  # noqa: S501
