"""The certificate of a bundle: its file, what it counts for, and whether its lights are right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray
from dqm.reference import (
    CERTIFICATE,
    Certificate,
    CertificateLine,
    LaterRun,
    Light,
    Processes,
    Recipe,
    StoredBundle,
    WindowKind,
    calibrate,
    certify,
    create_bundle,
    find_certificate,
    open_bundle,
    read_certificate,
    write_certificate,
)
from dqm.reference import certificate_lines as lines_of
from dqm.reference.certificate import LATER_RUN, subject_of
from dqm.reference.later_runs import LaterOutcome
from dqm.reference.run_blocks import BlockPlan, BlockWindows, events_in_order, plan_blocks
from dqm.reference.run_changes import RunChange
from tests.reference.channels import channel_bundle
from tests.service.small import FEATURES, N_WINDOW, bare_bundle, faulty_events, healthy_events

HERE = Processes(1)


def line_of(light: Light) -> CertificateLine:
    return CertificateLine(
        name="uniformity", light=light, number=0.05, found="5 %", meaning="as it should be", action="wait"
    )


def certificate_of(bundle: StoredBundle, *lights: Light) -> Certificate:
    return Certificate(
        subject=subject_of(bundle.manifest),
        windows="60 events",
        made_at=1.0,
        lines=tuple(map(line_of, lights or [Light.GREEN])),
    )


@pytest.fixture
def copy(bundle: StoredBundle, tmp_path: Path) -> StoredBundle:
    return StoredBundle.read(shutil.copytree(bundle.path, tmp_path / "copy.dqmref"))


def certified(bundle: StoredBundle, later: tuple[LaterRun, ...] = ()) -> dict[str, CertificateLine]:
    found = certify(bundle, 50, kind=bundle.manifest.kind, seed=9, threshold=0.05, workers=HERE, later=later)
    return {line.name: line for line in found.certificate.lines}


def test_a_certificate_is_read_as_it_was_written(copy: StoredBundle) -> None:
    assert read_certificate(copy.path) is None
    made = certificate_of(copy, Light.GREEN, Light.RED, Light.AMBER)
    write_certificate(copy.path, made)
    assert read_certificate(copy.path) == made
    assert made.light is Light.RED
    assert find_certificate(copy.path, copy.manifest).certificate == made
    assert StoredBundle.read(copy.path).identifier == copy.identifier, "verdicts name the bundle"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"5 %", b"1 %", "was altered or cut short"),
        (b'"version": 1', b'"version": 2', "was altered or cut short"),
        (b"{", b"", "is not JSON"),
        (b"{", b"[{", "is not JSON"),
    ],
)
def test_a_certificate_that_was_altered_does_not_count(
    copy: StoredBundle, old: bytes, new: bytes, message: str
) -> None:
    write_certificate(copy.path, certificate_of(copy))
    file = copy.path / CERTIFICATE
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    with pytest.raises(BundleError, match=message):
        read_certificate(copy.path)
    status = find_certificate(copy.path, copy.manifest)
    assert status.certificate is None
    assert message in status.why_none


def test_a_certificate_of_another_version_does_not_count(copy: StoredBundle) -> None:
    newer = certificate_of(copy).model_copy(update={"version": 2})
    write_certificate(copy.path, newer)
    assert "version" in find_certificate(copy.path, copy.manifest).why_none


def test_a_certificate_counts_for_what_it_was_made_of(copy: StoredBundle, tmp_path: Path) -> None:
    write_certificate(copy.path, certificate_of(copy))
    more = calibrate(copy, 175, kind=copy.manifest.kind, seed=5, workers=HERE)
    status = find_certificate(more.path, more.manifest)
    assert status.certificate is None
    assert "before its null tables or nuisance parameters changed" in status.why_none
    write_certificate(more.path, certificate_of(more))
    without_parent = more.manifest.model_copy(update={"parent": None})
    assert find_certificate(more.path, without_parent).certificate is not None, "ancestry decides on no p"
    open_bundle(more.path).save(tmp_path / "saved.dqmref")
    assert read_certificate(tmp_path / "saved.dqmref") == certificate_of(more)


def test_lines_of_later_runs_stay_until_the_run_is_tested_again(bundle: StoredBundle) -> None:
    def later_of(name: str, light: Light) -> CertificateLine:
        return line_of(light).model_copy(update={"name": LATER_RUN, "found": f"{name}: 100 % of 30 windows"})

    plain = certificate_of(bundle, Light.GREEN)
    bad, good = later_of("bad.csv", Light.RED), later_of("good.csv", Light.GREEN)
    before = plain.model_copy(update={"lines": (line_of(Light.AMBER), bad, good)})
    assert plain.with_later_of(None, []) == plain
    kept = plain.with_later_of(before, [])
    assert kept.lines == (*plain.lines, bad, good), "other lines were measured again"
    assert kept.light is Light.RED
    assert Certificate.model_validate(kept.model_dump()) == kept
    again = plain.model_copy(update={"lines": (*plain.lines, later_of("bad.csv", Light.GREEN))})
    assert again.with_later_of(before, ["bad.csv"]).lines == (*again.lines, good)
    assert plain.with_later_of(before.model_copy(update={"windows": "90 events"}), []) == plain
    many = plain.model_copy(update={"lines": (*(good,) * 99, bad)})
    assert plain.with_later_of(many, []).lines == (*plain.lines, bad, *(good,) * 98), "no red line is lost"


def test_a_directory_that_cannot_be_written_is_told(bundle: StoredBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot write: No such file or directory"):
        write_certificate(tmp_path / "none", certificate_of(bundle))


def test_the_order_of_the_run_is_known_again(bundle: StoredBundle, copy: StoredBundle) -> None:
    events, is_known = events_in_order(bundle)
    assert is_known
    assert np.array_equal(events, healthy_events(4000, 1))
    manifest = json.loads((copy.path / "manifest.json").read_text())
    (copy.path / "manifest.json").write_text(json.dumps(manifest | {"seed": 4}))
    events, is_known = events_in_order(StoredBundle.read(copy.path))
    assert not is_known
    assert len(events) == 4000
    assert not plan_blocks(StoredBundle.read(copy.path), copy.manifest.kind).is_ordered


def test_a_steady_run_is_green_and_a_later_fault_is_red(bundle: StoredBundle) -> None:
    later = (
        LaterRun("good.csv", healthy_events(30 * N_WINDOW, 11)),
        LaterRun("bad.csv", faulty_events(30 * N_WINDOW, 12)),
    )
    made = certify(
        bundle, 50, kind=bundle.manifest.kind, seed=9, threshold=0.1, workers=HERE, later=later
    ).certificate
    lights = {line.name: line.light for line in made.lines[:-2]}
    assert lights == dict.fromkeys(
        ("uniformity", "stability over the run", "stability over splits", "null table", "features",
         "extrapolation"),
        Light.GREEN,
    ) | {"support": lights["support"]}  # fmt: skip
    good, bad = made.lines[-2:]
    assert (good.light, bad.light) == (Light.GREEN, Light.RED)
    assert bad.found.startswith("bad.csv: 100.0 % of 30 windows have p < 0.05 (88.4 to 100.0 %); ")
    assert "departs mostly in b" in bad.found
    assert all(bool(line.action) == (line.light is not Light.GREEN) for line in made.lines)


def made_of(events: FloatArray, path: Path) -> dict[str, CertificateLine]:
    recipe = Recipe(FEATURES, n_reference=400, n_expected=N_WINDOW, width=2.0, penalty=1e-5, centers=80)
    bare = create_bundle(events, recipe, path)
    return certified(calibrate(bare, 100, kind=bare.manifest.kind, seed=5, workers=HERE))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [2.0, 0.7])
def test_two_runs_in_one_file_are_red(tmp_path: Path, shift: float) -> None:
    events = np.concatenate([healthy_events(2000, 1), healthy_events(2000, 2) + np.array([0.0, shift])])
    made = made_of(events, tmp_path / "mixed.dqmref")
    assert made["null table"].light is Light.GREEN, "toys mix both runs alike: they cannot tell"
    line = made["stability over the run"]
    assert line.light is Light.RED
    assert "b differs most between parts 1 to 4 of 8 and the rest" in line.found
    assert "the time between part 4 and part 5 of 8" in line.action
    if shift == 2.0:
        assert made["uniformity"].light is Light.RED
        assert made["uniformity"].number > 0.2


@pytest.mark.slow
def test_the_parts_of_steady_runs_are_alike(tmp_path: Path) -> None:
    """Each of three runs is not green once in 100 by chance."""
    for seed in range(3):
        line = made_of(healthy_events(4000, 40 + seed), tmp_path / str(seed))["stability over the run"]
        assert line.light is Light.GREEN, line.found


@pytest.mark.slow
def test_the_end_of_a_ramp_departs_and_not_its_middle(tmp_path: Path) -> None:
    ramp = healthy_events(4000, 1) + np.outer(np.linspace(0.0, 3.0, 4000), [1.0, 0.0])
    line = made_of(ramp, tmp_path / "ramp.dqmref")["stability over the run"]
    assert line.light is Light.RED
    assert line.found.startswith(("windows of part 1 of 8", "windows of part 8 of 8"))
    assert "a differs most between parts 1 to" in line.found


def test_without_null_table_or_with_strange_later_events_nothing_is_certified(
    bundle: StoredBundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="no null table for windows of 60 events"):
        certified(bare_bundle(tmp_path / "bare.dqmref"))
    with pytest.raises(InputError, match=r"short.csv: 59 events are fewer than a window of 60"):
        certified(bundle, (LaterRun("short.csv", healthy_events(59, 1)),))


@pytest.mark.slow
def test_a_bundle_of_channels_is_certified_by_its_own_windows(tmp_path: Path) -> None:
    bare = channel_bundle(tmp_path / "channels.dqmref")
    calibrated = calibrate(bare, 200, kind=bare.manifest.kind, seed=5, workers=HERE)
    made = certified(calibrated)
    assert set(made) == {"uniformity", "stability over the run", "null table", "extrapolation"}
    assert made["uniformity"].light is not Light.RED
    assert made["stability over the run"].light is Light.GREEN
    with pytest.raises(InputError, match="takes no later runs"):
        certified(calibrated, (LaterRun("x.csv", healthy_events(900, 1)),))


def blocks(p: FloatArray, *, outside: float = 0.0, is_ordered: bool = True) -> BlockWindows:
    plan = BlockPlan(*p.shape, n_splits=5, n_toys=24, is_ordered=is_ordered)
    toy_z = np.random.default_rng(2).normal(size=(len(p), 5, 24))
    return BlockWindows(plan, p, toy_z, np.full(p.shape, outside), float(N_WINDOW))


UNIFORM = np.random.default_rng(3).permutation((np.arange(160) + 0.5) / 160).reshape(8, 20)


@pytest.mark.parametrize(
    ("p", "light"),
    [
        (UNIFORM, Light.GREEN),
        (UNIFORM[:2, :5], Light.AMBER),  # too few to tell
        (UNIFORM**1.3, Light.AMBER),
        (UNIFORM**3, Light.RED),
        (np.sqrt(UNIFORM), Light.AMBER),  # no small p at all: blind, not dangerous
    ],
)
def test_uniformity(p: FloatArray, light: Light) -> None:
    line = lines_of.uniformity_line(blocks(p))
    assert line.light is light
    assert line.number == (p < 0.05).mean()


def test_a_part_that_departs_is_named(bundle: StoredBundle) -> None:
    assert lines_of.run_line(bundle, blocks(UNIFORM), None).light is Light.GREEN
    p = UNIFORM.copy()
    p[3] = p[3] ** 5
    line = lines_of.run_line(bundle, blocks(p), None)
    assert line.light is Light.RED
    assert "part 4 of 8" in line.found
    assert "part 4 of 8" in line.action
    unordered = lines_of.run_line(bundle, blocks(UNIFORM, is_ordered=False), None)
    assert unordered.light is Light.AMBER
    assert "not known" in unordered.found


def test_a_part_in_the_middle_of_a_ramp_does_not_depart(bundle: StoredBundle) -> None:
    p = UNIFORM.copy()
    p[3] = p[3] ** 0.2
    assert lines_of.run_line(bundle, blocks(p), None).light is Light.GREEN
    line = lines_of.run_line(bundle, blocks(p**6), None)  # a steep ramp: all others are unlike the rest
    assert line.light is Light.RED
    assert "part 4" not in line.found + line.action


def test_parts_that_are_all_unlike_the_rest_do_not_look_alike(bundle: StoredBundle) -> None:
    """Each half of a run of two kinds is unlike a reference of both, and equally so."""
    found = blocks(UNIFORM**1.7)
    assert lines_of.uniformity_line(found).light is Light.RED
    line = lines_of.run_line(bundle, found, None)
    assert line.light is not Light.GREEN
    assert "all parts" in line.action


def changed(chance: float, distance: float) -> RunChange:
    return RunChange(first=0, last=2, n_parts=8, feature="b", distance=distance, chance=chance)


@pytest.mark.parametrize(
    ("chance", "distance", "light"),
    [
        (0.1, 0.3, Light.GREEN),  # by chance
        (1e-9, 0.05, Light.GREEN),  # sure, and too small for any window of 60 events
        (1e-9, 0.1, Light.AMBER),
        (1e-3, 0.3, Light.AMBER),
        (1e-9, 0.3, Light.RED),
    ],
)
def test_a_change_counts_if_it_is_sure_and_windows_can_show_it(
    bundle: StoredBundle, chance: float, distance: float, light: Light
) -> None:
    line = lines_of.run_line(bundle, blocks(UNIFORM), changed(chance, distance))
    assert line.light is light
    if light is not Light.GREEN:
        assert "b differs most between parts 1 to 3 of 8 and the rest" in line.found
        assert "the time between part 3 and part 4 of 8" in line.action


def test_events_outside_are_held_to_what_chance_brings(bundle: StoredBundle) -> None:
    expected = 2.0 * 2 * N_WINDOW / 400
    assert lines_of.support_line(bundle, blocks(UNIFORM)).light is Light.GREEN
    assert lines_of.support_line(bundle, blocks(UNIFORM, outside=expected)).light is Light.GREEN
    assert lines_of.support_line(bundle, blocks(UNIFORM, outside=expected + 0.3)).light is Light.AMBER
    assert lines_of.support_line(bundle, blocks(UNIFORM, outside=3 * expected + 1)).light is Light.RED


def test_references_that_decide_on_p_are_red(bundle: StoredBundle) -> None:
    (entry,) = bundle.manifest.null
    found = blocks(UNIFORM)
    assert lines_of.split_line(bundle, entry, found).light is Light.GREEN
    found.toy_z[...] += np.random.default_rng(4).normal(size=(8, 5, 1))
    from_pool = lines_of.split_line(bundle, entry, found)
    assert from_pool.light is Light.GREEN, "this table is of the bundle's own reference"
    fresh = lines_of.split_line(bundle, entry.model_copy(update={"per_split": 5}), found)
    assert fresh.light is Light.RED
    assert fresh.number == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize(
    ("threshold", "light"), [(0.1, Light.GREEN), (0.01, Light.AMBER), (0.006, Light.RED)]
)
def test_few_toys_for_the_threshold(bundle: StoredBundle, threshold: float, light: Light) -> None:
    line = lines_of.extrapolation_line(bundle.manifest.null[0], threshold)
    assert line.light is light
    assert line.number == pytest.approx(min(1.0, 1 / 151 / threshold))


def test_a_run_that_is_too_short_says_so(tmp_path: Path) -> None:
    recipe = Recipe(FEATURES, n_reference=200, n_expected=60, width=2.0, penalty=1e-3, centers=40)
    short = create_bundle(healthy_events(330, 1), recipe, tmp_path / "short.dqmref")
    with pytest.raises(InputError, match="330 events, 200 of them in the reference, leave no room") as told:
        plan_blocks(short, WindowKind(cut=short.manifest.cut, n_expected=60))
    line = lines_of.unmeasured_line(told.value, takes_later=True)
    assert line.light is Light.AMBER
    assert "dqm reference advise" in line.action
    assert "--later" in line.action
    assert "--later" not in lines_of.unmeasured_line(told.value, takes_later=False).action


def test_texts_from_outside_are_cut_off(bundle: StoredBundle) -> None:
    outcome = LaterOutcome("x" * 5000, np.full(30, 1e-6), "")
    line = lines_of.later_line(bundle, bundle.manifest.null[0], outcome)
    assert line.light is Light.RED
    assert len(line.found) == 1000
    assert line.found.endswith(" ...")


@pytest.mark.slow
def test_the_line_of_features_lists_the_kinds_that_several_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = np.column_stack([
        healthy_events(1500, 1),
        np.zeros(1500),
        np.where(rng.random(1500) < 0.1, -999.0, rng.normal(size=1500)),
    ])  # fmt: skip
    recipe = Recipe(
        (*FEATURES, "gain", "e"), n_reference=400, n_expected=60, centers=50, statistic="several",
        kinds={"b": "heavy"},
    )  # fmt: skip
    line = lines_of.feature_line(create_bundle(x, recipe, tmp_path / "b.dqmref"))
    assert line.light is Light.GREEN
    for words in ("gain is always 0; any other", "b is given: taken as heavy", "e is -999 in", "smooth:-999"):
        assert words in line.found, line.found
