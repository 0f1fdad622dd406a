"""How the settings of a test are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqm.reference import Recipe, create_bundle, look_at_settings

NAMES = ("a", "e", "gain")


@pytest.mark.slow
def test_what_is_shown_of_a_file_is_the_test_that_is_built(tmp_path: Path) -> None:
    """Also with a sentinel and a constant, and the same of the bundle."""
    rng = np.random.default_rng(3)
    value = np.where(rng.random(1500) < 0.1, -999.0, rng.normal(size=1500))
    x = np.column_stack([rng.normal(size=1500), value, np.zeros(1500)])
    recipe = Recipe(NAMES, n_reference=400, n_expected=50, statistic="several", seed=3)
    manifest = create_bundle(x, recipe, tmp_path / "b.dqmref").manifest
    shown = look_at_settings(x, NAMES, n_reference=400, n_expected=50, seed=3)
    of_bundle = look_at_settings(x, NAMES, n_reference=400, n_expected=50, seed=3, manifest=manifest)
    assert shown.widths == of_bundle.widths == manifest.settings["width"]
    assert shown.distances.max() < 20, "the sentinel is no distance"
    for one in (shown, of_bundle):
        assert [point.value for point in one.of("penalty factor")] == [0.1, 1.0, 10.0]
        assert [point.value for point in one.points if point.is_chosen] == [300.0, 1.0]
        assert all(0 < point.mean_t < 50 for point in one.points if point.is_chosen)
        assert one.words[-1].startswith("what to do: ")
    assert [point.mean_t for point in shown.points] == [point.mean_t for point in of_bundle.points]
