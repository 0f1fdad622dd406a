"""A bundle in a script: built from arrays, calibrated, saved, opened; windows evaluated by it."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import BundleError, DqmError, InputError
from dqm.events import FloatArray, Measurement, Origin, Window, WindowCut
from dqm.reference import (
    Bundle,
    Evaluator,
    Recipe,
    add_normalisation,
    build_bundle,
    evaluator,
    open_bundle,
)
from tests.cli.program import call_dqm, json_lines
from tests.reference.conftest import healthy_events
from tests.service.small import write_csv

WINDOW = 60
SIGMA = 0.3
FEATURES = ("a", "b")


def build(**settings: object) -> Bundle:
    plain = {"window": WINDOW, "features": FEATURES, "n_reference": 400, "centers": 80, "penalty": 1e-5}
    return build_bundle(healthy_events(4000, 1), **(plain | settings))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build().calibrate(100)


@pytest.fixture(scope="module")
def timed() -> Bundle:
    """Windows cut by time, whose rate is measured; for windows without its measurement too."""
    taught = add_normalisation(build(cut="time"), "rate", SIGMA)
    return taught.calibrate(100).calibrate(100, free=["rate"])


def window(x: FloatArray, **fields: object) -> Window:
    plain = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, FEATURES, x)
    return replace(plain, **fields)


def test_an_array_is_tested_as_a_window_is(bundle: Bundle) -> None:
    x = healthy_events(WINDOW, 5)
    evaluation = bundle.evaluate(x)
    assert evaluation == bundle.evaluate(window(x))
    assert evaluation.result == Evaluator(bundle).evaluate(window(x)).result
    assert evaluation == bundle.evaluate(x[:, ::-1].tolist(), names=("b", "a"))
    result = evaluation.result
    for name in (
        "t",
        "p",
        "p_low",
        "p_high",
        "p_method",
        "z",
        "tau",
        "delta",
        "nuisances",
        "reason",
        "remarks",
    ):
        assert getattr(evaluation, name) == getattr(result, name)
    assert evaluation.p_low < evaluation.p < evaluation.p_high
    assert str(evaluation).startswith(f"t = {evaluation.t:.4g}, p = {evaluation.p:.2g} (")


def test_a_window_that_cannot_be_tested_says_why(bundle: Bundle) -> None:
    short = bundle.evaluate(window(healthy_events(50, 1)))
    assert short.p is None
    assert str(short).startswith("p is not known: no null table for windows of 50 events")
    with pytest.raises(InputError, match="the window cannot be explained: no null table"):
        short.explain()


def test_the_test_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[object] = []
    prepare = evaluator.prepare_statistic
    monkeypatch.setattr(
        evaluator, "prepare_statistic", lambda *given: prepared.append(given) or prepare(*given)
    )
    opened = build().calibrate(100)
    for seed in range(3):
        opened.evaluate(healthy_events(WINDOW, seed))
    assert len(prepared) == 1
    opened.calibrate(100, window=80)
    assert opened.evaluate(healthy_events(80, 4)).p is not None
    assert len(prepared) == 2, "the second size is made from the first"


def test_calibrating_changes_the_bundle_and_goes_on_where_it_was() -> None:
    bundle = build()
    identifier = bundle.identifier
    told: list[tuple[int, int]] = []
    assert bundle.calibrate(100, seed=7, progress=lambda *step: told.append(step)) is bundle
    assert told[0] == (0, 100)
    assert told[-1] == (100, 100)
    assert bundle.manifest.parent == identifier != bundle.identifier
    few = bundle.toys(bundle.manifest.null[0])
    told.clear()
    bundle.calibrate(150, seed=7, progress=lambda *step: told.append(step))
    (entry,) = bundle.manifest.null
    assert told[0] == (100, 150)
    np.testing.assert_array_equal(bundle.toys(entry)[:100], few)
    assert "calibrated for 60 events cut by count (150 toys)" in repr(bundle)


def test_a_pool_that_makes_p_uncertain_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="a pool of 500 events leaves p-values uncertain by about"):
        build_bundle(healthy_events(700, 1), window=60, n_reference=200, centers=50).calibrate(100)


def test_a_saved_bundle_gives_the_same_to_the_last_bit(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "saved.dqmref"
    bundle.save(path)
    opened = open_bundle(str(path))
    assert opened.identifier == bundle.identifier
    for seed, shift in ((1, 0.0), (2, 0.5), (3, 4.0)):
        x = healthy_events(WINDOW, seed) + shift
        assert opened.evaluate(x) == bundle.evaluate(x)
    assert opened.evaluate(x).explain().text == bundle.evaluate(x).explain().text


def test_the_command_line_takes_a_saved_bundle_and_gives_the_same(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle.save("saved.dqmref")
    assert call_dqm("reference", "show", "saved.dqmref", "--json") == 0
    assert json.loads(capsys.readouterr().out)["identifier"] == bundle.identifier
    x = np.round(healthy_events(WINDOW, 3), 6)
    write_csv(tmp_path / "window.csv", x)
    told = call_dqm("compare", "saved.dqmref", "window.csv", "--window", WINDOW, "--json", "--processes", 1)
    assert told == 0
    (line,) = json_lines(capsys.readouterr().out)
    evaluation = bundle.evaluate(x)
    assert (line["t"], line["p"], line["z"]) == (evaluation.t, evaluation.p, evaluation.z)


def test_saving_overwrites_only_a_bundle_and_only_if_told(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "saved.dqmref"
    build(seed=8).save(path)
    before = open_bundle(path)
    with pytest.raises(BundleError, match=r"saved\.dqmref: exists already.*overwrite=True"):
        bundle.save(path)
    assert open_bundle(path).identifier == before.identifier
    bundle.save(path, overwrite=True)
    assert open_bundle(path).identifier == bundle.identifier
    assert {file.name for file in path.iterdir()} == {
        "manifest.json",
        *(file.name for file in bundle.manifest.files),
    }
    before.verify()  # what was opened before is still whole
    other = tmp_path / "papers"
    other.mkdir()
    with pytest.raises(BundleError, match="no reference bundle"):
        bundle.save(other, overwrite=True)
    assert list(other.iterdir()) == []


def test_a_later_calibration_does_not_touch_what_was_saved(tmp_path: Path) -> None:
    bundle = build().calibrate(100)
    bundle.save(tmp_path / "saved")
    identifier = bundle.identifier
    bundle.calibrate(100, window=80)
    assert open_bundle(tmp_path / "saved").identifier == identifier != bundle.identifier


def test_the_directory_of_an_unsaved_bundle_goes_with_the_last_that_needs_it() -> None:
    bundle = build()
    path = bundle.path
    taught = add_normalisation(bundle, "rate", SIGMA)
    del bundle
    gc.collect()
    assert path.exists()
    del taught
    gc.collect()
    assert not path.parent.exists()


def test_measurements_of_nuisance_parameters(timed: Bundle) -> None:
    x = healthy_events(80, 6)
    plain = timed.evaluate(x, n_expected=60, measured={"rate": 0.25})
    assert plain.p is not None
    assert plain.nuisances["rate"].measured == 0.25
    assert plain == timed.evaluate(x, n_expected=60, measured={"rate": (0.25, SIGMA)})
    reading = Measurement("rate", 0.25, SIGMA, time=0.0)
    timely = window(x, cut=WindowCut.TIME, n_expected=60.0, auxiliary=(reading,))
    assert plain == timed.evaluate(timely)
    free = timed.evaluate(x, n_expected=60, measured={"rate": None})
    assert free.p is not None
    assert free.nuisances["rate"].measured is None
    assert "rate has no measurement: fitted without it" in free.remarks
    poor = timed.evaluate(x, n_expected=60, measured={"rate": (0.25, 1.0)})
    assert poor.p is None
    assert poor.reason == "rate is measured with an error of 1, the reference is made for 0.3"


X = healthy_events(WINDOW, 9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: b.evaluate(X[0]), r"the window has shape \(2,\).*Give an array of shape"),
        (lambda b: b.evaluate(X[:, :1]), r"1 column for 2 features: a, b\. Give an array"),
        (lambda b: b.evaluate(X[:0]), "the window has no events. Give at least one"),
        (lambda b: b.evaluate("x"), "the window is not an array of numbers"),
        (lambda b: b.evaluate(np.where(X[3, 1] == X, np.nan, X)), "nan in event 3, feature 1. Remove"),
        (lambda b: b.evaluate(X, names=("a", "c")), "lacks the feature 'b'. The bundle has: a, b"),
        (lambda b: b.evaluate(X, n_expected=0.0), "n_expected is 0.0. Give a finite number above 0"),
        (
            lambda b: b.evaluate(X[:50]),
            r"not saved: no null table for windows of 50 events cut by count \(calibrated: 60 events cut by "
            r"count\)\. Cut it in this way, or call bundle\.calibrate\(n_toys, window=50, cut='count'\)",
        ),
        (
            lambda b: b.evaluate(X, measured={"gas": 1.0}),
            "measured: 'gas' is not a measured nuisance.*the bundle has: no",
        ),
        (lambda b: b.evaluate(window(X), n_expected=60.0), "beside a Window. Leave them out"),
        (lambda b: b.calibrate(10), "10 toys asked for. A null table takes 100"),
        (lambda b: b.calibrate(100, window=3000), "3600 events are too few for toys of 3000.*Give at least"),
        (lambda b: b.calibrate(100, free=["gas"]), "'gas' cannot be set free"),
        (lambda _: build().evaluate(X), r"not calibrated.*Call bundle\.calibrate\(n_toys\) first"),
        (
            lambda _: build_bundle(X, window=60),
            "60 events do not make a reference of 30 and a pool of at least",
        ),
        (lambda _: build_bundle(X[0], window=60), r"the sample has shape \(2,\)"),
        (lambda _: build_bundle(X, window=5), "the window size is 5. A window takes 10"),
        (lambda _: build(features=["a"]), "1 feature for 2 columns"),
        (lambda _: build(features=["a", "a"]), "two features are named 'a'"),
        (lambda _: build(centers=500), "500 centres asked for, the reference has 400"),
        (lambda _: build(statistic="median"), "unknown statistic 'median'"),
        (lambda _: open_bundle("nowhere.dqmref"), "nowhere.dqmref: no reference bundle"),
    ],
)
def test_mistakes_say_what_where_and_what_to_do(
    bundle: Bundle, call: Callable[[Bundle], object], words: str
) -> None:
    with pytest.raises(DqmError, match=words):
        call(bundle)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (None, r"measured: rate has no measurement\. Give measured=\{'rate': value\}, or None"),
        ({"rate": "high"}, "measured rate: 'high' is not a measurement"),
        ({"rate": (1.0, 2.0, 3.0)}, "is not a measurement. Give a value, or"),
        ({"rate": (0.1, 0.0)}, "an error above 0"),
        ({"rate": np.nan}, "Give finite numbers"),
        ({"rate": 0.1, "gas": 0.1}, "'gas' is not a measured.*the bundle has: rate"),
    ],
)
def test_mistakes_in_measurements_say_what_to_do(timed: Bundle, measured: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        timed.evaluate(X, n_expected=60, measured=measured)


def test_defaults_are_those_of_the_command_line() -> None:
    settings = signature(build_bundle).parameters
    recipe = Recipe(("a",), 100, 10.0)
    for name in ("seed", "cut"):
        assert settings[name].default == getattr(recipe, name)
    default = build_bundle(healthy_events(4000, 1), window=60)
    assert default.manifest.features == ("x1", "x2")
    assert (len(default.reference), len(default.centers)) == (600, 300)
    assert default.manifest.statistic == "several"
    single = build_bundle(healthy_events(4000, 1), window=60, width=2.5)
    assert single.manifest.statistic == "kernel"
    assert single.manifest.settings == {"width": 2.5, "penalty": 1e-7, "loss": "likelihood"}
