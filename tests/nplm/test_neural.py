"""The neural test: its value, its null distribution, nuisance parameters, and the choice of the clipping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, NuisanceFit, Shape
from dqm.nplm.neural import NeuralTest, NeuralTwoSampleTest, choose_clipping
from dqm.nplm.samples import Sample
from dqm.reference import Recipe, calibrate, create_bundle

RNG = np.random.default_rng(1)
REFERENCE = RNG.exponential(size=(2000, 1))
WINDOW = RNG.exponential(size=(200, 1)) * 1.3
SCALE = Shape("scale", 0.1, lambda x: x[:, 0] - 1.0, lambda x: -x[:, 0])
NORM = Normalisation("norm", 0.1)


def make(reference: FloatArray = REFERENCE, **settings: object) -> NeuralTest:
    return NeuralTest(reference, **{"n_expected": 200.0, "starts": 2, **settings})  # type: ignore[arg-type]


def test_t_is_the_likelihood_ratio_of_the_fitted_network() -> None:
    found = make().evaluate(WINDOW)
    on_reference, on_window = found.log_ratio_reference, found.log_ratio(WINDOW)
    t = -2.0 * (found.reference_weights @ np.expm1(on_reference) - on_window.sum())
    assert found.t == found.tau == pytest.approx(t)
    assert found.converged
    assert found.reference_weights.sum() == pytest.approx(200.0)
    assert np.abs(found.weights[:4]).max() <= 9.0, "the matrix is clipped"


def test_it_sees_what_a_kernel_sees() -> None:
    kernel = KernelTest(
        REFERENCE, n_expected=200, width=0.5, penalty=1e-6, centers=100, rng=RNG, loss="likelihood"
    )
    rng = np.random.default_rng(3)
    windows = [rng.exponential(size=(200, 1)) * scale for scale in np.linspace(0.7, 1.6, 8)]
    ours = [one.t for one in make().evaluate_many(windows)]
    theirs = [one.t for one in kernel.evaluate_many(windows)]
    assert stats.spearmanr(ours, theirs).statistic > 0.7


def in_cells() -> tuple[FloatArray, FloatArray]:
    """An exponential reference of 200 000 events in cells."""
    cells = (np.arange(300) + 0.5) / 30
    counts = np.random.default_rng(2).multinomial(200_000, np.exp(-cells) / np.exp(-cells).sum())
    return cells[counts > 0, None], counts[counts > 0].astype(float)


def healthy_t(n: int, n_events: int, **settings: object) -> FloatArray:
    x, counts = in_cells()
    rng = np.random.default_rng(3)
    test = make(x, n_expected=float(n_events), counts=counts, **settings)
    shares = counts / counts.sum()
    windows = [rng.choice(x[:, 0], rng.poisson(n_events), p=shares)[:, None] for _ in range(n)]
    return np.array([one.t for one in test.evaluate_many(windows)])


def test_healthy_windows_of_a_linear_function_follow_a_chi_square() -> None:
    t = healthy_t(200, 500, layers=(), starts=1)
    assert stats.kstest(t, stats.chi2(2).cdf).pvalue > 0.01


@pytest.mark.long
def test_healthy_windows_of_the_published_network_follow_a_chi_square() -> None:
    t = healthy_t(100, 2000, starts=4)
    assert t.mean() == pytest.approx(13.0, abs=2.0), "4 standard errors"
    assert stats.kstest(t, stats.chi2(13).cdf).pvalue > 0.01


@pytest.mark.slow
def test_a_window_is_the_same_alone_and_with_others_and_again() -> None:
    rng = np.random.default_rng(4)
    windows = [rng.exponential(size=(n, 1)) for n in (150, 220, 30)]
    together = [one.t for one in make().evaluate_many(windows)]
    alone = [make().evaluate(one).t for one in windows]
    assert alone == pytest.approx(together, rel=1e-3, abs=1e-2)
    assert make().evaluate(windows[0]).t == alone[0]
    done: list[int] = []
    make().evaluate_many(windows, progress=done.append)
    assert done[-1] == 3


def test_counted_rows_are_rows_repeated() -> None:
    rows, counts = np.unique(np.round(REFERENCE, 1), axis=0, return_counts=True)
    x, seen = np.unique(np.round(WINDOW, 1), axis=0, return_counts=True)
    counted = make(rows, counts=counts).evaluate(x, weights=seen)
    assert counted.t == pytest.approx(make(np.round(REFERENCE, 1)).evaluate(np.round(WINDOW, 1)).t, rel=1e-2)


def test_another_size_is_a_test_made_anew() -> None:
    assert make().at(150.0).evaluate(WINDOW).t == make(n_expected=150.0).evaluate(WINDOW).t


def test_nuisance_parameters_explain_what_is_no_fault() -> None:
    rng = np.random.default_rng(5)
    test = make(nuisances=[NORM, SCALE])
    window, measured = rng.exponential(np.exp(0.2), size=(230, 1)), {"norm": 0.15, "scale": 0.2}
    found = test.evaluate(window, auxiliary=measured)
    delta, values = NuisanceFit(REFERENCE, 200.0, [NORM, SCALE]).fit(window, measured)
    assert found.delta == pytest.approx(delta, rel=1e-3)
    assert found.nuisances["scale"].reference.value == pytest.approx(values["scale"], abs=1e-3)
    assert found.t == pytest.approx(found.tau - found.delta)
    assert 0.0 <= found.t < make().evaluate(window).t
    assert found.nuisances["scale"].alternative.error <= 0.1
    assert found.reference_weights.sum() != pytest.approx(200.0), "weights at the fitted parameters"
    with pytest.raises(InputError, match="missing norm"):
        test.evaluate(window, auxiliary={"scale": 0.2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": (0,)}, "0 neurons"),
        ({"layers": (4.5,)}, "4.5 neurons"),
        ({"layers": (9999,)}, "parameters"),
        ({"clipping": 0.0}, "clipping is 0"),
        ({"clipping": float("nan")}, "clipping is nan"),
        ({"starts": 0}, "starts is 0"),
        ({"n_expected": -1.0}, "n_expected is -1"),
        ({"tolerance": 0.0}, "tolerance is 0"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.ones((1, 1)), "constant"),
        (np.column_stack([REFERENCE, np.ones(2000)]), "feature 1 is constant"),
        (np.where(np.arange(2000)[:, None] == 7, np.nan, REFERENCE), "nan in event 7"),
        (np.empty((0, 1)), "no events"),
    ],
)
def test_bad_references_are_refused(reference: FloatArray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(reference)


def test_bad_windows_are_refused_and_one_event_is_tested() -> None:
    test = make()
    assert test.evaluate(WINDOW[:1]).converged
    nonsense = {
        "no events": np.empty((0, 1)),
        "2 features": np.zeros((5, 2)),
        "finite": np.full((5, 1), np.inf),
    }
    for message, window in nonsense.items():
        with pytest.raises(InputError, match=message):
            test.evaluate(window)


@pytest.mark.parametrize(
    ("factor", "wanted"), [(9.0, (6.0, 13.0)), (1e3, (75.0, 133.0)), (1e-3, (0.75, 1.33))]
)
def test_the_clipping_is_where_t_is_a_chi_square(factor: float, wanted: tuple[float, float]) -> None:
    rng = np.random.default_rng(6)
    healthy = [Sample(np.array([[value]])) for value in rng.chisquare(13, 100)]

    def statistics(clipping: float, windows: list[Sample]) -> FloatArray:
        return np.array([1.1 * (clipping / factor) ** 0.5 * one.x[0, 0] for one in windows])

    told: list[float] = []
    choice = choose_clipping(
        statistics,  # type: ignore[arg-type]
        healthy, n_parameters=13, inflation=1.1, progress=lambda one: told.append(one.clipping),
    )  # fmt: skip
    assert wanted[0] <= choice.best.clipping <= wanted[1]
    assert sorted(told) == [one.clipping for one in choice.trials]
    assert choice.best.p == max(one.p for one in choice.trials if len(one.t) == 100)


def test_a_clipping_is_not_chosen_from_nothing() -> None:
    healthy = [Sample(np.ones((1, 1)))] * 10
    with pytest.raises(InputError, match="9 windows"):
        choose_clipping(lambda _, windows: np.ones(len(windows)), healthy[:9], n_parameters=13)
    with pytest.raises(InputError, match="no fit"):
        choose_clipping(lambda _, windows: np.full(len(windows), np.nan), healthy, n_parameters=13)
    with pytest.raises(InputError, match="100 events do not make a reference"):
        NeuralTest.tune(REFERENCE[:100], n_reference=80, n_expected=50, rng=RNG)
    assert NeuralTest.tune(REFERENCE, n_reference=80, n_expected=50, rng=RNG, given={"clipping": 3.0}) == {}


@pytest.mark.slow
def test_a_bundle_is_built_and_calibrated_with_it(tmp_path: Path) -> None:
    x = np.random.default_rng(7).normal(size=(3000, 2))
    settings = {"clipping": 2.0, "layers": (2,), "starts": 1}
    recipe = Recipe(("a", "b"), 400, 50, centers=50, statistic="neural", settings=settings)
    bundle = create_bundle(x, recipe, tmp_path / "b")
    assert bundle.manifest.settings == {**settings, "seed": 1}
    bundle = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    t = bundle.toys(bundle.manifest.null[0])[:, 0]
    assert np.isfinite(t).all()
    assert len(np.unique(t)) > 50


def test_two_samples_are_fitted_on_their_common_density() -> None:
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(size=(80, 1)), rng.normal(size=(60, 1)) + 1.0])
    test = NeuralTwoSampleTest(Sample(x), 80, seed=1)
    first = (np.arange(140) < 80).astype(float)
    ((t_first, t_second),) = test.statistics(first[None])[0]
    permuted = test.statistics(test.permute(range(9))).sum(axis=2)[:, 0]
    assert t_first + t_second > permuted.max()
    assert test.statistics(1.0 - first[None])[0, 0].tolist() == pytest.approx([t_second, t_first], rel=0.05)
    ratio = test.log_ratio(first, 0)
    assert ratio[:80].mean() > 0.0 > ratio[80:].mean()
