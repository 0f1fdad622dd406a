"""A small detector of 32 channels, its healthy runs, and its bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import (
    ChannelRecipe,
    ChannelTable,
    StoredBundle,
    WindowRange,
    calibrate_range,
    create_channel_bundle,
)
from dqm.reference.processes import Processes

N = 32
NUMBER = np.arange(100.0, 100.0 + N)
MAP = np.column_stack([NUMBER, np.arange(N) % 4 + 1, np.arange(N) // 4 + 1, np.arange(N) // 8 + 1])
"""Channels from 100; four layers of eight wires, cards of eight channels."""

SECONDS = 10.0
MEAN_HZ = 4.0
N_EXPECTED = N * MEAN_HZ * SECONDS


def healthy_hits(rng: np.random.Generator, seconds: float = SECONDS) -> FloatArray:
    """Hits of every channel."""
    return rng.poisson(MEAN_HZ * seconds * np.exp(rng.normal(0.0, 0.03)), N).astype(float)


def table_of(n_windows: int, seed: int, *, step: float = 5.0, name: str = "run.parquet") -> ChannelTable:
    """A healthy run, counted in steps of 5 s."""
    rng = np.random.default_rng(seed)
    n_steps = round(n_windows * SECONDS / step)
    hits = np.stack([healthy_hits(rng, step) for _ in range(n_steps)])
    times = np.repeat(1000.0 + step * np.arange(n_steps), N)
    return ChannelTable(times, np.tile(NUMBER, n_steps), hits.ravel(), name)


def window_of(hits: FloatArray, **fields: object) -> Window:
    """A window of the detector."""
    plain: dict[str, object] = {
        "stream": "chamber-1.channels",
        "run": 7,
        "seq": 0,
        "run_type": "cosmics",
        "origin": Origin.LIVE,
        "cut": WindowCut.TIME,
        "names": ("channel", "hits"),
        "x": np.column_stack([NUMBER, hits]),
        "start": 0.0,
        "end": SECONDS,
        "live_seconds": SECONDS,
        "n_expected": N_EXPECTED,
        "counts": "hits",
    }
    return Window(**(plain | fields))  # type: ignore[arg-type]


def channel_bundle(path: Path) -> StoredBundle:
    """Make the bundle, calibrated for windows of half the size to more than the whole."""
    recipe = ChannelRecipe("hits", SECONDS)
    bundle = create_channel_bundle([table_of(40, 1)], MAP, recipe, path)
    sizes = WindowRange(cut=WindowCut.TIME, low=0.5 * N_EXPECTED, high=1.2 * N_EXPECTED)
    calibrated, _ = calibrate_range(bundle, 300, window_range=sizes, seed=5, workers=Processes(1))
    return calibrated
