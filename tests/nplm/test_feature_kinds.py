"""Kinds of features: how kernels and plain tests look at each, against the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import FeatureKind, SeveralTest
from dqm.nplm.feature_kind import FeatureView
from dqm.nplm.plain_test import OrderTest, PlainScale, SharesTest

RNG = np.random.default_rng()


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    """Let each test begin with the same random numbers."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def view(values: FloatArray, text: str) -> FeatureView:
    return FeatureView(FeatureKind.parse(text), values, np.full(len(values), 1 / len(values)))


def shares(values: FloatArray) -> FloatArray:
    return np.full(len(values), 1 / len(values))


@pytest.mark.parametrize("text", ["smooth", "heavy:-999,0", "steps:-1", "categories"])
def test_a_kind_is_written_as_it_is_read(text: str) -> None:
    assert str(FeatureKind.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("odd", "no kind of features 'odd'"),
        ("smooth:x", "'x' are not numbers"),
        ("categories:1", "special values"),
        ("smooth:nan", "special values"),
    ],
)
def test_what_is_no_kind_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        FeatureKind.parse(text)


def test_special_values_have_a_column_of_their_own_and_spoil_no_scale() -> None:
    values = np.where(np.arange(1000) % 20 == 0, -999.0, RNG.normal(50, 5, 1000))
    columns = view(values, "smooth:-999").columns(values)
    assert columns.shape == (1000, 2)
    assert np.allclose(columns[::20], [columns[0, 0], 2**0.5])
    usual = np.arange(1000) % 20 != 0
    assert 0.9 < columns[usual, 0].std() < 1.1
    assert not columns[usual, 1].any()


def test_heavy_tails_are_drawn_in_and_their_order_is_kept() -> None:
    values = np.sort(RNG.standard_cauchy(1000))
    (line,) = view(values, "heavy").columns(values).T
    assert (np.diff(line) > 0).all()
    assert np.abs(line).max() < 10 < np.abs(values).max()


def test_categories_have_no_distances_and_a_constant_no_column() -> None:
    values = RNG.integers(0, 4, 200).astype(float)
    columns = view(values, "categories").columns(np.arange(5.0))
    assert columns.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert view(np.ones(10), "categories").columns(np.ones(3)).shape == (3, 0)


def test_the_order_test_is_that_of_kolmogorov_and_smirnov() -> None:
    reference, window = RNG.normal(size=2000), RNG.normal(0.3, 1, 200)
    found = OrderTest(view(reference, "smooth"), reference, shares(reference)).log_p(window)
    expected = stats.ks_2samp(reference, window, method="asymp")
    assert np.exp(found) == pytest.approx(expected.pvalue, rel=0.3)


def test_ties_make_the_order_test_cautious() -> None:
    reference = RNG.poisson(5, 5000).astype(float)
    test = OrderTest(view(reference, "steps"), reference, shares(reference))
    p = [test.log_p(RNG.poisson(5, 200).astype(float)) for _ in range(300)]
    assert np.mean(np.exp(p) < 0.1) < 0.1


def test_shares_of_classes_are_those_of_the_textbook() -> None:
    reference = RNG.choice(5, 20_000, p=[0.5, 0.3, 0.1, 0.05, 0.05]).astype(float)
    test = SharesTest(view(reference, "categories"), reference, shares(reference))
    window = np.repeat(np.arange(5.0), [95, 60, 20, 22, 3])
    _, together = test.log_p(window)
    counts = np.bincount(window.astype(int)), np.bincount(reference.astype(int))
    assert np.exp(together) == pytest.approx(stats.chi2_contingency(counts).pvalue, rel=1e-6)
    p = np.exp([test.log_p(RNG.choice(5, 200, p=[0.5, 0.3, 0.1, 0.05, 0.05])) for _ in range(400)])
    assert 0.02 < np.mean(p[:, 1] < 0.05) < 0.09
    assert np.mean(p[:, 0] < 0.05) < 0.07


def test_a_value_that_the_reference_never_had_is_seen() -> None:
    reference = RNG.integers(0, 10, 5000).astype(float)
    test = SharesTest(view(reference, "categories"), reference, shares(reference))
    window = np.append(RNG.integers(0, 10, 195), np.full(5, 3.5))
    assert test.log_p(window)[0] < np.log(1e-5)


