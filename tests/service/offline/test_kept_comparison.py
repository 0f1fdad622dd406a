"""Kept events against each other: what is read, what is drawn beside them, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import InputError, StoreError
from dqm.events import FloatArray
from dqm.reference import Processes, StoredBundle
from dqm.service.offline import kept_comparison
from dqm.service.offline.kept_comparison import KeptComparison, compare_kept, read_side
from dqm.service.offline.kept_selection import KeptSide
from dqm.store import WindowKeeper
from tests.service.small import FEATURES, faulty_events, healthy_events, window_of
from tests.world import verdict_of

Keep = Callable[..., KeptSide]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Keep windows with these events, as one side."""
    keeper, seq = WindowKeeper(tmp_path / "windows", 10**9), iter(range(100))

    def do(
        *samples: FloatArray, bundle: str = "3f9a", label: str = "chamber-1, run 7", **fields: object
    ) -> KeptSide:
        paths = []
        for x in samples:
            window = window_of(x, seq=next(seq), **fields)
            keeper.keep(window, replace(verdict_of(), bundle=bundle))
            paths.append(keeper.path(window.stream, window.run, window.seq))
        return KeptSide(label, tuple(paths), f"{len(paths)} windows")

    return do


def compare(first: KeptSide, second: KeptSide, **bundles: Path) -> KeptComparison:
    return compare_kept(
        (first, second), bundles, n_permutations=49, seed=1, workers=Processes(1), progress=lambda _: None
    )


def test_the_reference_is_drawn_in_the_bins_of_the_maps(keep: Keep, bundle: StoredBundle) -> None:
    name = bundle.identifier
    first = keep(healthy_events(200, 1), bundle=name)
    found = compare(first, keep(faulty_events(150, 2), bundle=name), **{name: bundle.path})
    (curve,) = found.references
    assert curve.label == "reference of A and B"
    for ratio_map in found.found.explanation.maps:
        events = curve.events[ratio_map.features[0]]
        assert events.shape == ratio_map.data.shape
        assert events.sum() == pytest.approx(200.0)
    b = next(m for m in found.found.explanation.maps if m.features == ("b",))
    assert np.abs(curve.events["b"] - b.data).sum() < np.abs(b.reference - b.data).sum(), (
        "A is like it, B is not"
    )
    assert found.found.p == pytest.approx(1 / 50)


@pytest.mark.slow
def test_a_bundle_that_is_gone_or_was_replaced_is_not_drawn(keep: Keep, bundle: StoredBundle) -> None:
    sides = keep(healthy_events(60, 1)), keep(healthy_events(60, 2))
    assert compare(*sides).references == ()
    assert compare(*sides, **{"3f9a": bundle.path}).references == (), "another bundle lies there now"


def test_events_with_nan_are_left_out_and_counted(keep: Keep) -> None:
    x = healthy_events(60, 1)
    x[:2, 1] = np.nan
    found = read_side(keep(x), {})
    assert len(found.run.x) == 58
    assert found.told == "1 windows; 2 events with NaN left out"


def test_many_events_are_a_sample(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_comparison, "MOST_EVENTS", 100)
    found = read_side(keep(healthy_events(60, 1), healthy_events(60, 2), healthy_events(60, 3)), {})
    assert len(found.run.x) == 100
    assert found.told == "3 windows; 100 events of them, drawn at random"
    assert len(np.unique(found.run.x, axis=0)) == 100


def test_only_features_of_all_windows_are_compared(keep: Keep) -> None:
    wide = np.column_stack([healthy_events(60, 1), healthy_events(60, 2)[:, 0]])
    first = keep(wide, names=("a", "b", "c"))
    found = compare(first, keep(healthy_events(60, 3)))
    assert (found.names, found.left_out) == (FEATURES, ("c",))


def test_counts_say_how_many_events_a_row_stands_for(keep: Keep) -> None:
    rng = np.random.default_rng(3)
    bins = np.arange(12.0)
    sides = [
        keep(np.column_stack([bins, rng.poisson(40.0, 12)]), names=("a", "n"), counts="n") for _ in range(2)
    ]
    found = compare(*sides)
    assert found.names == ("a",)
    assert found.found.n_first > 300


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"names": ("channel", "n"), "counts": "n"}, "is of channels"),
        ({"names": ("u", "v")}, "no common feature: u, v and a, b"),
    ],
)
def test_what_cannot_be_compared_is_refused(keep: Keep, fields: dict[str, object], what: str) -> None:
    x = np.abs(np.round(10.0 * healthy_events(60, 1)))
    with pytest.raises(InputError, match=what):
        compare(keep(x, **fields), keep(healthy_events(60, 2)))


def test_windows_of_both_sides_are_refused(keep: Keep) -> None:
    side = keep(healthy_events(60, 1))
    with pytest.raises(InputError, match="have the same events, of 60 and 60"):
        compare(side, replace(side, label="chamber-1, runs 6, 7"))


def test_a_window_that_gave_way_meanwhile_is_told(keep: Keep) -> None:
    side = keep(healthy_events(60, 1))
    side.paths[0].unlink()
    with pytest.raises(StoreError, match="the window gave way to newer ones"):
        read_side(side, {})


def test_a_damaged_window_is_told(keep: Keep) -> None:
    side = keep(healthy_events(60, 1))
    side.paths[0].write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="is not a kept window"):
        read_side(side, {})
