"""Toys per second, and hits per second through the reconstruction."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dqm.events import WindowCut
from dqm.reference import Processes, Recipe, WindowRange, calibrate, calibrate_range, create_bundle
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.chamber.hits import write_tdc
from dqm_collectors.chamber.simulation import simulate_hits
from dqm_collectors.tdc import TdcCollector
from tests.benchmarks.conftest import Timed
from tests.benchmarks.inputs import FEATURES, SETTINGS, events, prepare, windows

N_TOGETHER = 25
RUN_SECONDS = 60


@pytest.mark.parametrize("base", SETTINGS)
def test_toys(base: str, timed: Timed, figures: dict[str, Any]) -> None:
    """As a null table is made: so many together, one core."""
    setting = SETTINGS[base]
    test = prepare(setting)
    samples = windows(setting, 4 * N_TOGETHER, seed=5)
    figures["items"] = N_TOGETHER
    timed(test.evaluate_many, [samples[k : k + N_TOGETHER] for k in range(0, len(samples), N_TOGETHER)])


@pytest.mark.parametrize("statistic", ["several", "kernel"])
def test_calibration(
    statistic: str, benchmark: BenchmarkFixture, figures: dict[str, Any], tmp_path: Path
) -> None:
    """``dqm reference calibrate`` on all cores, with the start of its processes."""
    setting = SETTINGS["default"]
    n = figures["items"] = 10_000 if statistic == "several" else 3000
    recipe = Recipe(FEATURES, setting.n_reference, setting.n_data, statistic=statistic)
    bundle = create_bundle(events(55_000, seed=1), recipe, tmp_path / "bundle")
    benchmark.pedantic(lambda: calibrate(bundle, n, kind=bundle.manifest.kind, seed=1), rounds=1)


def test_range_calibration(benchmark: BenchmarkFixture, figures: dict[str, Any], tmp_path: Path) -> None:
    """The same for a range of sizes, 20 to 100 % of live time."""
    setting = SETTINGS["default"]
    n = figures["items"] = 3000
    recipe = Recipe(FEATURES, setting.n_reference, setting.n_data, cut=WindowCut.TIME)
    bundle = create_bundle(events(55_000, seed=1), recipe, tmp_path / "bundle")
    wanted = WindowRange(cut=WindowCut.TIME, low=0.2 * setting.n_data, high=float(setting.n_data))
    workers = Processes(len(os.sched_getaffinity(0)))
    benchmark.pedantic(
        lambda: calibrate_range(bundle, n, window_range=wanted, seed=1, workers=workers), rounds=1
    )


def test_reconstruction(timed: Timed, figures: dict[str, Any], tmp_path: Path) -> None:
    """From a file of raw words to segments, one core."""
    rng = np.random.default_rng(7)
    span = RUN_SECONDS * 1e9
    passage = np.sort(rng.uniform(0, span, int(Conditions().rate_hz * RUN_SECONDS)))
    raw = simulate_hits(Conditions(), passage, span, rng).raw
    path = tmp_path / "run.csv"
    write_tdc(raw, path)
    figures["items"] = len(raw.counts)
    options = TdcCollector.Options(inputs=(path,))
    timed(lambda _: list(TdcCollector(options)), [None, None])
