"""Bundles of counted rows: references, toys, windows and explanations of histograms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import dqm
from dqm.errors import InputError
from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import (
    Bundle,
    Evaluator,
    LabelledSample,
    Light,
    Processes,
    RateTest,
    Recipe,
    StoredBundle,
    ToySource,
    WindowKind,
    add_normalisation,
    calibrate,
    certify,
    create_bundle,
    learn_shape,
    learn_templates,
    prepare_statistic,
)
from dqm.reference.parallel import evaluate_toys
from dqm.reference.splits import split_events
from dqm.service.offline.feature_files import read_counted
from tests.conftest import Once

EDGES = np.linspace(-4.0, 4.0, 33)
BINS = (0.5 * (EDGES[1:] + EDGES[:-1]))[:, None]
N_WINDOW = 300


def histogram(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    values = np.random.default_rng(seed).normal(shift, size=n)
    return np.histogram(values, EDGES)[0].astype(np.float64)


RUN = histogram(30_000, 1)
RECIPE = Recipe(
    features=("drift",), n_reference=6000, n_expected=N_WINDOW, counts="n",
    cut=WindowCut.TIME, rate_hz=30.0,
)  # fmt: skip


def window_of(counts: FloatArray, x: FloatArray = BINS, n_expected: float | None = N_WINDOW) -> Window:
    return Window(
        stream="h", run=1, seq=0, run_type="physics", origin=Origin.LIVE,
        cut=WindowCut.COUNT if n_expected is None else WindowCut.TIME,
        names=("n", "drift"), x=np.column_stack([counts, x]), start=0.0, end=10.0, live_seconds=10.0,
        n_expected=n_expected, counts="n",
    )  # fmt: skip


@pytest.fixture(scope="session")
def counted(once: Once) -> Bundle:
    def build(path: Path) -> None:
        bundle = create_bundle(BINS, RECIPE, path, counts=RUN)
        calibrate(bundle, 300, kind=bundle.manifest.kind, seed=5, n_processes=1)

    return dqm.open_bundle(once("counted.dqmref", build))


def test_the_events_of_a_histogram_are_divided_into_reference_and_pool(counted: Bundle) -> None:
    m = counted.manifest
    assert (m.n_reference, m.n_pool, m.n_built) == (6000, int(RUN.sum()) - 6000, int(RUN.sum()))
    together = dict.fromkeys(BINS[:, 0], 0.0)
    for sample in (counted.reference_sample, counted.pool_sample):
        assert sample.counts is not None
        assert (sample.counts > 0).all()
        for value, count in zip(sample.x[:, 0], sample.counts, strict=True):
            together[value] += count
    assert list(together.values()) == RUN.tolist()
    assert counted.bins is not None
    assert np.array_equal(counted.bins, BINS)  # those without events too
    assert m.counts == "n"
    assert not m.is_of_channels


@pytest.mark.parametrize(("cut", "variance"), [(WindowCut.COUNT, 0.0), (WindowCut.TIME, N_WINDOW)])
def test_toys_are_draws_from_the_bins_of_the_pool(counted: Bundle, cut: WindowCut, variance: float) -> None:
    source = ToySource(counted, WindowKind(cut=cut, n_expected=N_WINDOW))
    toys = [source.throw(1, index) for index in range(1000)]
    sizes = np.array([toy.weights.sum() for toy in toys if toy.weights is not None])
    assert sizes.mean() == pytest.approx(N_WINDOW, abs=2.0)
    assert sizes.var() == pytest.approx(variance, rel=0.15)
    seen = np.zeros(len(BINS))
    for toy in toys:
        assert toy.weights is not None
        np.add.at(seen, np.searchsorted(BINS[:, 0], toy.x[:, 0]), toy.weights)
    pool = np.zeros(len(BINS))
    sample = counted.pool_sample
    pool[np.searchsorted(BINS[:, 0], sample.x[:, 0])] = sample.weights
    some = pool > 20
    chi2 = ((seen - pool / pool.sum() * seen.sum())[some] ** 2 / seen[some]).sum()
    assert stats.chi2.sf(chi2, some.sum()) > 1e-3
    again = source.throw(1, 7)
    assert np.array_equal(again.x, toys[7].x)


def test_fresh_splits_divide_the_counts_of_the_whole_run(counted: Bundle) -> None:
    reference, centers, pool = split_events(counted, 1, 3)
    assert reference.n_events == 6000
    assert pool.n_events == RUN.sum() - 6000
    assert {tuple(c) for c in centers} <= {tuple(x) for x in reference.x}
    other, _, _ = split_events(counted, 1, 4)
    assert not np.array_equal(reference.weights, other.weights)


def test_healthy_histograms_have_p_uniform_and_changed_ones_small_p(counted: Bundle) -> None:
    evaluator = Evaluator(counted)
    p = [evaluator.evaluate(window_of(histogram(N_WINDOW, 100 + k))).p or 0.0 for k in range(60)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    shifted = evaluator.evaluate(window_of(histogram(N_WINDOW, 2, 0.4)))
    assert shifted.p is not None
    assert shifted.p < 1e-3
    assert shifted.result.n_data == histogram(N_WINDOW, 2, 0.4).sum()


def test_toys_of_bins_are_distributed_as_toys_of_the_events_written_out(counted: Bundle) -> None:
    kind = counted.manifest.kind
    test, source = prepare_statistic(counted, kind), ToySource(counted, kind)
    t = [outcome.t for outcome in evaluate_toys(test, [source.throw(2, k) for k in range(300)])]
    sample, rng = counted.pool_sample, np.random.default_rng(3)
    rows = np.repeat(sample.x, sample.weights.astype(int), axis=0)
    windows = [rows[rng.choice(len(rows), rng.poisson(N_WINDOW), replace=False)] for _ in range(300)]
    written_out = [outcome.t for outcome in test.evaluate_many(windows)]
    assert stats.ks_2samp(t, written_out).pvalue > 1e-3


def test_maps_have_the_bins_of_the_histogram(counted: Bundle) -> None:
    counts = histogram(N_WINDOW, 2, 0.5)
    found = Evaluator(counted).evaluate(window_of(counts)).explain()
    (only,) = found.maps
    assert np.allclose(only.edges[0], EDGES)
    assert np.array_equal(only.data, counts)
    assert only.reference.sum() == pytest.approx(N_WINDOW)
    reference = np.zeros(len(BINS))
    sample = counted.reference_sample
    reference[np.searchsorted(BINS[:, 0], sample.x[:, 0])] = sample.weights
    assert only.reference_error == pytest.approx(np.sqrt(reference) * N_WINDOW / 6000)
    assert found.text == "departs mostly in drift (100 %)"


def test_the_rate_is_that_of_the_contents(counted: Bundle) -> None:
    rate = RateTest.from_manifest(counted.manifest, uncertainty=0.0)
    few = rate.evaluate(window_of(histogram(N_WINDOW // 2, 1)))
    assert few is not None
    assert few.p < 1e-6
    healthy = rate.evaluate(window_of(histogram(N_WINDOW, 1)))
    assert healthy is not None
    assert healthy.p > 1e-3
    told = Evaluator(counted).evaluate(window_of(histogram(40, 1)), min_events=50)
    assert told.reason == "40 events, fewer than 50 (expected 300)"


def test_a_window_counts_bins_that_it_lacks_as_empty(counted: Bundle) -> None:
    counts, evaluator = histogram(N_WINDOW, 7), Evaluator(counted)
    some = counts > 0
    assert (
        evaluator.evaluate(window_of(counts[some], BINS[some])).t == evaluator.evaluate(window_of(counts)).t
    )


@pytest.mark.parametrize(
    ("counts", "x", "told"),
    [
        (histogram(N_WINDOW, 1), BINS + 0.1, "is none of the reference's: the binning is another"),
        (histogram(N_WINDOW, 1), BINS * 0.5, "is none of the reference's: the binning is another"),
        (histogram(N_WINDOW, 1) * 1.5, BINS, "events; contents are whole numbers of 0 or more"),
        (np.zeros(len(BINS)), BINS, "no events"),
    ],
)
def test_a_window_that_cannot_be_compared_says_why(
    counted: Bundle, counts: FloatArray, x: FloatArray, told: str
) -> None:
    assert told in Evaluator(counted).evaluate(window_of(counts, x)).reason


def test_events_beyond_the_bins_of_the_reference_are_a_remark(counted: Bundle) -> None:
    beyond = np.vstack([BINS, [[4.125]]])
    counts = np.append(histogram(N_WINDOW, 1), 20.0)
    assert any(
        remark.startswith("20 events lie where the reference has none")
        for remark in Evaluator(counted).evaluate(window_of(counts, beyond)).remarks
    )


def test_events_are_refused_by_a_bundle_of_bins_and_bins_by_one_of_events(
    counted: Bundle, calibrated: Bundle
) -> None:
    single = Window(
        stream="h", run=1, seq=0, run_type="physics", origin=Origin.LIVE, cut=WindowCut.COUNT,
        names=("drift",), x=np.zeros((N_WINDOW, 1)),
    )  # fmt: skip
    assert (
        "one row for each event, but the reference has rows counted"
        in Evaluator(counted).evaluate(single).reason
    )
    both = Window(
        stream="h", run=1, seq=0, run_type="physics", origin=Origin.LIVE, cut=WindowCut.COUNT,
        names=("a", "b", "n"), x=np.ones((5, 3)), counts="n",
    )  # fmt: skip
    assert (
        "rows counted by 'n', but the reference has one row for"
        in Evaluator(calibrated).evaluate(both).reason
    )


def test_two_features_need_a_window_of_two() -> None:
    grid = np.array([(x, y) for x in range(6) for y in range(5)], dtype=float)
    counts = np.random.default_rng(1).poisson(200.0, len(grid)).astype(float)
    bundle = dqm.build_bundle(grid, weights=counts, window=200, features=["x", "y"])
    bundle.calibrate(100)
    window = Window(
        stream="h", run=1, seq=0, run_type="physics", origin=Origin.LIVE, cut=WindowCut.COUNT,
        names=("x", "events"), x=np.ones((200, 2)), counts="events",
    )  # fmt: skip
    assert Evaluator(bundle).evaluate(window).reason == "features of the reference are missing: y"
    found = bundle.evaluate(grid, weights=np.random.default_rng(2).multinomial(200, counts / counts.sum()))
    assert found.p is not None
    (pair,) = found.explain().pairs
    assert pair.data.shape == (6, 5)


def test_the_python_interface_takes_weights() -> None:
    bundle = dqm.build_bundle(BINS, weights=RUN, window=N_WINDOW)
    bundle.calibrate(100)
    counts = np.random.default_rng(3).multinomial(N_WINDOW, RUN / RUN.sum())
    assert bundle.evaluate(BINS, weights=counts).p is not None
    with pytest.raises(InputError, match="no weights given for a bundle of counted rows"):
        bundle.evaluate(BINS)
    with pytest.raises(InputError, match="no null table for windows of 299 events"):
        bundle.evaluate(BINS, weights=counts - (np.arange(len(BINS)) == np.argmax(counts)))
    single = dqm.build_bundle(np.random.default_rng(1).normal(size=(4000, 1)), window=100)
    with pytest.raises(InputError, match="weights given for a bundle of single events"):
        single.evaluate(BINS, weights=counts)


def test_histograms_may_have_a_free_rate_but_no_learned_parameters(tmp_path: Path) -> None:
    bundle = create_bundle(BINS, RECIPE, tmp_path / "h.dqmref", counts=RUN)
    free = add_normalisation(bundle, "rate", None)
    free = calibrate(free, 100, kind=free.manifest.kind, seed=1, n_processes=1)
    twice = Evaluator(free).evaluate(window_of(histogram(2 * N_WINDOW, 9)))
    assert twice.p is not None
    assert twice.p > 0.01
    with pytest.raises(InputError, match="a bundle of histograms takes no nuisance parameter"):
        learn_shape(bundle, "gas", 0.1, {0.1: BINS})
    with pytest.raises(InputError, match="a bundle of histograms takes no templates"):
        learn_templates(bundle, [LabelledSample("late", BINS)])


@pytest.mark.parametrize(
    ("counts", "change", "told"),
    [
        (RUN * 0.5 + 0.25, {}, "which is not a whole number"),
        (np.where(np.arange(32) == 2, -1.0, RUN), {}, "row 2 of the table of counted rows stands for -1"),
        (np.where(np.arange(32) == 2, np.nan, RUN), {}, "stands for nan events"),
        (RUN * 0.0, {}, "all counts are 0"),
        (RUN * 1e6, {}, "events in all"),
        (RUN, {"statistic": "one-step"}, "one-step takes no rows that stand for several events"),
        (RUN, {"counts": "drift"}, "two features are named 'drift'"),
        (RUN, {"counts": None}, "their column has no name"),
        (np.where(np.arange(32) < 6, 1e4, 0.0), {}, "distinct event"),
    ],
)
def test_what_makes_no_reference_is_refused(
    tmp_path: Path, counts: FloatArray, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        create_bundle(BINS, replace(RECIPE, **change), tmp_path / "b.dqmref", counts=counts)
    assert not (tmp_path / "b.dqmref").exists()


@pytest.mark.slow
def test_a_reference_of_histograms_gets_a_certificate(counted: Bundle) -> None:
    bundle = StoredBundle.read(counted.path)
    made = certify(
        bundle, 50, kind=bundle.manifest.kind, seed=9, threshold=0.1, workers=Processes(1)
    ).certificate
    lights = {line.name: line.light for line in made.lines}
    assert lights["uniformity"] is Light.GREEN
    assert lights["stability over the run"] is not Light.RED
    assert any("these parts are random" in line.found for line in made.lines)


def test_several_widths_take_histograms(tmp_path: Path) -> None:
    bundle = create_bundle(BINS, replace(RECIPE, statistic="several"), tmp_path / "s.dqmref", counts=RUN)
    bundle = calibrate(bundle, 200, kind=bundle.manifest.kind, seed=1, n_processes=1)
    found = Evaluator(bundle).evaluate(window_of(histogram(N_WINDOW, 2, 0.8)))
    assert found.p is not None
    assert found.p < 0.01
    assert found.explain().text.startswith("departs mostly in drift (100 %); seen by a kernel of width")


@pytest.mark.parametrize("n_states", [2, 3])
def test_a_table_of_few_states_is_no_run_with_a_jump_in_time(tmp_path: Path, n_states: int) -> None:
    rows = [f"{1e9 + 10 * k},{x},{k + 1}" for k in range(n_states) for x in range(20)]
    (tmp_path / "bins.csv").write_text("time,x,n\n" + "\n".join(rows))
    run = read_counted([tmp_path / "bins.csv"], None, "n")
    assert (run.names, run.sources[0].n_events) == (("x",), run.n_events)
