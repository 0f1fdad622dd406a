"""The kernel test beside what else a user could test windows with: time, and faults seen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.nplm.falkon import FalkonTest
from dqm.nplm.one_step import OneStepTest
from tests.benchmarks.conftest import Timed
from tests.benchmarks.inputs import FAULTY, SETTINGS, Setting, events, prepare, windows
from tests.benchmarks.rivals import BoostedTrees, Mmd, NewtonFit

FALSE_ALARMS = 0.05
N_HEALTHY, N_FAULTY = 80, 40
N_AGREEMENT = 3

Score = Callable[[FloatArray], float]


def kernel_test(setting: Setting) -> Score:
    test = prepare(setting)
    return lambda x: test.evaluate(x).t


def newton_fit(setting: Setting) -> Score:
    reference = events(setting.n_reference, seed=1)
    chosen = np.sort(np.random.default_rng(2).choice(len(reference), size=setting.centers, replace=False))
    return NewtonFit(reference, setting.n_data, setting.width, setting.penalty, reference[chosen])


def one_step(setting: Setting, kind: type[OneStepTest] = OneStepTest) -> Score:
    test = kind(
        events(setting.n_reference, seed=1), n_expected=setting.n_data, width=setting.width,
        penalty=setting.penalty, centers=setting.centers, rng=np.random.default_rng(2),
    )  # fmt: skip
    return lambda x: test.evaluate(x).t


def falkon(setting: Setting) -> Score:
    if importlib.util.find_spec("falkon") is None:
        pytest.skip("the Falkon library is not installed, and PyPI does not have it")
    return one_step(setting, FalkonTest)


def mmd(setting: Setting) -> Score:
    return Mmd(events(setting.n_reference, seed=1), np.random.default_rng(3))


def boosted_trees(setting: Setting) -> Score:
    return BoostedTrees(events(setting.n_reference, seed=1), np.random.default_rng(3))


METHODS: dict[str, Callable[[Setting], Score]] = {
    "kernel": kernel_test,
    "newton": newton_fit,
    "one-step": one_step,
    "falkon": falkon,
    "mmd": mmd,
    "boosted-trees": boosted_trees,
}


@pytest.mark.parametrize("method", METHODS)
def test_time(method: str, timed: Timed, figures: dict[str, Any]) -> None:
    """The published configuration."""
    setting = SETTINGS["published"]
    score = METHODS[method](setting)
    samples = windows(setting, 24, seed=3)
    if method in ("newton", "one-step", "falkon"):
        ours = METHODS["kernel"](setting)
        pairs = [(score(x), ours(x)) for x in samples[:N_AGREEMENT]]
        figures["largest_difference"] = max(abs(a - b) / b for a, b in pairs)
    timed(score, samples)


@pytest.mark.parametrize("method", ["kernel", "one-step", "mmd", "boosted-trees"])
def test_detection(method: str, timed: Timed, figures: dict[str, Any]) -> None:
    """Share of faulty windows above what `FALSE_ALARMS` of the healthy ones reach."""
    setting = replace(SETTINGS["published"], n_data=250)
    score = METHODS[method](setting)
    healthy = [score(x) for x in windows(setting, N_HEALTHY, seed=21)]
    faulty = [score(x) for x in windows(setting, N_FAULTY, FAULTY, seed=23)]
    limit = np.quantile(healthy, 1 - FALSE_ALARMS, method="higher")
    figures["detected"] = float(np.mean(faulty > limit))
    timed(score, windows(setting, 3, seed=25))
