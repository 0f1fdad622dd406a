"""Tests of other schools: their values against libraries or sums, and what all of them keep."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.peers import ChiSquaredTest, EnergyTest, FuseTest, KolmogorovTest, MmdTest, NystroemTest
from dqm.reference import Recipe, calibrate, create_bundle
from dqm.reference.statistic import PreparedStatistic, find_statistic
from dqm.service.offline.power_study import PEERS

RNG = np.random.default_rng(1)
REFERENCE = RNG.normal(size=(300, 2)) * [1.0, 5.0] + [0.0, 2.0]
WINDOW = RNG.normal(size=(40, 2)) * [1.0, 5.0] + [0.5, 2.0]
Y = (REFERENCE - REFERENCE.mean(axis=0)) / REFERENCE.std(axis=0)
X = (WINDOW - REFERENCE.mean(axis=0)) / REFERENCE.std(axis=0)
SCALE = len(X) * len(Y) / (len(X) + len(Y))


def make(name: str, reference: FloatArray = REFERENCE) -> PreparedStatistic:
    plugin = find_statistic(name)
    return plugin.make(
        reference, plugin.choose_settings({}), n_expected=40.0, centers=reference[:100], few_windows=True
    )


def test_the_energy_distance_of_one_feature_is_that_of_scipy() -> None:
    x, y = WINDOW[:, :1], REFERENCE[:, :1]
    ours = EnergyTest(y).evaluate(x)
    theirs = stats.energy_distance(x[:, 0], y[:, 0]) ** 2 / y.std()
    assert ours == pytest.approx(SCALE * theirs, rel=1e-10)


def test_mmd_is_the_mean_of_the_kernel_within_less_that_across() -> None:
    width = 1.3
    xx, yy, xy = (np.exp(-0.5 * cdist(a, b) ** 2 / width**2).mean() for a, b in ((X, X), (Y, Y), (X, Y)))
    assert MmdTest(REFERENCE, width=width).evaluate(WINDOW) == pytest.approx(SCALE * (xx + yy - 2 * xy))


@pytest.mark.parametrize("width", [0.4, 1.3])
def test_mmd_is_the_unbiased_one_of_a_library_and_its_bias(width: float) -> None:
    """Gretton et al. (2012), eq. 3, by scikit-learn; a V-statistic adds k(x, x) = 1."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    n, m = len(X), len(Y)
    xx, yy, xy = (pairwise.rbf_kernel(a, b, gamma=0.5 / width**2) for a, b in ((X, X), (Y, Y), (X, Y)))
    within_x, within_y = (xx.sum() - n) / (n * (n - 1)), (yy.sum() - m) / (m * (m - 1))
    unbiased = within_x + within_y - 2 * xy.mean()
    bias = (1 - within_x) / n + (1 - within_y) / m
    expected = pytest.approx(SCALE * (unbiased + bias), rel=1e-9)
    assert MmdTest(REFERENCE, width=width).evaluate(WINDOW) == expected


def test_the_nystroem_form_is_that_of_a_library_and_exact_with_all_points_as_landmarks() -> None:
    kernels = pytest.importorskip("sklearn.kernel_approximation")
    width = 0.4  # with wider kernels both leave out small eigenvalues, each with its own limit
    for landmarks, raw in ((Y[:30], REFERENCE[:30]), (np.concatenate([Y, X]), [*REFERENCE, *WINDOW])):
        theirs = kernels.Nystroem(gamma=0.5 / width**2, n_components=len(landmarks)).fit(landmarks)
        departure = theirs.transform(X).mean(axis=0) - theirs.transform(Y).mean(axis=0)
        ours = NystroemTest(REFERENCE, centers=raw, width=width).evaluate(WINDOW)
        assert ours == pytest.approx(SCALE * departure @ departure, rel=1e-8)
    assert ours == pytest.approx(MmdTest(REFERENCE, width=width).evaluate(WINDOW), rel=1e-6)


def test_mmd_of_all_centres_is_exact() -> None:
    exact = MmdTest(REFERENCE).evaluate(WINDOW)
    both = np.concatenate([REFERENCE, WINDOW])
    assert NystroemTest(REFERENCE, centers=both).evaluate(WINDOW) == pytest.approx(exact, rel=1e-3)
    some = NystroemTest(REFERENCE, centers=REFERENCE[:50]).evaluate(WINDOW)
    assert some == pytest.approx(exact, rel=0.1)


