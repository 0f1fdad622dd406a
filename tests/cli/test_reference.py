"""``dqm reference``: build, calibrate, show."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dqm.reference import Manifest, open_bundle
from tests.waiting import wait_until

from .conftest import BUILD, N_TOYS, Told
from .program import WAIT_SECONDS, start_dqm

Dqm = Callable[..., Told]


def test_a_bundle_tells_what_it_is(dqm: Dqm, bundle: Path, bare: Path) -> None:
    before, after = (json.loads(dqm("reference", "show", path, "--json").out) for path in (bare, bundle))
    assert before["identifier"] == after["parent"]
    assert (before["null"], len(after["null"])) == ([], 1)
    assert after["null"][0]["kind"] == {"cut": "count", "n_expected": 60.0, "free": []}
    assert after["null"][0]["toys"]["shape"] == [N_TOYS, 2]
    assert after["features"] == ["a", "b"]
    assert [(file["name"], file["n_events"]) for file in after["sources"]] == [("healthy.csv", 4000)]
    text = dqm("reference", "show", bundle).out
    for words in (after["identifier"], "a, b", "400 events, 80 centres", "healthy.csv", str(N_TOYS)):
        assert words in text
    assert "none: run 'dqm reference calibrate'" in dqm("reference", "show", bare).out


def test_the_same_events_make_the_same_bundle(dqm: Dqm, folder: Path, bare: Path) -> None:
    told = dqm("reference", "build", folder / "healthy.csv", "-o", "again", *BUILD, "--features", "a,b")
    assert told.code == 0
    assert "400 reference events, 3600 in the pool. With toys from the pool, p will be uncertain" in told.out
    assert "by 0.06 sigma. Next: dqm reference calibrate again" in told.out
    identifier = json.loads(dqm("reference", "show", "again", "--json").out)["identifier"]
    assert identifier == json.loads(dqm("reference", "show", bare, "--json").out)["identifier"]


def test_conditions_of_the_reference_are_kept_and_do_not_change_the_test(dqm: Dqm, folder: Path) -> None:
    given = ("--condition", "hv_v=1200", "--condition", "pressure_mbar=[958, 964.5]")
    data = folder / "healthy.csv"
    assert dqm("reference", "build", data, "-o", "told", *BUILD, "--features", "a,b", *given).code == 0
    manifest = open_bundle(Path("told")).manifest
    assert manifest.conditions == {"hv_v": (1200.0, 1200.0), "pressure_mbar": (958.0, 964.5)}
    assert "hv_v 1200, pressure_mbar 958 to 964.5" in " ".join(dqm("reference", "show", "told").out.split())
    without = manifest.model_copy(update={"conditions": {}})
    assert b"conditions" not in without.encode(), "bundles from before keep their names"
    assert without.definition == manifest.definition
    with pytest.raises(ValidationError, match="no range"):
        Manifest.model_validate(manifest.model_dump() | {"conditions": {"hv_v": (2.0, 1.0)}})


@pytest.mark.slow
def test_interrupted_and_resumed_is_as_in_one_go(dqm: Dqm, bare: Path, tmp_path: Path) -> None:
    for name in ("ref", "straight"):
        shutil.copytree(bare, tmp_path / name)
    many = ("--toys", 1000, "--processes", 1)  # so that the interruption finds some to do
    log = tmp_path / "log"
    process = start_dqm("reference", "calibrate", "ref", *many, cwd=tmp_path, log=log)
    try:
        wait_until(lambda: any(tmp_path.glob("ref/toys-*/*.npy")), "the first toys")
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        assert process.wait(WAIT_SECONDS) == 130
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()
    assert dqm("reference", "show", "ref", "--json") == dqm("reference", "show", bare, "--json")
    assert 0 < len(list(tmp_path.glob("ref/toys-*/*.npy"))) < 40
    for name in ("ref", "straight"):
        assert dqm("reference", "calibrate", name, *many).code == 0
    assert dqm("reference", "show", "ref", "--json") == dqm("reference", "show", "straight", "--json")
    assert not list(tmp_path.glob("ref/toys-*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--events": 3990}, "4000 events do not make a reference of 3990 and a pool of at least 120"),
        ({"--centers": 400, "--features": "c"}, "no column 'c'. There are: a, b"),
        ({"--width": -1}, "width is -1.0"),
        ({"--penalty": 0}, "penalty is 0.0"),
        ({"--condition": "hv_v"}, "--condition: 'hv_v' is not a condition with a number. Give NAME=VALUE or"),
        ({"--condition": "hv_v=high"}, "'hv_v=high' is not a condition"),
        ({"--condition": "hv_v=[2, 1]"}, "'hv_v=[2, 1]' is not a condition"),
        ({"--condition": "hv_v=true"}, "'hv_v=true' is not a condition"),
        ({"-o": "taken"}, "taken: exists already. Bundles are never overwritten: choose another name"),
        ({"-o": "taken/file/ref"}, "taken/file/ref: cannot write"),
    ],
)
def test_what_makes_no_bundle_is_told_and_leaves_nothing(
    dqm: Dqm, folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    options = dict(zip(BUILD[::2], BUILD[1::2], strict=True)) | {"-o": "ref"} | changes
    told = dqm(
        "reference", "build", folder / "healthy.csv", *(part for item in options.items() for part in item)
    )
    assert (told.code, told.out) == (2, "")
    assert message in told.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "taken"]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("150:30", "a range from 150 to 30 events. Give the smaller number first"),
        ("60:60", "a range from 60 to 60 events. Give the smaller number first"),
        ("30:", "--window: '' is not a number"),
        ("30:inf", "--window: 'inf' is not a number"),
        ("0:30", "--window: 0 events. Give 10 to 999999999"),
        ("30:1e12", "--window: 1e+12 events. Give 10 to 999999999"),
    ],
)
def test_a_range_that_is_none_is_refused_before_anything_is_done(
    dqm: Dqm, bare: Path, window: str, message: str
) -> None:
    before = sorted(bare.iterdir())
    told = dqm("reference", "calibrate", bare, "--toys", 100, "--window", window)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
    assert sorted(bare.iterdir()) == before


def test_a_damaged_bundle_is_refused(dqm: Dqm, bare: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bare, tmp_path / "copy")
    (array,) = copy.glob("pool-*.npy")
    array.write_bytes(array.read_bytes()[:-8])
    told = dqm("reference", "show", copy)
    assert (told.code, told.out) == (2, "")
    assert f"error: {copy}: {array.name} does not have the checksum" in told.err


def test_names_that_no_window_can_carry_are_refused_when_a_bundle_is_built(dqm: Dqm, tmp_path: Path) -> None:
    """They passed every check, and the collector ended at its first window."""
    (tmp_path / "events.csv").write_text("drift/time,angle°,c\n" + "1,2,3\n" * 9)
    told = dqm("reference", "build", "events.csv", "-o", "new", "--events", 5, "--window", 10)
    assert told.code == 2
    assert "events.csv: 'drift/time', 'angle°' cannot be names of features" in told.err
    assert """--read 'columns={drift_time = "drift/time", angle = "angle°"}'""" in told.err
    assert not (tmp_path / "new").exists()


def test_an_older_bundle_with_such_names_stops_check_and_daemon(
    dqm: Dqm, bundle: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(bundle, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["features"][0] = "drift time"
    (old / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "d.toml").write_text(
        """[daemon]\nhttp = "127.0.0.1:0"\n[[streams]]\nname = "a"\nbundle = "old"\n"""
    )
    for command, code in (("check", 1), ("run", 2)):
        told = dqm(command, "d.toml")
        assert told.code == code
        assert "no name of a feature: 'drift time'" in told.err
    assert "drift time" in dqm("reference", "show", "old").out, "files can still be compared with it"


@pytest.mark.parametrize("name", ["drift velocity", "", "a/b", "x\n"])
def test_a_nuisance_parameter_needs_a_name_that_a_measurement_can_have(
    dqm: Dqm, bare: Path, tmp_path: Path, name: str
) -> None:
    mine = shutil.copytree(bare, tmp_path / "mine")
    told = dqm("reference", "nuisance", mine, name, "--sigma", 0.1, "--rate")
    assert (told.code, "no name of a nuisance parameter" in told.err) == (2, True)


@pytest.mark.parametrize(
    "command", ["nuisance mine gas --transform scale --on a --points 0.1", "validate mine"]
)
def test_an_ending_that_is_no_figure_is_refused_before_the_work(
    dqm: Dqm, bare: Path, tmp_path: Path, command: str
) -> None:
    mine = shutil.copytree(bare, tmp_path / "mine")
    before = (mine / "manifest.json").read_bytes()
    told = dqm("reference", *command.split(), "--plot", "x.docx")
    assert (told.code, "x.docx: no figure has the ending '.docx'. Choose one of" in told.err) == (2, True)
    assert (mine / "manifest.json").read_bytes() == before


def test_toys_follow_the_threshold_of_the_daemon_that_the_bundle_is_for(
    dqm: Dqm, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqm.alarm.budget.AMPLE_TOYS", 10.0)  # quicker
    shutil.copytree(bare, tmp_path / "mine")
    shutil.copytree(bare, tmp_path / "other")
    config = '[alarm]\nfalse_alarms_per_shift = {}\n[[streams]]\nname = "s"\nbundle = "mine"\n'
    (tmp_path / "d.toml").write_text(config.format(40))
    told = dqm("reference", "calibrate", "mine", "--for", "d.toml", "--processes", 1)
    assert told.code == 0
    n_toys, p = re.search(
        r"mine: (\d+) toys, 100 beyond p = (\S+), the threshold of d.toml", told.out
    ).groups()
    assert int(n_toys) == pytest.approx(10 / float(p), rel=0.06)
    assert open_bundle(tmp_path / "mine").manifest.null[0].toys.shape[0] == int(n_toys)
    for options, words in (
        (("other", "--for", "d.toml"), "no stream is judged by other"),
        (("mine", "--for", "d.toml", "--toys", 200), "--toys cannot be given with --for"),
        (("mine", "--for", "none.toml"), "none.toml"),
    ):
        refused = dqm("reference", "calibrate", *options)
        assert (refused.code, words in refused.err) == (2, True)


@pytest.mark.slow
def test_widths_that_are_given_are_not_called_chosen(dqm: Dqm, folder: Path) -> None:
    for name, options, words in (
        ("given", ("--set", "width=[0.5,2]"), "widths 0.5, 2 (as given)"),
        ("chosen", (), "(quantiles of the distances of two events)"),
    ):
        told = dqm("reference", "build", folder / "healthy.csv", "-o", name, "--window", 60, *options)
        assert told.code == 0, told.err
        assert words in told.out
        assert told.out.count("quantiles") == (name == "chosen")


def test_columns_that_are_probably_no_features_are_told_with_what_to_do(dqm: Dqm, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [f"{a},{k},{7 + k // 100},{1e9 * k:.0f}" for k, a in enumerate(rng.normal(size=200))]
    (tmp_path / "run.csv").write_text("pulse height [mV],b,run,time_ns\n" + "\n".join(rows) + "\n")
    build = ("reference", "build", "run.csv", "--window", 20, "--width", 2, "--events", 100)
    told = dqm(*build, "-o", "all")
    assert told.code == 0, told.err
    for words in (
        "run is tested as a feature, but by its name it numbers runs or events. "
        "To leave it out: --features pulse_height_mV,b,time_ns",
        "time_ns is tested as a feature. If it is the time of the events: "
        "--read columns.time.column=time_ns --read columns.time.scale=1e-09. To leave it out:",
        "'pulse height [mV]' is pulse_height_mV",
    ):
        assert words in told.err, told.err
    chosen = ("--features", "pulse height [mV],b", "--read", "columns.time.column=time_ns")
    told = dqm(*build, "-o", "some", *chosen, "--read", "columns.time.scale=1e-09")
    assert told.code == 0, told.err
    assert "is tested as a feature" not in told.err
    shown = json.loads(dqm("reference", "show", "some", "--json").out)
    assert shown["features"] == ["pulse_height_mV", "b"]
