"""Changes of a run in time: steps, ramps and bad stretches are found where they are."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.reference.run_changes import find_change

N_PARTS, N_EACH = 8, 400


def run(seed: int, shifts: FloatArray) -> list[FloatArray]:
    """Make a run whose second feature is moved in each part by `shifts`, in sigma."""
    x = np.random.default_rng(seed).normal(size=(N_PARTS, N_EACH, 2))
    x[:, :, 1] += shifts.reshape(N_PARTS, -1)
    return list(x)


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ((4, 5, 6, 7), "the time between part 4 and part 5 of 8"),
        ((7,), "the time between part 7 and part 8 of 8"),
        ((0,), "the time between part 1 and part 2 of 8"),
        ((2,), "part 3 of 8"),
        ((5, 6), "parts 6 to 7 of 8"),
    ],
)
def test_a_stretch_is_found_where_it_is(bad: tuple[int, ...], place: str) -> None:
    found = find_change(run(1, np.where(np.isin(np.arange(N_PARTS), bad), 0.5, 0.0)), ("a", "b"))
    assert found.place == place
    assert found.feature == "b"
    assert found.chance < 1e-4
    assert found.distance == pytest.approx(0.197, abs=0.05)  # of two Gaussians half a sigma apart
    assert found.in_window(50) == pytest.approx(found.distance * np.sqrt(50) / 0.8687, rel=1e-3)


def test_a_ramp_is_cut_in_its_middle() -> None:
    found = find_change(run(2, np.linspace(0.0, 1.0, N_PARTS * N_EACH)), ("a", "b"))
    assert found.first == 0
    assert 2 <= found.last <= 4
    assert found.chance < 1e-4


def test_a_steady_run_changes_as_often_as_chance_says() -> None:
    chances = np.array([find_change(run(seed, np.zeros(N_PARTS)), "ab").chance for seed in range(300)])
    assert (chances < 0.05).sum() <= 24  # 15 at most on average; a correct program always stays below
    assert (chances < 0.5).sum() >= 30  # and it is no constant


def test_values_that_repeat_are_no_change() -> None:
    x = np.random.default_rng(3).integers(0, 3, size=(N_PARTS, N_EACH, 1)).astype(float)
    assert find_change(list(x), ("n",)).chance > 0.1
    assert find_change([np.ones((9, 1))] * 3, ("n",)).distance == 0.0


def test_one_part_cannot_change() -> None:
    with pytest.raises(InputError, match="1 part of a run cannot change"):
        find_change([np.ones((9, 1))], ("n",))
