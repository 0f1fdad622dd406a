"""From histograms in ROOT files to an alarm, by the command line, a collector and a running daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dqm.events import FloatArray
from tests.collectors.test_histograms import NAME, th1, write
from tests.conftest import Once
from tests.waiting import wait_until

from .conftest import Told
from .program import WAIT_SECONDS, call_dqm, start_dqm
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
        (("--histogram", NAME, "--drop-nan"), "--drop-nan with histograms"),
        (("--histogram", NAME, "--chamber", "1"), "--chamber with --histogram"),
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
