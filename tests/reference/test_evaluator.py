"""Windows against a bundle: calibrated p-values, and reasons where there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from dqm.errors import PluginError
from dqm.events import SMALLEST_P, FloatArray, Origin, PMethod, Window, WindowCut
from dqm.nplm import KernelTest
from dqm.reference import Evaluator, NullTable, StoredBundle, prepare_statistic
from tests.reference.conftest import healthy_events


@pytest.fixture(scope="module")
def evaluator(calibrated: StoredBundle) -> Evaluator:
    return Evaluator(calibrated)


def window(x: FloatArray) -> Window:
    return Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x)


def test_healthy_windows_have_uniform_p(evaluator: Evaluator) -> None:
    events = healthy_events(60 * 300, seed=77).reshape(300, 60, 2)
    p = [evaluator.evaluate(window(x)).p for x in events]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_fault_has_a_small_p(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(window(np.array([0.8, 0.0]) + healthy_events(60, seed=78)))
    assert result.p is not None
    assert result.p_low is not None
    assert result.p < 1e-3
    assert result.p_method is PMethod.TAIL
    assert result.p_low < result.p
    assert result.result.n_expected == 60


def test_columns_are_taken_by_name(evaluator: Evaluator) -> None:
    x = healthy_events(60, 79)
    more = np.column_stack([x[:, 1], np.full(60, 7.0), x[:, 0]])
    plain, wide = (
        evaluator.evaluate(window(x)),
        evaluator.evaluate(replace(window(more), names=("b", "other", "a"))),
    )
    assert plain == wide


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("b", "c")}, "features of the reference are missing: a"),
        ({"x": np.empty((0, 2))}, "no events"),
        (
            {"x": healthy_events(61, 1)},
            r"no null table for windows of 61 .* \(calibrated: 60 events cut by count\)",
        ),
        ({"cut": WindowCut.TIME}, "gave no expected number"),
        ({"cut": WindowCut.TIME, "n_expected": 0.0}, r"^60 events, but the sender expected none"),
        ({"cut": WindowCut.TIME, "n_expected": 5e-324}, "no null table"),
        ({"cut": WindowCut.TIME, "n_expected": 60.0}, "cut by time"),
        ({"x": np.full((60, 2), np.nan)}, "not finite"),
    ],
)
def test_what_cannot_be_judged_has_a_reason_and_no_p(
    evaluator: Evaluator, change: dict[str, object], words: str
) -> None:
    result = evaluator.evaluate(replace(window(healthy_events(60, 1)), **change))
    assert result.p is None
    assert result.t is None
    assert re.search(words, result.reason)


def test_a_fit_without_a_number_has_a_reason(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = SimpleNamespace(t=np.nan, tau=0.0, delta=0.0, converged=False, nuisances={}, n_outside=0)
    monkeypatch.setattr(KernelTest, "evaluate", lambda *_, **__: nan)
    assert evaluator.evaluate(window(healthy_events(60, 1))).reason == "the fit did not converge"
    nan.converged = True
    with pytest.raises(PluginError, match="the statistic 'kernel' gave t = nan for a window of 60 rows"):
        evaluator.evaluate(window(healthy_events(60, 1)))


def test_t_far_below_healthy_windows_is_not_called_healthy(
    evaluator: Evaluator, calibrated: StoredBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = calibrated.toys(calibrated.manifest.null[0])[:, 0]
    given = {"t": 0.0}
    rest = {"tau": 0.0, "delta": 0.0, "converged": True, "nuisances": {}, "n_outside": 0}
    monkeypatch.setattr(KernelTest, "evaluate", lambda *_, **__: SimpleNamespace(t=given["t"], **rest))
    for t, is_known in [(toys.min(), True), (toys.min() - 2 * toys.std(), False)]:
        given["t"] = t
        result = evaluator.evaluate(window(healthy_events(60, 1)))
        assert (result.p is not None) is is_known
        assert result.t == t
    assert "far below that of any healthy window" in result.reason


def test_a_window_far_beyond_the_table_has_a_bound_and_says_so(
    evaluator: Evaluator, calibrated: StoredBundle
) -> None:
    x = healthy_events(60, 80) * [1.0, -3.0] + [4.0, 0.0]
    far = evaluator.evaluate(window(x))
    assert far.p_method is PMethod.BOUND
    assert far.result.is_lower_bound
    assert (far.p, far.p_low, far.p_high) == (SMALLEST_P, SMALLEST_P, SMALLEST_P)
    assert far.t is not None
    full = prepare_statistic(calibrated, calibrated.manifest.null[0].kind).evaluate(x)
    assert NullTable(calibrated.toys(calibrated.manifest.null[0])[:, 0]).t_quotable < far.t <= full.t
    assert str(far).startswith(f"t > {far.t:.4g}, p < 1e-15 ")
    assert "the fit ended early" in str(far)
    assert far.find_explanation() is not None


def test_windows_within_the_table_are_tested_as_without_a_bound(
    evaluator: Evaluator, calibrated: StoredBundle
) -> None:
    plain = prepare_statistic(calibrated, calibrated.manifest.null[0].kind)
    for shift in (0.0, 0.3, 0.6):
        x = np.array([shift, 0.0]) + healthy_events(60, 81)
        result = evaluator.evaluate(window(x))
        assert result.t == plain.evaluate(x).t
        assert result.p_method is not PMethod.BOUND
