"""Building, opening and refusing bundles."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import BundleError, InputError
from dqm.events import Origin, Window, WindowCut
from dqm.nplm import KernelTest
from dqm.reference import Evaluator, Source, StoredBundle, create_bundle, open_bundle, prepare_statistic
from dqm.reference.statistic import find_statistic
from tests.reference.conftest import RECIPE, healthy_events


def test_splits_events_into_reference_and_pool(tmp_path: Path) -> None:
    events = healthy_events(1000, 1)
    bundle = create_bundle(events, RECIPE, tmp_path / "b")
    assert bundle.reference.shape == (400, 2)
    assert bundle.pool.shape == (600, 2)
    together = np.concatenate([bundle.reference, bundle.pool])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(events, axis=0))
    known = {tuple(row) for row in bundle.reference}
    assert all(tuple(row) in known for row in bundle.centers)


def test_same_input_same_name_and_reading_back_gives_the_same(tmp_path: Path) -> None:
    sources = [Source(name="run1.csv", sha256="0" * 64, n_events=1000)]
    first = create_bundle(healthy_events(1000, 1), RECIPE, tmp_path / "a", sources)
    second = create_bundle(healthy_events(1000, 1), RECIPE, tmp_path / "b", sources)
    other = create_bundle(healthy_events(1000, 2), RECIPE, tmp_path / "c", sources)
    assert first.identifier == second.identifier != other.identifier
    opened = open_bundle(tmp_path / "a")
    assert opened.identifier == first.identifier
    assert opened.manifest == first.manifest
    np.testing.assert_array_equal(opened.pool, first.pool)


def test_refuses_too_few_events_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="500 events do not make"):
        create_bundle(healthy_events(500, 1), RECIPE, tmp_path / "b")
    with pytest.raises(InputError, match="401 centres"):
        create_bundle(healthy_events(1000, 1), replace(RECIPE, centers=401), tmp_path / "b")
    constant = healthy_events(1000, 1) * [1.0, 0.0]
    with pytest.raises(InputError, match="constant"):
        create_bundle(constant, RECIPE, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        create_bundle(healthy_events(1000, 1), RECIPE, tmp_path / "b")


@pytest.fixture
def copy(calibrated: StoredBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated.path, tmp_path / "copy"))


def test_altered_array_is_refused(copy: Path, calibrated: StoredBundle) -> None:
    file = copy / calibrated.manifest.pool.name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        open_bundle(copy)


def test_writing_to_an_open_bundle_is_noticed_and_replacing_it_is_no_matter(
    copy: Path, calibrated: StoredBundle
) -> None:
    bundle = open_bundle(copy)
    file = copy / calibrated.manifest.pool.name
    sound = file.read_bytes()
    file.rename(copy / "old")
    bundle.verify()
    file.write_bytes(sound[:-8])
    bundle.verify()
    with pytest.raises(BundleError, match="checksum"):
        open_bundle(copy)
    (copy / "old").rename(file)
    os.truncate(file, len(sound) - 8)
    with pytest.raises(BundleError, match=rf"{file.name}: was altered while it was in use\. Copy the bundle"):
        bundle.verify()


def test_truncated_or_missing_array_is_refused(copy: Path, calibrated: StoredBundle) -> None:
    file = copy / calibrated.manifest.reference.name
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(BundleError, match="checksum"):
        open_bundle(copy)
    file.unlink()
    with pytest.raises(BundleError, match="No such file"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not valid"),
        (json.dumps({"format": "dqm-reference", "version": 4}), "newer dqm"),
        (json.dumps({"format": "dqm-reference", "version": 2}), "older dqm"),
        (json.dumps({"format": "dqm-reference", "version": "x"}), "the version 'x', which is not a number"),
        (json.dumps({"format": "dqm-reference", "version": 3}), "features: Field required"),
    ],
)
def test_broken_manifest_is_refused(copy: Path, text: str, words: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=words):
        open_bundle(copy)


FIRST_OF_VERSION_3 = (
    "format", "version", "features", "statistic", "settings", "cut", "n_expected", "seed", "reference",
    "centers", "pool", "nuisances", "null", "templates", "sources", "software", "parent",
)  # fmt: skip
"""What a manifest of version 3 had in the first release with it; fields that came later have defaults."""


def test_a_bundle_of_the_first_release_with_version_3_judges_as_before(
    copy: Path, calibrated: StoredBundle
) -> None:
    raw = json.loads((copy / "manifest.json").read_text())
    assert set(raw) > set(FIRST_OF_VERSION_3)
    old = {key: raw[key] for key in FIRST_OF_VERSION_3}
    old["null"] = [{key: entry[key] for key in ("kind", "seed", "toys")} for entry in raw["null"]]
    assert old["null"]
    (copy / "manifest.json").write_text(json.dumps(old))
    for prepared in calibrated.manifest.prepared.values():
        (copy / prepared.name).unlink()
    bundle = open_bundle(copy)
    window = Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), healthy_events(60, 9))
    before, now = (Evaluator(one).evaluate(window) for one in (calibrated, bundle))
    assert now.t == pytest.approx(before.t, rel=1e-6)
    assert now.p == pytest.approx(before.p, rel=1e-6)


def test_manifest_cannot_point_outside_the_bundle(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["pool"]["name"] = "../../secret.npy"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"pool\.name"):
        open_bundle(copy)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="dqm reference build"):
        open_bundle(tmp_path / "nothing")


def test_what_the_reference_decides_is_kept_and_changes_no_verdict(calibrated: StoredBundle) -> None:
    opened = open_bundle(calibrated.path)
    kind, window = opened.manifest.kind, opened.pool[:60]
    again = prepare_statistic(opened, kind).evaluate(window)
    computed = (
        find_statistic("kernel")
        .make(
            opened.reference,
            opened.manifest.settings,
            n_expected=kind.n_expected,
            centers=opened.centers,
        )
        .evaluate(window)
    )
    assert opened.prepared["phi"].dtype == np.float32
    assert again.t == computed.t
    wider = prepare_statistic(opened, kind.model_copy(update={"n_expected": 90.0})).evaluate(window)
    assert wider.t > again.t


def test_arrays_of_another_reference_are_refused(calibrated: StoredBundle) -> None:
    with pytest.raises(InputError, match="prepared functions have shape"):
        KernelTest(
            calibrated.reference[:-1], n_expected=60.0, centers=calibrated.centers,
            prepared=calibrated.prepared, **calibrated.manifest.settings,
        )  # fmt: skip
