"""``dqm reference validate``, and what ``show``, ``check`` and the daemon make of a certificate."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqm.reference import CERTIFICATE, Light, StoredBundle, write_certificate
from tests.reference.test_certificate import certificate_of
from tests.service.small import N_WINDOW, faulty_events, healthy_events, write_csv

from .conftest import Told

Dqm = Callable[..., Told]
VALIDATE = ("reference", "validate", "copy", "--toys", 50, "--processes", 1)


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    (tmp_path / "daemon.toml").write_text('[[streams]]\nname = "s"\nbundle = "copy"\n')
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.slow
def test_a_bundle_is_certified_shown_and_accepted(dqm: Dqm, copy: Path, tmp_path: Path) -> None:
    assert "not certified: it has no certificate" in dqm("reference", "show", "copy").out
    assert dqm("check", "daemon.toml").out.rstrip().endswith("certificate: none")
    before = StoredBundle.read(copy).identifier
    write_csv(tmp_path / "later.csv", healthy_events(40 * N_WINDOW, 7))
    told = dqm(*VALIDATE, "--later", "later.csv", "-o", "v.png")
    assert told.code == 0
    assert "copy: certified, amber" in told.out, "150 toys are few for p = 0.01"
    for line in ("uniformity", "stability over the run", "stability over splits", "support", "later run"):
        assert line in told.out
    made = json.loads((copy / CERTIFICATE).read_text())
    lights = {line["name"]: line["light"] for line in made["lines"]}
    assert lights["extrapolation"] == "amber"
    assert set(lights.values()) == {"green", "amber"}
    assert StoredBundle.read(copy).identifier == before
    assert "later.csv" in dqm("reference", "show", "copy").out
    assert dqm("check", "daemon.toml").out.rstrip().endswith("certificate: amber")
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.usefixtures("copy")
def test_a_later_run_that_differs_is_red_and_the_bundle_refused(dqm: Dqm, tmp_path: Path) -> None:
    write_csv(tmp_path / "later.csv", faulty_events(30 * N_WINDOW, 7))
    told = dqm(*VALIDATE, "--later", "later.csv")
    assert told.code == 1
    assert "failed: later run: this run is unlike that of the reference" in told.err
    refused = dqm("check", "daemon.toml")
    assert refused.code == 1
    assert "its certificate is red: later run" in refused.err
    assert "accept_red_certificate = true in stream 's'" in refused.err
    ended = dqm(
        "run", "daemon.toml", "--set", "daemon.http=127.0.0.1:0", "--set", 'daemon.listen=["ipc://a.ipc"]'
    )
    assert ended.code == 2
    assert "its certificate is red" in ended.err
    with (tmp_path / "daemon.toml").open("a") as file:
        file.write("accept_red_certificate = true\n")
    accepted = dqm("check", "daemon.toml")
    assert accepted.code == 0
    assert accepted.out.rstrip().endswith("certificate: red")
    again = dqm(*VALIDATE)
    assert again.code == 1, "a later run that was seen to differ is not forgotten"
    assert "kept from the certificate before: red, later run later.csv; --drop-later drops it" in again.out
    dropped = dqm(*VALIDATE, "--drop-later")
    assert dropped.code == 0
    assert "later run" not in dropped.out


def test_a_certificate_ends_with_its_null_tables(dqm: Dqm, copy: Path) -> None:
    write_certificate(copy, certificate_of(StoredBundle.read(copy), Light.RED))
    assert dqm("check", "daemon.toml").code == 1
    assert dqm("reference", "calibrate", "copy", "--toys", 175, "--processes", 1).code == 0
    shown = dqm("reference", "show", "copy").out
    assert "not certified: its certificate was made before its null tables or nuisance parameters" in shown
    assert dqm("check", "daemon.toml").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--measured", "gas=1"), "--measured needs --later"),
        (("--later", "none.csv"), "none.csv"),
        (("--later", "short.csv"), "short.csv: 30 events are fewer than a window of 60"),
        (("--window", 100), "no null table for windows of 100 events"),
    ],
)
def test_what_cannot_be_certified_is_told_and_leaves_nothing(
    dqm: Dqm, copy: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    write_csv(tmp_path / "short.csv", healthy_events(30, 1))
    before = {path.name for path in copy.iterdir()}
    told = dqm(*VALIDATE, *options)
    assert told.code == 2
    assert message in told.err
    assert {path.name for path in copy.iterdir()} == before


@pytest.mark.slow
def test_advice_tells_windows_toys_penalties_and_times(dqm: Dqm, tmp_path: Path) -> None:
    write_csv(tmp_path / "run.csv", healthy_events(2000, 1))
    told = dqm("reference", "advise", "run.csv", "--window", "30,100,1500", "--streams", 10, "-o", "a.png")
    assert told.code == 0
    for words in (
        "2000 events",
        "10 streams",
        "yes",
        "no",
        "a shifted by a quarter of its width",
        "alarm after",
    ):
        assert words in told.out
    assert "dqm reference build run.csv -o NAME.dqmref --window 100" in told.out
    assert "faults made of the run itself" in told.out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    chosen = dqm("reference", "advise", "run.csv", "--features", "a,b", "--window", 100)
    assert "run.csv --features=a,b -o NAME.dqmref --window 100" in chosen.out
    few = dqm("reference", "advise", "run.csv", "--window", 5000)
    assert "this run allows none of these windows: windows of 5000 need" in few.out


@pytest.mark.slow
def test_the_advised_commands_run_as_they_are_printed(dqm: Dqm, tmp_path: Path) -> None:
    x = healthy_events(1200, 1)
    (tmp_path / "my runs").mkdir()
    rows = [f"{a};{b};1;{40 + k % 2}\n".replace(".", ",") for k, (a, b) in enumerate(x.tolist())]
    (tmp_path / "my runs" / "run 1.csv").write_text("".join(["a;b;card;chamber\n", *rows]))
    (tmp_path / "collector.toml").write_text(
        '[collector]\nname = "replay"\n[window]\nevents = 20\n[options]\ninputs = ["x.csv"]\ndecimal = ","\n'
    )
    told = dqm(
        "reference", "advise", "my runs/run 1.csv", "--chamber", 41, "--cut", "time", "--live-seconds", 60,
        "--read-as", "collector.toml", "--read", "select=a > -1 and b < 10", "--window", 20,
        "--false-alarms", 1000, "--windows-per-hour", 1,
    )  # fmt: skip
    assert told.code == 0, told.err
    assert "constant and of no use, so left out here: card" in told.out
    commands = [shlex.split(line) for line in told.out.splitlines() if line.startswith("  dqm ")]
    assert [command[:3] for command in commands] == [
        ["dqm", "reference", name] for name in ("build", "calibrate", "validate")
    ]
    for command in commands[:2]:  # validate would take long
        done = dqm(*command[1:])
        assert done.code == 0, done.err
    shown = json.loads(dqm("reference", "show", "NAME.dqmref", "--json").out)
    assert (shown["features"], shown["cut"], shown["n_expected"]) == (["a", "b"], "time", 20)


@pytest.mark.slow
def test_settings_are_shown_of_a_file_and_of_a_bundle(dqm: Dqm, copy: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "run.csv", healthy_events(600, 1))
    of_file = dqm("reference", "tune", "run.csv", "--window", 30, "-o", "t.png")
    assert of_file.code == 0
    assert "the test several, windows of 30" in of_file.out
    assert "widths of the kernels of all features" in of_file.out
    assert "their penalties: " in of_file.out
    assert "look at single features" in of_file.out
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    of_bundle = dqm("reference", "tune", "copy")
    assert of_bundle.code == 0
    assert "the test kernel, windows of 60" in of_bundle.out
    assert "80 (chosen)" in of_bundle.out
    assert "1e-05 (chosen)" in of_bundle.out
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    for source in ("run.csv", "copy"):
        large = dqm("reference", "tune", source, "--window", 2000)
        assert large.code == 2
        assert "windows of at most " in large.err
        assert "'dqm reference advise FILE' shows what the run allows" in large.err
    asked = dqm("reference", "tune", "run.csv")
    assert asked.code == 2
    assert "'dqm reference advise run.csv' shows which windows the run allows" in asked.err


JUMP = "\n".join(["time,a", *(f"{t + (9e5 if t > 60 else 0)},{t % 7}.{t}" for t in range(200))]) + "\n"
NO_RUNS = {
    "twenty": "\n".join(["a,b", *(f"{k}.5,{k * k}" for k in range(20))]) + "\n",
    "one": "a,b\n" + "1.0,2.0\n" * 500,
    "constant": "a\n" + "3\n" * 500,
    "text": "a,b\n" + "x,y\n" * 100,
    "mixed": JUMP,
    "weights": "weight\n" + "0\n" * 500,
}
FOUND = {
    "twenty": "20 events are too few",
    "one": "a, b are all constant in 500 events",
    "constant": "a is constant in 500 events",
    "text": "no.csv",
    "mixed": "the time jumps by 9e+05 s after event 61, in a file of 198 s: it holds two runs",
    "weights": "weight is constant in 500 events",
}


@pytest.mark.parametrize("command", ["advise", "tune", "build -o no.dqmref"])
@pytest.mark.parametrize("kind", NO_RUNS)
def test_what_is_no_run_is_told(dqm: Dqm, tmp_path: Path, command: str, kind: str) -> None:
    (tmp_path / "no.csv").write_text(NO_RUNS[kind])
    told = dqm("reference", *command.split(), "no.csv", "--window", 30)
    assert told.code == 2
    assert FOUND[kind] in told.err
    assert "no.csv" in told.err
    features = " --features b" if kind == "text" else ""
    pointer = f"'dqm reference advise no.csv{features}' shows what they hold and allow"
    points = command != "advise" and kind not in ("one", "constant", "weights")  # nothing else to show
    assert (pointer in told.err) == points, "a command does not point to itself"
    assert told.err.count("dqm reference advise") == points
    assert "Traceback" not in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["no.csv"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"a,b\n1,2\n"])
def test_a_file_that_nothing_reads_is_not_pointed_to_advice(dqm: Dqm, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.parquet").write_bytes(content)
    told = dqm("reference", "build", "no.parquet", "-o", "no.dqmref", "--window", 30)
    assert told.code == 2
    assert "None" not in told.err
    assert "dqm reference advise" not in told.err


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [1, 64])
def test_advice_takes_one_feature_or_many(dqm: Dqm, tmp_path: Path, n_features: int) -> None:
    x = np.random.default_rng(1).normal(size=(400, n_features))
    header = ",".join(f"f{k}" for k in range(n_features))
    np.savetxt(tmp_path / "run.csv", x, delimiter=",", header=header, comments="")
    told = dqm("reference", "advise", "run.csv", "--window", 20)
    assert told.code == 0
    assert f"400 events, {n_features} feature" in told.out


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [1, 12, pytest.param(64, marks=pytest.mark.long)])
def test_a_bundle_of_one_feature_or_many_judges(dqm: Dqm, tmp_path: Path, n_features: int) -> None:
    x = np.random.default_rng(1).normal(size=(600, n_features))
    header = ",".join(f"f{k}" for k in range(n_features))
    np.savetxt(tmp_path / "run.csv", x, delimiter=",", header=header, comments="")
    for command in (
        ("build", "run.csv", "-o", "b", "--window", 60),
        ("calibrate", "b", "--toys", 100, "--processes", 1),
    ):
        told = dqm("reference", *command)
        assert told.code == 0, told.err
    assert "p uncertain by" in told.out
    x[:, -1] += 2.0
    np.savetxt(tmp_path / "late.csv", x[:120], delimiter=",", header=header, comments="")
    told = dqm("compare", "b", "late.csv", "--window", 60, "--json")
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["p"] is not None and row["p"] < 0.05 for row in rows] == [True, True], rows
