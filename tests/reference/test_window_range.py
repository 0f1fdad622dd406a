"""Windows of any live time: p is uniform between the calibrated sizes, and faults are seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import (
    Evaluator,
    Processes,
    StoredBundle,
    WindowKind,
    WindowRange,
    calibrate,
    calibrate_range,
    create_bundle,
    open_bundle,
)
from dqm.reference.window_range import LEVEL, interpolate, sizes_of
from tests.conftest import Once
from tests.reference.conftest import RECIPE, healthy_events

pytestmark = pytest.mark.slow

RANGE = WindowRange(cut=WindowCut.TIME, low=30.0, high=150.0)


@pytest.fixture(scope="module")
def ranged(once: Once) -> StoredBundle:
    def build(path: Path) -> None:
        recipe = replace(RECIPE, cut=WindowCut.TIME, n_expected=150.0)
        bundle = create_bundle(healthy_events(30_000, 1), recipe, path)
        calibrate_range(bundle, 3000, window_range=RANGE, seed=5, workers=Processes(1))

    return open_bundle(once("ranged.dqmref", build))


def window(x: FloatArray, n_expected: float) -> Window:
    return Window(
        "s", 1, 0, "physics", Origin.LIVE, WindowCut.TIME, ("a", "b"), x,
        start=0.0, end=10.0, live_seconds=10.0, n_expected=n_expected,
    )  # fmt: skip


def p_values(bundle: StoredBundle, sizes: FloatArray, shift: float = 0.0, seed: int = 7) -> FloatArray:
    rng = np.random.default_rng(seed)
    evaluator = Evaluator(bundle)
    found = []
    for size in sizes:
        x = healthy_events(int(rng.poisson(size)), seed=int(rng.integers(2**31))) + np.array([shift, 0.0])
        found.append(evaluator.evaluate(window(x, float(size))).p)
    assert None not in found
    return np.array(found, dtype=float)


def test_windows_of_any_live_time_have_uniform_p(ranged: StoredBundle) -> None:
    sizes = np.random.default_rng(3).uniform(30.0, 150.0, 500)
    p = p_values(ranged, sizes)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert stats.binom.ppf(0.001, 500, 0.01) <= (p < 0.01).sum() <= stats.binom.ppf(0.999, 500, 0.01)


def test_windows_of_one_size_off_the_grid_have_uniform_p(ranged: StoredBundle) -> None:
    p = p_values(ranged, np.full(500, 52.4), seed=8)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_fault_is_seen_at_every_live_time(ranged: StoredBundle) -> None:
    sizes = np.linspace(30.0, 150.0, 60)
    weak, strong = p_values(ranged, sizes[-20:], shift=0.4), p_values(ranged, sizes, shift=1.2)
    assert (strong < 0.001).mean() > 0.95
    assert np.median(weak) < 0.05


def test_beyond_the_range_nothing_is_known(ranged: StoredBundle) -> None:
    found = Evaluator(ranged).evaluate(window(healthy_events(200, 1), 200.0))
    assert found.reason == (
        "no null table for windows of 200 events cut by time (calibrated: 30 to 150 events cut by time)"
    )


def test_the_end_of_a_range_is_a_calibrated_size(ranged: StoredBundle) -> None:
    sizes = [entry.kind.n_expected for entry in ranged.manifest.null]
    assert sizes == sizes_of(RANGE)
    assert (sizes[0], sizes[-1]) == (pytest.approx(30.0), pytest.approx(150.0))
    assert max(b / a for a, b in pairwise(sizes)) <= 1.4
    assert interpolate(sizes, 30.0) == (0, 0.0)
    place, share = interpolate(sizes, 150.0)
    assert (place, share) == (len(sizes) - 2, pytest.approx(1.0))
    n_toys = sum(entry.toys.shape[0] for entry in ranged.manifest.null)
    assert n_toys <= 2.6 * 3000


@pytest.fixture(scope="module")
def fine(ranged: StoredBundle, tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """The same with so many toys that 3000 windows do not see how few the tables have."""
    path = Path(shutil.copytree(ranged.path, tmp_path_factory.mktemp("fine") / "fine.dqmref"))
    bundle, _ = calibrate_range(
        open_bundle(path), 12_000, window_range=RANGE, seed=6, workers=Processes(2)
    )  # fmt: skip
    return bundle


@pytest.mark.long
@pytest.mark.parametrize("size", [None, 36.3, 52.4, 121.7], ids=["20 to 100 %", "36.3", "52.4", "121.7"])
def test_3000_healthy_windows_of_any_live_time_have_uniform_p(fine: StoredBundle, size: float | None) -> None:
    rng = np.random.default_rng(9)
    sizes = rng.uniform(0.2, 1.0, 3000) * RANGE.high if size is None else np.full(3000, size)
    p = p_values(fine, sizes, seed=10)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert stats.binom.ppf(0.001, 3000, 0.01) <= (p < 0.01).sum() <= stats.binom.ppf(0.999, 3000, 0.01)


@pytest.mark.long
@pytest.mark.parametrize("size", [36.3, 121.7])
def test_a_fault_between_two_tables_is_seen_as_with_a_table_of_its_own(
    fine: StoredBundle, tmp_path: Path, size: float
) -> None:
    path = Path(shutil.copytree(fine.path, tmp_path / "own.dqmref"))
    kind = WindowKind(cut=WindowCut.TIME, n_expected=size)
    own = calibrate(open_bundle(path), 10_000, kind=kind, seed=7, n_processes=2)
    shift = 0.5 if size < 100.0 else 0.25
    between, table = (
        stats.norm.isf(np.maximum(p_values(bundle, np.full(1500, size), shift=shift, seed=11), 1e-3))
        for bundle in (fine, own)
    )
    assert 1.0 < table.mean() < 2.5, "well seen, and not beyond the toys, so that a loss would show"
    # 0.02 by the toys of the three tables (resampled from 40 000 each)
    assert abs(between.mean() - table.mean()) < 0.08


@pytest.fixture
def small(tmp_path: Path) -> StoredBundle:
    return create_bundle(
        healthy_events(8000, 1), replace(RECIPE, cut=WindowCut.TIME), tmp_path / "small.dqmref"
    )


def test_the_check_between_the_tables_is_told(small: StoredBundle) -> None:
    done: list[tuple[int, int]] = []
    bundle, midpoints = calibrate_range(
        small, 400, window_range=WindowRange(cut=WindowCut.TIME, low=40.0, high=80.0), seed=1,
        workers=Processes(1), progress=lambda n, total: done.append((n, total)),
    )  # fmt: skip
    assert [round(m.n_expected, 1) for m in midpoints] == [44.9, 56.6, 71.3]
    assert done[-1][0] == done[-1][1] == sum(m.n_toys for m in midpoints) + 4 * 250
    assert all(m.share_low <= LEVEL <= m.share_high for m in midpoints)
    assert bundle.manifest.judged == "40 to 80 events cut by time"
    again, _ = calibrate_range(
        bundle, 400, window_range=WindowRange(cut=WindowCut.TIME, low=60.0, high=100.0), seed=1,
        workers=Processes(1),
    )  # fmt: skip
    assert again.manifest.judged.startswith("60 to 100 events cut by time; 40 events cut by time")


@pytest.mark.parametrize(("low", "high"), [(80.0, 40.0), (50.0, 50.0)])
def test_a_range_that_is_backwards_or_empty_is_refused(small: StoredBundle, low: float, high: float) -> None:
    with pytest.raises(InputError, match="Give the smaller number first"):
        calibrate_range(small, 400, window_range=WindowRange(cut=WindowCut.TIME, low=low, high=high), seed=1)


def test_windows_cut_by_count_have_whole_numbers() -> None:
    sizes = sizes_of(WindowRange(cut=WindowCut.COUNT, low=100.0, high=200.0))
    assert sizes == [100.0, 126.0, 159.0, 200.0]


def test_a_bundle_without_range_or_rate_keeps_its_name(small: StoredBundle) -> None:
    table = calibrate(small, 100, kind=WindowKind(cut=WindowCut.TIME, n_expected=60.0), seed=1, n_processes=1)
    assert not {"ranges", "rate_hz"} & json.loads(table.manifest.encode()).keys()
