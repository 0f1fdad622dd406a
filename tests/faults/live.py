"""A detector that never waits: the source of a collector, found by its entry point as anyone's plugin."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from dqm.events import EventBatch, Origin

__all__ = ["MADE", "LiveSource", "install"]

FEATURES, N_WINDOW = ("a", "b"), 60  # as in tests.service.small, which would load torch
FAULT = np.array([0.0, 3.0])
MADE = "made"
"""Condition of every window: when it was, Unix seconds."""


class LiveSource:
    """Events of several chambers, a window's worth at a time, for ever."""

    class Options(BaseModel):
        """Keys of the configuration; without a rate it gives what can be taken."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        healthy: tuple[str, ...] = ()
        faulty: tuple[str, ...] = ()
        rate_hz: float | None = None

    origin = Origin.LIVE

    def __init__(self, options: Options) -> None:
        self.options = options

    def __iter__(self) -> Iterator[EventBatch]:
        chance = np.random.default_rng(time.time_ns())  # a detector does not repeat itself after a restart
        for n in itertools.count(1):
            for chamber in (*self.options.healthy, *self.options.faulty):
                x = chance.normal(size=(N_WINDOW, 2)) @ [[1.0, 1.0], [0.0, 1.0]]
                x += FAULT * (chamber in self.options.faulty)
                yield EventBatch(chamber, FEATURES, x, conditions={MADE: time.time()})
            if self.options.rate_hz is not None:
                time.sleep(1.0 / self.options.rate_hz)
            elif n % 100 == 0:
                time.sleep(0.001)


def install(folder: Path) -> dict[str, str]:
    """Make the entry point ``live``; gives the variables of a process that shall find it."""
    facts = folder / "plugins" / "live-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: live\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[dqm.collectors]\nlive = {__name__}:LiveSource\n")
    return {"PYTHONPATH": f"{Path(__file__).parents[2]}:{facts.parent}"}
