"""A large reference in cells: the same t without reading all events, and all events where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, Normalisation, cells, single_fit
from dqm.nplm.samples import Sample
from dqm.nplm.single_problem import CellObjective, SingleObjective
from tests.nplm.truth import PlainTest

LOSSES: tuple[LossName, ...] = ("likelihood", "logistic")
N_REFERENCE, N_DATA = 16_000, 200
CENTERS, WIDTH, PENALTY = 60, 1.5, 1e-6


def normal(n: int, seed: int) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 1] += 0.5 * x[:, 0] ** 2
    return x


REFERENCE = normal(N_REFERENCE, 1)
HEALTHY = normal(N_DATA, 2)
WINDOWS = {
    "healthy": HEALTHY,
    "shifted": HEALTHY + np.array([0.3, 0.0]),
    "narrow": HEALTHY * 0.7,
    "half": HEALTHY[:100],
    "peak": np.concatenate([HEALTHY[:170], 0.1 * HEALTHY[170:] + [1.0, 1.0]]),
}


def make_test(loss: LossName, **options: object) -> KernelTest:
    return KernelTest(
        REFERENCE, n_expected=float(N_DATA), width=WIDTH, penalty=PENALTY, centers=REFERENCE[:CENTERS],
        loss=loss, **options,
    )  # fmt: skip


@pytest.fixture(scope="module", params=LOSSES)
def pair(request: pytest.FixtureRequest) -> tuple[LossName, KernelTest, KernelTest]:
    """A loss, the test with cells, and that with all events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
        test = make_test(request.param)
    assert test._ready.cells is not None
    arrays = {name: values for name, values in test.prepared.items() if not name.startswith("cell")}
    return request.param, test, make_test(request.param, prepared=arrays)


class Readings:
    """Counts how often all events are read."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.n = 0
        at = SingleObjective.at

        def counted(objective: SingleObjective, a: FloatArray) -> object:
            self.n += objective._by_function.shape[1] == N_REFERENCE
            return at(objective, a)

        patch.setattr(SingleObjective, "at", counted)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_t_is_within_a_thousandth_of_the_plain_test(
    pair: tuple[LossName, KernelTest, KernelTest], window: FloatArray
) -> None:
    loss, test, _ = pair
    plain = PlainTest(REFERENCE, REFERENCE[:CENTERS], N_DATA, WIDTH, PENALTY, loss).t(window)
    found = test.evaluate(window)
    assert found.converged
    assert abs(found.t - plain) <= 1e-3 * max(1.0, plain)


def test_windows_tested_together_have_the_bits_that_they_have_alone(
    pair: tuple[LossName, KernelTest, KernelTest],
) -> None:
    _, test, _ = pair
    alone = [test.evaluate(x).t for x in WINDOWS.values()]
    assert [found.t for found in test.evaluate_many(list(WINDOWS.values()))] == alone


def test_a_healthy_window_reads_no_event_of_the_reference(
    pair: tuple[LossName, KernelTest, KernelTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, test, with_all = pair
    readings = Readings(monkeypatch)
    assert test.evaluate(HEALTHY).converged
    assert readings.n == 0
    with_all.evaluate(HEALTHY)
    assert readings.n > 3


def test_sums_that_are_wrong_are_seen_and_mended(
    pair: tuple[LossName, KernelTest, KernelTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few large cells t is off by percents, and their own estimate says so."""
    loss, _, with_all = pair
    monkeypatch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
    monkeypatch.setattr(cells, "FEWEST_CELLS", 20)
    monkeypatch.setattr(cells, "CELL_ERROR", np.inf)
    monkeypatch.setattr(cells, "LARGEST_CELL_ERROR", np.inf)
    rough = make_test(loss)
    window = WINDOWS["narrow"]
    expected = with_all.evaluate(window).t
    readings = Readings(monkeypatch)
    assert rough.evaluate(window).t == pytest.approx(expected, rel=5e-4)
    assert readings.n > 1
    monkeypatch.setattr(single_fit, "CELL_ERROR", np.inf)
    assert abs(rough.evaluate(window).t / expected - 1.0) > 2e-3


