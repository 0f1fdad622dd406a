"""Hunting along a coordinate: windows and sidebands, p that is flat, and what is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import FeatureKind, Hunt, HuntP, hunt_p
from dqm.nplm.hunt_layout import HuntLayout, lay_out

N, N_POSITIONS, N_PERMUTATIONS = 2000, 10, 39


def events(seed: int, n: int = N) -> tuple[FloatArray, FloatArray]:
    """Two correlated features and the times of the events, ascending."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    x[:, 1] += x[:, 0]
    return x, np.sort(rng.uniform(0.0, 100.0, n))


def p_of(x: FloatArray, along: FloatArray, n: int = N_PERMUTATIONS, **options: object) -> tuple[Hunt, HuntP]:
    hunt = Hunt(x, along, n_positions=N_POSITIONS, **options)  # type: ignore[arg-type]
    return hunt, hunt_p(hunt.scan().z, hunt.permuted(range(n)), hunt.layout.levels)


def expected_parts(layout: HuntLayout, values: FloatArray) -> FloatArray:
    """Excess of a function of the coordinate in all windows, for each event of a window."""
    sums = np.add.reduceat(values, layout.edges[:-1])
    n_inside = [layout.rows(window).stop - layout.rows(window).start for window in layout.windows]
    return layout.contrasts @ sums / np.array(n_inside)


