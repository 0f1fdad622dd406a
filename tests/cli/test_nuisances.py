"""Teaching a bundle what may change, calibrating, validating, comparing: as a user does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from tests.service.small import N_WINDOW, healthy_events, write_csv

from .conftest import Told
from .program import call_dqm

Dqm = Callable[..., Told]
BUILD = ("--events", 800, "--window", N_WINDOW, "--width", 2, "--penalty", 1e-5, "--centers", 80)
SHIFT = ("--transform", "shift", "--on", "a,b", "--points", "0.3,0.9", "--method", "kernel")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows a common shift of both features, calibrated with and without its measurement."""
    folder = tmp_path_factory.mktemp("taught")
    write_csv(folder / "healthy.csv", healthy_events(8000, 1))
    calibrate = ("calibrate", "ref", "--toys", 150, "--processes", 1)
    with chdir(folder):
        for command in (
            ("build", "healthy.csv", "-o", "ref", *BUILD, "--loss", "likelihood"),
            ("nuisance", "ref", "gas", "--sigma", 0.15, *SHIFT, "--plot", "g.png"),
            calibrate,
            (*calibrate, "--free", "gas"),
        ):
            assert call_dqm("reference", *command) == 0
    return folder / "ref"


def test_a_taught_bundle_tells_what_it_knows(dqm: Dqm, taught: Path) -> None:
    manifest = json.loads(dqm("reference", "show", taught, "--json").out)
    (entry,) = manifest["nuisances"]
    assert (entry["name"], entry["sigma"], entry["transform"]["name"]) == ("gas", 0.15, "shift")
    text = dqm("reference", "show", taught).out
    assert "gas: shape, sigma 0.15, order 2, kernel learned from shift of the reference" in text
    assert "60 events cut by count with gas free" in text
    assert (taught.parent / "g.png").read_bytes().startswith(b"\x89PNG")


def test_windows_are_judged_with_their_measurement(dqm: Dqm, taught: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "moved.csv", healthy_events(N_WINDOW, 5) + 0.6)

    def verdict(*options: object) -> dict[str, object]:
        told = dqm("compare", taught, "moved.csv", "--window", N_WINDOW, "--json", *options)
        return dict(json.loads(told.out))

    measured, contradicted = verdict("--measured", "gas=0.6"), verdict("--measured", "gas=-0.2")
    assert measured["p"] > 0.01
    assert measured["t"] == pytest.approx(measured["tau"] - measured["delta"])
    gas = measured["nuisances"]["gas"]
    assert gas["measured"] == 0.6
    assert abs(gas["reference"]["pull"]) < 3
    assert measured["warnings"] == {}
    assert contradicted["warnings"]["gas"].startswith("gas is ")
    unmeasured, free = verdict(), verdict("--free")
    assert (unmeasured["quality"], unmeasured["reason"]) == ("Null", "gas has no measurement")
    assert free["p"] > 0.01
    assert free["remarks"] == ["gas has no measurement: fitted without it"]
    assert free["nuisances"]["gas"]["reference"]["pull"] is None
    shown = dqm("compare", taught, "moved.csv", "--window", N_WINDOW, "--measured", "gas=-0.2").out
    assert "sigma above what its measurement says" in shown


@pytest.mark.slow
def test_validation_draws_and_passes_or_fails_loudly(dqm: Dqm, taught: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(taught, tmp_path / "copy")
    options = ("--toys", 50, "--processes", 1, "--sigmas", 1)
    passed = dqm("reference", "validate", copy, *options, "--plot", "v.svg")
    assert passed.code == 0
    assert "nuisance independence" in passed.out
    assert "certified" in passed.out
    assert "transformed" in passed.out
    assert "<svg" in (tmp_path / "v.svg").read_text()
    wrong = write_csv(tmp_path / "wrong.csv", healthy_events(2000, 9) * [1.0, 2.0])
    failed = dqm("reference", "validate", copy, *options, "--at", f"gas:0.2={wrong}")
    assert failed.code == 1
    assert "failed: nuisance independence: t depends on what may change without being a fault" in failed.err
    assert "at gas = 0.2" in failed.err


def test_dedicated_runs_and_rates_teach_too(dqm: Dqm, taught: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(taught, tmp_path / "copy")
    files = {nu: write_csv(tmp_path / f"{nu}.csv", healthy_events(2000, 3) + nu) for nu in (-0.5, 0.5)}
    at = [part for nu, file in files.items() for part in ("--at", f"{nu}={file}")]
    told = dqm("reference", "nuisance", copy, "gas", "--sigma", 0.1, *at, "--method", "kernel", "--order", 1)
    assert told.code == 0
    assert "not calibrated. Next: dqm reference calibrate" in told.out
    assert "+0.5" in told.out
    assert dqm("reference", "nuisance", copy, "rate", "--sigma", 0.1, "--rate").code == 0
    manifest = json.loads(dqm("reference", "show", copy, "--json").out)
    assert manifest["null"] == []
    assert [entry["kind"] for entry in manifest["nuisances"]] == ["shape", "normalisation"]
    assert [source["name"] for source in manifest["nuisances"][0]["sources"]] == ["-0.5.csv", "0.5.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (),
            "it is not said what the parameter changes. Give one of --rate, --at NU=FILE and --transform",
        ),
        (("--rate", "--transform", "shift"), "it is not said what the parameter changes"),
        (("--rate", "--sigma", -1), "--sigma is -1.0. Give a number above 0"),
        (("--transform", "shift"), "--transform needs --on FEATURES and --points VALUES"),
        (
            ("--transform", "twist", "--on", "a", "--points", 1),
            "unknown transformation 'twist'. Installed: ",
        ),
        (("--at", "x=y.csv"), "--at: 'x' is not a number"),
        (("--at", "0.1"), "--at: '0.1' is not VALUE=..."),
        (("--at", "0.1=none.csv", "--at", "-0.1=none.csv"), "none.csv: No such file"),
    ],
)
def test_what_teaches_nothing_is_told(
    dqm: Dqm, taught: Path, options: tuple[object, ...], message: str
) -> None:
    before = dqm("reference", "show", taught, "--json")
    told = dqm("reference", "nuisance", taught, "gas", *options)
    assert told.code == 2
    assert message in told.err
    assert dqm("reference", "show", taught, "--json") == before


def test_check_asks_for_the_null_table_that_a_free_parameter_takes(
    dqm: Dqm, taught: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(taught, tmp_path / "copy")
    (tmp_path / "daemon.toml").write_text(
        '[nuisances]\nunmeasured = "free"\n[[streams]]\nname = "s"\nbundle = "copy"\n'
    )
    assert dqm("check", "daemon.toml").code == 0
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["null"] = manifest["null"][:1]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    told = dqm("check", "daemon.toml")
    assert told.code == 1
    assert "no null table with gas free" in told.err
    assert "--toys 1000 --free gas" in told.err
