"""Where the time of a window goes."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.inputs import SETTINGS, prepare, windows

N_SHOWN = 12
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("base", SETTINGS)
def test_profile(base: str, benchmark: BenchmarkFixture, figures: dict[str, Any]) -> None:
    setting = SETTINGS[base]
    test, samples = prepare(setting), windows(setting, 50, seed=3)
    test.evaluate(samples[0])
    profile = cProfile.Profile()

    def run() -> None:
        for x in samples:
            test.evaluate(x)

    benchmark.pedantic(profile.runcall, args=(run,), rounds=1)
    entries = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    total = sum(own for _, (_, _, own, _, _) in entries)
    largest = sorted(entries, key=lambda entry: -entry[1][2])[:N_SHOWN]
    figures["profile"] = [
        {"place": name_of(*place), "share": own / total, "calls": calls / len(samples)}
        for place, (_, calls, own, _, _) in largest
    ]


def name_of(file: str, line: int, function: str) -> str:
    """Name a function; those of C have no file."""
    if file == "~":
        return function.strip("<>").removeprefix("built-in method ").replace("method ", "", 1)
    path = Path(file)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line} {function}"
