"""Tests of windows that do what the window's conditions say; light, since every worker loads it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from dqm import events
from dqm.errors import BundleError
from dqm.events import Quality, Verdict, Window
from dqm.service.monitor.worker_pool import WindowTest
from tests.verdicts import make_verdict


def verdict_on(window: Window, reason: str) -> Verdict:
    return make_verdict(
        stream=window.stream,
        run=window.run,
        seq=window.seq,
        quality=Quality.NULL,
        reason=reason,
        result=events.TestResult(len(window.x), len(window.x)),
        bundle="",
        seconds=0.0,
        judged_at=0.0,
    )


class Scripted:
    """Does with a window what its conditions say."""

    def assess(self, window: Window) -> Verdict:
        todo = window.conditions
        if todo.get("die") == "always" or (todo.get("die") == "once" and not _mark(str(todo["mark"]))):
            os.kill(os.getpid(), signal.SIGKILL)
        if "fail" in todo:
            raise ZeroDivisionError(todo["fail"])
        time.sleep(float(todo.get("seconds", 0.0)))
        return verdict_on(window, f"tested by {os.getpid()} with {os.environ['OMP_NUM_THREADS']} threads")

    def give_up(self, window: Window, reason: str) -> Verdict:
        return verdict_on(window, reason)


def _mark(path: str) -> bool:
    """Whether somebody was here before."""
    was_there = Path(path).exists()
    Path(path).touch()
    return was_there


def prepare() -> Mapping[str, WindowTest]:
    return dict.fromkeys(("a", "b"), Scripted())


def prepare_nothing() -> Mapping[str, WindowTest]:
    raise BundleError("no reference bundle", where="lost.dqmref")


def die_at_once() -> Mapping[str, WindowTest]:
    os._exit(7)
