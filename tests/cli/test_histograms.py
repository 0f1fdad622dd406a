"""From histograms in ROOT files to an alarm, by the command line, a collector and a running daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import uproot

from dqm.events import FloatArray
from tests.collectors.test_histograms import NAME, th1, write
from tests.conftest import Once
from tests.waiting import wait_until

from .conftest import Told
from .program import WAIT_SECONDS, call_dqm, json_lines, start_dqm
from .test_online import Running, daemon_of

Dqm = Callable[..., Told]
EDGES = np.linspace(0.0, 400.0, 41)
N_STATE = 500
DRIFT = ("--histogram", NAME, "--features", "drift_ns")


def fill(n: int, seed: int, shift: float = 0.0) -> FloatArray:
    """Drift times of a healthy chamber, or of one whose times are late."""
    times = np.random.default_rng(seed).triangular(0.0, 60.0, 380.0, n) + shift
    return np.histogram(np.minimum(times, 399.0), EDGES)[0].astype(np.float64)


@pytest.fixture(scope="module")
def made(once: Once) -> Path:
    """``good.root`` and ``drift.dqmref``, for windows of 300 to 1500 events."""

    def make(folder: Path) -> None:
        folder.mkdir()
        run, bundle = write(folder / "good.root", th1(list(fill(60_000, 1)), EDGES)), folder / "drift.dqmref"
        assert call_dqm("reference", "build", run, *DRIFT, "-o", bundle, "--window", N_STATE) == 0
        sizes = ("--window", "300:1500", "--toys", 200, "--seed", 11)
        assert call_dqm("reference", "calibrate", bundle, *sizes, "--processes", 1) == 0

    return once("histograms", make)


def test_the_bundle_says_what_it_is(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    facts = json.loads(dqm("reference", "show", made / "drift.dqmref", "--json").out)
    assert (facts["features"], facts["counts"], facts["sources"][0]["n_events"]) == (
        ["drift_ns"], "events", 60_000
    )  # fmt: skip
    text = dqm("reference", "show", made / "drift.dqmref").out
    assert "30000 events in 42 bins, counted by events, " in text
    assert dqm("report", made / "drift.dqmref", "-o", tmp_path / "bundle.html").code == 0


def test_a_table_of_bins_makes_the_same_reference(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    told = dqm(
        "extract", "histograms", made / "good.root", "-o", "good.parquet", "--set", "follow=false",
        "--set", f'histograms={{d={{name="{NAME}", features=["drift_ns"]}}}}',
    )  # fmt: skip
    assert told.code == 0, told.err
    assert "events in bins 60000" in told.out
    told = dqm(
        "reference", "build", "good.parquet", "--counts", "events", "-o", "table.dqmref", "--window", N_STATE
    )
    assert "30000 reference events in 42 bins, 30000 in the pool" in told.out
    of_table, of_file = (
        json.loads(dqm("reference", "show", path, "--json").out)
        for path in (tmp_path / "table.dqmref", made / "drift.dqmref")
    )
    assert of_table["counted"] == of_file["counted"]


def test_histograms_of_files_are_compared(dqm: Dqm, made: Path, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{k}.root", th1(list(fill(800, 5, 40.0 * k)), EDGES)) for k in range(2)]
    told = dqm("compare", made / "drift.dqmref", *files, "--histogram", NAME, "--json")
    good, late = (json.loads(line) for line in told.out.splitlines())
    assert (good["n_data"], late["n_data"]) == (800, 800)
    assert good["p"] > 0.01
    assert late["quality"] == "Bad"
    assert (
        "a histogram is one window"
        in dqm("compare", made / "drift.dqmref", *files, "--histogram", NAME, "--window", 100).err
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--histogram", "drift"), "no histogram 'drift'. There are: chamber/drift"),
        (("--histogram", NAME, "--drop-nan"), "--drop-nan cannot be given with histograms"),
        (("--histogram", NAME, "--chamber", "1"), "--chamber cannot be given with --histogram"),
        (("--histogram", NAME, "--features", "a,b"), "2 features named for a TH1: a, b"),
        (("--histogram", NAME, "--statistic", "one-step"), "takes no rows that stand for several events"),
    ],
)
def test_what_makes_no_reference_is_refused(
    dqm: Dqm, made: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    found = dqm("reference", "build", made / "good.root", "-o", "b.dqmref", "--window", 500, *arguments)
    assert found.code == 2
    assert told in found.err
    assert not (tmp_path / "b.dqmref").exists()


def test_a_table_without_the_column_of_counts_is_refused(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "bins.csv").write_text("drift,n\n1,5\n2,3\n")
    told = dqm("reference", "build", "bins.csv", "-o", "b.dqmref", "--window", 500, "--counts", "events")
    assert told.code == 2
    assert "no column 'events'. There are: drift, n" in told.err


@pytest.mark.parametrize("count", ["-1", "2.5"])
def test_a_count_that_is_none_is_named_with_file_column_and_row(dqm: Dqm, tmp_path: Path, count: str) -> None:
    (tmp_path / "bins.csv").write_text(f"x,n\n1,3\n2,{count}\n")
    told = dqm("reference", "build", "bins.csv", "-o", "b.dqmref", "--window", 500, "--counts", "n")
    assert told.code == 2
    assert f"bins.csv: column 'n' counts {count} events in row 2. Counts are whole numbers" in told.err
    assert "'dqm reference advise bins.csv' shows what they hold" in told.err


def test_counts_that_are_all_zero_are_refused(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "bins.csv").write_text("drift,n\n1,0\n2,0\n")
    told = dqm("reference", "build", "bins.csv", "-o", "b.dqmref", "--window", 500, "--counts", "n")
    assert told.code == 2
    assert "bins.csv: column 'n' counts no event: its 2 rows have 0 or less. Give a table" in told.err
    assert not (tmp_path / "b.dqmref").exists()


def test_a_feature_that_is_called_like_a_number_of_events_is_told(dqm: Dqm, tmp_path: Path) -> None:
    rows = "".join(f"{k * 37 % 101},{k % 3}\n" for k in range(200))
    (tmp_path / "bins.csv").write_text("drift,weight\n" + rows)
    told = dqm("reference", "build", "bins.csv", "-o", "b.dqmref", "--window", 20, "--statistic", "kernel")
    assert told.code == 0, told.err
    assert "weight is tested as a feature. If it says how many events" in told.err


def write_site(folder: Path, bundle: Path, run: Path) -> tuple[Path, Path]:
    daemon, collector = folder / "daemon.toml", folder / "collector.toml"
    daemon.write_text(
        f'[daemon]\nlisten = ["ipc://{folder}/windows.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 1\n'
        f'[[streams]]\nname = "drift"\nbundle = "{bundle}"\n'
    )
    collector.write_text(
        f'[collector]\nname = "histograms"\nrun = 5\nconnect = "ipc://{folder}/windows.ipc"\n'
        f"[window]\nevents = {N_STATE}\n"
        '[streams]\n1 = "drift"\n'
        f'[options]\ninputs = ["{run}"]\npoll_seconds = 0.2\n'
        f'[options.histograms.1]\nname = "{NAME}"\nfeatures = ["drift_ns"]\n'
    )
    return daemon, collector


def has_judged(daemon: Running, n: int) -> bool:
    return daemon.n_judged() >= n


@pytest.mark.slow
def test_a_histogram_that_grows_is_judged_and_a_changed_shape_raises_an_alarm(
    made: Path, tmp_path: Path
) -> None:
    run = write(tmp_path / "run.root", th1(list(fill(5000, 2)), EDGES))
    daemon_config, collector = write_site(tmp_path, made / "drift.dqmref", run)
    log = tmp_path / "collector.log"
    contents = fill(5000, 2)
    with daemon_of(daemon_config) as daemon:
        collecting = start_dqm("collect", collector, cwd=tmp_path, log=log)
        try:
            wait_until(lambda: "counting begins" in log.read_text(), "the first state is read", WAIT_SECONDS)
            for number in range(5):
                contents += fill(N_STATE + number, 10 + number, 0.0 if number < 2 else 60.0)
                write(run, th1(list(contents), EDGES))
                wait_until(partial(has_judged, daemon, number + 1), f"window {number} judged", WAIT_SECONDS)
        finally:
            collecting.terminate()
            code = collecting.wait(WAIT_SECONDS)
        alarms = daemon.get("/api/v1/alarms").json()["alarms"]
        windows = [daemon.get(f"/api/v1/streams/drift/windows/5/{seq}").json() for seq in range(5)]
    assert code == 0, log.read_text()
    raised = {(a["stream"], a["cause"]) for a in alarms if a["state"] != "Normal"}
    assert ("drift", "differs") in raised
    verdicts = [window["verdict"] for window in windows]
    assert [v["n_data"] for v in verdicts] == [N_STATE + number for number in range(5)]
    assert all(v["p"] > 0.01 for v in verdicts[:2])
    assert all(v["quality"] == "Bad" for v in verdicts[2:])
    assert windows[4]["explanation"]["text"].startswith("departs mostly in drift_ns (100 %)")
    (shown,) = windows[4]["explanation"]["maps"]
    assert len(shown["data"]) == len(EDGES) + 1, "each bin as it is, and under- and overflow"


@pytest.mark.slow
def test_what_is_not_measured_of_a_short_run_of_histograms_advises_what_they_take(
    dqm: Dqm, tmp_path: Path
) -> None:
    run = write(tmp_path / "short.root", th1(list(fill(2200, 1)), EDGES))
    build = ("reference", "build", run, *DRIFT, "-o", "short.dqmref", "--window", N_STATE)
    assert dqm(*build, "--events", 1000).code == 0
    assert dqm("reference", "calibrate", "short.dqmref", "--toys", 100, "--processes", 1).code == 0
    assert dqm("reference", "validate", "short.dqmref", "--processes", 1).code == 0
    found = json.loads((tmp_path / "short.dqmref" / "certificate.json").read_text())
    lines = {line["name"]: line for line in found["lines"]}
    assert "leave no room to hold windows of" in lines["uniformity"]["found"]
    assert "longer run" in lines["uniformity"]["action"]
    assert not any("--later" in line["action"] or "advise" in line["action"] for line in lines.values())


SECONDS, RATE_HZ = 10.0, 60.0
EDGES_2 = (np.linspace(0.0, 400.0, 17), np.linspace(-40.0, 40.0, 17))


def fill_pairs(n: int, seed: int, *, is_turned: bool = False) -> FloatArray:
    """Drift time and angle, which have something in common; turned: the same spectra, nothing in common."""
    rng = np.random.default_rng(seed)
    time = rng.triangular(0.0, 200.0, 400.0, n)
    angle = (time - 200.0) / 8.0 + rng.normal(0.0, 4.0, n)
    if is_turned:
        angle = rng.permutation(angle)
    return np.histogram2d(time, np.clip(angle, -39.9, 39.9), EDGES_2)[0]


def write_both(path: Path, single: FloatArray, pairs: FloatArray, second: float) -> Path:
    """Write a TH1 and a TH2 with the time of their last change."""
    scratch = path.with_suffix(".tmp")
    with uproot.recreate(scratch) as file:
        file[NAME] = (single, EDGES)
        file["chamber/pairs"] = (pairs, *EDGES_2)
    moment = 1_700_000_000_000_000_000 + round(second * 1e9)
    os.utime(scratch, ns=(moment, moment))
    return scratch.replace(path)


@pytest.mark.slow
def test_a_histogram_of_two_features_tells_what_neither_tells_alone(dqm: Dqm, tmp_path: Path) -> None:
    """A TH2 whose features are each as before, but not together; the long test below has a daemon."""
    good = write_both(tmp_path / "good.root", fill(10, 1), fill_pairs(12_000, 2), 0.0)
    names = ("--histogram", "chamber/pairs", "--features", "drift_ns,angle")
    size = ("--window", 600, "--events", 4000, "--statistic", "kernel")
    told = dqm("reference", "build", good, *names, "-o", "two.dqmref", *size)
    assert told.code == 0, told.err
    assert dqm("reference", "calibrate", "two.dqmref", "--toys", 100, "--processes", 1).code == 0
    for name, is_turned in (("same", False), ("turned", True)):
        write_both(tmp_path / f"{name}.root", fill(10, 1), fill_pairs(600, 3, is_turned=is_turned), 0.0)
    told = dqm("compare", "two.dqmref", "same.root", "turned.root", *names[:2], "--json")
    same, turned = (line["p"] for line in json_lines(told.out))
    assert same > 0.001
    assert turned < 1e-4


@pytest.mark.long
def test_windows_in_time_and_histograms_of_two_features_reach_their_alarms(dqm: Dqm, tmp_path: Path) -> None:
    """A TH1 whose rate falls, and a TH2 whose features are each as before, but not together."""
    good = write_both(tmp_path / "good.root", fill(40_000, 1), fill_pairs(40_000, 2), 0.0)
    for histogram, features, bundle in (
        (NAME, "drift_ns", "one"),
        ("chamber/pairs", "drift_ns,angle", "two"),
    ):
        names = ("--histogram", histogram, "--features", features)
        size = ("--window", round(SECONDS * RATE_HZ), "--cut", "time")
        told = dqm("reference", "build", good, *names, "-o", f"{bundle}.dqmref", *size)
        assert told.code == 0, told.err
        toys = ("--window", "200:1200", "--toys", 150, "--seed", 11, "--processes", 1)
        told = dqm("reference", "calibrate", f"{bundle}.dqmref", *toys)
        assert told.code == 0, told.err
    run, log = tmp_path / "run.root", tmp_path / "collector.log"
    single, pairs = fill(1000, 3), fill_pairs(1000, 4)
    write_both(run, single, pairs, 100.0)
    daemon_config, collector = write_site(tmp_path, tmp_path / "one.dqmref", run)
    with daemon_config.open("a") as file:
        file.write(f'[[streams]]\nname = "pairs"\nbundle = "{tmp_path}/two.dqmref"\n')
    text = collector.read_text().replace(
        f"events = {N_STATE}", f"seconds = {SECONDS}\nexpected_rate_hz = {RATE_HZ}"
    )
    text = text.replace('1 = "drift"', '1 = "drift"\n2 = "pairs"')
    text += '[options.histograms.2]\nname = "chamber/pairs"\nfeatures = ["drift_ns", "angle"]\n'
    collector.write_text(text)
    n = round(SECONDS * RATE_HZ)
    with daemon_of(daemon_config) as daemon:
        collecting = start_dqm("collect", collector, cwd=tmp_path, log=log)
        try:
            wait_until(lambda: "counting begins" in log.read_text(), "the first state is read", WAIT_SECONDS)
            for number in range(5):
                is_faulty = number >= 2
                single += fill(n // 2 if is_faulty else n, 20 + number)
                pairs += fill_pairs(n, 30 + number, is_turned=is_faulty)
                write_both(run, single, pairs, 100.0 + SECONDS * (number + 1))
                wait_until(partial(has_judged, daemon, 2 * (number + 1)), f"{number} judged", WAIT_SECONDS)
        finally:
            collecting.terminate()
            code = collecting.wait(WAIT_SECONDS)
        alarms = daemon.get("/api/v1/alarms").json()["alarms"]
        found = {
            name: [daemon.get(f"/api/v1/streams/{name}/windows/5/{k}").json()["verdict"] for k in range(5)]
            for name in ("drift", "pairs")
        }
    assert code == 0, log.read_text()
    for verdicts in found.values():
        assert [(v["end"] - v["start"], v["start"] - 1.7e9) for v in verdicts] == [
            (SECONDS, 100.0 + SECONDS * k) for k in range(5)
        ]
        assert all(v["p"] > 0.001 and v["rate"]["p"] > 0.001 for v in verdicts[:2])
    assert all(v["n_data"] == n // 2 and v["rate"]["p"] < 1e-9 for v in found["drift"][2:])
    assert all(v["p"] < 1e-4 and v["quality"] == "Bad" for v in found["pairs"][2:])
    raised = {(a["stream"], a["cause"]) for a in alarms if a["state"] != "Normal"}
    assert {("drift", "rate"), ("pairs", "differs")} <= raised
