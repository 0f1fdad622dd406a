"""Bundles that many tests read; none of them may write to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.reference import Recipe, StoredBundle, calibrate, create_bundle, open_bundle
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.simulate import simulate_features
from tests.conftest import Once

RECIPE = Recipe(
    features=("a", "b"), n_reference=400, n_expected=60, width=2.0, penalty=1e-5, centers=80, seed=3
)

CHAMBER_FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
CHAMBER_WINDOW = 500


def healthy_events(n: int, seed: int) -> FloatArray:
    """Two correlated features."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 1] += x[:, 0]
    return x


@pytest.fixture(scope="session")
def calibrated(once: Once) -> StoredBundle:
    def build(path: Path) -> None:
        bundle = create_bundle(healthy_events(8000, 1), RECIPE, path)
        calibrate(bundle, 400, kind=bundle.manifest.kind, seed=5, n_processes=1)

    return open_bundle(once("calibrated.dqmref", build))


def simulated(conditions: Conditions, n: int, seed: int) -> FloatArray:
    """Events of a simulated chamber."""
    batch = simulate_features(conditions, n, np.random.default_rng(seed))
    return batch.x[:, [batch.names.index(name) for name in CHAMBER_FEATURES]]


@pytest.fixture(scope="session")
def chamber(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """A healthy simulated chamber."""
    path = tmp_path_factory.mktemp("chamber") / "chamber.dqmref"
    recipe = Recipe(CHAMBER_FEATURES, 5000, CHAMBER_WINDOW)
    bundle = create_bundle(simulated(Conditions(), 15_000, 1), recipe, path)
    return calibrate(bundle, 100, kind=bundle.manifest.kind, seed=2, n_processes=1)
