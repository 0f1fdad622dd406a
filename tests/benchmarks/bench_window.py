"""Time of one window, and how it grows with each size."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.benchmarks.conftest import Timed
from tests.benchmarks.inputs import FACTORS, SETTINGS, prepare, windows

N_WINDOWS = 24

CASES = [
    pytest.param(base, factor, value, id=f"{base}-{factor}-{value}")
    for base in SETTINGS
    for factor, values in FACTORS.items()
    for value in values
]


@pytest.mark.parametrize(("base", "factor", "value"), CASES)
def test_window(base: str, factor: str, value: int, timed: Timed, figures: dict[str, Any]) -> None:
    setting = SETTINGS[base].changed(factor, value)
    begin = time.perf_counter()
    test = prepare(setting)
    figures["build_seconds"] = time.perf_counter() - begin
    samples = windows(setting, N_WINDOWS, seed=3)
    figures["functions"] = test.n_independent
    figures["converged"] = all(test.evaluate(x).converged for x in samples[:3])
    timed(test.evaluate, samples)
