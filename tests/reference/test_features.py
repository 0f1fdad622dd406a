"""What features are like, and runs of which no test can be made."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.nplm import FeatureKind
from dqm.nplm.samples import standardisation
from dqm.reference import (
    Evaluator,
    Processes,
    calibrate,
    choose_kinds,
    create_bundle,
    describe_features,
    open_bundle,
    refuse_run,
)
from dqm.reference.features import constant_features, describe_sample, refuse_useless
from dqm_collectors.chamber.conditions import Conditions
from tests.reference.conftest import CHAMBER_FEATURES, RECIPE, healthy_events, simulated

RNG = np.random.default_rng(1)
N = 2000

COLUMNS = {
    "smooth": ("x", RNG.normal(size=N), "smooth", ""),
    "exponential": ("x", RNG.exponential(size=N), "smooth", ""),
    "cauchy": ("x", RNG.standard_cauchy(N), "heavy", "heavy tails, its farthest value"),
    "sentinel": (
        "x",
        np.where(RNG.random(N) < 0.05, -999.0, RNG.normal(size=N)),
        "smooth:-999",
        "is -999 in",
    ),
    "rare sentinel": (
        "x",
        np.where(np.arange(N) % 200 == 0, -1.0, RNG.uniform(50, 51, size=N)),
        "smooth:-1",
        "is -1 in 0.5 %",
    ),
    "zeros and a sentinel": (
        "x",
        np.where(RNG.random(N) < 0.1, 0.0, np.where(RNG.random(N) < 0.05, -999.0, RNG.exponential(size=N))),
        "smooth:-999,0",
        "is -999 in",
    ),
    "sentinel of heavy tails": (
        "x",
        np.where(RNG.random(N) < 0.05, 0.0, RNG.standard_cauchy(N)),
        "heavy:0",
        "heavy tails",
    ),
    "counts": ("x", RNG.poisson(5, N).astype(float), "steps", "values in steps of 1"),
    "counts with a sentinel": (
        "x",
        np.where(RNG.random(N) < 0.05, -999.0, RNG.poisson(5, N)),
        "steps:-999",
        "is -999 in",
    ),
    "ticks": ("x", 25.0 * RNG.integers(0, 60, N), "steps", "60 values in steps of 25"),
    "wire": ("wire", RNG.integers(0, 64, N).astype(float), "categories", "numbers 64 things by its name"),
    "number of wires": ("n_wire", RNG.integers(0, 64, N).astype(float), "steps", "64 values"),
    "rare flag": ("x", 1.0 * (np.arange(N) == 7), "categories", "is 0 except in 1 event of 2000; any other"),
    "rare values": (
        "x",
        np.where(np.arange(N) % 200 == 0, RNG.normal(size=N), 3.0),
        "categories",
        "is 3 except in 10 events of 2000",
    ),
    "constant": ("x", np.full(N, 3.0), "categories", "is always 3; any other value is told"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_each_feature_is_looked_at(case: str) -> None:
    name, column, kind, words = COLUMNS[case]
    x = np.column_stack([column, RNG.normal(size=N)])
    first, second = choose_kinds(x, (name, "y"))
    assert (str(first.kind), str(second.kind)) == (kind, "smooth")
    assert words in first.found
    told = describe_features(x, (name, "y"), "several")
    assert told == ([str(first)] if words else [])
    for line in describe_features(x, (name, "y"), "kernel"):
        words = "the statistic kernel takes it as it is, 'several' would not"
        assert line.endswith("'several' would see any other value" if case == "constant" else words)


def test_features_of_a_chamber_are_smooth() -> None:
    x = simulated(Conditions(), 3000, 1)
    assert {str(one.kind) for one in choose_kinds(x, CHAMBER_FEATURES)} == {"smooth"}


def test_the_user_decides_and_errors_name_the_feature() -> None:
    x = np.column_stack([RNG.integers(0, 64, N), RNG.normal(size=N)]).astype(float)
    chosen = choose_kinds(x, ("x", "y"), {"x": "categories", "y": "heavy:0"})
    assert [str(one.kind) for one in chosen] == ["categories", "heavy:0"]
    assert str(chosen[0]).startswith("x is given: taken as categories (names:")
    with pytest.raises(InputError, match="no feature 'z' among these events"):
        choose_kinds(x, ("x", "y"), {"z": "steps"})
    with pytest.raises(InputError, match="no kind of features 'odd'") as caught:
        choose_kinds(x, ("x", "y"), {"y": "odd"})
    assert caught.value.where == "feature y"


def test_events_that_are_equal_by_few_values_are_no_copies() -> None:
    wire, layer = RNG.integers(0, 16, N), RNG.integers(0, 4, N)
    for x in (wire[:, None], np.column_stack([wire, layer])):
        assert describe_sample(x.astype(float), ("wire", "layer")[: x.shape[1]]) == []
    copied = np.repeat(healthy_events(50, 1), N // 50, axis=0)
    assert "1950 of 2000 events are copies" in describe_sample(copied, ("a", "b"))[0]


@pytest.mark.parametrize("kind", ["categories", "steps"])
def test_too_many_values_for_a_kind_that_is_given_are_told(kind: str) -> None:
    x = np.column_stack([RNG.normal(size=N), np.arange(N) % 200])
    many, few = choose_kinds(x, ("many", "few"), {"many": kind, "few": kind})
    assert many.found.startswith("is given, but has 2000 values in 2000 events, more than 200, so most are")
    assert few.found == "is given"
    (told, _) = describe_features(x, ("many", "few"), "several", {"many": kind, "few": kind})
    assert told.startswith("many is given, but has 2000 values")


@pytest.mark.parametrize("name", ["drift time", "t[ns]", "größe", "x,y", ""])
def test_names_that_no_window_can_carry_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name of a feature"):
        choose_kinds(np.zeros((5, 1)), (name,))


def test_copies_scales_and_features_that_say_the_same_are_told() -> None:
    x = healthy_events(500, 1)
    found = describe_features(np.concatenate([x, x]), ("a", "b"), "several")
    assert [text.partition(":")[0] for text in found] == ["500 of 1000 events are copies of others"]
    found = describe_features(np.column_stack([x, 2 * x[:, 0]]), ("a", "b", "c"), "several")
    assert found == ["a and c say the same (correlation 1.000): one of them is enough"]
    (found_scales,) = describe_features(x * [1.0, 1e6], ("a", "b"), "several")
    assert found_scales.startswith("b and a have scales of 1.4e+06 and 0.97: each feature is")


def test_a_bundle_keeps_the_kinds_and_judges_by_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)

    def events(n: int, share: float) -> FloatArray:
        e = np.where(rng.random(n) < share, -999.0, rng.normal(50, 5, n))
        return np.column_stack([rng.normal(size=n), e, np.full(n, 3.0)])

    recipe = replace(
        RECIPE,
        features=("x", "e", "mode"),
        width=None,
        penalty=None,
        statistic="several",
        n_reference=1000,
    )
    bundle = create_bundle(events(4000, 0.05), recipe, tmp_path / "bundle")
    assert bundle.manifest.settings["kinds"] == ("smooth", "smooth:-999", "categories")
    calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, workers=Processes(1))
    evaluator = Evaluator(open_bundle(tmp_path / "bundle"))
    healthy, faulty = (
        evaluator.evaluate(
            Window("s", 1, 0, "p", Origin.LIVE, WindowCut.COUNT, recipe.features, events(60, share))
        )
        for share in (0.05, 0.3)
    )
    assert healthy.p is not None
    assert faulty.p is not None
    assert faulty.p < 0.01 < healthy.p
    explanation = faulty.find_explanation()
    assert explanation is not None
    e_map = next(one for one in explanation.maps if one.features == ("e",))
    assert e_map.edges[0][1] > 0  # bins are those of the measured values, in their unit; -999 is in the first
    assert e_map.data[0] > 5
    moved = events(60, 0.05)
    moved[:, 2] = 4.0
    found = evaluator.evaluate(Window("s", 1, 0, "p", Origin.LIVE, WindowCut.COUNT, recipe.features, moved))
    assert found.p is not None
    assert found.p < 1e-6
    told = found.find_explanation()
    assert told is not None
    assert told.text.endswith("of mode alone")
    with pytest.raises(InputError, match="a kind of the feature 'e' with the statistic 'kernel'"):
        create_bundle(
            events(4000, 0.05), replace(recipe, statistic="kernel", kinds={"e": "heavy"}), tmp_path / "b"
        )


@pytest.mark.parametrize("statistic", ["kernel", "several"])
@pytest.mark.parametrize(
    ("events", "words"),
    [
        (healthy_events(20, 1), "20 events do not make a reference of 10"),
        (np.repeat(healthy_events(1, 1), 2000, axis=0), "a, b are constant in the reference of 400 events"),
        (np.repeat(healthy_events(5, 1), 400, axis=0), "5 distinct events among 400"),
    ],
)
def test_runs_of_which_no_test_can_be_made_are_refused(
    tmp_path: Path, events: FloatArray, words: str, statistic: str
) -> None:
    small = {"n_reference": 10, "n_expected": 10} if len(events) == 20 else {}
    recipe = replace(RECIPE, width=None, penalty=None, statistic=statistic, centers=None, **small)
    with pytest.raises(InputError, match=words):
        create_bundle(events, recipe, tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", [1e-15, 1e-12, 1e-6, 1.0, 1e15])
@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9])  # in units of the spread, which float64 holds
def test_no_unit_and_no_offset_makes_a_feature_constant(unit: float, offset: float) -> None:
    x = unit * (offset + healthy_events(2000, 1))
    assert constant_features(x, ("a", "b")) == []
    assert np.all(standardisation(x, np.full(2000, 1 / 2000))[1] == pytest.approx(x.std(axis=0), rel=1e-3))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, 1.7e9])
def test_a_constant_is_one_in_any_unit_within_rounding(value: float) -> None:
    x = np.column_stack([np.full(2000, value), healthy_events(2000, 1)[:, 0]])
    x[::3, 0] = np.nextafter(value, np.inf) if value else 0.0
    assert constant_features(x, ("a", "b")) == ["a"]
    with pytest.raises(InputError, match="feature 0 is constant"):
        standardisation(x, np.full(2000, 1 / 2000))


def test_what_several_says_of_a_constant_does_not_name_another_statistic() -> None:
    x = np.column_stack([np.ones(2000), healthy_events(2000, 1)[:, 0]])
    smooth, things = FeatureKind(), FeatureKind("categories")
    refuse_useless(x, ("a", "b"), {"a": things, "b": smooth})
    for names, kinds, fix in (
        (("a", "b"), {"a": smooth, "b": smooth}, "--feature a=categories"),
        (("a",), {"a": things}, "Beside a feature that varies"),
    ):
        with pytest.raises(InputError, match="a is constant in the reference of 2000") as told:
            refuse_useless(x[:, : len(names)], names, kinds)
        assert fix in str(told.value.fix)
        assert "several" not in str(told.value.fix)


@pytest.mark.parametrize(("offset", "unit"), [(0.0, 1e-12), (1e6, 1e-6)])
def test_charges_in_coulombs_are_tested_as_in_picocoulombs(
    tmp_path: Path, offset: float, unit: float
) -> None:
    def evaluate(offset: float, unit: float) -> tuple[float, str]:
        scale, move = np.array([unit, 1.0]), np.array([offset, 0.0])
        recipe = replace(RECIPE, width=None, penalty=None, statistic="several", centers=50)
        path = tmp_path / f"{offset}-{unit}"
        bundle = create_bundle(move + scale * healthy_events(2000, 1), recipe, path)
        bundle = calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, workers=Processes(1))
        far = move + scale * (healthy_events(60, 2) + np.array([2.0, 0.0]))
        window = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), far)
        found = Evaluator(bundle).evaluate(window)
        return found.t or 0.0, found.explain().ranking[0][0]

    t, feature = evaluate(offset, unit)
    expected, _ = evaluate(0.0, 1.0)
    assert feature == "a"
    assert t == pytest.approx(expected, rel=1e-3)


def test_a_single_kernel_refuses_a_constant(tmp_path: Path) -> None:
    events = np.column_stack([healthy_events(2000, 1)[:, 0], np.ones(2000)])
    with pytest.raises(InputError, match="b is constant in the reference of 400"):
        create_bundle(events, replace(RECIPE, centers=None), tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", [1e300, 1.5e308, 1e-300, 1e-310])
def test_a_scale_whose_square_float64_does_not_hold_is_refused_by_name(unit: float) -> None:
    x = np.tanh(healthy_events(500, 1)) * [1.0, unit]
    words = "b has values (up to|within) .*, whose squares float64 cannot hold"
    with pytest.raises(InputError, match=words) as told:
        refuse_run(x, ("a", "b"), "run.csv")
    assert told.value.where == "run.csv"
    (scale,) = re.findall(r'"b" = \{column = "b", scale = (.+?)\}', str(told.value.fix))
    refuse_run(x * [1.0, float(scale)], ("a", "b"))
    with pytest.raises(InputError, match=words):
        constant_features(x, ("a", "b"))
    with pytest.raises(InputError, match="feature 1 has values"):
        standardisation(x, np.full(500, 1 / 500))


@pytest.mark.parametrize("unit", [1e149, 1e-149])
def test_the_largest_and_smallest_scales_are_taken_without_overflow(unit: float) -> None:
    x = np.tanh(healthy_events(500, 1)) * [1.0, unit]
    refuse_run(x, ("a", "b"))
    describe_features(x, ("a", "b"), "several")
    scale = standardisation(x, np.full(500, 1 / 500))[1]
    assert scale[1] == pytest.approx(unit * np.tanh(healthy_events(500, 1))[:, 1].std(), rel=1e-6)
