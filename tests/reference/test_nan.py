from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dqm.alarm import QualityLimits
from dqm.alarm.quality import departure_p, grade
from dqm.errors import InputError
from dqm.events import FloatArray, NanResult, Quality, TestResult
from dqm.reference import Bundle, Evaluator, NanRows, Recipe, create_bundle, drop_nan
from dqm.reference.nan import compare_nan
from tests.service.small import FEATURES, N_WINDOW, healthy_events, window_of

LIMITS = QualityLimits(medium_p=0.03, bad_p=0.01, min_events=10)


def with_nan(x: FloatArray, *numbers: int) -> FloatArray:
    """Put so many NaN into the columns, at the beginning."""
    for column, n in enumerate(numbers):
        x[:n, column] = np.nan
    return x


def test_a_bundle_knows_the_share_of_the_rows_that_were_dropped(tmp_path: Path) -> None:
    events = with_nan(healthy_events(4100, 1), 82, 100)
    finite, rows = drop_nan(events, FEATURES)
    assert rows == NanRows(n_rows=4100, n_dropped=100, counts={"a": 82, "b": 100})
    recipe = Recipe(FEATURES, 400, N_WINDOW, width=2.0, penalty=1e-5, centers=80, seed=3, nan=rows)
    manifest = create_bundle(finite, recipe, tmp_path / "b").manifest
    again = Bundle.read(tmp_path / "b").manifest
    assert (again.nan, again.n_built, again.definition) == (rows, 4100, manifest.definition)
    assert again.finite_share == pytest.approx(4000 / 4100)
    plain, nothing = drop_nan(finite, FEATURES)
    assert (plain is finite, nothing) == (True, None)


@pytest.mark.parametrize(
    ("n_nan", "what", "fix"),
    [
        ((0, 80), "b has no number in 80 events, only NaN", "or leave it out: --features a"),
        ((80, 80), "a, b have no number in 80 events, only NaN", "Give a run with numbers"),
    ],
)
def test_a_feature_of_nan_alone_is_named(n_nan: tuple[int, int], what: str, fix: str) -> None:
    with pytest.raises(InputError, match=what) as told:
        drop_nan(with_nan(healthy_events(80, 1), *n_nan), FEATURES, "run.csv")
    assert told.value.where == "run.csv"
    assert str(told.value.fix).endswith(fix)


def test_events_of_which_each_has_nan_are_told() -> None:
    x = healthy_events(80, 1)
    x[:40, 0] = x[40:, 1] = np.nan
    with pytest.raises(InputError, match="each of 80 events has NaN in one of a, b"):
        drop_nan(x, FEATURES)


def test_the_share_of_healthy_windows_gives_no_small_p_too_often(bundle: Bundle) -> None:
    manifest = bundle.manifest.model_copy(
        update={"nan": NanRows(n_rows=100_000, n_dropped=2000, counts={"a": 2000, "b": 0})}
    )
    rng = np.random.default_rng(1)
    p = []
    for _ in range(1000):
        found = compare_nan(with_nan(healthy_events(500, 1), rng.binomial(500, 0.02)), manifest)
        assert found is not None
        p.append(found.p)
    # discrete, and corrected for two features: smaller than it says, never larger
    for level in (0.2, 0.05, 0.01):
        assert np.mean(np.array(p) <= level) <= level + 2.6 * np.sqrt(level / 1000)
    more = compare_nan(with_nan(healthy_events(500, 1), 30), manifest)
    assert more is not None
    assert (more.feature, more.share, more.expected_share, more.n_dropped) == ("a", 0.06, 0.02, 30)
    assert more.p == pytest.approx(4.0 * stats.binom.sf(29, 500, 0.02), rel=0.2)
    none = compare_nan(healthy_events(2000, 1), manifest)
    assert none is not None
    assert none.p < 1e-10, "too few are a departure as well"
    assert compare_nan(np.empty((0, 2)), manifest) is None


def test_the_shape_is_tested_by_the_finite_events(bundle: Bundle) -> None:
    evaluator = Evaluator(bundle)
    finite = healthy_events(N_WINDOW, 100)
    rows = with_nan(healthy_events(1, 5), 1)
    window = window_of(np.vstack([rows, finite]))
    evaluation = evaluator.evaluate(window, tests_nan=True)
    plain = evaluator.evaluate(window_of(finite))
    assert (evaluation.t, evaluation.p) == (plain.t, plain.p)
    assert evaluation.result.n_data == N_WINDOW + 1
    assert evaluation.remarks[-1] == f"the shape is tested without 1 event of {N_WINDOW + 1} with NaN"
    assert evaluation.result.nan is not None
    assert evaluation.result.nan.n_dropped == 1
    clean = evaluator.evaluate(window_of(finite), tests_nan=True)
    assert clean.result.remarks == plain.result.remarks
    assert clean.result.nan is not None
    shuffled = replace(window, names=FEATURES[::-1], x=window.x[:, ::-1])
    assert evaluator.evaluate(shuffled, tests_nan=True).result == evaluation.result
    missing = replace(window, names=("a", "c"))
    assert "features of the reference are missing: b" in evaluator.evaluate(missing, tests_nan=True).reason


def result_of(p: float | None, nan_p: float) -> TestResult:
    nan = NanResult("t_2", 0.024, 0.0001, 12, nan_p)
    return TestResult(500, 500.0, t=1.0, p=p, z=1.0, reason="" if p else "no null table", nan=nan)


@pytest.mark.parametrize(
    ("p", "nan_p", "quality", "words"),
    [
        (0.5, 0.5, Quality.GOOD, ""),
        (0.5, 0.004, Quality.BAD, "NaN in 2.4 % of t_2, 0.01 % in the reference (p = 0.004, below 0.005)"),
        (0.004, 0.5, Quality.BAD, "differs from the reference: p = 0.004 (below 0.005)"),
        (0.008, 0.5, Quality.MEDIUM, "differs from the reference: p = 0.008 (below 0.015)"),
        (None, 0.5, Quality.NULL, "no null table"),
        (None, 1e-9, Quality.BAD, "(p = 1e-09, below 0.005); no null table"),
    ],
)
def test_shape_and_share_are_two_tests_and_each_is_held_to_half_the_limit(
    p: float | None, nan_p: float, quality: Quality, words: str
) -> None:
    found, reason = grade(result_of(p, nan_p), 0, LIMITS)
    assert found is quality
    assert reason.endswith(words)


def test_two_healthy_tests_depart_together_no_more_often_than_one() -> None:
    pairs = np.random.default_rng(1).uniform(size=(4000, 2))
    together = [departure_p(result_of(*map(float, pair))) for pair in pairs]
    assert 0.005 < np.mean([p is not None and p < 0.01 for p in together]) < 0.0135