def test_windows_cover_the_range_in_all_widths_and_sidebands_are_twice_as_wide() -> None:
    layout = lay_out(np.arange(16000.0), 20)
    for level in range(4):
        windows = [one for one in layout.windows if one.level == level]
        sizes = {layout.rows(one).stop - layout.rows(one).start for one in windows}
        assert sizes == {800 >> level}
        assert len(windows) == 2 * 20 * 2**level - 1
        assert layout.rows(windows[0]).start == 0
        assert layout.rows(windows[-1]).stop == 16000
        around = layout.rows(windows[len(windows) // 2], sidebands=True)
        assert around.stop - around.start == 5 * (800 >> level)


def test_a_parabola_along_the_coordinate_has_no_excess_and_a_bump_has() -> None:
    layout = lay_out(np.arange(8000.0), 20)
    place = np.repeat(0.5 * (layout.edges[1:] + layout.edges[:-1]), np.diff(layout.edges)) / 8000.0
    inner = [k for k, one in enumerate(layout.windows) if one.begin < one.first and one.last < one.end]
    assert len(layout.windows) - len(inner) == 6, "one at both ends, of each width"
    assert np.abs(expected_parts(layout, 3.0 - 2.0 * place)).max() < 1e-9
    assert np.abs(expected_parts(layout, 3.0 - 2.0 * place + 5.0 * place**2)[inner]).max() < 1e-9
    bump = np.where((place > 0.5) & (place < 0.55), 1.0, 0.0)
    assert expected_parts(layout, bump).max() > 0.95


def test_no_value_of_the_coordinate_is_divided() -> None:
    wires = np.sort(np.random.default_rng(1).integers(0, 64, 5000)).astype(np.float64)
    layout = lay_out(wires, 20)
    assert len(layout.windows) > 30
    for window in layout.windows:
        rows = layout.rows(window)
        inside = set(wires[rows])
        assert not inside & (set(wires[: rows.start]) | set(wires[rows.stop :]))


@pytest.mark.parametrize(
    ("along", "n_positions", "message"),
    [
        (np.full(3000, 4.0), 20, r"the coordinate is constant \(4\)"),
        (np.repeat([0.0, 1.0, 2.0], 1000), 20, "the coordinate has 3 values, too few for a window"),
        (np.arange(500.0), 20, "500 events for 20 positions"),
        (np.arange(5000.0), 4, "4 positions are too few"),
    ],
)
def test_a_coordinate_without_windows_is_refused(along: FloatArray, n_positions: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Hunt(np.random.default_rng(1).normal(size=(len(along), 2)), along, n_positions=n_positions)


def test_coordinates_that_are_no_numbers_are_refused() -> None:
    x, along = events(1)
    with pytest.raises(InputError, match=r"2000 events has shape \(1999,\)"):
        Hunt(x, along[1:])
    along[7] = np.nan
    with pytest.raises(InputError, match="values that are not finite"):
        Hunt(x, along)


@pytest.mark.slow
def test_p_of_healthy_runs_is_uniform_and_windows_alone_are_not() -> None:
    found = [p_of(*events(seed, 1000), n=9, seed=seed)[1] for seed in range(24)]
    p = np.array([one.p for one in found])
    # p takes 10 values; a uniform one passes this at the level 1e-3
    assert stats.kstest(p - np.random.default_rng(1).uniform(0.0, 0.1, len(p)), "uniform").pvalue > 1e-3
    smallest = np.array([one.local.min() for one in found])
    assert (smallest < 0.05).mean() > 0.5, "who looks everywhere finds a small p of one window"
    every = np.concatenate([one.local[:, 0] for one in found])
    assert (every < 0.05).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.slow
def test_a_burst_of_another_kind_is_found_where_it_is() -> None:
    x, time = events(2)
    burst = (time > 61.0) & (time < 65.0)
    x[burst, 1] -= 2.0 * x[burst, 0]  # neither feature alone has changed
    hunt, found = p_of(x, time, seed=3)
    assert found.p == pytest.approx(1 / (1 + N_PERMUTATIONS))
    place, share = found.place
    rows = hunt.layout.rows(hunt.layout.windows[place])
    assert burst[rows].sum() >= 40
    seen = hunt.select(place, share)
    caught = seen.rows[seen.is_selected & seen.is_inside]
    assert burst[caught].mean() > 0.5 > 5 * burst.mean()


def test_order_of_the_rows_and_processes_do_not_matter() -> None:
    x, time = events(4)
    hunt = Hunt(x, time, n_positions=N_POSITIONS)
    parts = np.concatenate([hunt.permuted(range(2)), hunt.permuted(range(2, 4))])
    assert np.array_equal(parts, hunt.permuted(range(4)))


def test_selected_events_were_not_seen_by_their_classifier() -> None:
    """Were they, classifiers of 40 functions would find an excess in noise of each window."""
    x, time = events(5)
    z = Hunt(x, time, n_positions=N_POSITIONS).scan().z[:, 0]
    assert abs(z.mean()) < 1.0
    assert z.std() < 1.6


@pytest.mark.slow
def test_a_slow_drift_and_dead_times_make_no_bump() -> None:
    p = []
    for seed in range(8):
        x, time = events(100 + seed)
        alive = time % 10.0 > 2.0  # nothing is read out for 2 s of every 10 s
        x, time = x[alive], time[alive]
        x *= 1.0 + 0.3 * (time[:, None] / 100.0) ** 2
        x[:, 0] += 0.5 * np.sin(time / 50.0)
        p.append(p_of(x, time, n=9, seed=seed)[1].p)
    assert np.mean(p) > 0.2, "uniform p of 8 runs have a mean of 0.55 +- 0.1"


def test_values_that_are_names_are_looked_at_one_by_one() -> None:
    x, time = events(6)
    rng = np.random.default_rng(6)
    board = rng.integers(0, 30, len(x)).astype(np.float64)
    burst = np.flatnonzero((time > 30.0) & (time < 34.0))
    board[burst[::2]] = 17.0
    kinds = (FeatureKind(), FeatureKind(), FeatureKind("categories"))
    _, found = p_of(np.column_stack([x, board]), time, kinds=kinds)
    assert found.p == pytest.approx(1 / (1 + N_PERMUTATIONS))


def test_what_follows_the_coordinate_is_told_from_what_drifts() -> None:
    x, time = events(7)
    warm = np.column_stack([x, 20.0 + 0.1 * np.sin(time / 20.0) + 0.001 * x[:, 0]])
    warm[:, 0] += 0.004 * time
    shares = Hunt(warm, time, n_positions=N_POSITIONS).follows()
    assert shares[2] > 0.9
    assert shares[:2].max() < 0.1
