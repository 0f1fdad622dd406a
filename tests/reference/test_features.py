"""What features are like, and runs of which no test can be made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import SeveralTest
from dqm.reference import create_bundle, describe_features
from tests.reference.conftest import RECIPE, healthy_events

RNG = np.random.default_rng(1)
N = 2000

COLUMNS = {
    "smooth": (RNG.normal(size=N), ""),
    "exponential": (RNG.exponential(size=N), ""),
    "cauchy": (RNG.standard_cauchy(N), "x has heavy tails: its farthest value is"),
    "sentinel": (
        np.where(RNG.random(N) < 0.05, -999.0, RNG.normal(size=N)),
        "x is -999 in 5 % of the events",
    ),
    "counts": (RNG.poisson(5, N).astype(float), "values only, in equal steps"),
    "ticks": (25.0 * RNG.integers(0, 60, N), "x comes in steps of 25 (60 values)"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_unusual_is_said(kind: str) -> None:
    column, words = COLUMNS[kind]
    found = describe_features(np.column_stack([column, RNG.normal(size=N)]), ("x", "y"), "kernel")
    if not words:
        assert found == []
    else:
        assert any(words in line for line in found)
        assert all(
            line.endswith("--statistic several looks at each feature by itself, too") for line in found
        )


def test_copies_and_features_that_say_the_same_are_told() -> None:
    x = healthy_events(500, 1)
    found = describe_features(np.concatenate([x, x]), ("a", "b"), "several")
    assert found == ["500 of 1000 events are copies of others"]
    found = describe_features(np.column_stack([x, 2 * x[:, 0]]), ("a", "b", "c"), "several")
    assert found == ["a and c say the same (correlation 1.000): one of them is enough"]


@pytest.mark.parametrize("statistic", ["kernel", "several"])
@pytest.mark.parametrize(
    ("events", "words"),
    [
        (healthy_events(20, 1), "20 events do not make a reference of 10"),
        (np.repeat(healthy_events(1, 1), 2000, axis=0), "a, b are constant in the reference of 400 events"),
        (
            np.column_stack([healthy_events(2000, 1)[:, 0], np.ones(2000)]),
            "b is constant in the reference of 400",
        ),
        (np.repeat(healthy_events(5, 1), 400, axis=0), "5 distinct events among 400"),
    ],
)
def test_runs_of_which_no_test_can_be_made_are_refused(
    tmp_path: Path, events: FloatArray, words: str, statistic: str
) -> None:
    small = {"n_reference": 10, "n_expected": 10} if len(events) == 20 else {}
    recipe = replace(RECIPE, statistic=statistic, centers=None, **small)
    with pytest.raises(InputError, match=words):
        create_bundle(events, recipe, tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("draw", "fault"),
    [
        ("poisson", lambda rng: rng.poisson(5.8, 200)),
        ("ticks", lambda rng: 25.0 * rng.integers(0, 16, 200) + 25.0),
        ("cauchy", lambda rng: rng.standard_cauchy(200) + 1.0),
        ("wire", lambda rng: np.where(rng.random(200) < 0.1, 20, rng.integers(0, 64, 200))),
    ],
)
def test_what_one_feature_shows_is_seen(draw: str, fault: object) -> None:
    """Beside two smooth features, whose noise hides it from kernels of all features."""
    healthy = {
        "poisson": lambda rng, n: rng.poisson(5.0, n),
        "ticks": lambda rng, n: 25.0 * rng.integers(0, 16, n),
        "cauchy": lambda rng, n: rng.standard_cauchy(n),
        "wire": lambda rng, n: rng.integers(0, 64, n),
    }[draw]
    rng = np.random.default_rng(2)

    def events(column: FloatArray) -> FloatArray:
        return np.column_stack([rng.normal(size=(len(column), 2)), column])

    run = events(healthy(rng, 6000))
    settings = SeveralTest.tune(run, n_reference=2000, n_expected=200, n_centers=200, rng=rng)
    test = SeveralTest(run[:2000], n_expected=200, centers=run[:200], **settings)
    null = [test.evaluate(events(healthy(rng, 200))).t for _ in range(100)]
    seen = [test.evaluate(events(fault(rng))).t for _ in range(20)]
    assert np.mean(np.array(seen) > np.quantile(null, 0.95)) > 0.7
