"""Windows far from the reference, beside healthy ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dqm
from dqm.events import FloatArray
from tests.benchmarks.inputs import FEATURES, SETTINGS, events, windows
from tests.studies.storm import FAR

N_WINDOWS = 12


@pytest.mark.parametrize("statistic", ["several", "kernel"])
def test_far(statistic: str, benchmark: BenchmarkFixture, figures: dict[str, Any]) -> None:
    """Test and maps of windows that are far in each way, the first maps of the bundle left out."""
    setting = SETTINGS["default"]
    bundle = dqm.build_bundle(
        events(4 * setting.n_reference, seed=1),
        window=setting.n_data,
        features=FEATURES,
        n_reference=setting.n_reference,
        statistic=statistic,
    )
    bundle.calibrate(500)
    samples = windows(setting, N_WINDOWS, seed=4)

    def took(change: Callable[[FloatArray], FloatArray], *, has_maps: bool) -> list[float]:
        found = []
        for x in [change(x) for x in samples]:
            begin = time.process_time()
            result = bundle.evaluate(x)
            if has_maps:
                result.explain()
            found.append(time.process_time() - begin)
        return found

    def measure() -> None:
        usual = float(np.median(took(lambda x: x, has_maps=False)))
        figures["healthy_seconds"] = usual
        figures["ratios"] = {}
        for name, change in {"healthy": lambda x: x, **FAR}.items():
            fit = took(change, has_maps=False)
            begin = time.process_time()
            bundle.evaluate(change(samples[0])).explain()
            first = time.process_time() - begin
            both = took(change, has_maps=True)
            parts = (np.median(fit), max(fit), np.median(both), max(both), first)
            figures["ratios"][name] = [float(value) / usual for value in parts]

    benchmark.pedantic(measure, rounds=1)
