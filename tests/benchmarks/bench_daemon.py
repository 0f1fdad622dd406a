"""End to end: windows over ZeroMQ into the real daemon, verdicts in its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dqm.events import FloatArray, WindowCut
from dqm.reference import Recipe, WindowRange, calibrate, calibrate_range, create_bundle
from tests.benchmarks.daemon import RunningDaemon, copies
from tests.benchmarks.inputs import FEATURES, SETTINGS, events, windows

N_TOYS = 500
SHARE = 0.8
"""Share of the largest rate at which delays are measured: a daemon at its limit has a queue."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each statistic: the one that `build` takes by default, and the single kernel."""
    setting = SETTINGS["default"]
    made = {}
    for statistic in ("several", "kernel"):
        path = tmp_path_factory.mktemp("bundle") / "chamber.dqmref"
        recipe = Recipe(FEATURES, setting.n_reference, setting.n_data, statistic=statistic)
        bundle = create_bundle(events(55_000, seed=1), recipe, path)
        made[statistic] = calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=1).path
    return made


@pytest.fixture(scope="module")
def samples() -> list[FloatArray]:
    return windows(SETTINGS["default"], 100, seed=3)


@pytest.mark.parametrize(
    ("statistic", "n_streams"),
    [("several", 1), ("several", 16), ("several", 250), ("several", 1000), ("kernel", 16), ("kernel", 250)],
)
def test_streams(
    statistic: str, n_streams: int, benchmark: BenchmarkFixture, figures: dict[str, Any],
    bundles: dict[str, Path], samples: list[FloatArray], tmp_path: Path, seconds: float,
) -> None:  # fmt: skip
    with RunningDaemon(tmp_path, [bundles[statistic]] * n_streams) as daemon:
        daemon.send(samples, max(100, n_streams))  # the first test in a worker is slow
        figures["rest_megabytes"] = daemon.megabytes("Pss")
        rate = 200 / daemon.send(samples, 200)
        n = figures["items"] = max(200, int(2 * seconds * rate))
        benchmark.pedantic(daemon.send, args=(samples, n), rounds=3)
        paced = SHARE * n / benchmark.stats.stats.median
        figures["paced"] = paced
        daemon.send(samples, n, per_second=paced)
        delays = daemon.delays(n)
        figures["delay_median"], figures["delay_p99"] = map(float, np.quantile(delays, [0.5, 0.99]))
        figures["peak_megabytes"] = daemon.megabytes("VmHWM")


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    setting = SETTINGS["default"]
    path = tmp_path_factory.mktemp("ranged") / "chamber.dqmref"
    recipe = Recipe(FEATURES, setting.n_reference, setting.n_data, cut=WindowCut.TIME)
    bundle = create_bundle(events(55_000, seed=1), recipe, path)
    wanted = WindowRange(cut=WindowCut.TIME, low=0.2 * setting.n_data, high=float(setting.n_data))
    return calibrate_range(bundle, N_TOYS, window_range=wanted, seed=1)[0].path


def test_live_times(
    benchmark: BenchmarkFixture, figures: dict[str, Any], ranged: Path, samples: list[FloatArray],
    tmp_path: Path, seconds: float,
) -> None:  # fmt: skip
    """250 streams whose windows have the same events in the mean: no size is prepared beforehand for them.

    Windows that are alike and windows that differ take turns, so that both have the same machine.
    """
    any_live_time = np.random.default_rng(1).uniform(0.3, 0.9, 1009).tolist()
    shares = {"alike": [0.6], "different": any_live_time}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in shares}

    def send_in_turn(daemon: RunningDaemon, n: int) -> None:
        for name, live_shares in shares.items():
            before = daemon.cpu_seconds()
            wall = daemon.send(samples, n, live_shares=live_shares)
            took[name].append((wall / n, (daemon.cpu_seconds() - before) / n))

    with RunningDaemon(tmp_path, [ranged] * 250) as daemon:
        daemon.send(samples, 250, live_shares=any_live_time)
        rate = 200 / daemon.send(samples, 200, live_shares=any_live_time)
        n = max(200, int(seconds * rate))
        benchmark.pedantic(send_in_turn, args=(daemon, n), rounds=5)
        daemon.delays(n)  # every window was tested
    figures["took"] = {name: np.median(each, axis=0).tolist() for name, each in took.items()}


@pytest.mark.parametrize("statistic", ["several", "kernel"])
@pytest.mark.parametrize("kind", ["one bundle", "250 bundles"])
def test_start(
    kind: str, statistic: str, benchmark: BenchmarkFixture, figures: dict[str, Any],
    bundles: dict[str, Path], samples: list[FloatArray], tmp_path: Path,
) -> None:  # fmt: skip
    """250 streams: until it listens, and what it then takes."""
    bundle = bundles[statistic]
    of_streams = copies(bundle, tmp_path, 250) if kind == "250 bundles" else [bundle] * 250

    def start() -> None:
        with RunningDaemon(tmp_path, of_streams) as daemon:
            figures["start_seconds"] = daemon.start_seconds
            daemon.send(samples, 500)
            figures["rest_megabytes"] = daemon.megabytes("Pss")

    benchmark.pedantic(start, rounds=1)
