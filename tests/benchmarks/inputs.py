"""What the benchmarks test: events of the simulated chamber, configurations, the machine."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Literal

import numpy as np

from dqm.events import FloatArray
from dqm.nplm import KernelTest
from dqm_collectors.chamber.conditions import NOMINAL_STRIP_V, Conditions
from dqm_collectors.simulate import simulate_features

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
HEALTHY, FAULTY = 1.0, 0.75
"""Voltage of the cathode strips over its nominal value."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration of the kernel test."""

    n_reference: int
    n_data: int
    centers: int
    n_features: int
    width: float
    penalty: float
    loss: Literal["logistic", "likelihood"]

    def changed(self, factor: str, value: int) -> Setting:
        """Give the same with one number changed; no more centres than reference events."""
        other = replace(self, **{factor: value})
        return replace(other, n_reference=max(other.n_reference, other.centers))


SETTINGS = {
    "published": Setting(2000, 500, 2000, 5, 4.5, 1e-7, "logistic"),
    "default": Setting(5000, 500, 300, 5, 2.5, 1e-7, "likelihood"),
}
"""That of the papers; that of ``dqm reference build``, with the reference of the demonstration."""

FACTORS = {
    "n_reference": (2000, 20_000, 45_000, 200_000),
    "n_data": (250, 500, 1000, 2500, 10_000),
    "centers": (200, 500, 1000, 2000, 4000),
    "n_features": (1, 2, 5, 8),
}
"""What is changed, one at a time."""


@lru_cache(maxsize=4)
def events(n: int, strips: float = HEALTHY, *, seed: int, n_features: int = 5) -> FloatArray:
    """Simulated segments; features beyond the chamber's five are Gaussian and independent."""
    conditions = Conditions(strip_voltage_v=strips * NOMINAL_STRIP_V)
    x = simulate_features(conditions, n, np.random.default_rng(seed)).x[:, : len(FEATURES)]
    more = np.random.default_rng(seed + 1).normal(size=(n, max(0, n_features - len(FEATURES))))
    return np.concatenate([x, more], axis=1)[:, :n_features]


def windows(setting: Setting, n: int, strips: float = HEALTHY, *, seed: int) -> list[FloatArray]:
    """Windows of fresh events, none of them in the reference."""
    x = events(n * setting.n_data, strips, seed=seed, n_features=setting.n_features)
    return list(x.reshape(n, setting.n_data, setting.n_features))


def prepare(setting: Setting, device: str = "cpu") -> KernelTest:
    """Set up the kernel test, with no more centres than distinct events: digitised times repeat."""
    reference = events(setting.n_reference, seed=1, n_features=setting.n_features)
    return KernelTest(
        reference,
        n_expected=float(setting.n_data),
        width=setting.width,
        penalty=setting.penalty,
        centers=min(setting.centers, len(np.unique(reference, axis=0))),
        loss=setting.loss,
        rng=np.random.default_rng(2),
        device=device,
    )


def machine(load: float, cpuinfo: str) -> dict[str, str | int | float]:
    """Describe where it runs, without naming the host."""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": load,
        "python": platform.python_version(),
        **{name: version(name) for name in ("dqm", "numpy", "torch")},
    }
