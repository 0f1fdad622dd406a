"""``dqm reference``: build, calibrate, show."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert "400 reference events, 3600 in the pool. Next: dqm reference calibrate again" in told.out
    identifier = json.loads(dqm("reference", "show", "again", "--json").out)["identifier"]
    assert identifier == json.loads(dqm("reference", "show", bare, "--json").out)["identifier"]


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


def test_a_damaged_bundle_is_refused(dqm: Dqm, bare: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bare, tmp_path / "copy")
    (array,) = copy.glob("pool-*.npy")
    array.write_bytes(array.read_bytes()[:-8])
    told = dqm("reference", "show", copy)
    assert (told.code, told.out) == (2, "")
    assert f"error: {copy}: {array.name} does not have the checksum" in told.err
