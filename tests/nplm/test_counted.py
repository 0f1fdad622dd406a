"""Rows that stand for several events: bins of histograms give what their events written out give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName, Normalisation, Nuisance, SeveralTest, Shape
from dqm.nplm.hessian import Hessian
from dqm.nplm.problem import evaluate, gradient
from dqm.nplm.samples import Sample
from dqm.nplm.single_problem import SingleObjective

EDGES = np.linspace(-4.0, 4.0, 41)
BINS = (0.5 * (EDGES[1:] + EDGES[:-1]))[:, None]
TIGHT = 1e-9
"""Tolerance of fits that are compared to 1e-6: the nodes, from which they start, differ."""

GAS = Shape("gas", sigma=0.1, linear=lambda x: x[:, 0], quadratic=lambda x: -np.ones(len(x)))
CASES: tuple[tuple[LossName, tuple[Nuisance, ...]], ...] = (
    ("likelihood", ()),
    ("logistic", ()),
    ("likelihood", (Normalisation("rate", sigma=0.1), GAS)),
    ("likelihood", (Normalisation("rate", sigma=np.inf),)),
)
NAMES = ("likelihood", "logistic", "nuisances", "free rate")


def histogram(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    values = np.random.default_rng(seed).normal(shift, size=n)
    return np.histogram(values, EDGES)[0].astype(np.float64)


def write_out(counts: FloatArray) -> FloatArray:
    return np.repeat(BINS, counts.astype(int), axis=0)


REFERENCE = histogram(5000, 1)
KNOWN = REFERENCE > 0
WINDOWS = {"healthy": histogram(500, 2), "shifted": histogram(500, 3, 0.4), "far": histogram(700, 4, 2.0)}


def make_test(loss: LossName, nuisances: tuple[Nuisance, ...], *, counted: bool = True) -> KernelTest:
    settings: dict[str, Any] = {
        "n_expected": 500.0, "width": 0.4, "penalty": 1e-6, "centers": BINS[KNOWN], "loss": loss,
        "tolerance": TIGHT, "nuisances": nuisances,
    }  # fmt: skip
    if counted:
        return KernelTest(BINS[KNOWN], counts=REFERENCE[KNOWN], **settings)
    return KernelTest(write_out(REFERENCE), **settings)


@pytest.mark.parametrize(("loss", "nuisances"), CASES, ids=NAMES)
def test_counted_rows_give_the_t_of_the_rows_repeated(
    loss: LossName, nuisances: tuple[Nuisance, ...]
) -> None:
    counted, repeated = make_test(loss, nuisances), make_test(loss, nuisances, counted=False)
    auxiliary = {n.name: 0.02 for n in nuisances if np.isfinite(n.sigma)}
    for name, counts in WINDOWS.items():
        found = counted.evaluate(BINS, weights=counts, auxiliary=auxiliary)
        expected = repeated.evaluate(write_out(counts), auxiliary=auxiliary)
        assert found.converged
        assert expected.converged
        assert found.t == pytest.approx(expected.t, rel=1e-6), name
        assert found.tau == pytest.approx(expected.tau, rel=1e-6), name
        assert found.n_outside == expected.n_outside
        for key, fitted in expected.nuisances.items():
            assert found.nuisances[key].reference.value == pytest.approx(fitted.reference.value, abs=1e-5)


@pytest.mark.parametrize(("loss", "nuisances"), CASES[:3], ids=NAMES[:3])
def test_counted_windows_in_company_are_tested_as_alone(
    loss: LossName, nuisances: tuple[Nuisance, ...]
) -> None:
    test = make_test(loss, nuisances)
    auxiliary = {n.name: 0.02 for n in nuisances}
    counts = list(WINDOWS.values())
    single = write_out(counts[0])  # events beside counted rows
    together = test.evaluate_many(
        [BINS, BINS[counts[1] > 0], BINS, single],
        weights=[counts[0], counts[1][counts[1] > 0], counts[2], None],
        auxiliaries=[auxiliary] * 4,
    )
    alone = [test.evaluate(BINS, weights=c, auxiliary=auxiliary) for c in (*counts, counts[0])]
    assert [r.t for r in together] == pytest.approx([r.t for r in alone], rel=1e-6)


def test_a_healthy_window_of_ten_million_events_is_fitted_to_the_tolerance() -> None:
    """The basis is float32: sums over bins of a million events each must still be good enough."""
    share = REFERENCE[KNOWN] / REFERENCE.sum()
    reference = np.random.default_rng(1).poisson(1e8 * share).astype(np.float64)
    window = np.random.default_rng(2).poisson(1e7 * share).astype(np.float64)
    settings: dict[str, Any] = {"n_expected": 1e7, "width": 0.4, "penalty": 1e-9, "centers": BINS[KNOWN]}
    for loss in ("likelihood", "logistic"):
        test = KernelTest(BINS[KNOWN], counts=reference, loss=loss, **settings)
        found = test.evaluate(BINS[KNOWN], weights=window)
        exact = np.sum((window - reference / 10) ** 2 / (reference / 10))  # chi-squared: every bin is free
        assert found.converged
        assert 0.5 * exact < found.t < 1.1 * exact


def test_the_memory_of_a_window_is_that_of_its_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    test = make_test("logistic", ())
    measure = KernelTest._batch_size
    monkeypatch.setattr(
        KernelTest,
        "_batch_size",
        lambda self, samples: (rows.append(max(len(s.x) for s in samples)), measure(self, samples))[1],
    )
    test.evaluate(BINS, weights=1e6 * WINDOWS["healthy"])
    assert rows == [len(BINS)]


@pytest.mark.parametrize("counted", [True, False])
def test_the_several_test_gives_counted_rows_the_t_of_the_rows_repeated(counted: bool) -> None:
    chosen: dict[str, Any] = {"n_expected": 500.0, "centers": BINS[KNOWN], "width": [0.1, 0.2]}
    test = SeveralTest(BINS[KNOWN], counts=REFERENCE[KNOWN], **chosen)
    other = SeveralTest(write_out(REFERENCE), **chosen)
    for counts in WINDOWS.values():
        data, weights = (BINS, counts) if counted else (write_out(counts), None)
        found, repeated = test.evaluate(data, weights=weights), other.evaluate(write_out(counts))
        assert found.t == pytest.approx(repeated.t, rel=1e-6)
        fits = [one.fitted_with(found.place) for one in (found, repeated)]
        assert fits[0].t == pytest.approx(fits[1].t, rel=1e-3)


@pytest.mark.slow
def test_the_several_test_chooses_settings_for_counted_rows() -> None:
    chosen = SeveralTest.tune(
        BINS,
        counts=REFERENCE,
        n_reference=4000,
        n_expected=400,
        n_centers=30,
        rng=np.random.default_rng(1),
    )
    alike = SeveralTest.tune(
        np.random.default_rng(2).permutation(write_out(REFERENCE)),
        n_reference=4000,
        n_expected=400,
        n_centers=200,
        rng=np.random.default_rng(1),
    )
    assert chosen["width"] == pytest.approx(alike["width"], rel=0.2)
    assert chosen["mean_ratio"] == pytest.approx(alike["mean_ratio"], rel=0.3)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (np.r_[-1.0, np.ones(39)], "row 0 of the window stands for -1 events"),
        (np.r_[1.0, np.nan, np.ones(38)], "row 1 of the window stands for nan events"),
        (np.r_[np.inf, np.ones(39)], "stands for inf events"),
        (np.zeros(40), "no events"),
        (np.ones(39), "counts of shape"),
    ],
)
@pytest.mark.parametrize("statistic", [KernelTest, SeveralTest])
def test_counts_that_count_nothing_are_refused(statistic: Any, weights: FloatArray, told: str) -> None:
    settings: dict[str, Any] = {"width": 0.4, "penalty": 1e-6} if statistic is KernelTest else {"width": 0.4}
    test = statistic(BINS[KNOWN], counts=REFERENCE[KNOWN], n_expected=500, centers=BINS[KNOWN], **settings)
    with pytest.raises(InputError, match=told):
        test.evaluate(BINS, weights=weights)


def test_a_reference_row_without_events_is_refused() -> None:
    with pytest.raises(InputError, match="row 3 of the reference stands for no event"):
        KernelTest(
            BINS, counts=np.where(np.arange(40) == 3, 0.0, 1.0), n_expected=10, width=1, penalty=1e-6,
            centers=BINS,
        )  # fmt: skip


def test_weights_of_another_number_of_windows_are_refused() -> None:
    with pytest.raises(InputError, match="2 windows, but weights of 1"):
        make_test("likelihood", ()).evaluate_many([BINS, BINS], weights=[np.ones(40)])


def test_parts_of_a_counted_sample_have_the_covariance_of_a_hypergeometric_distribution() -> None:
    """As the same rows written out: the mean n k / N and the covariances of draws without replacement."""
    k = np.array([400.0, 100.0, 0.0, 300.0, 200.0])
    n, total = 250, k.sum()
    x = np.arange(5.0)[:, None]
    rng = np.random.default_rng(1)
    drawn = np.zeros((4000, 5))
    for row in drawn:
        part, rest = Sample(x, k).split([n], rng)
        row[part.x[:, 0].astype(int)] = part.counts
        both = row.copy()
        both[rest.x[:, 0].astype(int)] += rest.counts
        assert np.array_equal(both, k)  # each event is in one of the parts
        assert row.sum() == n
    share = k / total
    spread = n * (total - n) / (total - 1) * (np.diag(share) - np.outer(share, share))
    assert drawn.mean(axis=0) == pytest.approx(n * share, abs=0.6)
    assert np.cov(drawn.T) == pytest.approx(spread, abs=4.0)


@pytest.mark.parametrize("loss", ["likelihood", "logistic"])
def test_the_lone_fit_has_the_objective_gradient_and_hessian_of_tensors(loss: LossName) -> None:
    """A wrong gradient would be mended by the last stage of the fit, at the cost of time."""
    test = make_test(loss, ())
    single, _ = test._problem([Sample(BINS, WINDOWS["shifted"])], torch.zeros(1, 0, dtype=torch.float64))
    problem = single.in_double_precision()
    a = np.random.default_rng(3).normal(scale=0.3, size=len(problem.second_moment))
    objective = SingleObjective(single, single.reference)
    mine = objective.at(a)
    tensors = evaluate(problem, torch.from_numpy(a)[None], torch.zeros(1, 0, dtype=torch.float64))
    assert mine.objective == pytest.approx(float(tensors.objective), rel=1e-5)
    expected = gradient(problem, tensors)[0].numpy()
    assert objective.gradient(mine) == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())
    factor = np.tril(objective.leading_factor(mine, 5))
    dense = Hessian.at(problem, tensors, 5).factor[0].numpy()
    assert factor == pytest.approx(np.tril(dense), abs=1e-4 * np.abs(dense).max())
