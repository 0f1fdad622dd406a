"""Small bundles, windows and files of two features, for the tests of the upper rooms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Recipe, StoredBundle, calibrate, create_bundle
from tests.waiting import wait_until as wait_until

FEATURES = ("a", "b")
N_WINDOW = 60


def healthy_events(n: int, seed: int) -> FloatArray:
    """Two correlated features."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 1] += x[:, 0]
    return x


def faulty_events(n: int, seed: int) -> FloatArray:
    """The same, far off in one feature."""
    return healthy_events(n, seed) + np.array([0.0, 3.0])


def bare_bundle(path: Path) -> StoredBundle:
    """Make a bundle for windows of `N_WINDOW` events cut by count, without null table."""
    recipe = Recipe(
        FEATURES, n_reference=400, n_expected=N_WINDOW, width=2.0, penalty=1e-5, centers=80, seed=3
    )
    return create_bundle(healthy_events(4000, 1), recipe, path)


def small_bundle(path: Path) -> StoredBundle:
    """Make the same bundle, calibrated."""
    bundle = bare_bundle(path)
    return calibrate(bundle, 150, kind=bundle.manifest.kind, seed=5, n_processes=1)


def beam_events(n: int, seed: int) -> FloatArray:
    """A beam is narrow, and lies elsewhere."""
    return 0.2 * healthy_events(n, seed) + np.array([4.0, 0.0])


def beam_bundle(path: Path, features: tuple[str, ...] = FEATURES) -> StoredBundle:
    """Make a calibrated bundle of them."""
    recipe = Recipe(
        features, n_reference=400, n_expected=N_WINDOW, width=2.0, penalty=1e-5, centers=80, seed=3
    )
    bundle = create_bundle(beam_events(4000, 1), recipe, path)
    return calibrate(bundle, 150, kind=bundle.manifest.kind, seed=5, n_processes=1)


def window_of(x: FloatArray | None = None, **fields: object) -> Window:
    """Give a healthy window of chamber-1, with some fields changed."""
    plain: dict[str, object] = {
        "stream": "chamber-1",
        "run": 7,
        "seq": 0,
        "run_type": "cosmics",
        "origin": Origin.LIVE,
        "cut": WindowCut.COUNT,
        "names": FEATURES,
        "x": healthy_events(N_WINDOW, 100) if x is None else x,
    }
    return Window(**(plain | fields))  # type: ignore[arg-type]


def write_csv(path: Path, x: FloatArray, chambers: Iterable[str] | None = None) -> Path:
    """Write events as text that gives back the same numbers."""
    rows = [",".join(map(repr, row)) for row in x.tolist()]
    header = ",".join(FEATURES)
    if chambers is not None:
        header = f"chamber,{header}"
        rows = [f"{chamber},{row}" for chamber, row in zip(chambers, rows, strict=True)]
    path.write_text("\n".join([header, *rows, ""]))
    return path
