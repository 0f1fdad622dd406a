"""A small bundle that many tests read; none of them may write to it."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.reference import Bundle, Recipe, build_bundle, calibrate

RECIPE = Recipe(
    features=("a", "b"), n_reference=400, n_expected=60, width=2.0, penalty=1e-5, centers=80, seed=3
)


def healthy_events(n: int, seed: int) -> FloatArray:
    """Two correlated features."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 1] += x[:, 0]
    return x


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("reference") / "small.dqmref"
    bundle = build_bundle(healthy_events(8000, 1), RECIPE, path)
    return calibrate(bundle, 400, kind=bundle.manifest.kind, seed=5, n_processes=1)