def test_fuse_is_the_soft_maximum_of_normalised_mmds() -> None:
    test = FuseTest(REFERENCE)
    both = np.concatenate([X, Y])
    signs = np.repeat([1 / len(X), -1 / len(Y)], [len(X), len(Y)])
    matrices = [kernel(both, both) for kernel in test._kernels]
    found = np.array([signs @ k @ signs / np.sqrt((k**2).mean()) for k in matrices])
    scaled = np.sqrt(len(X) * (len(X) - 1.0)) * found
    assert test.evaluate(WINDOW) == pytest.approx(np.log(np.exp(scaled).mean()))
    assert len(matrices) == 10


def test_plain_tests_of_features_are_those_of_scipy() -> None:
    p = [stats.ks_2samp(WINDOW[:, k], REFERENCE[:, k], method="asymp").pvalue for k in (0, 1)]
    assert KolmogorovTest(REFERENCE).evaluate(WINDOW) == pytest.approx(-2 * np.log(2 * min(p)))
    edges = [np.quantile(REFERENCE[:, k], np.arange(1, 5) / 5) for k in (0, 1)]
    tables = [
        [np.bincount(np.searchsorted(e, s[:, k], "right"), minlength=5) for s in (WINDOW, REFERENCE)]
        for k, e in enumerate(edges)
    ]
    p = [stats.chi2_contingency(table, correction=False).pvalue for table in tables]
    assert ChiSquaredTest(REFERENCE, bins=5).evaluate(WINDOW) == pytest.approx(-2 * np.log(2 * min(p)))


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_sees_what_is_plain_and_gives_the_same_again(name: str) -> None:
    rng = np.random.default_rng(2)
    test = make(name)
    healthy = [test.evaluate(rng.normal(size=(40, 2)) * [1.0, 5.0] + [0.0, 2.0]).t for _ in range(20)]
    faulty = rng.normal(size=(40, 2)) * [1.0, 5.0] + [3.0, 20.0]
    first = test.evaluate(faulty).t
    assert first > max(healthy)
    assert test.evaluate(faulty).t == first
    assert make(name).evaluate(faulty).t == first, "nothing but the seed decides"
    assert test.evaluate_many([faulty, faulty[:20]])[0].t == first
    with pytest.raises(InputError, match="3 features, the reference has 2"):
        test.evaluate(np.zeros((40, 3)))
    with pytest.raises(InputError):
        test.evaluate(np.empty((0, 2)))
    with pytest.raises(InputError, match="takes no nuisance parameters"):
        find_statistic(name).make(REFERENCE, {}, n_expected=40.0, nuisances=[object()])


@pytest.mark.parametrize("name", ["energy", pytest.param("boosted-trees", marks=pytest.mark.slow)])
def test_a_bundle_is_built_and_calibrated_with_a_peer(name: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(3000, 2))
    recipe = Recipe(("a", "b"), 400, 50, centers=50, statistic=name)
    bundle = create_bundle(x, recipe, tmp_path / "b")
    bundle = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, n_processes=1, origin="pool")
    t = bundle.toys(bundle.manifest.null[0])[:, 0]
    assert np.isfinite(t).all()
    assert len(np.unique(t)) > 50


@pytest.mark.parametrize("name", ["boosted-trees", "neural-classifier", "isolation-forest", "autoencoder"])
def test_without_its_library_a_peer_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "dqm.nplm.peers.standardised.find_spec", lambda name: None if name == "sklearn" else found(name)
    )
    with pytest.raises(InputError, match=rf"'{name}' needs scikit-learn.*pip install 'dqm\[peers\]'"):
        make(name)


def test_what_a_peer_cannot_test_is_refused() -> None:
    with pytest.raises(InputError, match="power is 2"):
        EnergyTest(REFERENCE, power=2)
    with pytest.raises(InputError, match="width is -1"):
        MmdTest(REFERENCE, width=-1)
    with pytest.raises(InputError, match="bins is 1"):
        ChiSquaredTest(REFERENCE, bins=1)
    with pytest.raises(InputError, match="1 event cannot be divided"):
        make("boosted-trees").evaluate(WINDOW[:1])
    with pytest.raises(InputError, match="no bottleneck"):
        make("autoencoder", REFERENCE[:, :1])