@pytest.mark.parametrize(
    ("kind", "healthy", "faulty", "share"),
    [
        ("steps", lambda n: RNG.poisson(5, n), lambda n: RNG.poisson(5.6, n), 0.6),
        ("steps", lambda n: 25.0 * RNG.integers(0, 16, n), lambda n: 25.0 * RNG.integers(1, 17, n), 0.9),
        pytest.param(
            "heavy", RNG.standard_cauchy, lambda n: RNG.standard_cauchy(n) + 0.7, 0.9, marks=pytest.mark.slow
        ),
        pytest.param(
            "smooth:-999",
            lambda n: np.where(RNG.random(n) < 0.03, -999, RNG.normal(50, 5, n)),
            lambda n: np.where(RNG.random(n) < 0.1, -999, RNG.normal(50, 5, n)),
            0.8,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "categories",
            lambda n: RNG.integers(0, 64, n),
            lambda n: np.where(RNG.random(n) < 0.08, 20, RNG.integers(0, 64, n)),
            0.8,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_one_feature_shows_is_seen_beside_smooth_ones(
    kind: str, healthy: object, faulty: object, share: float
) -> None:
    def events(n: int, draw: object) -> FloatArray:
        return np.column_stack([RNG.normal(size=(n, 2)), draw(n)]).astype(float)

    kinds = ["smooth", "smooth", kind]
    run = events(4000, healthy)
    settings = SeveralTest.tune(run, n_reference=2000, n_expected=200, n_centers=100, rng=RNG, kinds=kinds)
    test = SeveralTest(run[:2000], n_expected=200, centers=run[:100], **settings)
    limit = np.quantile([test.evaluate(events(200, healthy)).t for _ in range(100)], 0.95)
    found = [test.evaluate(events(200, faulty)) for _ in range(20)]
    assert np.mean([one.t > limit for one in found]) >= share
    assert np.isfinite(found[0].fitted_with(found[0].place).t)


@pytest.mark.parametrize(
    ("quantile", "shift"),
    [
        (np.log(0.05), 0.0),
        (np.log(0.1), np.log(0.5)),
        (np.log(0.01), np.log(5.0)),
        (np.log(0.9), np.log(0.9)),
    ],
)
def test_the_correction_of_a_plain_p_is_whole_where_p_is_small_and_none_at_1(
    quantile: float, shift: float
) -> None:
    scale = PlainScale.measure(np.full((200, 1), quantile))
    assert scale.shift == pytest.approx(shift, abs=1e-12)
    found = [float(scale.correct(np.array([log_p]))[0]) for log_p in (0.0, quantile, quantile - 3.0)]
    assert found == pytest.approx([0.0, quantile + shift, quantile - 3.0 + shift])


def test_a_bundle_of_before_has_its_shift_everywhere() -> None:
    """Its null table was made so."""
    found = PlainScale.check(2, [-1.0, 0.5]).correct(np.array([0.0, -2.0]))
    assert found.tolist() == [-1.0, -1.5]
    with pytest.raises(InputError, match="plain_quantile has shape"):
        PlainScale.check(2, [-1.0, 0.5], [-1.0])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1e-4, 1e-3, 0.01, 0.1])
def test_a_feature_that_is_almost_always_the_same_does_not_hide_the_others(share: float) -> None:
    """Healthy windows have t of their own and a uniform p, and a change of that feature is seen."""
    rng = np.random.default_rng(8)

    def events(n: int, of_flag: float = share) -> FloatArray:
        return np.column_stack([rng.normal(size=(n, 3)), rng.random(n) < of_flag]).astype(float)

    kind = "categories" if share < 0.01 else "steps"
    run = events(4000)
    settings = SeveralTest.tune(
        run, n_reference=1000, n_expected=100, n_centers=50, rng=rng, kinds=["smooth"] * 3 + [kind]
    )
    test = SeveralTest(run[:1000], n_expected=100, centers=run[:50], **settings)
    toys, new = ([test.evaluate(events(100)).t for _ in range(150)] for _ in range(2))
    # windows without any such event have the same p by it: some ties are right
    assert len(np.unique(new)) > 0.5 * len(new)
    p = (1 + np.sum(np.array(toys) >= np.array(new)[:, None], axis=1)) / (len(toys) + 1)
    assert (p == 1.0).mean() < 0.2
    assert stats.ks_2samp(toys, new).pvalue > 0.001
    assert 0.0 < (p < 0.05).mean() < 0.12
    changed = test.evaluate(events(100, 0.5))
    assert changed.t > max(toys)
    assert changed.seen_by.feature in (None, 3)