def test_cells_that_are_not_good_enough_are_corrected_by_one_reading(
    pair: tuple[LossName, KernelTest, KernelTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, test, with_all = pair
    monkeypatch.setattr(single_fit, "CELL_ERROR", 0.0)
    for window in WINDOWS.values():
        with monkeypatch.context() as patch:
            readings = Readings(patch)
            found = test.evaluate(window)
        assert found.converged
        assert found.t == pytest.approx(with_all.evaluate(window).t, rel=5e-4)
        assert (readings.n == 1) is (loss == "likelihood")


def test_a_correction_that_is_too_large_is_not_trusted(
    pair: tuple[LossName, KernelTest, KernelTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, test, with_all = pair
    monkeypatch.setattr(single_fit, "CELL_ERROR", 0.0)
    monkeypatch.setattr(single_fit, "LARGEST_CORRECTION", -1.0)
    readings = Readings(monkeypatch)
    found = test.evaluate(WINDOWS["narrow"])
    assert readings.n > 1
    assert found.t == pytest.approx(with_all.evaluate(WINDOWS["narrow"]).t, rel=5e-4)


def test_a_far_window_has_the_same_bits_with_and_without_cells(
    pair: tuple[LossName, KernelTest, KernelTest],
) -> None:
    far = HEALTHY * 0.01 + np.array([4.0, -3.0])
    found, expected = (test.stopping_above(100.0).evaluate(far) for test in pair[1:])
    assert found.is_lower_bound == expected.is_lower_bound
    assert found.t == pytest.approx(expected.t, rel=1e-3)
    if found.is_lower_bound:
        assert found.t == expected.t


def test_a_window_far_from_the_reference_still_converges(
    pair: tuple[LossName, KernelTest, KernelTest],
) -> None:
    far = HEALTHY * 0.05 + np.array([2.5, 3.0])
    found, expected = (test.evaluate(far) for test in pair[1:])
    assert found.converged
    assert found.t == pytest.approx(expected.t, rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_the_objective(loss: LossName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
    test = make_test(loss)
    problem, _ = test._problem([Sample(HEALTHY)], torch.zeros(1, 0, dtype=torch.float64))
    assert test._ready.cells is not None
    objective, exact = CellObjective(problem, test._ready.cells), SingleObjective(problem, problem.reference)
    rng = np.random.default_rng(3)
    a, step = (rng.normal(scale=0.3, size=len(problem.second_moment)) for _ in range(2))
    ahead, behind = (objective.at(a + sign * 1e-2 * step).objective for sign in (1.0, -1.0))
    assert objective.gradient(objective.at(a)) @ step == pytest.approx((ahead - behind) / 2e-2, rel=1e-3)
    assert objective.at(a).objective == pytest.approx(exact.at(a).objective, rel=1e-4)
    assert objective.at(a).statistic == pytest.approx(exact.at(a).statistic, rel=1e-4)


def test_other_sizes_and_weights_keep_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
    weights = np.random.default_rng(4).uniform(0.0, 2.0, N_REFERENCE)
    weights[:100] = 0.0
    test = make_test("likelihood", weights=weights)
    arrays = {name: values for name, values in test.prepared.items() if not name.startswith("cell")}
    with_all = make_test("likelihood", weights=weights, prepared=arrays)
    for n_expected, window in ((N_DATA, HEALTHY), (60.0, HEALTHY[:60]), (400.0, normal(400, 5))):
        found, expected = (one.at(n_expected).evaluate(window) for one in (test, with_all))
        assert found.t == pytest.approx(expected.t, rel=1e-3)


def test_windows_with_nuisance_parameters_read_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
    nuisances = [Normalisation("rate", 0.1)]
    test = make_test("likelihood", nuisances=nuisances)
    arrays = {name: values for name, values in test.prepared.items() if not name.startswith("cell")}
    assert len(arrays) < len(test.prepared)
    with_all = make_test("likelihood", nuisances=nuisances, prepared=arrays)
    found, expected = (one.evaluate(HEALTHY, auxiliary={"rate": 0.05}) for one in (test, with_all))
    assert found.t == expected.t


def test_a_small_reference_has_no_cells_and_neither_has_one_that_needs_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "cells" not in make_test("likelihood").prepared
    monkeypatch.setattr(cells, "LEAST_EVENTS", N_REFERENCE)
    monkeypatch.setattr(cells, "CELL_ERROR", 1e-9)
    monkeypatch.setattr(cells, "LARGEST_CELL_ERROR", 1e-9)
    assert "cells" not in make_test("likelihood").prepared


def test_cells_of_another_basis_are_refused(pair: tuple[LossName, KernelTest, KernelTest]) -> None:
    loss, test, _ = pair
    arrays = dict(test.prepared)
    arrays["cells"] = arrays["cells"][:-1]
    with pytest.raises(InputError, match="cells of shapes"):
        make_test(loss, prepared=arrays)


def test_few_remote_events_are_not_kept_in_one_cell() -> None:
    """No moments describe f over two events that are far apart, however few the cell has."""
    x = np.concatenate([np.random.default_rng(7).normal(size=(4000, 5)), 12.0 * np.eye(5)])
    parts = cells._Division(x, np.full(len(x), 1.0 / len(x))).split(400)
    assert sorted(len(part) for part in parts if part.max() >= 4000) == [1] * 5
    assert sum(map(len, parts)) == len(x)


def test_sums_that_are_far_off_are_not_corrected(
    pair: tuple[LossName, KernelTest, KernelTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, test, with_all = pair
    monkeypatch.setattr(single_fit, "CELL_ERROR", 0.0)
    monkeypatch.setattr(single_fit, "LARGEST_CELL_ERROR", 0.0)
    monkeypatch.setattr(single_fit, "CorrectedCells", None)
    for window in WINDOWS.values():
        assert test.evaluate(window).t == pytest.approx(with_all.evaluate(window).t, rel=5e-4)


def test_cells_hold_all_weight_and_the_first_two_moments_of_f() -> None:
    rng = np.random.default_rng(6)
    x, shares = rng.normal(size=(4000, 3)), np.full(4000, 1 / 4000)
    x[:50] = x[0]  # events that are all alike have no extent
    phi = np.column_stack([x, x[:, :1] * x[:, 1:2]]).astype(np.float32)
    division = cells._Division(x, shares)
    parts = division.split(64)
    assert sorted(np.concatenate(parts).tolist()) == list(range(4000))
    found = cells._summarise(x, shares, phi, parts)
    assert found.shares.sum() == pytest.approx(1.0)
    assert found.rows[:, 0] @ found.shares == pytest.approx(shares @ phi, abs=1e-6)
    squares = (found.rows[:3].astype(float) ** 2).sum(axis=1) @ found.shares  # linear functions: exact
    assert squares == pytest.approx(shares @ phi[:, :3].astype(float) ** 2, rel=1e-5)
