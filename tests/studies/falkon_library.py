"""The single step by the Falkon library beside ours, and its converged fit beside ours: f, t and time.

``OMP_NUM_THREADS=1 python -m tests.studies.falkon_library`` prints one JSON object for each condition; it
needs the library. Published configuration on simulated chambers; all get the same windows and centres.
Seconds are those on the wall and those of processors.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dqm.events import FloatArray
from dqm.nplm.falkon import FalkonTest
from dqm.nplm.one_step import MAX_STEPS, OneStepResult, OneStepTest
from tests.benchmarks.inputs import FAULTY, HEALTHY, SETTINGS, events, prepare, windows

AnyTest = TypeVar("AnyTest", bound=OneStepTest)

SETTING = SETTINGS["published"]
PATH = (1e-3, 1e-5, *[SETTING.penalty] * 8)
"""Penalties of successive Newton steps, as Falkon's documentation advises."""

HASTY = 1e-7**0.5
"""Residual at which published codes stop."""


class Hasty(FalkonTest):
    """Stops as early as published codes do."""

    def _prepare(self) -> None:
        super()._prepare()
        self._model.options.cg_tolerance = HASTY


class Converging(FalkonTest):
    """Falkon's own path to the minimum; notes processor time and t after every step."""

    def _prepare(self) -> None:
        super()._prepare()
        self.steps: list[tuple[float, float]] = []
        self._model.penalty_list = list(PATH)
        self._model.iter_list = [MAX_STEPS] * len(PATH)
        self._model.error_fn, self._model.error_every = self._note, 1

    def _note(self, labels: Tensor, f: Tensor) -> float:
        is_data = labels > 0
        t = -2.0 * float(self._weights @ torch.expm1(f[~is_data]) - f[is_data].sum())
        self.steps.append((time.process_time(), t))
        return 0.0


def make(kind: type[AnyTest]) -> AnyTest:
    """Set up a test on the centres that the kernel test gets."""
    return kind(
        events(SETTING.n_reference, seed=1), n_expected=SETTING.n_data, width=SETTING.width,
        penalty=SETTING.penalty, centers=SETTING.centers, rng=np.random.default_rng(2),
    )  # fmt: skip


def log_ratios(result: OneStepResult) -> FloatArray:
    """Give f at all events."""
    return np.concatenate([result.log_ratio_reference, result.log_ratio])


def clocked(evaluate: Callable[[FloatArray], Any], x: FloatArray) -> tuple[Any, tuple[float, float]]:
    """Give the result and its seconds."""
    begin = time.perf_counter(), time.process_time()
    result = evaluate(x)
    return result, (time.perf_counter() - begin[0], time.process_time() - begin[1])


def beside(samples: list[FloatArray]) -> dict[str, object]:
    """Compare single steps, and their time with that of the kernel test; medians and largest differences."""
    tests = {
        "one-step": make(OneStepTest), "falkon": make(FalkonTest), "hasty": make(Hasty),
        "kernel": prepare(SETTING),
    }  # fmt: skip
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in tests}
    away: dict[str, list[tuple[float, float]]] = {"falkon": [], "hasty": []}
    for x in samples:
        results = {}
        for name, test in tests.items():
            results[name], taken = clocked(test.evaluate, x)
            seconds[name].append(taken)
        ours = results["one-step"]
        f = log_ratios(ours)
        for name, differences in away.items():
            df = np.abs(log_ratios(results[name]) - f).max() / np.ptp(f)
            differences.append((float(df), abs(results[name].t - ours.t) / ours.t))
    return {
        "seconds": {name: np.median(each, axis=0).tolist() for name, each in seconds.items()},
        "largest_df_dt": {name: np.max(each, axis=0).tolist() for name, each in away.items()},
    }


def converge(samples: list[FloatArray]) -> list[dict[str, object]]:
    """Follow Falkon to the minimum."""
    fitted, test = prepare(SETTING), make(Converging)
    rows: list[dict[str, object]] = []
    for x in samples:
        ours, seconds = clocked(fitted.evaluate, x)
        test.steps.clear()
        begin = time.process_time()
        _, their_seconds = clocked(test.evaluate, x)
        steps = [(end - begin, t) for end, t in test.steps]
        rows.append({"t": ours.t, "seconds": seconds, "falkon_steps": steps, "falkon_seconds": their_seconds})
    return rows


def main() -> None:
    """Run healthy and faulty windows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=20, help="of each condition")
    parser.add_argument("--converged", type=int, default=3, help="of these, so many by Falkon's path")
    arguments = parser.parse_args()
    for name, strips in {"healthy": HEALTHY, "cathode 75 %": FAULTY}.items():
        samples = windows(SETTING, arguments.windows, strips, seed=3)
        found = {**beside(samples), "converging": converge(samples[: arguments.converged])}
        print(json.dumps({"condition": name, "threads": torch.get_num_threads(), **found}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
