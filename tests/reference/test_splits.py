"""Toys of fresh splits: a null table that knows that the reference is finite."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dqm.alarm import ample_toys, smallest_supported_p
from dqm.errors import InputError
from dqm.events import WindowCut
from dqm.nplm import KernelTest
from dqm.nplm.samples import Sample
from dqm.reference import (
    NullTable,
    Processes,
    StoredBundle,
    WindowKind,
    WindowRange,
    calibrate,
    calibrate_range,
    create_bundle,
    open_bundle,
    split_offset,
    uncertainty_of,
    validate,
)
from dqm.reference.calibration import origin_remark
from dqm.reference.splits import (
    OriginName,
    choose_origin,
    choose_reference_size,
    most_of_splits,
    refuse_sizes,
    split_events,
)
from tests.reference.conftest import RECIPE, healthy_events

SHORT = replace(RECIPE, n_reference=200, centers=60)
"""Of 380 events: 200 in the reference, 180 in the pool; windows of 60."""


def kind(n_expected: float, cut: WindowCut = WindowCut.COUNT) -> WindowKind:
    return WindowKind(cut=cut, n_expected=n_expected)


@pytest.fixture
def short(tmp_path: Path) -> StoredBundle:
    return create_bundle(healthy_events(380, 1), SHORT, tmp_path / "short.dqmref")


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """A flag of 1.5 % beside a feature: one reference of seven, drawn at random, would have only zeros."""
    flag = np.zeros(300)
    flag[::67] = 1.0
    events = np.column_stack([healthy_events(300, 1)[:, 0], flag])
    recipe = replace(RECIPE, n_reference=100, n_expected=20, width=None, penalty=None, centers=30)
    path = tmp_path_factory.mktemp("flagged") / "bundle"
    return create_bundle(events, replace(recipe, statistic="several"), path)


def test_a_split_whose_reference_would_be_constant_is_made_again(flagged: StoredBundle) -> None:
    """The run would not be monitored with such a reference, and the test cannot be prepared for one."""
    assert flagged.manifest.kinds_of_features["b"] == "steps"
    assert all(split_events(flagged, 1, number)[0].x[:, 1].any() for number in range(100))
    done = calibrate(flagged, 100, kind=flagged.manifest.kind, seed=1, origin="splits", workers=Processes(1))
    assert done.manifest.null[0].per_split


def test_a_feature_that_is_constant_in_the_run_or_has_no_order_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(50), np.arange(50) == 7, rng.normal(size=50)])
    references = [Sample(x).split([25], rng, [True, False, True])[0].x for _ in range(20)]
    assert 0 < sum(one[:, 1].any() for one in references) < 20
    references = [Sample(x).split([25], rng, [True, True, True])[0].x for _ in range(20)]
    assert all(one[:, 1].any() for one in references)


def test_a_split_divides_all_events_anew(short: StoredBundle) -> None:
    split, centers, rest = split_events(short, 1, 7)
    reference, pool = split.x, rest.x
    assert (len(reference), len(centers), len(pool)) == (200, 60, 180)
    everything = np.concatenate([short.reference, short.pool])
    np.testing.assert_array_equal(
        np.unique(np.concatenate([reference, pool]), axis=0), np.unique(everything, axis=0)
    )
    assert {tuple(c) for c in centers} < {tuple(x) for x in reference}
    np.testing.assert_array_equal(reference, split_events(short, 1, 7)[0].x)
    assert not np.array_equal(reference, split_events(short, 1, 8)[0].x)
    assert 80 < len({tuple(x) for x in reference} & {tuple(x) for x in short.reference}) < 130


@pytest.mark.parametrize(
    ("sizes", "per_split"),
    [
        ((200, 5000, 45_000), 0),
        ((200, 750, 750), 3),
        ((500, 2000, 3000), 6),
        ((50, 500, 500), 10),
        ((500, 500, 10_000), 0),
    ],
)
def test_the_size_of_the_pool_decides(sizes: tuple[int, int, int], per_split: int) -> None:
    chosen = choose_origin(*sizes)
    assert chosen.per_split == per_split
    made = f"{per_split} toys of each fresh split" if per_split else "toys are windows from the pool"
    assert chosen.reason.startswith(made)
    assert f"sigma with the pool of {sizes[2]} events" in chosen.reason
    assert choose_origin(*sizes, "splits").per_split > 0
    assert choose_origin(*sizes, "pool").per_split == 0


@pytest.mark.parametrize(("share", "is_split"), [(0.1, False), (0.8, True), (None, False)])
def test_how_much_single_events_count_for_decides_where_the_size_of_the_pool_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float | None, is_split: bool
) -> None:
    monkeypatch.setattr("dqm.reference.calibration.measure_linear_share", lambda *_: share)
    recipe = replace(RECIPE, n_reference=200, n_expected=20, centers=40)
    bundle = create_bundle(healthy_events(800, 1), recipe, tmp_path / "bundle")
    seen: list[tuple[int, int]] = []
    done = calibrate(
        bundle,
        200,
        kind=bundle.manifest.kind,
        seed=1,
        workers=Processes(1),
        progress=lambda *at: seen.append(at),
    )
    (entry,) = done.manifest.null
    assert bool(entry.per_split) == is_split
    assert uncertainty_of(done.manifest, entry)[0] < 0.15
    assert seen[-1] == (200, 200)
    assert not list(done.path.glob("toys-*")), "toys that were tried are not left behind"
    asked = calibrate(bundle, 200, kind=bundle.manifest.kind, seed=1, origin="pool", workers=Processes(1))
    assert not asked.manifest.null[0].per_split


def test_fewer_toys_are_of_fresh_splits_where_that_is_allowed(short: StoredBundle) -> None:
    def n_toys(origin: OriginName) -> int:
        done = calibrate(
            short, 150, kind=kind(60.0), seed=1, origin=origin, most_of_splits=100, workers=Processes(1)
        )
        return done.manifest.null[0].toys.shape[0]

    assert (n_toys("splits"), n_toys("pool")) == (100, 150)


@pytest.mark.parametrize(
    ("threshold", "n_toys"), [(0.01, 10_000), (0.0015, 20_000), (1e-4, 100_000), (2e-5, 500_000)]
)
def test_the_toys_of_fresh_splits_support_the_threshold(threshold: float, n_toys: int) -> None:
    assert most_of_splits(ample_toys(threshold)) == n_toys
    assert smallest_supported_p(n_toys) <= threshold


def test_windows_that_no_table_holds_for_are_refused_with_advice(tmp_path: Path) -> None:
    recipe = replace(RECIPE, n_reference=100, centers=50, n_expected=150)
    with pytest.raises(InputError, match="450 events, 100 of them in the reference, are too few") as refused:
        create_bundle(healthy_events(450, 1), recipe, tmp_path / "none")
    assert "windows of at most 80 events, or a reference of 186 from a longer run" in str(refused.value)
    assert split_offset(80, 100) < 0.5 < split_offset(81, 100)
    assert split_offset(150, 186) < 0.5 < split_offset(150, 185)
    assert not list(tmp_path.iterdir())


def test_the_bundle_remembers_what_its_toys_are_made_of(short: StoredBundle) -> None:
    bundle = calibrate(short, 100, kind=kind(60), seed=5, n_processes=1)
    (entry,) = open_bundle(bundle.path).manifest.null
    assert entry.per_split == 3
    assert uncertainty_of(bundle.manifest, entry) == (split_offset(60, 200), "reference")
    assert "a reference of 200 events leaves p-values uncertain by about 0.24 sigma" in origin_remark(
        bundle, kind(60)
    )
    pooled = calibrate(bundle, 100, kind=kind(60), seed=5, origin="pool", n_processes=1)
    assert "per_split" not in json.loads(pooled.manifest.encode())["null"][0], "its name is as before"
    assert uncertainty_of(pooled.manifest, pooled.manifest.null[0])[1] == "pool"
    assert "or calibrate it by fresh splits (--origin splits), which leave 0.24" in origin_remark(
        pooled, kind(60)
    )
    assert not np.array_equal(pooled.toys(pooled.manifest.null[0]), bundle.toys(entry))


@pytest.mark.slow
def test_splits_depend_on_neither_processes_nor_interruptions(short: StoredBundle, tmp_path: Path) -> None:
    other = open_bundle(Path(shutil.copytree(short.path, tmp_path / "other")))
    straight = calibrate(short, 130, kind=kind(60), seed=5, n_processes=1)

    class StoppedError(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done >= 48:
            raise StoppedError

    with pytest.raises(StoppedError):
        calibrate(other, 130, kind=kind(60), seed=5, n_processes=1, progress=stop)
    resumed_at: list[int] = []
    resumed = calibrate(
        other, 130, kind=kind(60), seed=5, n_processes=2, progress=lambda done, _: resumed_at.append(done)
    )
    assert resumed_at[0] >= 48
    assert resumed.identifier == straight.identifier
    seen: list[int] = []
    larger = calibrate(
        resumed, 150, kind=kind(60), seed=5, n_processes=1, progress=lambda n, _: seen.append(n)
    )
    assert seen[0] == 120, "whole chunks of whole splits are kept"
    np.testing.assert_array_equal(
        larger.toys(larger.manifest.null[0])[:120], straight.toys(straight.manifest.null[0])[:120]
    )
    assert not list(other.path.glob("toys-*"))


@pytest.mark.long
def test_healthy_windows_of_many_short_runs_have_uniform_p(tmp_path: Path) -> None:
    """On average over runs: each has a reference, a table and windows of its own."""
    found = []
    recipe = replace(SHORT, penalty=1e-3, centers=40)
    for run in range(12):
        bundle = create_bundle(healthy_events(380, 100 + run), recipe, tmp_path / str(run))
        bundle = calibrate(bundle, 120, kind=kind(60), seed=run, n_processes=1)
        table = NullTable(bundle.toys(bundle.manifest.null[0])[:, 0])
        test = KernelTest(
            bundle.reference,
            n_expected=60,
            centers=bundle.centers,
            few_windows=True,
            **bundle.manifest.settings,
        )
        fresh = healthy_events(40 * 60, 500 + run).reshape(40, 60, 2)
        found += [table.p_value(result.t).p for result in test.evaluate_many(list(fresh))]
    p = np.array(found)
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)
    assert stats.binom.ppf(1e-4, 480, 0.04) <= (p < 0.05).sum() <= stats.binom.ppf(1 - 1e-4, 480, 0.065)


@pytest.mark.slow
def test_a_range_of_sizes_is_calibrated_by_splits(tmp_path: Path) -> None:
    recipe = replace(SHORT, cut=WindowCut.TIME, penalty=1e-3)
    bundle = create_bundle(healthy_events(500, 1), recipe, tmp_path / "range")
    done, midpoints = calibrate_range(
        bundle,
        100,
        window_range=WindowRange(cut=WindowCut.TIME, low=40.0, high=60.0),
        seed=1,
        workers=Processes(1),
    )
    assert {entry.per_split for entry in done.manifest.null} == {5}
    assert all(m.ks_p > 1e-3 for m in midpoints)
    validation = validate(done, 50, kind=kind(60.0, WindowCut.TIME), seed=9, n_processes=1)
    assert not validation.failed


def test_a_test_prepared_for_a_few_windows_gives_the_same_t() -> None:
    reference = healthy_events(700, 1)
    arguments = {"n_expected": 100, "width": 1.5, "penalty": 1e-5, "centers": reference[:150]}
    windows = list(healthy_events(1000, 2).reshape(10, 100, 2) * np.array([1.0, 1.2]))
    for loss in ("logistic", "likelihood"):
        careful, quick = (
            KernelTest(reference, loss=loss, few_windows=few, **arguments).evaluate_many(windows)
            for few in (False, True)
        )
        np.testing.assert_allclose([r.t for r in quick], [r.t for r in careful], rtol=1e-3)


@pytest.mark.parametrize("cut", list(WindowCut))
@pytest.mark.parametrize("n_events", [60, 200, 3000, 10**7])
def test_the_sizes_that_a_refusal_names_are_possible_and_hardly_larger_ones(
    n_events: int, cut: WindowCut
) -> None:
    with pytest.raises(InputError) as told:
        refuse_sizes(n_events, n_events // 2, n_events / 2 - 5, cut=cut)
    assert "'dqm reference advise FILE'" in str(told.value.fix)
    named = re.search(r"windows of at most (\d+), with a reference of (\d+)", str(told.value.fix))
    if named is None:
        assert n_events <= 200, "too short for windows by time, which may have many more events"
        assert cut is WindowCut.TIME
        return
    largest, n_reference = map(int, named.groups())
    assert n_reference == choose_reference_size(n_events, largest)
    refuse_sizes(n_events, n_reference, largest, cut=cut)
    larger = 1.02 * largest + 1
    with pytest.raises(InputError):
        refuse_sizes(n_events, choose_reference_size(n_events, larger), larger, cut=cut)


def test_a_reference_that_leaves_no_pool_is_refused_with_one_that_does() -> None:
    with pytest.raises(
        InputError, match="Take a reference of at most 2900, or windows of at most 750"
    ) as told:
        refuse_sizes(3000, 2950, 50, cut=WindowCut.COUNT)
    refuse_sizes(3000, 2900, 50, cut=WindowCut.COUNT)
    with pytest.raises(InputError) as told:
        refuse_sizes(3000, 2950, 50, cut=WindowCut.COUNT, is_counted=True)
    assert "advise" not in str(told.value.fix), "it takes no histograms"
