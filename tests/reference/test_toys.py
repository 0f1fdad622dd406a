"""Calibration: what a toy is, and that its table does not depend on how it was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import WindowCut
from dqm.reference import StoredBundle, ToySource, WindowKind, calibrate, open_bundle


@pytest.fixture
def fresh(calibrated: StoredBundle, tmp_path: Path) -> StoredBundle:
    return open_bundle(Path(shutil.copytree(calibrated.path, tmp_path / "copy")))


def run(bundle: StoredBundle, n_toys: int, **options: object) -> StoredBundle:
    arguments = {"kind": kind(WindowCut.COUNT, 60), "seed": 9, "n_processes": 1, **options}
    return calibrate(bundle, n_toys, **arguments)


def kind(cut: WindowCut, n_expected: float) -> WindowKind:
    return WindowKind(cut=cut, n_expected=n_expected)


def test_toys_have_the_size_of_their_windows(calibrated: StoredBundle) -> None:
    by_count, by_time = (ToySource(calibrated, kind(cut, 60)) for cut in (WindowCut.COUNT, WindowCut.TIME))
    assert {len(by_count.throw(1, i).x) for i in range(20)} == {60}
    sizes = [len(by_time.throw(1, i).x) for i in range(2000)]
    assert np.mean(sizes) == pytest.approx(60, abs=4 * (60 / 2000) ** 0.5)
    assert np.var(sizes) == pytest.approx(60, rel=0.15)


def test_a_toy_has_no_event_twice_and_is_reproducible(calibrated: StoredBundle) -> None:
    source = ToySource(calibrated, kind(WindowCut.COUNT, 3000))
    toy = source.throw(1, 7).x
    assert len(np.unique(toy, axis=0)) == 3000
    np.testing.assert_array_equal(toy, source.throw(1, 7).x)
    assert not np.array_equal(toy, source.throw(1, 8).x)


@pytest.mark.slow
def test_table_depends_on_neither_processes_nor_interruptions(fresh: StoredBundle, tmp_path: Path) -> None:
    other = open_bundle(Path(shutil.copytree(fresh.path, tmp_path / "other")))
    straight = run(fresh, 130, n_processes=2)

    class StoppedError(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done >= 50:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(other, 130, progress=stop)
    assert open_bundle(other.path).identifier == other.identifier
    resumed_at: list[int] = []
    resumed = run(other, 130, progress=lambda done, _: resumed_at.append(done))
    assert resumed_at[0] >= 50
    assert resumed.identifier == straight.identifier
    assert open_bundle(other.path).identifier == straight.identifier
    assert not list(other.path.glob("toys-*"))


def test_more_toys_extend_the_table(fresh: StoredBundle) -> None:
    small = run(fresh, 110)
    seen: list[int] = []
    large = run(small, 150, progress=lambda done, _: seen.append(done))
    assert seen[0] == 100
    before = small.toys(small.manifest.null[-1])
    after = large.toys(large.manifest.null[-1])
    np.testing.assert_array_equal(after[:100], before[:100])
    np.testing.assert_allclose(after[100:110], before[100:], rtol=2e-5)  # tested in a chunk of another size


def test_null_tables_stand_side_by_side(fresh: StoredBundle) -> None:
    bundle = run(fresh, 100, kind=kind(WindowCut.TIME, 80.0))
    covered = [(c.kind.cut, c.kind.n_expected) for c in bundle.manifest.null]
    assert covered == [(WindowCut.COUNT, 60), (WindowCut.TIME, 80)]
    assert bundle.manifest.parent == fresh.identifier
    assert bundle.null_entry(kind(WindowCut.TIME, 80.4)) is not None
    assert bundle.null_entry(kind(WindowCut.TIME, 80.6)) is None
    assert bundle.null_entry(kind(WindowCut.COUNT, 80)) is None
    assert bundle.null_entry(kind(WindowCut.COUNT, 61)) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_toys": 99}, "99 toys"),
        ({"kind": kind(WindowCut.COUNT, 60.5)}, "cannot hold"),
        ({"kind": kind(WindowCut.COUNT, 5)}, "10 events or more"),
        ({"kind": kind(WindowCut.COUNT, 5000)}, "7600 events are too few for toys of 5000"),
        ({"kind": WindowKind(cut=WindowCut.COUNT, n_expected=60, free=("gas",))}, "'gas' cannot be set free"),
    ],
)
def test_impossible_tables_are_refused(fresh: StoredBundle, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(fresh, **{"n_toys": 100, **options})
    assert open_bundle(fresh.path).identifier == fresh.identifier
