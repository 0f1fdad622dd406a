"""Benchmarks, run by ``make bench``; by their names no other run of pytest collects them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.benchmarks.inputs import machine

if TYPE_CHECKING:  # other runs of pytest read this file too, where it is not installed
    from pytest_benchmark.fixture import BenchmarkFixture

Timed = Callable[[Callable[[Any], object], Sequence[Any]], None]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One core for each process: a figure is then the same beside others."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def seconds(request: pytest.FixtureRequest) -> float:
    """Time for one figure, after its preparation."""
    return float(request.config.getoption("--seconds"))


@pytest.fixture
def timed(benchmark: BenchmarkFixture, seconds: float) -> Timed:
    """Time a function on each of its inputs in turn, 3 to 500 times."""

    def run(function: Callable[[Any], object], inputs: Sequence[Any]) -> None:
        for each in inputs[:2]:  # what is slow only once is not the cost of a window
            begin = time.perf_counter()
            function(each)
            taken = time.perf_counter() - begin
        turns = itertools.cycle(inputs)
        rounds = int(min(500, max(3, seconds / taken)))
        benchmark.pedantic(function, setup=lambda: ((next(turns),), {}), rounds=rounds)

    return run


@pytest.fixture
def figures(benchmark: BenchmarkFixture) -> dict[str, Any]:
    """What a benchmark reports besides times."""
    found: dict[str, Any] = benchmark.extra_info
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds", type=float, default=6.0, help="time for one figure; less is less exact")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(machine(os.getloadavg()[0], Path("/proc/cpuinfo").read_text()))
